"""Assets become WebDataset shards, on Ray: the way of the data is remote, places, sources, filters, plan, work, shards.

Names are imported from their modules (`helix4d.curation.shards.shard`, ...), so that a Ray worker or a reader of shards
pays only for what it uses.
"""
