"""The contents of an output: shards, the ledger, and their published copies."""
