"""Where files are: a folder or a URL, read and written through the same calls."""
