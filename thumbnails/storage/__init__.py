"""Where files lie: originals and thumbnails, locks, and what their storages may do wrong."""
