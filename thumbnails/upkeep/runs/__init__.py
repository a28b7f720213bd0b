"""Runs: planning, starting, working on, stopping and recovering them."""
