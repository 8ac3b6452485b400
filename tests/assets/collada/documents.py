"""Writes small COLLADA documents by hand, and reads what a clip shows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from helix4d.assets import Clip

TETRA = ((0, 0, 0), (2, 0, 0), (0, 3, 0), (0, 0, 4))
TETRA_FACES = "0 2 1 0 1 3 1 2 3 0 3 2"


def text(values: Iterable[object]) -> str:
    """Return the values of nested sequences, separated by spaces."""
    return " ".join(str(value) for value in np.array(list(values)).reshape(-1))  # type: ignore[arg-type]


def source(name: str, values: Sequence[object], width: int = 1, kind: str = "float") -> str:
    """Return a source of numbers, or of names if `kind` is "Name" or "IDREF"."""
    flat = np.array(values).reshape(-1)
    params = f'<param name="P" type="{kind}"/>' * width
    return (
        f'<source id="{name}"><{kind}_array id="{name}-array" count="{flat.size}">{text(flat)}</{kind}_array>'
        f'<technique_common><accessor source="#{name}-array" count="{flat.size // width}" stride="{width}">{params}'
        "</accessor></technique_common></source>"
    )


def geometry(name: str = "g", points: Sequence[Sequence[float]] = TETRA, primitives: str = "", extra: str = "") -> str:
    """Return a geometry; a tetrahedron of the material symbol `m` by default."""
    shown = primitives or (
        f'<triangles material="m" count="4"><input semantic="VERTEX" source="#{name}-v" offset="0"/>'
        f"<p>{TETRA_FACES}</p></triangles>"
    )
    return (
        f'<geometry id="{name}"><mesh>{source(f"{name}-p", points, 3)}{extra}'  # type: ignore[arg-type]
        f'<vertices id="{name}-v"><input semantic="POSITION" source="#{name}-p"/></vertices>{shown}</mesh></geometry>'
    )


def animation(
    target: str,
    times: Sequence[float],
    values: Sequence[object],
    kinds: str | Sequence[str] = "LINEAR",
    name: str = "",
    tangents: tuple[Sequence[object], Sequence[object]] | None = None,
    sampler: str = "",
) -> str:
    """Return an animation of one channel; `tangents` are the in- and out-tangents of all keys."""
    name = name or "a" + "".join(letter for letter in target if letter.isalnum())
    width = np.array(values).size // len(times)
    kinds = [kinds] * len(times) if isinstance(kinds, str) else kinds
    parts = [source(f"{name}-i", times), source(f"{name}-o", values, width), source(f"{name}-n", kinds, 1, "Name")]
    inputs = [("INPUT", "i"), ("OUTPUT", "o"), ("INTERPOLATION", "n")]
    for semantic, suffix, stored in zip(("IN_TANGENT", "OUT_TANGENT"), ("l", "r"), tangents or (), strict=False):
        parts.append(source(f"{name}-{suffix}", stored, np.array(stored).size // len(times)))
        inputs.append((semantic, suffix))
    shown = "".join(f'<input semantic="{semantic}" source="#{name}-{suffix}"/>' for semantic, suffix in inputs)
    return (
        f'<animation id="{name}">{"".join(parts)}<sampler id="{name}-s" {sampler}>{shown}</sampler>'
        f'<channel source="#{name}-s" target="{target}"/></animation>'
    )


def node(name: str, content: str = "", attributes: str = "") -> str:
    """Return a node whose id and sid are its name."""
    return f'<node id="{name}" sid="{name}" {attributes}>{content}</node>'


def shown(url: str = "g", binding: str = "") -> str:
    """Return an instance of a geometry, which binds the symbol `m` to the material `m`."""
    material = f'<instance_material symbol="m" target="#m">{binding}</instance_material>'
    bound = f"<bind_material><technique_common>{material}</technique_common></bind_material>"
    return f'<instance_geometry url="#{url}">{bound}</instance_geometry>'


def effect(shader: str, parameters: str = "", extra: str = "") -> str:
    """Return a library of the material `m` and its effect; `shader` is an element such as <lambert>."""
    return (
        '<library_materials><material id="m"><instance_effect url="#e"/></material></library_materials>'
        f'<library_effects><effect id="e"><profile_COMMON>{parameters}<technique sid="t">{shader}</technique>{extra}'
        "</profile_COMMON></effect></library_effects>"
    )


def document(
    nodes: str,
    animations: str = "",
    geometries: str | None = None,
    libraries: str = "",
    asset: str = "<up_axis>Z_UP</up_axis>",
) -> str:
    """Return a document in meters, whose material `m` is plain unless the libraries have one."""
    libraries += "" if "library_materials" in libraries else effect("<lambert/>")
    unit = "" if "<unit" in asset else '<unit name="meter" meter="1"/>'
    return (
        '<?xml version="1.0" encoding="utf-8"?>'
        '<COLLADA xmlns="http://www.collada.org/2005/11/COLLADASchema" version="1.4.1">'
        f"<asset>{unit}{asset}</asset>{libraries}"
        f"<library_geometries>{geometry() if geometries is None else geometries}</library_geometries>"
        f"<library_animations>{animations}</library_animations>"
        f'<library_visual_scenes><visual_scene id="scene">{nodes}</visual_scene></library_visual_scenes>'
        '<scene><instance_visual_scene url="#scene"/></scene></COLLADA>'
    )


def write(folder: Path, content: str | bytes, name: str = "a.dae") -> Path:
    """Write a document."""
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def corners(clip: Clip) -> list[np.ndarray]:
    """Return the sorted distinct corners of the triangles of each frame, rounded to 1e-4."""
    return [np.unique(np.round(frame.triangles().reshape(-1, 3), 4) + 0.0, axis=0) for frame in clip.frames]


def assert_shows(clip: Clip, expected: Sequence[np.ndarray]) -> None:
    """Assert that each frame shows exactly the given (N, 3) points, in any order, within 1e-4 of the diagonal."""
    every = np.concatenate(expected)
    tolerance = 1e-4 * float(np.linalg.norm(np.ptp(every, axis=0)))
    assert len(clip.frames) == len(expected)
    for frame, points in zip(clip.frames, expected, strict=True):
        found = frame.triangles().reshape(-1, 3).astype(np.float64)
        apart = np.linalg.norm(found[:, None] - np.asarray(points)[None], axis=2)
        assert apart.min(axis=1).max() <= tolerance, "a corner is somewhere else"
        assert apart.min(axis=0).max() <= tolerance, "a point is not shown"


def placed(matrix: np.ndarray, points: Sequence[Sequence[float]] = TETRA) -> np.ndarray:
    """Return (N, 3) points moved by a (4, 4) matrix."""
    return np.array(points, float) @ matrix[:3, :3].T + matrix[:3, 3]
