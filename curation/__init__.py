"""Assets become WebDataset shards, on Ray."""
