"""A source, as given to `--source`, becomes a sorted list of assets."""
