"""Content hashes become shards, before any work starts."""
