"""The cellar: where thumbnails lie, how they are replaced, and who may render one right now."""
