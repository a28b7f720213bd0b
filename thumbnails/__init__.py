"""Renders thumbnails and keeps them up to date."""
