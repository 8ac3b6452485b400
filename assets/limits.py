"""What a hostile or oversized file may cost before it is refused."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Upper bounds, checked from headers and counts before anything is decoded.

    The defaults let every asset of a web collection with 8K textures through on a machine with 16 GiB. Exceeding
    one ends in `AssetError` with `out_of_memory` (`texture_too_large` for images).
    """

    file_bytes: int = 2 << 30
    """The asset and its resources together."""
    json_bytes: int = 256 << 20
    json_depth: int = 128
    nodes: int = 100_000
    animations: int = 1_000
    """The one that moves most is found by posing every one of them at 16 moments."""
    primitives: int = 100_000
    """Placed in the scene: a mesh that ten nodes show counts ten times."""
    accessor_bytes: int = 4 << 30
    """All accessors together, decompressed."""
    unbacked_elements: int = 1_000_000
    """Of an accessor without a buffer view, which costs its file nothing; as many as any other accessor holds pass."""
    triangles: int = 20_000_000
    vertices: int = 20_000_000
    frame_vertices: int = 400_000_000
    """Frames times vertices of one clip; a vertex takes 24 bytes a frame."""
    morph_values: int = 400_000_000
    """Morph targets times vertices, over the placed primitives."""
    image_pixels: int = 8192 * 8192
    """One image, as its header states."""
    total_image_pixels: int = 32 * 8192 * 8192
    image_side: int = 4096
    """Larger images are reduced by the smallest integer factor that brings both sides to this."""
    extras_bytes: int = 64 << 10


DEFAULT_LIMITS = Limits()
