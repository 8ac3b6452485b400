"""The index of an output: a Parquet table with a row per sample, and subsets selected from it."""
