"""A file of any 3D format becomes a `Clip`, or an `AssetError` with a reason code."""

from assets.bake import SUFFIXES, bake, bake_clips, bake_still, list_clips, validate
from assets.checks import check_clip
from assets.choice import ClipInfo
from assets.clip import AlphaMode, Clip, Frame, Material, Texture, Topology, Wrap
from assets.gltf import content_hash, external_uris
from assets.limits import Limits
from assets.normalize import Normalization, normalize
from assets.surface import motion

__all__ = [
    "SUFFIXES",
    "AlphaMode",
    "Clip",
    "ClipInfo",
    "Frame",
    "Limits",
    "Material",
    "Normalization",
    "Texture",
    "Topology",
    "Wrap",
    "bake",
    "bake_clips",
    "bake_still",
    "check_clip",
    "content_hash",
    "external_uris",
    "list_clips",
    "motion",
    "normalize",
    "validate",
]
