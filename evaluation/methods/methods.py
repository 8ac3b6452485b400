"""The compared methods and the layout of their output files.

What is known and what is assumed about each is recorded in its `source` and in docs/evaluation.md.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from helix4d.core import ConfigError

GLTF_AXES = "x,-z,y"
"""Our axes in a glTF file: glTF is Y up and faces +Z, our clips are Z up and face -Y."""
_AXIS = re.compile(r"([+-]?)([xyz])")


def axes_matrix(axes: str) -> np.ndarray:
    """Return the matrix (3, 3) float64 that maps a file's coordinates to ours.

    Raises:
        ConfigError: if `axes` does not list three different axes of a right-handed frame.
    """
    words = [_AXIS.fullmatch(word.strip().lower()) for word in axes.split(",")]
    matrix = np.zeros((3, 3))
    for row, word in enumerate(words[:3]):
        if word is not None:
            matrix[row, "xyz".index(word[2])] = -1.0 if word[1] == "-" else 1.0
    if len(words) != 3 or None in words or round(float(np.linalg.det(matrix))) != 1:
        raise ConfigError(f"axes is {axes!r}: must be three signed axes of a right-handed frame, such as {GLTF_AXES}")
    return matrix


@dataclass(frozen=True)
class Method:
    """Layout of a method's output files.

    Args:
        name: name on the command line.
        label: name in tables.
        glob: pattern of the files in an item's folder.
        layout: "stills" for one mesh per frame, in natural order; "animation" for one animated file, sampled evenly.
        axes: our x (right), y (away) and z (up) as signed axes of the file; `GLTF_AXES` if Y is up.
        textured: whether the method generates textures, so that texture metrics are defined.
        frames: number of uniformly spaced frames to evaluate; None evaluates all.
        source: where this information is from, and what is assumed.
    """

    name: str
    label: str
    glob: str
    layout: Literal["stills", "animation"] = "stills"
    axes: str = GLTF_AXES
    textured: bool = True
    frames: int | None = None
    source: str = ""

    def __post_init__(self) -> None:
        axes_matrix(self.axes)
        if self.frames is not None and self.frames < 1:
            raise ConfigError(f"{self.name}: frames is {self.frames}: must be at least 1")
        if Path(self.glob).is_absolute() or ".." in Path(self.glob).parts:
            raise ConfigError(f"glob is {self.glob!r}: must not point outside the item's folder")


METHODS: Mapping[str, Method] = {
    method.name: method
    for method in (
        Method("helix4d", "Helix4D (this code)", "frame_*.glb", source="as written by helix4d sample"),
        Method(
            "actionmesh",
            "ActionMesh",
            "mesh_*.glb",
            textured=False,
            source="its code writes mesh_00.glb, mesh_01.glb ..., Y up; facing +Z is assumed",
        ),
        Method(
            "motion-3-to-4",
            "Motion 3-to-4",
            "output_animation.*",
            layout="animation",
            source="its code exports one output_animation.fbx (or .glb) from Blender, with one keyframe per frame",
        ),
        Method(
            "mesh4d",
            "Mesh4D",
            "*.*",
            frames=6,
            source="file names and axes are assumed; six uniformly spaced frames are evaluated (our choice: the paper "
            "evaluates six frames per sequence but does not specify which)",
        ),
        Method(
            "ss4d",
            "SS4D",
            "*.*",
            source="its code writes Gaussians and videos, not meshes; one extracted mesh per frame is assumed",
        ),
        Method(
            "shapegen4d", "ShapeGen4D", "*.*", textured=False, source="no code found; file names and axes are assumed"
        ),
    )
}


def find_method(
    name: str,
    glob: str | None = None,
    axes: str | None = None,
    textured: bool | None = None,
    frames: int | None = None,
) -> Method:
    """Return a method of `METHODS` with some fields replaced, or a new one, for which `glob` is required.

    Raises:
        ConfigError: if the name is unknown and `glob` is None, or a field is invalid.
    """
    known = METHODS.get(name)
    if known is None and glob is None:
        raise ConfigError(f"unknown method {name!r}: must be one of {', '.join(METHODS)}; for others, pass --glob")
    method = known if known is not None else Method(name, name, "*", source="as specified on the command line")
    changes: dict[str, Any] = {"glob": glob, "axes": axes, "textured": textured, "frames": frames}
    return replace(method, **{key: value for key, value in changes.items() if value is not None})


def judged_frames(method: Method, count: int) -> list[int]:
    """Return the indices of the frames of a sequence of `count` frames that are evaluated."""
    if method.frames is None or method.frames >= count:
        return list(range(count))
    return [round(place) for place in np.linspace(0, count - 1, method.frames).tolist()]
