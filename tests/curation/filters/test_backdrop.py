"""The share of skies and grounds, of scenes with known answers and of things that look like one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from helix4d.assets import AlphaMode, Clip, Material, normalize
from helix4d.assets.triangles import areas
from helix4d.core import ReasonCode
from helix4d.curation.filters.backdrop import backdrop_share
from helix4d.curation.filters.measures import measure
from helix4d.curation.filters.thresholds import FilterConfig, judge
from tests.curation import clips
from tests.curation.clips import Mesh, clip_of, join, moved

TWO_SIDED = (Material(double_sided=True),)


def flipped(mesh: Mesh) -> Mesh:
    return mesh[0], mesh[1][:, ::-1]


def box(edge: float, cuts: int = 1) -> Mesh:
    """A cube whose faces point outward, unlike those of the other tests, for which it does not matter."""
    return flipped(clips.box(edge, cuts=cuts))


def sphere(radius: float, center: Sequence[float] = (0.0, 0.0, 0.0), cuts: int = 12) -> Mesh:
    """A sphere whose faces point outward."""
    return flipped(clips.sphere(radius, center, cuts))


def stretched(mesh: Mesh, factors: Sequence[float]) -> Mesh:
    return mesh[0] * np.array(factors), mesh[1]


def plane(width: float, depth: float, z: float = 0.0) -> Mesh:
    corners = np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]]) * [width / 2, depth / 2, 0] + [0, 0, z]
    return corners, np.array([[0, 1, 2], [0, 2, 3]])


def dome(radius: float, flip: bool = True) -> Mesh:
    """The upper half of a sphere, open below, seen from inside if `flip`."""
    vertices, faces = sphere(radius, cuts=12)
    above = faces[(vertices[faces][:, :, 2] > -1e-9).all(axis=1)]
    return (vertices, above[:, ::-1] if flip else above)


def area(mesh: Mesh) -> float:
    return float(areas(mesh[0][mesh[1]]).sum())


def share(*parts: Mesh, **fields: object) -> float:
    scene = join(*parts)
    return backdrop_share(normalize(clip_of([scene, scene], **fields))[0])  # type: ignore[arg-type]


def character(x: float = 0.0) -> Mesh:
    """A body of 0.6 x 0.3 x 1.8 m that stands on z = 0, with a head."""
    body = moved(stretched(box(1.0, cuts=3), (0.6, 0.3, 1.5)), (x, 0, 0.75))
    return join(body, moved(box(0.3), (x, 0, 1.65)))


BODY = character()


# Skies.


@pytest.mark.parametrize(
    "sky", [flipped(box(20.0)), flipped(sphere(10.0)), dome(10.0), moved(dome(10.0), (2, 1, -0.1))]
)
def test_a_sky_around_a_character(sky: Mesh) -> None:
    assert share(BODY, sky) == pytest.approx(area(sky) / (area(sky) + area(BODY)), rel=1e-5)
    assert share(sky, BODY) == pytest.approx(share(BODY, sky))


def test_a_sky_of_unwelded_sides() -> None:
    vertices, faces = flipped(box(20.0))
    apart = vertices[faces].reshape(-1, 3), np.arange(3 * len(faces)).reshape(-1, 3)
    assert share(BODY, apart) > 0.99


def test_a_sky_may_face_outward_if_it_is_double_sided() -> None:
    assert share(BODY, sphere(10.0), materials=TWO_SIDED) > 0.99
    assert share(BODY, sphere(10.0)) == 0  # from inside it is culled


def test_skies_inside_each_other_and_a_ground() -> None:
    outer, inner = flipped(sphere(50.0)), flipped(sphere(10.0))
    ground = plane(60, 60)
    shells = area(outer) + area(inner)
    assert share(BODY, outer, inner) == pytest.approx(shells / (shells + area(BODY)), rel=1e-5)
    alone = area(outer) + area(ground)
    assert share(BODY, outer, ground) == pytest.approx(alone / (alone + area(BODY)), rel=1e-5)


def test_rooms_are_no_skies() -> None:
    """The inside of a room, closed or without a front wall, whose furniture takes up much of it."""
    room = moved(flipped(stretched(box(1.0, cuts=8), (5, 4, 2.5))), (0, 0, 1.25))
    open_room = room[0], room[1][(room[0][room[1]][..., 1] > -1.99).any(axis=1)]
    assert len(room[1]) - len(open_room[1]) == 128
    bed, shelf = moved(box(1.0), (-1.8, 1, 0.5)), moved(stretched(box(1.0), (0.4, 1, 2)), (2, -1, 1))
    for walls in (room, open_room):
        for materials in ((Material(),), TWO_SIDED):
            assert share(walls, bed, shelf, materials=materials) == 0


def test_a_body_is_no_sky_for_the_parts_in_its_head() -> None:
    """A head and a trunk in one surface, around eyes and teeth, with faces inward or outward."""
    eyes = join(moved(box(0.03), (0.05, 0, 1.68)), moved(box(0.03), (-0.05, 0, 1.68)), moved(box(0.04), (0, 0, 1.6)))
    ball = sphere(1.0, cuts=24)
    x, y, z = ball[0].T
    width = 0.12 + 0.3 * np.sin(2.2 * z) ** 2  # thin at the neck, in the middle
    pulled = np.stack([x * width, y * width, 0.9 + 0.9 * z], axis=1)
    round_head = moved(stretched(ball, (0.4, 0.4, 0.9)), (0, 0, 0.9))
    for body in ((pulled, ball[1]), flipped((pulled, ball[1])), round_head):
        for materials in ((Material(),), TWO_SIDED):
            assert share(body, eyes, materials=materials) == 0


def test_a_folded_surface_is_no_sky() -> None:
    """A block with two arms upward, around something in its middle: directions to the side meet it three times."""
    cells = {(x, 0, 0) for x in range(3)} | {(x, 0, z) for x in (0, 2) for z in (1, 2)}
    faces_of_cells = []
    for cell in sorted(cells):
        vertices, faces = moved(box(1.0), cell)
        for face in vertices[faces]:
            outward = np.rint(face.min(axis=0) + face.max(axis=0) - 2 * np.array(cell)).astype(int)
            if tuple(np.array(cell) + outward) not in cells:
                faces_of_cells.append(face)
    block = np.concatenate(faces_of_cells), np.arange(3 * len(faces_of_cells)).reshape(-1, 3)
    assert area(block) == 30
    assert share(block, moved(box(0.2), (1, 0, 0)), materials=TWO_SIDED) == 0
    solid = stretched(box(1.0, cuts=4), (3, 1, 3))
    assert share(solid, box(0.2), materials=TWO_SIDED) > 0.9, "without a fold nothing tells it from a sky"


def test_eyes_that_stick_out_are_not_enclosed() -> None:
    fish = stretched(sphere(1.0), (0.6, 1, 0.6))
    eyes = join(sphere(0.1, (0.45, 0.6, 0.1)), sphere(0.1, (-0.45, 0.6, 0.1)))
    assert share(fish, eyes, materials=TWO_SIDED) == 0


def test_bowls_and_glass_are_no_skies() -> None:
    bowl = stretched(dome(1.0), (1, 1, -1))
    assert share(bowl, sphere(0.1, (0, 0, -0.8)), materials=TWO_SIDED) == 0
    globe, house = sphere(1.0), box(0.3)
    ids = [0] * len(globe[1]) + [1] * len(house[1])
    for look in ({"transmission": 1.0}, {"alpha_mode": AlphaMode.BLEND, "alpha": 0.2}):
        glass = Material(double_sided=True, **look)  # type: ignore[arg-type]
        assert share(globe, house, ids=ids, materials=(glass, Material())) == 0


def test_a_cell_inside_a_body_is_no_sky() -> None:
    eye = join(sphere(0.1, cuts=6), box(0.03))
    assert share(eye, moved(box(0.3), (2, 0, 0)), materials=TWO_SIDED) == 0
    assert share(sphere(1.0)) == 0


# Grounds.


def test_a_ground_below_a_character() -> None:
    ground = plane(10, 8)
    assert share(BODY, ground) == pytest.approx(80 / (80 + area(BODY)), rel=1e-5)
    slab = moved(stretched(box(1.0), (10, 10, 0.1)), (0, 0, -0.05))
    assert share(BODY, slab) == pytest.approx(area(slab) / (area(slab) + area(BODY)), rel=1e-5)
    tiles = [moved(plane(5, 5), (x, y, 0)) for x in (-2.6, 2.6) for y in (-2.6, 2.6)]
    assert share(BODY, *tiles) == pytest.approx(100 / (100 + area(BODY)), rel=1e-5)


def test_soles_may_sink_into_the_ground() -> None:
    assert share(BODY, plane(10, 10, 0.05)) > 0.9
    assert share(BODY, plane(10, 10, 0.9)) == 0  # at the hips: a sheet of water, or a table


def test_a_small_base_is_no_ground() -> None:
    for width in (0.8, 1.2, 2.0):
        assert share(BODY, moved(stretched(box(1.0), (width, width, 0.01)), (0, 0, -0.01))) == 0
        assert share(BODY, plane(width, width)) == 0


def test_things_that_look_like_a_ground() -> None:
    assert share(BODY, plane(10, 0.7)) == 0  # a plank
    assert share(BODY, moved(plane(10, 10), (0, 8, 0))) == 0  # beside it
    assert share(BODY, plane(10, 10, 3.0)) == 0  # a ceiling
    assert share(plane(10, 10)) == 0  # nothing stands on it
    wall = plane(10, 10)[0][:, [0, 2, 1]], plane(10, 10)[1]
    assert share(BODY, moved(wall, (0, 5, 5))) == 0
    hills = stretched(sphere(5.0), (1, 1, 0.1))
    assert share(BODY, hills) == 0


def test_a_ground_that_moves_is_the_object() -> None:
    """A sheet of paper that flies with a figure on it, or a sea: unlike a character that walks on a ground."""

    def moving(meshes: list[Mesh]) -> float:
        return backdrop_share(normalize(clip_of(meshes))[0])

    assert moving([moved(join(BODY, plane(10, 10)), (0, 0, t)) for t in range(4)]) == 0
    assert moving([join(character(t), plane(10, 10)) for t in range(4)]) > 0.9


def test_outlines_and_many_parts() -> None:
    hull = Material(outline=True)
    outlined = join(flipped((BODY[0] * 1.02, BODY[1])), flipped(plane(10.2, 10.2, -0.02)))
    ids = [0] * len(BODY[1]) + [1] * len(outlined[1]) + [0] * 2
    found = share(BODY, outlined, plane(10, 10), ids=ids, materials=(Material(), hull))
    assert found == pytest.approx(100 / (100 + area(BODY) + area(outlined)))
    dust = join(*(moved(box(0.01), (0.1 * i, 0.1 * j, 0.5)) for i in range(20) for j in range(20)))
    assert share(dust, BODY) == 0


def test_clips_with_a_backdrop_are_refused() -> None:
    clip: Clip = clip_of([join(character(0.2 * t), plane(10, 10)) for t in range(4)])
    measured = measure(clip, "0_0")
    assert judge(measured, FilterConfig(max_backdrop_share=0.99)) is None
    refusal = judge(measured, FilterConfig(max_backdrop_share=0.5))
    assert refusal is not None
    assert refusal.code is ReasonCode.BACKDROP
