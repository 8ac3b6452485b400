"""Local folders and URLs, read and written through the same interface."""
