"""Selecting images: conditions as text, URL, option and query; and pages of them."""
