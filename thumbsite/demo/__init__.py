"""What only the site of `make run` needs."""
