"""Turns glTF 2.0 files into numpy arrays, following the specification."""

from helix4d.assets.gltf.evaluate import GltfAsset
from helix4d.assets.gltf.parse.resources import content_hash, external_uris

__all__ = ["GltfAsset", "content_hash", "external_uris"]
