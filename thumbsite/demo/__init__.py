"""The demo site of `make run`."""
