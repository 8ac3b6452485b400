"""Environment maps: direction and amount of their light, and that both engines agree."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helix4d.assets import Material
from helix4d.core import ConfigError
from helix4d.render import Lights, load_engine, orbit_camera, sample_cameras
from helix4d.render.scene.environment import (
    EnvironmentMap,
    draw_map,
    find_maps,
    load_map,
    place_map,
    sample_map_lights,
    shrink,
    texel_directions,
    turned,
)
from helix4d.render.scene.lighting import TOTAL_IRRADIANCE
from tests.render import chart
from tests.render.clips import clip, sphere
from tests.render.egl import needs_egl
from tests.render.maps import as_map, landscape, write_hdr
from tests.render.measures import psnr
from tests.render.test_blender import QUICK

RED_AND_GREEN = landscape({(1.0, 0.0, 0.0): (9.0, 0.0, 0.0), (0.0, -1.0, 0.0): (0.0, 9.0, 0.0)})
SUNNY = landscape({(0.6, -0.7, 0.5): (60.0, 55.0, 50.0)})
WHITE = Material(metallic=0.0, roughness=1.0, base_color=(1.0, 1.0, 1.0))
CLEAN = replace(QUICK, samples=96)  # noise alone would clip
ENGINES = ["cycles", pytest.param("raster", marks=needs_egl)]


def test_directions_and_solid_angles() -> None:
    directions, angles = texel_directions(64)
    assert angles.sum() == pytest.approx(4 * np.pi)
    assert np.allclose(np.linalg.norm(directions, axis=-1), 1)
    assert directions[0, 5, 2] > 0.99, "up is the first row"
    np.testing.assert_allclose(directions[31:33, 63:65].mean(axis=(0, 1)), (1, 0, 0), atol=1e-3)
    np.testing.assert_allclose(directions[31:33, 31:33].mean(axis=(0, 1)), (0, 1, 0), atol=1e-3)
    np.testing.assert_allclose(turned(np.array([[1.0, 0.0, 0.0]]), np.pi / 2), [[0, 1, 0]], atol=1e-9)


def test_a_uniform_map_produces_pi_and_shrinking_keeps_the_light() -> None:
    normals = np.random.default_rng(0).normal(size=(20, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    uniform = as_map(np.ones((64, 128, 3), np.float32))
    np.testing.assert_allclose(uniform.irradiance(normals), np.pi, rtol=2e-3)
    noise = np.random.default_rng(1).random((96, 192, 3)).astype(np.float32)
    assert shrink(noise, 64).shape == (32, 64, 3)
    np.testing.assert_allclose(shrink(noise, 64), noise.reshape(32, 3, 64, 3, 3).mean(axis=(1, 3)), atol=1e-5)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([RED_AND_GREEN, SUNNY]), st.floats(0, 7), st.floats(1e-3, 1e4))
def test_the_exposure_of_the_lamps_holds(seed: int, light: np.ndarray, turn: float, strength: float) -> None:
    camera = sample_cameras(seed, "asset", 1, 32)[0]
    environment = as_map((light * strength).astype(np.float32))
    lights = place_map(environment, turn, camera)
    placed = lights.environment_map
    assert placed is not None
    towards = turned(camera.position[None] / np.linalg.norm(camera.position), -turn)
    received = placed.scale * environment.irradiance(towards).mean()
    assert received == pytest.approx(lights.environment)
    normals, _ = texel_directions(24)
    greatest = placed.scale * environment.irradiance(normals.reshape(-1, 3)).max()
    assert greatest <= 2.0 * TOTAL_IRRADIANCE * 1.02 < np.pi
    assert received == pytest.approx(TOTAL_IRRADIANCE) or greatest == pytest.approx(2.0 * TOTAL_IRRADIANCE, rel=0.03)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("light", [RED_AND_GREEN, SUNNY], ids=["spots", "sun"])
def test_a_white_sphere_does_not_clip(engine: str, light: np.ndarray) -> None:
    environment = as_map(light)
    cameras = sample_cameras(3, "ball", 2, 64)
    lights = [place_map(environment, 1.0 + view, camera) for view, camera in enumerate(cameras)]
    shown = clip([sphere()], [WHITE])
    images = load_engine(engine)(shown, cameras, lights, CLEAN, maps={environment.sha256: environment})  # type: ignore[arg-type]
    for image in images:
        inside = image.rgba[image.rgba[..., 3] == 255][:, :3]
        assert (inside == 255).any(axis=1).mean() <= 0.01
        assert inside.mean() > 60


@pytest.mark.parametrize("engine", ENGINES)
def test_light_comes_from_the_bright_side_of_the_map(engine: str) -> None:
    """A quarter turn moves the red spot from the right of the camera, which looks along +Y, to behind the object."""
    environment, camera = as_map(RED_AND_GREEN), orbit_camera(-90.0, 0.0, 64, 40.0, 2.0)

    def picture(turn: float) -> np.ndarray:
        lights = place_map(environment, turn, camera)
        maps = {environment.sha256: environment}
        (image,) = load_engine(engine)(clip([sphere()], [WHITE]), [camera], [lights], CLEAN, maps=maps)  # type: ignore[arg-type]
        return image.rgba.astype(int)

    straight, quarter = picture(0.0), picture(np.pi / 2)
    left, middle, right = (slice(28, 36), slice(14, 18)), (slice(28, 36), slice(28, 36)), (slice(28, 36), slice(46, 50))

    def redness(image: np.ndarray, where: tuple[slice, slice]) -> float:
        return float((image[where][..., 0] - image[where][..., 2]).mean())

    assert redness(straight, right) > redness(straight, left) + 20
    assert (straight[middle][..., 1] > straight[middle][..., 0]).all(), "green from the camera's side"
    assert abs(redness(quarter, right) - redness(quarter, left)) < 30
    assert quarter[right][..., 1].mean() > quarter[left][..., 1].mean() + 20, "green from the right"
    assert straight[20:24, 32, 2].mean() > straight[42:46, 32, 2].mean() + 10, "blue from above"


@needs_egl
@pytest.mark.parametrize(
    ("name", "least"), [("rough", 42), ("metallic", 23), ("smooth", 36), ("normal map", 28), ("transmission", 20)]
)
def test_spheres_of_the_chart_look_alike_in_both_engines(name: str, least: float) -> None:
    environment, patch = as_map(SUNNY), chart.patches()[name]
    camera = orbit_camera(-60.0, 20.0, 96, 40.0, 1.5)
    sphere_settings = replace(chart.SETTINGS, image_size=96, samples=32)
    for turn in (0.0, 2.0) if name == "rough" else (0.0,):
        lights, maps = place_map(environment, turn, camera), {environment.sha256: environment}
        image, truth = (
            next(iter(load_engine(engine)(chart.shape(patch), [camera], [lights], sphere_settings, [0], maps))).rgba
            for engine in ("raster", "cycles")
        )
        np.testing.assert_array_equal(image[..., 3], truth[..., 3])
        assert psnr(image, truth) > least


@pytest.mark.parametrize("engine", ENGINES)
def test_a_view_alone_is_that_view_of_the_set(engine: str) -> None:
    """Also if neighboring views have another map, or none."""
    maps = {name: EnvironmentMap(name, name, light) for name, light in (("a", SUNNY), ("b", RED_AND_GREEN))}
    cameras = sample_cameras(0, "ball", 4, 48)
    lights = [place_map(maps["ab"[view % 2]], float(view), camera) for view, camera in enumerate(cameras)]
    lights[2] = Lights((), 1.5)
    shown, render = clip([sphere()], [replace(WHITE, roughness=0.4)]), load_engine(engine)  # type: ignore[arg-type]
    small = replace(QUICK, image_size=48)
    together = [image.rgba for image in render(shown, cameras, lights, small, maps=maps)]
    for view in (3, 0, 2):
        (alone,) = render(shown, [cameras[view]], [lights[view]], small, maps=maps)
        if view == 2 and engine == "raster":  # a uniform map of ones beside maps, no map on its own
            assert np.abs(alone.rgba.astype(int) - together[view]).max() <= 1
        else:
            np.testing.assert_array_equal(alone.rgba, together[view])
    with pytest.raises(ConfigError, match="view 0: environment map b"):
        render(shown, cameras[1:2], lights[1:2], small, maps={"a": maps["a"]})


def test_maps_are_drawn_per_view_and_named_in_its_json(tmp_path: Path) -> None:
    for name, light in (("sunny", SUNNY), ("spots", RED_AND_GREEN)):
        write_hdr(tmp_path / f"{name}.hdr", light)
    (tmp_path / "notes.txt").write_text("no map")
    files = find_maps(tmp_path)
    assert list(files) == ["spots.hdr", "sunny.hdr"]
    cameras = sample_cameras(5, "asset", 12, 32)
    lights, maps = sample_map_lights(5, "asset", cameras, tmp_path, files)
    assert {light.environment_map.file for light in lights if light.environment_map} == set(files)
    assert set(maps) == set(files.values())
    for view, light in enumerate(lights):
        placed = light.environment_map
        assert placed is not None
        assert (placed.file, placed.turn) == draw_map(5, "asset", view, sorted(files))
        content = json.loads(json.dumps(light.to_json()))
        assert content["environment_map"]["sha256"] == files[placed.file]
        assert Lights.from_json(content) == light
    assert len({light.environment_map.turn for light in lights if light.environment_map}) == 12
    assert draw_map(6, "asset", 0, sorted(files)) != draw_map(5, "asset", 0, sorted(files))


def test_invalid_folders_and_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such folder"):
        find_maps(tmp_path / "none")
    with pytest.raises(ConfigError, match="contains no environment map"):
        find_maps(tmp_path)
    write_hdr(tmp_path / "a.hdr", SUNNY)
    files = find_maps(tmp_path)
    write_hdr(tmp_path / "a.hdr", RED_AND_GREEN)
    with pytest.raises(ConfigError, match="has changed"):
        load_map(tmp_path, "a.hdr", files["a.hdr"])
    write_hdr(tmp_path / "a.hdr", np.zeros_like(SUNNY))
    with pytest.raises(ConfigError, match="contains no light"):
        load_map(tmp_path, "a.hdr")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_map(tmp_path, "b.hdr")
