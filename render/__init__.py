"""A Clip becomes images."""
