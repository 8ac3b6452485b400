"""A glTF 2.0 file becomes numpy arrays, by the specification."""

from assets.gltf.evaluate import GltfAsset, gltf_clips
from assets.gltf.resources import content_hash, external_uris

__all__ = ["GltfAsset", "content_hash", "external_uris", "gltf_clips"]
