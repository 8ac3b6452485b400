"""A glTF 2.0 file becomes numpy arrays, by the specification."""

from assets.gltf.evaluate import GltfAsset, gltf_clips
from assets.gltf.resources import content_hash

__all__ = ["GltfAsset", "content_hash", "gltf_clips"]
