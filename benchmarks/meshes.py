"""Measures what simplification and file formats cost: `benchmarks/meshes.py [ASSET ...]`.

Voxelizes the first frame of each asset at 512^3, extracts its surface, exports it with several face budgets, and
renders the results and the full surface from eight sides with the raster engine. Prints triangles, seconds, the sizes
of a GLB in each form, the median and mean angle between the normals, and the mean difference of base color in [0, 255]
over the pixels that both cover.
"""

from __future__ import annotations

import itertools
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import numpy as np

from benchmarks.results import Column, Report, Table
from helix4d.assets import Clip, bake, normalize
from helix4d.assets.samples import SAMPLES
from helix4d.render import Lights, RenderSettings, orbit_camera
from helix4d.render.raster.engine import render_views
from helix4d.voxelize import OVoxel, extract_mesh, voxelize_clip
from helix4d.voxelize.mesh.baked_clip import baked_clip
from helix4d.voxelize.mesh.baking import BakedMesh
from helix4d.voxelize.mesh.cleaning import orient_faces
from helix4d.voxelize.mesh.export import ExportSettings, textured_mesh
from helix4d.voxelize.mesh.glb import TextureFormat, clip_glb, encode_textures

BUDGETS = (None, 200_000, 50_000, 10_000)
SIZE = 512
CAMERAS = [orbit_camera(45.0 * side, 20.0, SIZE, fov_deg=40.0, radius=2.6) for side in range(8)]


def main() -> None:
    """Print a row per asset and budget."""
    report = Report("meshes", __doc__, quick="64³ with textures of 128 pixels")
    parser = report.parser
    parser.add_argument("assets", type=Path, nargs="*", help="by default the sample butterfly")
    parser.add_argument("--resolution", type=int, default=512)
    parser.add_argument("--texture-size", type=int, default=1024)
    arguments = report.parse()
    if arguments.quick:
        arguments.resolution, arguments.texture_size = 64, 128
    sizes = [Column(f"{form}, MB", ".2f") for form in ("PNG", "meshopt", "meshopt and WebP")]
    degrees = [Column(f"{kind} angle, degrees", ".2f") for kind in ("median", "mean")]
    identity = (Column("asset"), Column("triangles", ","), Column("CPU s", ".1f"))
    table = report.table("sizes", *identity, *sizes, *degrees, Column("color of 255", ".2f"))
    with tempfile.TemporaryDirectory() as folder:
        sample = Path(folder) / "butterfly.glb"
        sample.write_bytes(SAMPLES["butterfly"]())
        for path in arguments.assets or [sample]:
            clip, _ = normalize(bake(path, 2))
            measure(table, path.stem, voxelize_clip(clip, arguments.resolution)[0], arguments.texture_size)
    report.save()


def measure(table: Table, name: str, ovoxel: OVoxel, texture_size: int) -> None:
    """Add the rows of one frame."""
    vertices, faces = extract_mesh(ovoxel)
    faces = orient_faces(vertices, faces)
    full: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for budget in BUDGETS:
        if budget is not None and budget >= len(faces):
            continue
        start = time.process_time()
        mesh = textured_mesh(vertices, faces, ovoxel, ExportSettings(faces=budget, texture_size=texture_size))
        seconds = time.process_time() - start
        assert mesh is not None
        megabytes = [
            len(clip_glb([encode_textures(mesh, None, kind)], 8.0, meshopt)) / 1e6
            for kind, meshopt in ((TextureFormat.PNG, False), (TextureFormat.PNG, True), (TextureFormat.WEBP, True))
        ]
        seen = rendered(mesh)
        full = full or seen
        table.add(name, len(mesh.faces), seconds, *megabytes, *errors(seen, full))


def rendered(mesh: BakedMesh) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Coverage, normals and unlit base color of each view."""
    settings = RenderSettings(image_size=SIZE, passes=True, device="cpu")
    clip = baked_clip([mesh], 1.0)
    views = []
    for shaded, painted in zip(*(_images(c, settings) for c in (clip, unlit(clip))), strict=True):
        views.append((shaded[0][..., 3] > 250, shaded[1], painted[0][..., :3].astype(np.float64)))
    return views


def unlit(clip: Clip) -> Clip:
    """The clip with its base color as emission."""
    materials = [
        replace(m, emissive=(1.0, 1.0, 1.0), emissive_texture=m.base_color_texture, base_color=(0.0, 0.0, 0.0))
        for m in clip.materials
    ]
    return replace(clip, materials=tuple(materials))


def _images(clip: Clip, settings: RenderSettings) -> list[tuple[np.ndarray, np.ndarray]]:
    lights = [Lights((), 0.0)] * len(CAMERAS)
    found = []
    for image in render_views(clip, CAMERAS, lights, settings):
        assert image.normal is not None
        found.append((image.rgba, image.normal))
    return found


def errors(
    seen: list[tuple[np.ndarray, np.ndarray, np.ndarray]], full: list[tuple[np.ndarray, np.ndarray, np.ndarray]]
) -> tuple[float, float, float]:
    """Median and mean angle between normals, and mean difference of colors, where both are covered."""
    angles, colors = [], []
    for ours, theirs in zip(seen, full, strict=True):
        both = ours[0] & theirs[0]
        # Two-sided surfaces: the sign of a normal does not show.
        cosine = np.abs(np.einsum("px,px->p", ours[1][both], theirs[1][both]))
        angles.append(np.degrees(np.arccos(np.clip(cosine, 0, 1))))
        colors.append(np.abs(ours[2][both] - theirs[2][both]).mean(axis=1))
    angle, color = (np.array(list(itertools.chain.from_iterable(parts))) for parts in (angles, colors))
    return float(np.median(angle)), float(angle.mean()), float(color.mean())


if __name__ == "__main__":
    main()
