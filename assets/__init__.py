"""Turns a file of any 3D format into a `Clip`, or raises an `AssetError` with a reason code."""

from helix4d.assets.bake import SUFFIXES, bake, bake_clips, bake_still, list_clips, validate
from helix4d.assets.checks import check_clip
from helix4d.assets.choice import ClipInfo
from helix4d.assets.clip import AlphaMode, Clip, Frame, Material, Texture, Topology, Wrap
from helix4d.assets.gltf import content_hash, external_uris
from helix4d.assets.limits import Limits
from helix4d.assets.normalize import Normalization, normalize
from helix4d.assets.skeleton import Skeleton
from helix4d.assets.surface import motion

__all__ = [
    "SUFFIXES",
    "AlphaMode",
    "Clip",
    "ClipInfo",
    "Frame",
    "Limits",
    "Material",
    "Normalization",
    "Skeleton",
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
