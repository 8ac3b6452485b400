"""What an output consists of: shards, the ledger, and their published copies."""
