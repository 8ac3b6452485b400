"""Speed of baking many parts and of selecting among many clips: `python benchmarks/bake.py [ASSET ...]`.

Prints CPU milliseconds per part and frame of a scene of 2,000 animated parts, seconds to choose among the 7 clips of a
skinned character of 49,000 triangles, and both for the given assets. The normal matrices of the parts are also
computed in the way of version 0.3.0, one at a time, in alternation, so that the ratio holds on a busy machine; it must
be at least 5.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import numpy as np

from benchmarks.results import Column, Report, Spread, Table, alternate
from helix4d.assets.choice import MOST_MOVING, choose
from helix4d.assets.gltf import GltfAsset
from helix4d.assets.gltf.scene import cofactor, determinants
from helix4d.assets.gltf.writer import GlbBuilder, Mesh, Part, Track
from helix4d.assets.limits import DEFAULT_LIMITS
from helix4d.assets.surface import motion_of_times

PARTS, CLIPS, FRAMES = 2000, 7, 16
_SPEEDUP = 5.0


def main() -> None:
    report = Report("bake", __doc__, quick="one round instead of five, and a coarser character")
    report.parser.add_argument("assets", nargs="*", type=Path, help="further .glb files")
    options = report.parse()
    rounds = 1 if options.quick else 5
    _normal_matrices(report, rounds)
    columns = (
        *(Column("scene"), Column("triangles", ","), Column("nodes", ","), Column("clips", ",")),
        *(
            Column("open, CPU s", ".2f"),
            Column("select a clip, CPU s", ".2f"),
            Column(f"bake {FRAMES} frames, CPU s", ".2f"),
        ),
        Column("ms per node and frame", ".3f"),
    )
    table = report.table("scenes", *columns)
    with tempfile.TemporaryDirectory() as folder:
        for name, data in (("parts", many_parts(PARTS)), ("character", character(CLIPS, 40 if options.quick else 157))):
            path = Path(folder) / f"{name}.glb"
            path.write_bytes(data)
            _scene(path, table, rounds)
    for path in options.assets:
        _scene(path, table, rounds)
    report.save()


def _normal_matrices(report: Report, rounds: int) -> None:
    matrices = np.random.default_rng(0).normal(size=(PARTS, 3, 3))
    single = [(_one_cofactor(matrix[None])[0], np.linalg.det(matrix)) for matrix in matrices]
    same = np.array_equal(np.stack([found for found, _ in single]), cofactor(matrices))
    signs = np.array_equal(np.sign([value for _, value in single]), np.sign(determinants(matrices)))
    if not (same and signs):
        raise SystemExit(f"the two methods differ: cofactors equal {same}, signs of determinants equal {signs}")
    seconds = alternate(
        {
            "one": lambda: [(_one_cofactor(matrix[None])[0], np.linalg.det(matrix)) for matrix in matrices],
            "all": lambda: (cofactor(matrices), determinants(matrices)),
        },
        rounds,
    )
    table = report.table("normal-matrices", Column(f"{PARTS:,} normal matrices"), Column("CPU ms", ".2f"))
    table.add("one at a time, as in 0.3.0", Spread.of(seconds["one"], 1e3))
    table.add("together", Spread.of(seconds["all"], 1e3))
    ratio = Spread.of_ratios(seconds["one"], seconds["all"])
    report.value("normal_matrices_ratio", ratio, ".0f")
    print(f"aim: at least {_SPEEDUP:.0f} times: {'met' if ratio.median >= _SPEEDUP else 'missed'}")


def _one_cofactor(matrices: np.ndarray) -> np.ndarray:
    a, b, c = matrices[:, :, 0], matrices[:, :, 1], matrices[:, :, 2]
    return np.stack([np.cross(b, c), np.cross(c, a), np.cross(a, b)], axis=2)


def _motion(asset: GltfAsset, index: int) -> float:
    info = asset.clips[index]
    return motion_of_times(info.start, info.end, asset.poser(index))


def _scene(path: Path, table: Table, rounds: int) -> None:
    asset = GltfAsset(path, DEFAULT_LIMITS)
    chosen, *_ = choose(asset.clips, MOST_MOVING, lambda index: _motion(asset, index))
    info = asset.clips[chosen]
    times = np.linspace(info.start, info.end, FRAMES)
    faces, nodes = len(asset.bake(chosen, times[:1]).frames[0].faces), len(asset.document.nodes)
    seconds = alternate(
        {
            "open": lambda: GltfAsset(path, DEFAULT_LIMITS),
            "select": lambda: choose(asset.clips, MOST_MOVING, lambda index: _motion(asset, index)),
            "bake": lambda: asset.bake(chosen, times),
        },
        rounds,
    )
    per_node = Spread.of(seconds["bake"], 1e3 / FRAMES / nodes)
    spreads = (Spread.of(spent) for spent in seconds.values())
    table.add(path.stem, faces, nodes, len(asset.clips), *spreads, per_node)


def many_parts(count: int) -> bytes:
    """Return a GLB of `count` boxes, each with its own rotating node and one of 500 equal materials."""
    builder = GlbBuilder("Helix4D benchmarks", {})
    materials = [builder.material("") for _ in range(500)]
    corners = np.array([[x, y, z] for x in (0.0, 1.0) for y in (0.0, 1.0) for z in (0.0, 1.0)])
    faces = np.array(
        [[0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1], [2, 3, 7], [2, 7, 6], [0, 2, 6], [0, 6, 4]]
        + [[1, 5, 7], [1, 7, 3]]
    )
    normals = (corners - 0.5) / np.sqrt(0.75)
    box = Mesh(corners, normals, corners[:, :2], faces)
    meshes = [builder.mesh("", [Part(box, material)]) for material in materials]
    times = np.array([0.0, 1.0])
    tracks = []
    for number in range(count):
        place = [2.0 * (number % 50), 2.0 * (number // 50), 0.0]
        node = builder.node("", mesh=meshes[number % len(meshes)], translation=place)
        turn = np.pi * number / count / 2
        keys = np.array([[0.0, 0.0, 0.0, 1.0], [0.0, np.sin(turn), 0.0, np.cos(turn)]])
        tracks.append(Track(node, "rotation", times, keys))
    builder.animation("turn", tracks)
    return builder.build()


def character(clips: int, side: int = 157) -> bytes:
    """Return a GLB of a tube of about 2 side^2 triangles, skinned to a chain of 20 joints, with several animations."""
    builder = GlbBuilder("Helix4D benchmarks", {})
    around, along = (values.ravel() for values in np.meshgrid(np.arange(side + 1), np.arange(side + 1)))
    angle, height = 2 * np.pi * around / side, along / side * 2
    normals = np.stack([np.cos(angle), np.zeros_like(angle), np.sin(angle)], axis=1)
    positions = normals * 0.2 + np.stack([np.zeros_like(height), height, np.zeros_like(height)], axis=1)
    first = (np.arange(side)[:, None] * (side + 1) + np.arange(side)).ravel()
    beyond = first + side + 1
    faces = np.concatenate([np.stack([first, beyond, first + 1], 1), np.stack([first + 1, beyond, beyond + 1], 1)])
    bone = np.clip(height / 2 * 19, 0, 18.999)
    lower, share = bone.astype(int), bone % 1
    joints = np.stack([lower, lower + 1, np.zeros_like(lower), np.zeros_like(lower)], axis=1)
    weights = np.stack([1 - share, share, np.zeros_like(share), np.zeros_like(share)], axis=1)
    uvs = np.stack([around, along], axis=1) / side
    mesh = builder.mesh("", [Part(Mesh(positions, normals, uvs, faces, None, joints, weights), builder.material(""))])
    chain: list[int] = []
    step = 2 / 19
    for number in range(20):
        parent = chain[-1] if chain else None
        chain.append(builder.node("", parent=parent, translation=[0.0, step if number else 0.0, 0.0]))
    rest = np.stack([np.zeros(20), np.arange(20) * step, np.zeros(20)], axis=1)
    builder.skin(builder.node("", mesh=mesh), chain, rest)
    times = np.array([0.0, 1.0])
    for clip in range(clips):
        turn = 0.01 * (clip + 1)
        keys = np.array([[0.0, 0.0, 0.0, 1.0], [0.0, 0.0, np.sin(turn), np.cos(turn)]])
        builder.animation(f"clip {clip}", [Track(node, "rotation", times, keys) for node in chain])
    return builder.build()


if __name__ == "__main__":
    main()
