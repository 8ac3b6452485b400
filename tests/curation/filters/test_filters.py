"""Measures of clips with known answers, and the decision of every filter at its threshold."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helix4d.assets import AlphaMode, Clip, Material, check_clip, normalize
from helix4d.core import AssetError, AssetState, ConfigError, ReasonCode
from helix4d.core.typed import build
from helix4d.curation.config import SampleConfig
from helix4d.curation.filters.flicker import flicker
from helix4d.curation.filters.geometry_hash import geometry_hash, similarity
from helix4d.curation.filters.measures import measure
from helix4d.curation.filters.thresholds import FILTERS, FilterConfig, MeasuredClip, judge, missing_measures
from helix4d.curation.filters.visibility import frame_visibility
from tests.curation.clips import NOTHING, Mesh, box, clip_of, join, moved, sphere
from tests.data.record_shards import RECORD

RECORDED = json.loads(RECORD.read_text())


def measures(clip: Clip) -> dict[str, float]:
    return dict(measure(clip, "0_0").measures)


def visible(mesh: Mesh, **fields: object) -> float:
    return frame_visibility(normalize(clip_of([mesh], **fields))[0], 0).visible  # type: ignore[arg-type]


# Visibility.


def test_a_convex_surface_is_visible_and_its_inside_is_not() -> None:
    assert visible(box()) == 1
    assert visible(sphere()) == 1
    inside = join(box(1.0), box(0.5))
    assert visible(inside) == pytest.approx(1 / (1 + 0.25), abs=1e-9)
    walls = join(box(1.0, cuts=4), box(0.98, cuts=4))  # a hundredth apart
    assert visible(walls) == pytest.approx(1 / (1 + 0.98**2), abs=0.01)


def test_walls_closer_than_a_pixel_are_distinguished() -> None:
    shells = join(sphere(0.5), sphere(0.497))
    assert visible(shells) == pytest.approx(0.5, abs=0.03)


def test_an_open_box_shows_its_inside() -> None:
    vertices, faces = box(1.0)
    both = join((vertices, faces[2:]), box(0.5))  # one side is missing
    assert visible(both) > 0.95


def test_glass_hides_nothing() -> None:
    mesh = join(box(1.0), box(0.5))
    ids = [0] * 12 + [1] * 12
    for glass in (Material(alpha_mode=AlphaMode.BLEND, alpha=0.2), Material(transmission=1.0)):
        assert visible(mesh, ids=ids, materials=(glass, Material())) == 1
    assert visible(mesh, ids=ids, materials=(Material(alpha=0.2), Material())) < 0.9  # opaque: alpha says nothing


def rotation(quaternion: list[float]) -> np.ndarray:
    w, x, y, z = np.array(quaternion) / np.linalg.norm(quaternion)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


@settings(max_examples=15, deadline=None)
@given(st.lists(st.floats(-1, 1), min_size=4, max_size=4).filter(lambda q: np.linalg.norm(q) > 0.1))
def test_visibility_is_invariant_to_rotation(quaternion: list[float]) -> None:
    pot = join(box(1.0, cuts=3), box(0.5, cuts=3), sphere(0.3, (0.9, 0.2, 0.1), cuts=4))
    turned = (pot[0] @ rotation(quaternion).T, pot[1])
    assert visible(turned) == pytest.approx(visible(pot), abs=0.02)


def test_the_foreground_is_the_share_of_the_disc() -> None:
    look = frame_visibility(normalize(clip_of([sphere(cuts=16)]))[0], 0)
    assert look.foreground == pytest.approx(1 / 3, abs=0.005)  # radii 1/2 and √3/2
    nothing = frame_visibility(clip_of([box(), NOTHING], shared=False), 1)
    assert (nothing.visible, nothing.foreground) == (1.0, 0.0)


# Excursions.


def test_a_part_that_flies_off_is_a_scale_excursion() -> None:
    body, part = box(1.0), box(0.1)
    still = [join(body, moved(part, (0.2, 0, 0)))] * 8
    assert measures(clip_of(still))["scale_excursion"] == 1
    flying = [join(body, moved(part, (9.45 * t / 7, 0, 0))) for t in range(8)]
    found = measures(clip_of(flying))
    assert found["scale_excursion"] == pytest.approx(10, rel=0.01)  # from −0.5 to 9.5 instead of −0.5 to 0.5
    assert found["centroid_excursion"] < 0.2


def test_a_traveling_object_is_a_centroid_excursion() -> None:
    found = measures(clip_of([moved(box(2.0), (6.0 * t / 7, 0, 0)) for t in range(8)]))
    assert found["centroid_excursion"] == pytest.approx(3)  # edges of 2
    assert found["scale_excursion"] == pytest.approx(1)
    assert measures(clip_of([box(), box(2.0)]))["centroid_excursion"] == pytest.approx(0)


# Flicker.


def test_motion_is_not_flicker() -> None:
    assert flicker(normalize(clip_of([moved(box(), (3.0 * t, 0, 0)) for t in range(8)]))[0]) == 0


def test_a_blinking_part_flickers_by_its_share_of_the_surface() -> None:
    body, part = box(1.0), box(1.0, (3.0, 0, 0))
    for hidden in (0.0, 1e-3):  # collapsed, or as good as
        small = (part[0] * hidden + 3.0 * (1 - hidden), part[1])
        blinking = [join(body, part if t % 2 == 0 else small) for t in range(8)]
        # Of the 12 + 6 units of area of each pair, 6 pop.
        assert flicker(normalize(clip_of(blinking))[0]) == pytest.approx(1 / 3, abs=0.001)
    whole = [body if t % 2 == 0 else NOTHING for t in range(8)]
    assert flicker(normalize(clip_of(whole, shared=False))[0]) == pytest.approx(1)


def test_one_appearance_counts_once() -> None:
    frames = [NOTHING] * 4 + [box()] * 12
    assert flicker(normalize(clip_of(frames, shared=False))[0]) == pytest.approx(1 / 15)


def test_another_mesh_of_the_same_shape_does_not_flicker() -> None:
    frames = [box(cuts=1 + t % 3) for t in range(6)]
    assert flicker(normalize(clip_of(frames, shared=False))[0]) == 0
    elsewhere = [moved(box(0.2, cuts=1 + t % 2), (t % 2, 0, 0)) for t in range(6)]
    assert flicker(normalize(clip_of(elsewhere, shared=False))[0]) == pytest.approx(1)


@settings(max_examples=20, deadline=None)
@given(scale=st.floats(1e-2, 1e3), offset=st.lists(st.floats(-50, 50), min_size=3, max_size=3))
def test_measures_do_not_depend_on_units_and_place(scale: float, offset: list[float]) -> None:
    frames = [join(box(1.0, cuts=2), moved(box(0.5), (0.9 + 0.2 * t, 0, 0))) for t in range(3)]
    before = measure(clip_of(frames), "0_0")
    after = measure(clip_of([(v * scale + scale * np.array(offset), f) for v, f in frames]), "0_0")
    for name, value in before.measures.items():
        assert after.measures[name] == pytest.approx(value, rel=1e-3, abs=1e-3), name
    assert similarity(before.geometry_hash, after.geometry_hash) > 0.8


# The hash of the shape.


def test_the_hash_depends_on_shape_and_motion_only() -> None:
    frames = [join(sphere(0.5), moved(box(0.4), (0.5 + 0.1 * t, 0, 0))) for t in range(4)]
    own = geometry_hash(normalize(clip_of(frames))[0])
    order = np.random.default_rng(0).permutation(len(frames[0][0]))
    places = np.argsort(order)
    shuffled = [(v[order], places[f][::-1]) for v, f in frames]
    assert geometry_hash(normalize(clip_of(shuffled))[0]) == own
    rounded = [(np.round(v, 4), f) for v, f in frames]
    assert similarity(own, geometry_hash(normalize(clip_of(rounded))[0])) > 0.9
    cut = [join(sphere(0.5), moved(box(0.4, cuts=5), (0.5 + 0.1 * t, 0, 0))) for t in range(4)]
    assert similarity(own, geometry_hash(normalize(clip_of(cut))[0])) > 0.9
    backwards = geometry_hash(normalize(clip_of(frames[::-1]))[0])
    assert similarity(own, backwards) < 0.8
    assert similarity(own, geometry_hash(normalize(clip_of([box(cuts=2)] * 4))[0])) < 0.2
    empty = clip_of([box(), NOTHING], shared=False)
    assert similarity(geometry_hash(empty), geometry_hash(clip_of([box(), box()]))) < 1


# Decisions.

EXAMPLE = MeasuredClip(
    "0_0",
    "Walk",
    {
        "duration_s": 1.0,
        "first_frame": 1.0,
        "size": 0.5,
        "motion": 0.3,
        "centroid_excursion": 1.5,
        "scale_excursion": 4.0,
        "foreground": 0.1,
        "visible": 0.6,
        "flicker": 0.2,
        "distinct_poses": 12.0,
        "start_jump": 1.2,
        "backdrop_share": 0.1,
        "emissive_share": 0.4,
        "outline_share": 0.3,
        "frame_gap_s": 0.5,
        "tokens": 900.0,
        "faces": 500.0,
        "texture_pixels": 1e6,
    },
    license="by-nc",
    license_text="CC BY-NC",
)
DROPS = {
    "min_size": (0.5, 0.51, ReasonCode.OBJECT_TOO_SMALL_IN_UNION_BBOX),
    "min_motion": (0.3, 0.31, ReasonCode.NO_MOTION),
    "max_centroid_excursion": (1.5, 1.4, ReasonCode.CENTROID_EXCURSION),
    "max_scale_excursion": (4.0, 3.9, ReasonCode.SCALE_EXCURSION),
    "min_foreground": (0.1, 0.11, ReasonCode.SMALL_FOREGROUND),
    "min_visible": (0.6, 0.61, ReasonCode.HIDDEN_SURFACE),
    "max_flicker": (0.2, 0.19, ReasonCode.FLICKER),
    "min_distinct_poses": (12, 13, ReasonCode.FEW_POSES),
    "max_start_jump": (1.2, 1.1, ReasonCode.START_JUMP),
    "max_backdrop_share": (0.1, 0.09, ReasonCode.BACKDROP),
    "max_emissive_share": (0.4, 0.39, ReasonCode.EMISSIVE),
    "max_outline_share": (0.3, 0.29, ReasonCode.OUTLINE),
    "min_faces": (500, 501, ReasonCode.FACE_LIMIT),
    "max_faces": (500, 499, ReasonCode.FACE_LIMIT),
    "min_texture_pixels": (1_000_000, 1_000_001, ReasonCode.TEXTURE_LIMIT),
    "max_texture_pixels": (1_000_000, 999_999, ReasonCode.TEXTURE_LIMIT),
    "max_frame_gap_s": (0.5, 0.4, ReasonCode.FRAME_GAP),
    "max_tokens": (900, 899, ReasonCode.TOKEN_LIMIT),
    "licenses": ("by-nc,cc0", "by,cc0", ReasonCode.LICENSE),
}
WHERE = "where"
"""Judged by metadata alone: tests/curation/test_moments.py."""


@pytest.mark.parametrize("name", DROPS)
def test_every_threshold_is_inclusive(name: str) -> None:
    keeps, drops, code = DROPS[name]
    assert judge(EXAMPLE, FilterConfig(**{name: keeps})) is None
    refusal = judge(EXAMPLE, FilterConfig(**{name: drops}))
    assert refusal is not None
    assert refusal.code is code
    assert refusal.code.state is AssetState.FILTERED


def test_every_threshold_is_tested_and_every_filter_has_one() -> None:
    assert {field.name for field in dataclasses.fields(FilterConfig)} == DROPS.keys() | {WHERE}
    assert {name for one in FILTERS for name in (one.least, one.most) if name} == DROPS.keys() - {"licenses"}
    assert EXAMPLE.measures.keys() == {one.measure for one in FILTERS}
    # Tokens are counted after voxelizing.
    assert set(measures(clip_of([box(), box(2.0)]))) == EXAMPLE.measures.keys() - {"tokens"}


def test_unknown_licenses_have_their_own_reason() -> None:
    config = FilterConfig(licenses="by-nc")
    for text, stated in (("Standard", "stated as 'Standard'"), ("", "the asset states none")):
        refusal = judge(dataclasses.replace(EXAMPLE, license="", license_text=text), config)
        assert refusal is not None
        assert refusal.code is ReasonCode.LICENSE_UNKNOWN
        assert stated in refusal.message


def test_clips_without_duration_or_first_frame_are_dropped_whatever_the_settings() -> None:
    harmless = FilterConfig(min_motion=0, min_size=0)
    still = dataclasses.replace(clip_of([box(), box(2.0)]), times=np.zeros(2))
    late = clip_of([NOTHING, box(), box()], shared=False)
    never = clip_of([NOTHING, NOTHING])
    for clip, code in (
        (still, ReasonCode.ZERO_DURATION),
        (late, ReasonCode.EMPTY_FIRST_FRAME),
        (never, ReasonCode.EMPTY_FIRST_FRAME),
    ):
        refusal = judge(measure(clip, "0_0"), harmless)
        assert refusal is not None
        assert refusal.code is code


def test_the_defaults_agree_with_check_clip() -> None:
    far = [moved(box(), (1000.0 * t, 0, 0)) for t in range(3)]
    near = [moved(box(), (0.005 * t, 0, 0)) for t in range(3)]
    for clip in (clip_of(far), clip_of(near), clip_of([box(), box(2.0)])):
        try:
            check_clip(clip)
            expected = None
        except AssetError as error:
            expected = error.code
        refusal = judge(measure(clip, "0_0"), FilterConfig())
        assert (refusal and refusal.code) == expected


def test_a_clip_of_one_frame_is_not_judged_by_what_needs_several() -> None:
    static = measure(clip_of([box()]), "0_0")
    assert not {"motion", "flicker", "distinct_poses", "start_jump", "duration_s", "frame_gap_s"} & set(static.measures)
    assert judge(static, FilterConfig(min_distinct_poses=2, max_frame_gap_s=0.1)) is None
    assert missing_measures([static.measures]) == {}


def test_invalid_thresholds_are_rejected() -> None:
    for thresholds, message in (
        ({"min_visible": 1.5}, "--min-visible 1.5: must be between 0 and 1"),
        ({"max_scale_excursion": float("inf")}, "must be a finite number of at least 0"),
        ({"max_backdrop_share": -0.1}, "--max-backdrop-share -0.1: must be between 0 and 1"),
        ({"max_start_jump": -1}, "--max-start-jump -1: must be a finite number of at least 0"),
        ({"min_distinct_poses": -1}, "--min-distinct-poses -1: must be at least 0"),
        ({"min_faces": 5, "max_faces": 4}, "no clip could pass"),
        ({"min_texture_pixels": -1}, "must be at least 0"),
        ({"licenses": "by,gpl"}, "'gpl' is not a Creative Commons license"),
    ):
        with pytest.raises(ConfigError, match=message):
            FilterConfig(**thresholds)


def test_settings_are_hashed_and_older_ones_are_read() -> None:
    config = SampleConfig(filters=FilterConfig(max_flicker=0.1, licenses="CC BY, cc0"))
    assert config.filters.licenses == "by,cc0"
    assert config.sha256() != SampleConfig().sha256()
    assert config.sha256() == SampleConfig(filters=FilterConfig(max_flicker=0.1, licenses="cc0,by")).sha256()
    assert SampleConfig.from_json(json.loads(json.dumps(config.to_json()))) == config
    newer = SampleConfig(filters=FilterConfig(max_backdrop_share=0.5, min_distinct_poses=0))
    assert SampleConfig.from_json(json.loads(json.dumps(newer.to_json()))) == newer
    assert newer.sha256() != SampleConfig().sha256()
    older = {name: value for name, value in SampleConfig().to_json().items() if name != "filters"}
    filters = SampleConfig.from_json({**older, "min_motion": 0.02}).filters
    assert filters == FilterConfig(min_motion=0.02, max_tokens=None), "version 0.3.0 had no limit"
    with pytest.raises(ConfigError, match="incompatible helix4d version"):
        SampleConfig.from_json({**older, "sharpness": 1})


def test_settings_without_newer_thresholds_keep_the_hash_of_version_0_3_0() -> None:
    earlier = SampleConfig(
        image_size=64, views=2, resolution=64, assets_per_shard=4, cameras="even", lights="even",
        filters=FilterConfig(max_tokens=None),
    )  # fmt: skip
    assert earlier.sha256() == RECORDED["config_sha256"]
    assert not {"min_distinct_poses", "max_start_jump"} & SampleConfig().to_json()["filters"].keys()
    with pytest.raises(ConfigError, match="--min-distinct-poses 5: exceeds --frames 4, so no clip could pass"):
        SampleConfig(frames=4, filters=FilterConfig(min_distinct_poses=5))


def test_measured_clips_round_trip_through_json() -> None:
    measured = dataclasses.replace(measure(clip_of([box(), box(2.0)]), "0_0"), reason=ReasonCode.FLICKER)
    assert build(MeasuredClip, json.loads(json.dumps(measured.to_json())), "clip") == measured
