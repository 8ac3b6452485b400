"""`Clip`: an animation as plain arrays, with T baked frames and one list of materials.

Coordinates are right-handed, Z up, and in meters until `normalize` maps the clip to the unit cube. Frames share
`Topology` objects, so a clip of constant topology stores its triangles, UVs and material ids once. A clip is saved as
one safetensors file, with everything that is not an array in its header.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from helix4d.assets.skeleton import Skeleton, UpAxis, up_axis_from_json
from helix4d.assets.triangles import face_areas
from helix4d.core import FormatError, Schema, write_bytes
from helix4d.core.arrays import BoolArray, Float32Array, Float64Array, Int32Array, UInt8Array

SCHEMA = Schema("clip", version=2, oldest=1, rewrite="bake its asset again")


class AlphaMode(StrEnum):
    """Alpha mode of glTF: OPAQUE ignores alpha, MASK compares it with the cutoff, BLEND uses it as coverage."""

    OPAQUE = "OPAQUE"
    MASK = "MASK"
    BLEND = "BLEND"


class Wrap(StrEnum):
    """How a texture continues outside [0, 1]."""

    REPEAT = "repeat"
    CLAMP = "clamp"
    MIRROR = "mirror"


@dataclass(frozen=True)
class Texture:
    """A texture that refers to one of the clip's images.

    UVs follow glTF: (0, 0) is the upper left corner of the image, and v points down. The UVs of `uv_set` are
    transformed as in KHR_texture_transform before sampling: scale, then rotation in radians, then offset. Values
    between texels are interpolated linearly, or taken from the nearest texel if `nearest` is set.
    """

    image: int
    uv_set: int = 0
    wrap_u: Wrap = Wrap.REPEAT
    wrap_v: Wrap = Wrap.REPEAT
    offset: tuple[float, float] = (0.0, 0.0)
    rotation: float = 0.0
    scale: tuple[float, float] = (1.0, 1.0)
    nearest: bool = False

    def matrix(self) -> Float64Array:
        """Return the (2, 3) float64 matrix of the transform: sampled_uv = matrix @ (u, v, 1)."""
        c, s = np.cos(self.rotation), np.sin(self.rotation)
        (ox, oy), (sx, sy) = self.offset, self.scale
        return np.array([[c * sx, s * sy, ox], [-s * sx, c * sy, oy]])


@dataclass(frozen=True)
class Material:
    """A glTF metallic-roughness material at one time, with the extensions that affect the appearance of a surface most.

    Color factors are linear; color textures are sRGB, other textures linear. Every texture is multiplied by its factor.
    Channels are glTF's: roughness in green, metallic in blue, transmission in red, thickness in green. The defaults are
    glTF's for a primitive without a material.
    """

    name: str = ""
    base_color: tuple[float, float, float] = (1.0, 1.0, 1.0)
    alpha: float = 1.0
    base_color_texture: Texture | None = None
    """RGB is the base color, A is alpha."""
    metallic: float = 1.0
    roughness: float = 1.0
    metallic_roughness_texture: Texture | None = None
    alpha_mode: AlphaMode = AlphaMode.OPAQUE
    alpha_cutoff: float = 0.5
    normal_texture: Texture | None = None
    normal_scale: float = 1.0
    emissive: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Includes KHR_materials_emissive_strength, so values may exceed 1."""
    emissive_texture: Texture | None = None
    transmission: float = 0.0
    transmission_texture: Texture | None = None
    ior: float = 1.5
    thickness: float = 0.0
    """In the units of the clip's vertices; 0 is a thin wall that does not refract."""
    thickness_texture: Texture | None = None
    attenuation_color: tuple[float, float, float] = (1.0, 1.0, 1.0)
    attenuation_distance: float | None = None
    """In the units of the clip's vertices; None is glTF's default, infinity."""
    double_sided: bool = False
    unlit: bool = False
    outline: bool = False
    """An inverted hull that draws an outline (`helix4d.assets.outline`): its back is culled, and it has no voxels."""

    def hides_back(self, cull_back_faces: bool) -> bool:
        """Return whether back faces are invisible; `cull_back_faces` culls those of single-sided materials."""
        return self.outline or (cull_back_faces and not self.double_sided)


@dataclass(frozen=True, eq=False)
class Topology:
    """Triangles and their attributes, shared by frames of the same topology.

    If a material is animated, frames have topologies that differ in `material_ids` and share all other arrays.

    Attributes:
        faces: (F, 3) int32 vertex indices, counter-clockwise seen from outside.
        uvs: (S, F, 3, 2) float32 UV sets per triangle corner; S may be 0.
        material_ids: (F,) int32 indices into the clip's materials.
        colors: (F, 3, 4) float32 linear RGBA per corner, multiplied with base color and alpha, or None.
    """

    faces: Int32Array
    uvs: Float32Array
    material_ids: Int32Array
    colors: Float32Array | None = None

    def __post_init__(self) -> None:
        faces = len(self.faces)
        _check("faces", self.faces, (faces, 3), np.int32)
        _check("uvs", self.uvs, (len(self.uvs), faces, 3, 2), np.float32)
        _check("material_ids", self.material_ids, (faces,), np.int32)
        if self.colors is not None:
            _check("colors", self.colors, (faces, 3, 4), np.float32)

    def same_triangles(self, other: Topology) -> bool:
        """Return whether another topology has equal faces; materials, UVs and colors may differ."""
        return self.faces is other.faces or np.array_equal(self.faces, other.faces)

    def only(self, mask: BoolArray) -> Topology:
        """Return a topology of only those triangles that an (F,) bool mask selects."""
        return Topology(
            faces=self.faces[mask],
            uvs=np.ascontiguousarray(self.uvs[:, mask]),
            material_ids=self.material_ids[mask],
            colors=None if self.colors is None else self.colors[mask],
        )


@dataclass(frozen=True, eq=False)
class Frame:
    """One frame of a clip.

    Attributes:
        vertices: (V, 3) float32 positions.
        normals: (V, 3) float32 unit shading normals.
        topology: triangles over these vertices; frames of the same topology share the object.
    """

    vertices: Float32Array
    normals: Float32Array
    topology: Topology

    def __post_init__(self) -> None:
        _check("vertices", self.vertices, (len(self.vertices), 3), np.float32)
        _check("normals", self.normals, (len(self.vertices), 3), np.float32)

    @property
    def faces(self) -> Int32Array:
        """(F, 3) int32 vertex indices."""
        return self.topology.faces

    def triangles(self) -> Float32Array:
        """Return the (F, 3, 3) float32 positions of the triangles' corners."""
        return self.vertices[self.topology.faces]

    @cached_property
    def areas(self) -> Float64Array:
        """(F,) float64 areas of the triangles, from `assets.triangles.areas`; cached for all measures."""
        return face_areas(self.vertices, self.faces)


@dataclass(frozen=True, eq=False)
class Clip:
    """A baked animation.

    Attributes:
        name: name of the animation in the file, "" if it has none.
        index: index of the animation in the file.
        times: (T,) float64 seconds.
        frames: T frames.
        materials: materials that `material_ids` refer to. A material that changes over time (it fades or glows) has an
            entry for each of its looks, and the topology of every frame refers to the look in that frame.
        images: decoded images, each (H, W, 4) uint8 RGBA, first row on top.
        extras: JSON-serializable facts about the asset: author, license, source, generator, ...
        warnings: what was ignored or repaired, one message each.
        motion_between: `assets.motion` at times between the frames, or 0 if it was not measured. Needed because the
            frames of a loop may all show the same pose.
        window: index of the window among all windows of the animation; None for the whole animation.
        skeleton: joints of the file; None if its format has none (Alembic and numbered .obj files).
        up_axis: axis of the file that points up; None if the file does not state it. Clips are always Z up.
    """

    name: str
    index: int
    times: Float64Array
    frames: tuple[Frame, ...]
    materials: tuple[Material, ...]
    images: tuple[UInt8Array, ...] = ()
    extras: Mapping[str, object] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    motion_between: float = 0.0
    window: int | None = None
    skeleton: Skeleton | None = None
    up_axis: UpAxis | None = None

    def __post_init__(self) -> None:
        if not self.frames:
            raise ValueError("a clip must have at least one frame")
        _check("times", self.times, (len(self.frames),), np.float64)
        for number, image in enumerate(self.images):
            _check(f"images[{number}]", image, (*image.shape[:2], 4), np.uint8)

    def with_vertices(self, vertices: list[Float32Array]) -> Clip:
        """Return a copy with other (V, 3) float32 vertices in each frame."""
        frames = tuple(replace(frame, vertices=v) for frame, v in zip(self.frames, vertices, strict=True))
        return replace(self, frames=frames)

    def bounds(self) -> Float64Array:
        """Return the (2, 3) float64 minimum and maximum over the triangles of all frames.

        Triangles without area and vertices that no triangle uses are never visible, and are ignored.

        Raises:
            ValueError: if no frame has a triangle with area.
        """
        corners = []
        for frame in self.frames:
            used = np.zeros(len(frame.vertices), bool)
            used[frame.faces[frame.areas > 0]] = True
            if used.any():
                corners.append(frame.vertices[used])
        if not corners:
            raise ValueError("no triangle has any area")
        low = np.min([c.min(axis=0) for c in corners], axis=0)
        high = np.max([c.max(axis=0) for c in corners], axis=0)
        return np.stack([low, high]).astype(np.float64)

    def save(self, path: Path) -> None:
        """Write the clip as one safetensors file, atomically."""
        tensors: dict[str, np.ndarray] = {"times": self.times}
        topologies: dict[int, int] = {}
        frame_topologies = []
        for number, frame in enumerate(self.frames):
            topology = frame.topology
            if id(topology) not in topologies:
                slot = topologies[id(topology)] = len(topologies)
                tensors[f"topology_{slot}.faces"] = topology.faces
                tensors[f"topology_{slot}.uvs"] = topology.uvs
                tensors[f"topology_{slot}.material_ids"] = topology.material_ids
                if topology.colors is not None:
                    tensors[f"topology_{slot}.colors"] = topology.colors
            frame_topologies.append(topologies[id(topology)])
            tensors[f"frame_{number:04d}.vertices"] = frame.vertices
            tensors[f"frame_{number:04d}.normals"] = frame.normals
        for number, image in enumerate(self.images):
            tensors[f"image_{number:04d}"] = image
        header = {
            "version": SCHEMA.version,
            "name": self.name,
            "index": self.index,
            "frame_topologies": frame_topologies,
            "images": len(self.images),
            "materials": [asdict(material) for material in self.materials],
            "extras": dict(self.extras),
            "warnings": list(self.warnings),
            "motion_between": self.motion_between,
            "window": self.window,
            "skeleton": None if self.skeleton is None else self.skeleton.to_json(),
            "up_axis": self.up_axis,
        }
        contiguous = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
        write_bytes(path, save(contiguous, {"helix4d_clip": json.dumps(header, sort_keys=True)}))

    @classmethod
    def load(cls, path: Path) -> Clip:
        """Load a clip that was written by `save`.

        Raises:
            FormatError: if the file is not a clip, damaged, or of an unsupported version.
        """
        try:
            with safe_open(str(path), "numpy") as reader:
                metadata = reader.metadata() or {}
                tensors = {name: reader.get_tensor(name) for name in reader.keys()}  # noqa: SIM118 (not a dict)
            header = json.loads(metadata["helix4d_clip"])
        except (SafetensorError, KeyError, json.JSONDecodeError) as error:
            raise FormatError(f"{path}: not a Helix4D clip ({error})") from error
        SCHEMA.check(header, path)
        try:
            return cls._from_parts(header, tensors)
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise FormatError(f"{path}: damaged Helix4D clip ({error!r}): {SCHEMA.rewrite}") from error

    @classmethod
    def _from_parts(cls, header: dict[str, Any], tensors: Mapping[str, np.ndarray]) -> Clip:
        topologies = [
            Topology(
                faces=tensors[f"topology_{slot}.faces"],
                uvs=tensors[f"topology_{slot}.uvs"],
                material_ids=tensors[f"topology_{slot}.material_ids"],
                colors=tensors.get(f"topology_{slot}.colors"),
            )
            for slot in range(max(header["frame_topologies"]) + 1)
        ]
        frames = tuple(
            Frame(tensors[f"frame_{n:04d}.vertices"], tensors[f"frame_{n:04d}.normals"], topologies[slot])
            for n, slot in enumerate(header["frame_topologies"])
        )
        return cls(
            name=header["name"],
            index=header["index"],
            times=tensors["times"],
            frames=frames,
            materials=tuple(_material_from_json(material) for material in header["materials"]),
            images=tuple(tensors[f"image_{n:04d}"] for n in range(header["images"])),
            extras=header["extras"],
            warnings=tuple(header["warnings"]),
            motion_between=header.get("motion_between", 0.0),
            window=header.get("window"),
            skeleton=Skeleton.from_json(header.get("skeleton")),
            up_axis=up_axis_from_json(header.get("up_axis")),
        )


def _material_from_json(values: dict[str, Any]) -> Material:
    parsed: dict[str, Any] = {}
    for name, value in values.items():
        if name.endswith("_texture") and value is not None:
            value = Texture(
                **{
                    **value,
                    "wrap_u": Wrap(value["wrap_u"]),
                    "wrap_v": Wrap(value["wrap_v"]),
                    "offset": tuple(value["offset"]),
                    "scale": tuple(value["scale"]),
                }
            )
        parsed[name] = tuple(value) if isinstance(value, list) else value
    parsed["alpha_mode"] = AlphaMode(parsed["alpha_mode"])
    return Material(**parsed)


def _check(name: str, array: np.ndarray, shape: tuple[int, ...], dtype: type) -> None:
    if array.shape != shape or array.dtype != dtype:
        found = f"{array.dtype} {array.shape}"
        raise ValueError(f"{name}: expected {np.dtype(dtype)} {shape}, found {found}")
