"""One image: its import, its thumbnail, its deletion."""
