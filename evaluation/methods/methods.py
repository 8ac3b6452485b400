"""The methods that are compared, and how their output files are to be read.

What is known of each and what is assumed stands in its `told`, and in docs/evaluation.md.
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
"""Ours from a file's: glTF has Y up and looks along +Z, we have Z up and look along -Y."""
_AXIS = re.compile(r"([+-]?)([xyz])")


def axes_matrix(axes: str) -> np.ndarray:
    """(3, 3) float64 that maps a file's coordinates to ours.

    Raises:
        ConfigError: unless it names three different axes of a right-handed frame.
    """
    words = [_AXIS.fullmatch(word.strip().lower()) for word in axes.split(",")]
    matrix = np.zeros((3, 3))
    for row, word in enumerate(words[:3]):
        if word is not None:
            matrix[row, "xyz".index(word[2])] = -1.0 if word[1] == "-" else 1.0
    if len(words) != 3 or None in words or round(float(np.linalg.det(matrix))) != 1:
        raise ConfigError(f"axes {axes!r}: three signed axes that turn and do not mirror are needed, like {GLTF_AXES}")
    return matrix


@dataclass(frozen=True)
class Method:
    """How the output of a method is read.

    Args:
        name: what `--method` takes.
        label: what tables print.
        glob: the files, inside the item's folder.
        layout: "stills", a mesh a frame in natural order; or "animation", one animated file, sampled evenly.
        axes: our x (right), y (away), z (up), each as a signed axis of the file: `GLTF_AXES` where Y is up.
        textured: whether metrics of texture are defined.
        frames: this many uniformly spaced moments are judged; None for all.
        told: where this is from, and what is assumed.
    """

    name: str
    label: str
    glob: str
    layout: Literal["stills", "animation"] = "stills"
    axes: str = GLTF_AXES
    textured: bool = True
    frames: int | None = None
    told: str = ""

    def __post_init__(self) -> None:
        axes_matrix(self.axes)
        if self.frames is not None and self.frames < 1:
            raise ConfigError(f"{self.name}: {self.frames} frames are judged, at least 1 is needed")
        if Path(self.glob).is_absolute() or ".." in Path(self.glob).parts:
            raise ConfigError(f"glob {self.glob!r} leaves the item's folder")


METHODS: Mapping[str, Method] = {
    method.name: method
    for method in (
        Method("helix4d", "Helix4D (this code)", "frame_*.glb", told="what helix4d sample writes"),
        Method(
            "actionmesh",
            "ActionMesh",
            "mesh_*.glb",
            textured=False,
            told="its code writes mesh_00.glb, mesh_01.glb ..., Y up; that it faces +Z is assumed",
        ),
        Method(
            "motion-3-to-4",
            "Motion 3-to-4",
            "output_animation.*",
            layout="animation",
            told="its code writes one output_animation.fbx (or .glb) from Blender, a key a frame",
        ),
        Method(
            "mesh4d",
            "Mesh4D",
            "*.*",
            frames=6,
            told="file names and axes are assumed; six uniformly spaced frames are judged (ours: the paper says six of "
            "every sequence, not which)",
        ),
        Method(
            "ss4d",
            "SS4D",
            "*.*",
            told="its code writes Gaussians and videos, no meshes; that a mesh a frame was extracted is assumed",
        ),
        Method("shapegen4d", "ShapeGen4D", "*.*", textured=False, told="no code was found; all is assumed"),
    )
}


def find_method(
    name: str,
    glob: str | None = None,
    axes: str | None = None,
    textured: bool | None = None,
    frames: int | None = None,
) -> Method:
    """A method of `METHODS` with some of its facts replaced; any other name needs a glob.

    Raises:
        ConfigError: for an unknown name without a glob, or impossible facts.
    """
    known = METHODS.get(name)
    if known is None and glob is None:
        raise ConfigError(f"no method {name!r}: there are {', '.join(METHODS)}; for others say --glob")
    method = known if known is not None else Method(name, name, "*", told="as the command line says")
    changes: dict[str, Any] = {"glob": glob, "axes": axes, "textured": textured, "frames": frames}
    return replace(method, **{key: value for key, value in changes.items() if value is not None})


def judged_frames(method: Method, count: int) -> list[int]:
    """Which of a sequence's `count` moments are judged."""
    if method.frames is None or method.frames >= count:
        return list(range(count))
    return [round(place) for place in np.linspace(0, count - 1, method.frames).tolist()]
