"""What `--source` names becomes a sorted list of assets."""
