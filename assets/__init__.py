"""A file of any 3D format becomes a `Clip`, or an `AssetError` with a reason code."""

from assets.clip import AlphaMode, Clip, Frame, Material, Texture, Topology, Wrap

__all__ = ["AlphaMode", "Clip", "Frame", "Material", "Texture", "Topology", "Wrap"]
