"""Upper bounds on the size of files, so that hostile or oversized ones are refused early."""

from __future__ import annotations

from dataclasses import dataclass

FRAME_VERTEX_BYTES = 24
"""Size of a vertex in each frame of a clip: position and normal in float32."""


@dataclass(frozen=True)
class Limits:
    """Upper bounds, checked on headers and counts before anything is decoded.

    The defaults admit typical web assets with 8K textures on a machine with 16 GiB of memory. Exceeding a limit raises
    an `AssetError`: `texture_too_large` for images, otherwise `out_of_memory`.
    """

    file_bytes: int = 2 << 30
    """Applies to the asset itself, and to the total of the files that it refers to."""
    json_bytes: int = 256 << 20
    """Applies to the JSON of a glTF file, and to a COLLADA document."""
    json_depth: int = 128
    nodes: int = 100_000
    animations: int = 1_000
    """Every animation is posed at 16 times to find the one that moves most."""
    primitives: int = 100_000
    """Primitives in the scene: a mesh that is used by ten nodes counts ten times."""
    accessor_bytes: int = 4 << 30
    """Decompressed size of all accessors together."""
    unbacked_elements: int = 1_000_000
    """Elements of an accessor without a buffer view, which takes no space in the file. As many elements as the largest
    accessor with a buffer view are always accepted."""
    triangles: int = 20_000_000
    vertices: int = 20_000_000
    frame_vertices: int = 400_000_000
    """Frames times vertices of one clip; each takes `FRAME_VERTEX_BYTES`."""
    memory_bytes: int = 1 << 40
    """Memory of the process that bakes a clip. A glTF scene whose arrays exceed it is refused before it is posed."""
    morph_values: int = 400_000_000
    """Morph targets times vertices of one primitive."""
    image_pixels: int = 8192 * 8192
    """Pixels of one image, according to its header."""
    total_image_pixels: int = 32 * 8192 * 8192
    image_side: int = 4096
    """Larger images are reduced by the smallest integer factor for which neither side is longer than this."""
    extras_bytes: int = 64 << 10

    @classmethod
    def for_memory(cls, memory_bytes: int) -> Limits:
        """Return the default limits, reduced to what fits into this many bytes of memory."""
        held = memory_bytes // FRAME_VERTEX_BYTES
        return cls(memory_bytes=memory_bytes, frame_vertices=min(cls.frame_vertices, held))


DEFAULT_LIMITS = Limits()
