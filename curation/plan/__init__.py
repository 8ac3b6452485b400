"""Assigns assets to shards by content hash, before any work starts."""
