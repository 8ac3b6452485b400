"""The share of the visible surface that emits light, and of the surface that draws outlines."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from helix4d.assets import Clip, Material, Texture, Topology, Wrap, normalize
from helix4d.core import ReasonCode
from helix4d.curation.filters.measures import measure
from helix4d.curation.filters.thresholds import FilterConfig, judge
from helix4d.curation.filters.visibility import frame_visibility
from tests.curation.clips import Mesh, box, clip_of, join, moved

LAMP = Material(emissive=(1.0, 0.8, 0.5))
QUAD: Mesh = (np.array([[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]]), np.array([[0, 1, 2], [0, 2, 3]]))


def emissive(clip: Clip) -> float:
    return frame_visibility(normalize(clip)[0], 0).emissive


def textured(pixels: np.ndarray, spread: float = 1.0, **texture: object) -> Clip:
    """A square whose UVs run from 0 to `spread`, lit by an emissive texture."""
    image = np.dstack([pixels, pixels, pixels, np.full_like(pixels, 255)]).astype(np.uint8)
    lit = Material(emissive=(1.0, 1.0, 1.0), emissive_texture=Texture(0, **texture))  # type: ignore[arg-type]
    clip = clip_of([QUAD], materials=(lit,), images=(image,))
    corners = QUAD[0][:, :2][QUAD[1]].astype(np.float32) * np.float32(spread)
    topology = Topology(clip.frames[0].faces, corners[None], clip.frames[0].topology.material_ids)
    return replace(clip, frames=(replace(clip.frames[0], topology=topology),))


def two_boxes(second: Material, third_inside: Material | None = None) -> Clip:
    """Two boxes of equal size side by side, and one of any size inside of the first."""
    parts = [box(1.0, cuts=4), moved(box(1.0, cuts=4), (3, 0, 0))] + ([box(0.5)] if third_inside else [])
    ids = np.repeat(np.arange(len(parts)), [len(faces) for _, faces in parts])
    materials = (Material(), second) + ((third_inside,) if third_inside else ())
    return clip_of([join(*parts)] * 2, ids=ids, materials=materials)


def test_a_lamp_beside_a_box_is_half_of_the_surface() -> None:
    assert emissive(two_boxes(LAMP)) == pytest.approx(0.5, abs=1e-9)
    assert emissive(two_boxes(Material())) == 0
    assert emissive(two_boxes(LAMP, third_inside=Material())) == pytest.approx(0.5, abs=1e-9)
    assert emissive(two_boxes(Material(), third_inside=LAMP)) == 0, "it is not visible"


@pytest.mark.parametrize(
    ("material", "glows"),
    [
        (Material(emissive=(0.1, 0.1, 0.1)), True),
        (Material(emissive=(0.09, 0.09, 0.09)), False),
        (Material(emissive=(0.0, 0.0, 1.0)), False),  # blue has a luminance of 0.07
        (Material(emissive=(0.0, 0.0, 4.0)), True),
        (Material(emissive=(1.0, 1.0, 1.0), unlit=True), False),  # KHR_materials_unlit has no emission
        (Material(base_color=(1.0, 1.0, 1.0)), False),
    ],
)
def test_the_luminance_decides(material: Material, glows: bool) -> None:
    assert emissive(clip_of([box()], materials=(material,))) == float(glows)


def test_the_factor_multiplies_the_linear_texture() -> None:
    for gray, glows in ((89, False), (91, True)):  # 90 of 255 in sRGB is 0.102 linear
        assert emissive(textured(np.full((2, 2), gray))) == float(glows)
    dim = textured(np.full((2, 2), 255))
    assert emissive(replace(dim, materials=(replace(dim.materials[0], emissive=(0.09,) * 3),))) == 0


def test_texels_are_found_by_uv_wrapping_and_transform() -> None:
    quarter = np.zeros((8, 8))
    quarter[:4, 4:] = 255  # small v, large u
    assert emissive(textured(quarter)) == pytest.approx(0.25, abs=0.02)
    assert emissive(textured(quarter, spread=2.0)) == pytest.approx(0.25, abs=0.02)
    clamped = textured(quarter, spread=2.0, wrap_u=Wrap.CLAMP, wrap_v=Wrap.CLAMP)
    assert emissive(clamped) == pytest.approx(0.75 * 0.25, abs=0.02)  # u from 0.5 to 2, v from 0 to 0.5, of 2 x 2
    left = np.zeros((8, 8))
    left[:, 0] = 255
    # An eighth of the texture, from 0 to 1 and again, mirrored, from 1 to 2: the column meets itself at 2.
    assert emissive(textured(left, spread=2.0, wrap_u=Wrap.MIRROR)) == pytest.approx(1 / 8, abs=0.02)
    third = textured(left, spread=1.0, wrap_u=Wrap.CLAMP, offset=(0.0, 0.0), scale=(0.5, 1.0))
    assert emissive(third) == pytest.approx(1 / 4, abs=0.02)
    turned = textured(quarter, rotation=np.pi / 2)  # u, v -> v, -u: the quarter of large v and large u
    assert emissive(turned) == pytest.approx(0.25, abs=0.02)


def test_a_texture_is_read_at_the_samples_of_its_own_material() -> None:
    """A small plain square beside a large one, half of which glows: the squares have different numbers of samples."""
    half = np.zeros((8, 8))
    half[:, 4:] = 255
    glowing = textured(half)
    mesh = join((QUAD[0] * 0.25 + [0, 2, 0], QUAD[1]), QUAD)
    first = clip_of([mesh], ids=[0, 0, 1, 1], materials=(Material(), *glowing.materials), images=glowing.images)
    uvs = np.concatenate([np.zeros((1, 2, 3, 2), np.float32), glowing.frames[0].topology.uvs], axis=1)
    topology = Topology(first.frames[0].faces, uvs, first.frames[0].topology.material_ids)
    both = replace(first, frames=(replace(first.frames[0], topology=topology),))
    assert emissive(both) == pytest.approx(0.5 / (1 + 0.25**2), abs=0.02)


def test_clips_that_glow_are_refused() -> None:
    measured = measure(two_boxes(LAMP), "0_0")
    assert measured.measures["emissive_share"] == pytest.approx(0.5)
    assert judge(measured, FilterConfig(min_motion=0, max_emissive_share=0.51)) is None
    refusal = judge(measured, FilterConfig(min_motion=0, max_emissive_share=0.49))
    assert refusal is not None
    assert refusal.code is ReasonCode.EMISSIVE


# Outlines.


def test_outlines_have_their_share_and_hide_nothing() -> None:
    inner, hull = box(1.0, cuts=3), box(1.02, cuts=3)
    ids = [0] * len(inner[1]) + [1] * len(hull[1])
    frames = [moved(join(inner, hull), (t, 0, 0)) for t in range(2)]
    marked = clip_of(frames, ids=ids, materials=(Material(), Material(outline=True)))
    found = measure(marked, "0_0")
    assert found.measures["outline_share"] == pytest.approx(1.02**2 / (1 + 1.02**2))
    assert found.measures["visible"] == 1
    assert judge(found, FilterConfig(max_outline_share=0.6)) is None
    refusal = judge(found, FilterConfig(max_outline_share=0.5))
    assert refusal is not None
    assert refusal.code is ReasonCode.OUTLINE
    ordinary = measure(clip_of(frames, ids=ids, materials=(Material(), Material())), "0_0")
    assert ordinary.measures["outline_share"] == 0
    assert ordinary.measures["visible"] < 0.6


def test_the_share_of_outlines_is_the_mean_over_the_frames() -> None:
    ids = [0] * 12 + [1] * 12
    frames = [join(box(1.0), moved(box(size), (2, 0, 0))) for size in (1.0, 2.0)]
    clip = clip_of(frames, ids=ids, materials=(Material(), Material(outline=True)))
    assert measure(clip, "0_0").measures["outline_share"] == pytest.approx((1 / 2 + 4 / 5) / 2)
