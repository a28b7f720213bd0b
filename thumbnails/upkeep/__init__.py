"""The verbs: what may be done with assets and their thumbnails. Every door calls one of them."""
