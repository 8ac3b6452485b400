"""Reading shards: members by random access, and decoders for webdataset. Requires neither Blender nor Ray."""

from helix4d.curation.shards.decoders import decoders
from helix4d.curation.shards.reader import ShardReader

__all__ = ["ShardReader", "decoders"]
