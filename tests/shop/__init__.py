"""An app with pictures of its own."""
