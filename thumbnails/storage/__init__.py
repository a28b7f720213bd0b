"""Files: originals, thumbnails and locks, with the errors and timeouts of their storages."""
