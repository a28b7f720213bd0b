"""Many images: what a run will do, and starting, working on, stopping and recovering it."""
