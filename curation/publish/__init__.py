"""Writes the dataset card, credits and metadata of an output, and uploads it to the model hub."""
