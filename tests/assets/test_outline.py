from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from helix4d.assets import AlphaMode, Clip, Frame, Material, Topology, normalize
from helix4d.assets.outline import mark_outlines
from helix4d.render.alpha.coverage import Coverage
from helix4d.render.scene.cameras import sample_cameras
from helix4d.voxelize import voxelize_clip

ORANGE, BLACK = Material("body", (1.0, 0.5, 0.0), metallic=0.0), Material("rim", (0.0, 0.0, 0.0), metallic=0.0)


def sphere(radius: float, rows: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """Vertices and outward triangles of a sphere, without degenerate triangles at the poles."""
    polar, turn = np.meshgrid(np.linspace(0.2, np.pi - 0.2, rows), np.arange(2 * rows) * np.pi / rows, indexing="ij")
    points = radius * np.stack([np.sin(polar) * np.cos(turn), np.sin(polar) * np.sin(turn), np.cos(polar)], axis=-1)
    number = np.arange(rows * 2 * rows).reshape(rows, 2 * rows)
    a, b, c, d = number[:-1], number[1:], np.roll(number[1:], -1, axis=1), np.roll(number[:-1], -1, axis=1)
    faces = np.concatenate([np.stack([a, b, c], axis=-1).reshape(-1, 3), np.stack([a, c, d], axis=-1).reshape(-1, 3)])
    return points.reshape(-1, 3).astype(np.float32), faces.astype(np.int32)


def clip_of(*parts: tuple[np.ndarray, np.ndarray], materials: tuple[Material, ...] = (ORANGE, BLACK)) -> Clip:
    """A clip of one frame; part N has material N."""
    starts = np.cumsum([0, *(len(points) for points, _ in parts)])
    faces = np.concatenate([faces + start for (_, faces), start in zip(parts, starts, strict=False)]).astype(np.int32)
    ids = np.repeat(np.arange(len(parts)), [len(faces) for _, faces in parts]).astype(np.int32)
    vertices = np.concatenate([points for points, _ in parts]).astype(np.float32)
    topology = Topology(faces, np.zeros((0, len(faces), 3, 2), np.float32), ids)
    normals = vertices / np.linalg.norm(vertices, axis=1, keepdims=True)
    return Clip("", 0, np.zeros(1), (Frame(vertices, normals.astype(np.float32), topology),), materials)


def flipped(part: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    return part[0], np.ascontiguousarray(part[1][:, ::-1])


def outlines(clip: Clip) -> list[str]:
    return [material.name for material in mark_outlines(clip).materials if material.outline]


@pytest.mark.parametrize("rows", [4, 8, 16])
@pytest.mark.parametrize("thickness", [0.002, 0.02])
def test_a_flipped_larger_copy_is_an_outline(rows: int, thickness: float) -> None:
    clip = mark_outlines(clip_of(sphere(1.0, rows), flipped(sphere(1.0 + thickness, rows))))
    assert [material.outline for material in clip.materials] == [False, True]
    assert "material 'rim' is an inverted hull" in clip.warnings[0]


def test_the_order_of_vertices_and_faces_does_not_matter() -> None:
    points, faces = flipped(sphere(1.02))
    order, draw = np.random.default_rng(3).permutation(len(points)), np.random.default_rng(4)
    moved = points[order], draw.permutation(np.argsort(order)[faces]).astype(np.int32)
    assert outlines(clip_of(sphere(1.0), moved)) == ["rim"]


def test_a_hull_may_cover_several_materials() -> None:
    points, faces = sphere(1.0)
    half = len(faces) // 2
    materials = (ORANGE, replace(ORANGE, name="legs"), BLACK)
    clip = clip_of((points, faces[:half]), (points, faces[half:]), flipped(sphere(1.02)), materials=materials)
    assert outlines(clip) == ["rim"]


UNRELATED = {
    "a larger copy that faces outward": (sphere(1.0), sphere(1.02)),
    "the inside of a thick wall": (sphere(1.0), flipped(sphere(0.98))),
    "a distant flipped copy, such as a sky": (sphere(1.0), flipped(sphere(2.0))),
    "a flipped mesh of another tessellation": (sphere(1.0, 8), flipped(sphere(1.02, 13))),
    "a flipped surface alone": (flipped(sphere(1.0)),),
}


@pytest.mark.parametrize("parts", UNRELATED.values(), ids=UNRELATED)
def test_other_surfaces_are_not_outlines(parts: tuple[tuple[np.ndarray, np.ndarray], ...]) -> None:
    clip = clip_of(*parts)
    assert mark_outlines(clip) is clip


def test_every_look_of_a_hull_is_an_outline() -> None:
    clip = clip_of(sphere(1.0), flipped(sphere(1.02)), materials=(ORANGE, BLACK, replace(BLACK, emissive=(1, 0, 0))))
    ids = clip.frames[0].topology.material_ids
    glowing = replace(clip.frames[0].topology, material_ids=np.where(ids == 1, 2, ids).astype(np.int32))
    frames = (clip.frames[0], replace(clip.frames[0], topology=glowing))
    clip = mark_outlines(replace(clip, frames=frames, times=np.arange(2.0)))
    assert [material.outline for material in clip.materials] == [False, True, True]
    assert len(clip.warnings) == 1


def test_a_hull_that_appears_later_is_an_outline() -> None:
    clip = clip_of(sphere(1.0), flipped(sphere(1.02)))
    alone = clip.frames[0].topology.only(clip.frames[0].topology.material_ids == 0)
    frames = (replace(clip.frames[0], topology=alone), clip.frames[0])
    assert outlines(replace(clip, frames=frames, times=np.arange(2.0))) == ["rim"]


def test_a_double_sided_hull_is_not_culled() -> None:
    materials = (ORANGE, replace(BLACK, double_sided=True))
    assert outlines(clip_of(sphere(1.0), flipped(sphere(1.02)), materials=materials)) == []


def test_voxels_are_those_of_the_object_alone() -> None:
    body, hull = sphere(0.4), flipped(sphere(0.41))
    (with_hull,) = voxelize_clip(mark_outlines(clip_of(body, hull)), 32)
    (alone,) = voxelize_clip(clip_of(body), 32)
    for name in ("coords", "dual_vertices", "intersected", "base_color"):
        np.testing.assert_array_equal(getattr(with_hull, name), getattr(alone, name))


def test_an_outline_is_culled_as_by_a_rasterizer() -> None:
    body = replace(ORANGE, alpha=0.5, alpha_mode=AlphaMode.BLEND, double_sided=True)
    clip = normalize(clip_of(sphere(1.0), flipped(sphere(1.02)), materials=(body, BLACK)))[0]
    camera = sample_cameras(0, "outline", 1, 64)[0]
    marked, culled = Coverage(mark_outlines(clip)), Coverage(clip, cull_back_faces=True)
    np.testing.assert_array_equal(marked.alpha(0, camera), culled.alpha(0, camera))
    assert (marked.alpha(0, camera) != Coverage(clip).alpha(0, camera)).any()
