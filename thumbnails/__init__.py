"""Makes thumbnails and keeps them true."""
