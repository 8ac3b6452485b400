"""Assets become WebDataset shards, on Ray.

Names are imported from their modules (`curation.shard`, `curation.pipeline`, ...), so that a Ray worker or a reader
of shards does not pay for importing the renderer.
"""
