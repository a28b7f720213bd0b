"""The rules: what can be done with assets and thumbnails. All entry points call this package."""
