from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from helix4d.assets import Clip, Frame, Material, Topology, check_clip, motion, normalize
from helix4d.assets.surface import solid
from helix4d.assets.triangles import areas
from helix4d.core import AssetError, ReasonCode


def _clip(frames: list[np.ndarray], faces: list[list[int]], materials: tuple[Material, ...] = (Material(),)) -> Clip:
    topology = Topology(
        np.array(faces, np.int32).reshape(-1, 3),
        np.zeros((0, len(faces), 3, 2), np.float32),
        np.zeros(len(faces), np.int32),
    )
    made = tuple(Frame(v.astype(np.float32), np.zeros(v.shape, np.float32), topology) for v in frames)
    return Clip("c", 0, np.linspace(0, 1, len(made)), made, materials)


_TRIANGLE = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0]], np.float64)


@settings(max_examples=200, deadline=None)
@given(
    hnp.arrays(np.float32, (3, 6, 3), elements=st.floats(-1e4, 1e4, width=32)),
    st.floats(-6, 6),
)
def test_normalized_clips_lie_in_the_unit_cube_and_can_be_mapped_back(vertices: np.ndarray, exponent: float) -> None:
    clip = _clip(list(vertices * np.float32(10**exponent)), [[0, 1, 2], [3, 4, 5]])
    try:
        bounds = clip.bounds()
    except ValueError:
        with pytest.raises(AssetError):
            normalize(clip)
        return
    normalized, back = normalize(clip)
    stacked = np.stack([frame.vertices for frame in normalized.frames])
    assert np.abs(stacked).max() <= 0.5
    # Rounding may turn a line into a sliver, so take the triangles that have area before normalization.
    used = [np.unique(frame.faces[solid(frame)]) for frame in clip.frames]
    surface = np.concatenate([f.vertices[u] for f, u in zip(normalized.frames, used, strict=True)])
    assert np.ptp(surface.astype(np.float64), axis=0).max() == pytest.approx(0.99999, abs=1e-6)
    world = np.concatenate([f.vertices[u] for f, u in zip(clip.frames, used, strict=True)])
    size = (bounds[1] - bounds[0]).max()
    np.testing.assert_allclose(back.to_world(surface), world, atol=1e-6 * size + 1e-37)


def test_lengths_in_materials_are_scaled() -> None:
    clip = _clip([_TRIANGLE * 4], [[0, 1, 2]], (Material(thickness=2.0, attenuation_distance=8.0), Material()))
    normalized, back = normalize(clip)
    assert back.scale == pytest.approx(0.99999 / 4)
    assert normalized.materials[0].thickness == pytest.approx(2 * back.scale)
    assert normalized.materials[0].attenuation_distance == pytest.approx(8 * back.scale)
    assert normalized.materials[1].attenuation_distance is None
    assert back.to_json() == {"scale": back.scale, "center": list(back.center)}


def test_collapsed_triangles_do_not_extend_the_box() -> None:
    parked = np.concatenate([_TRIANGLE, np.full((3, 3), 1000.0)])
    normalized, _ = normalize(_clip([parked, parked], [[0, 1, 2], [3, 4, 5]]))
    np.testing.assert_allclose(np.ptp(normalized.frames[0].vertices[:3], axis=0).max(), 0.99999, atol=1e-6)
    assert (normalized.frames[0].vertices[3:] == 0).all()


def test_a_line_that_sticks_out_of_the_surface_stays_invisible() -> None:
    """Its far corner is outside the box; moving it alone would turn the line into a triangle that the file lacks."""
    spike = np.concatenate([_TRIANGLE, _TRIANGLE[:1] + 10 * (_TRIANGLE[1:2] - _TRIANGLE[:1])]).astype(np.float32)
    clip = _clip([spike, spike + np.float32([0.25, 0, 0])], [[0, 1, 2], [0, 1, 3]])
    assert [(areas(frame.triangles()) > 0).tolist() for frame in clip.frames] == [[True, False]] * 2
    normalized, _ = normalize(clip)
    for frame in normalized.frames:
        assert np.abs(frame.vertices).max() <= 0.5
        assert frame.faces[areas(frame.triangles()) > 0].tolist() == [[0, 1, 2]]
        assert frame.topology is normalized.frames[0].topology


def test_motion_is_relative_to_the_union_diagonal() -> None:
    clip = _clip([_TRIANGLE, _TRIANGLE + [3, 0, 0]], [[0, 1, 2]])
    assert motion(clip) == pytest.approx(3 / np.sqrt(17))
    assert motion(_clip([_TRIANGLE, _TRIANGLE], [[0, 1, 2]])) == 0
    vanishing = _clip([_TRIANGLE, _TRIANGLE * 0], [[0, 1, 2]])
    assert motion(vanishing) >= 1
    assert motion(_clip([_TRIANGLE * 0], [[0, 1, 2]])) == 0


def test_motion_of_frames_without_corresponding_vertices_is_that_of_their_boxes() -> None:
    one = _clip([_TRIANGLE], [[0, 1, 2]])
    two = _clip([np.concatenate([_TRIANGLE, _TRIANGLE]) + [3, 0, 0]], [[0, 1, 2], [3, 4, 5]])
    clip = replace(one, frames=(*one.frames, *two.frames), times=np.array([0.0, 1.0]))
    assert motion(clip) == pytest.approx(3 / np.sqrt(17))


def test_check_clip_codes(tmp_path: Path) -> None:
    moving = _clip([_TRIANGLE, _TRIANGLE + [0.5, 0, 0]], [[0, 1, 2]])
    check_clip(moving)
    cases = {
        ReasonCode.ZERO_DURATION: replace(moving, times=np.zeros(2)),
        ReasonCode.NO_MOTION: _clip([_TRIANGLE, _TRIANGLE + [0.001, 0, 0]], [[0, 1, 2]]),
        ReasonCode.EMPTY_FIRST_FRAME: _clip([_TRIANGLE * 0, _TRIANGLE], [[0, 1, 2]]),
        ReasonCode.OBJECT_TOO_SMALL_IN_UNION_BBOX: _clip([_TRIANGLE, _TRIANGLE + [100, 0, 0]], [[0, 1, 2]]),
    }
    for code, clip in cases.items():
        with pytest.raises(AssetError) as caught:
            check_clip(clip)
        assert caught.value.code is code
