"""Environment maps: equirectangular images of light, one drawn and placed for every view.

A map is rotated about Z and scaled to the exposure of `lighting`: a surface that faces the camera receives
`TOTAL_IRRADIANCE`, unless the brightest side would then receive more than twice as much. No lamps are added.

The first row is up. The middle column looks along +X, and the column a quarter to its left along +Y, as in Blender.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType

import numpy as np
from PIL import Image

from helix4d.core import ConfigError, SetupError, generator
from helix4d.core.storage import is_fault
from helix4d.render.scene.cameras import Camera
from helix4d.render.scene.hdr_files import SUFFIXES, read_hdr_file
from helix4d.render.scene.lighting import TOTAL_IRRADIANCE, Lights, MapPlacement

MAX_WIDTH = 1024
"""Wider maps are averaged down to this width, which keeps the energy of small lights but not their sharpness."""

_COARSE = 64  # columns of the copy that irradiance is computed from
_MIN_LIGHT = 1e-9


@dataclass(frozen=True, eq=False)
class EnvironmentMap:
    """An equirectangular image of light.

    Attributes:
        file: name of the file.
        sha256: hash of the file.
        radiance: (H, 2·H, 3) float32, linear.
    """

    file: str
    sha256: str
    radiance: np.ndarray

    def irradiance(self, normals: np.ndarray) -> np.ndarray:
        """(N, 3) irradiance of unoccluded surfaces, before the map is rotated or scaled.

        Args:
            normals: (N, 3) unit vectors.
        """
        light, directions, angles = self.coarse
        return np.asarray(np.maximum(normals @ directions.T, 0.0) @ (light * angles[:, None]))

    @cached_property
    def coarse(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(M, 3) radiance, (M, 3) directions and (M,) solid angles of the texels of a small copy."""
        small = shrink(self.radiance, _COARSE).astype(np.float64)
        directions, angles = texel_directions(small.shape[0])
        return small.reshape(-1, 3), directions.reshape(-1, 3), angles.reshape(-1)


NO_MAPS: Mapping[str, EnvironmentMap] = MappingProxyType({})


def find_maps(folder: Path) -> dict[str, str]:
    """File name -> sha256 of every `.hdr` and `.exr` file in a folder, sorted by name.

    Raises:
        ConfigError: if the folder does not exist or holds no map.
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder (expected environment maps)")
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file())
    if not paths:
        raise ConfigError(f"{folder}: contains no environment map ({', '.join(SUFFIXES)})")
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def load_map(folder: Path, file: str, sha256: str | None = None) -> EnvironmentMap:
    """Read a map.

    Args:
        folder: folder of the file.
        file: name of the file.
        sha256: expected hash of the file; None to accept any.

    Raises:
        SetupError: if the file cannot be read, or has changed.
        ConfigError: if it is damaged, or contains no light.
        OSError: if storage fails.
    """
    path = folder / file
    try:
        found = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        if is_fault(error):
            raise
        raise SetupError(f"{path}: cannot be read ({error.strerror})") from error
    if sha256 is not None and found != sha256:
        raise SetupError(f"{path}: has changed since the run started (sha256 {found}, expected {sha256})")
    radiance = shrink(read_hdr_file(path), MAX_WIDTH)
    environment = EnvironmentMap(file, found, radiance)
    if environment.irradiance(sphere_points(16)).max() < _MIN_LIGHT:
        raise ConfigError(f"{path}: contains no light")
    return environment


def draw_map(seed: int, key: str, view: int, files: Sequence[str]) -> tuple[str, float]:
    """Draw one of `files` and its rotation about Z in radians; depends on (seed, key, view) and the files."""
    draw = generator(seed, key, "environment map", view)
    return files[int(draw.integers(len(files)))], float(draw.uniform(0.0, 2.0 * np.pi))


def place_map(environment: EnvironmentMap, turn: float, camera: Camera) -> Lights:
    """Return the lights of a view that is lit only by a map.

    Args:
        environment: the map.
        turn: rotation about Z in radians, counterclockwise.
        camera: camera of the view; only its position matters.
    """
    towards = turned(camera.position[None] / np.linalg.norm(camera.position), -turn)
    facing = float(environment.irradiance(towards).mean())
    greatest = float(environment.irradiance(sphere_points(400)).max())
    scale = 2.0 * TOTAL_IRRADIANCE / greatest
    if facing > 0.0:
        scale = min(scale, TOTAL_IRRADIANCE / facing)
    return Lights((), scale * facing, environment_map=MapPlacement(environment.file, environment.sha256, turn, scale))


def sample_map_lights(
    seed: int, key: str, cameras: Sequence[Camera], folder: Path, files: Mapping[str, str]
) -> tuple[list[Lights], dict[str, EnvironmentMap]]:
    """Sample the lights of every view of an asset, each from one map, and load the maps they use, by sha256.

    Args:
        seed: seed of the data set.
        key: key of the asset.
        cameras: cameras of the views, in order.
        folder: folder of the files.
        files: name -> sha256 of the files to draw from.

    Raises:
        SetupError: if a drawn file cannot be read or has changed.
    """
    names = sorted(files)
    drawn = [draw_map(seed, key, view, names) for view in range(len(cameras))]
    maps = {name: load_map(folder, name, files[name]) for name in sorted({name for name, _ in drawn})}
    lights = [place_map(maps[name], turn, camera) for (name, turn), camera in zip(drawn, cameras, strict=True)]
    return lights, {environment.sha256: environment for environment in maps.values()}


def check_maps(lights: Sequence[Lights], maps: Mapping[str, EnvironmentMap]) -> None:
    """Check that every map which the lights name is available.

    Raises:
        ConfigError: if one is missing.
    """
    for view, light in enumerate(lights):
        placed = light.environment_map
        if placed is not None and placed.sha256 not in maps:
            raise ConfigError(f"view {view}: environment map {placed.file} (sha256 {placed.sha256}) is missing")


def turned(directions: np.ndarray, angle: float) -> np.ndarray:
    """Rotate (N, 3) directions about Z."""
    cosine, sine = np.cos(angle), np.sin(angle)
    return np.asarray(directions @ np.array([[cosine, sine, 0.0], [-sine, cosine, 0.0], [0.0, 0.0, 1.0]]))


def texel_directions(height: int) -> tuple[np.ndarray, np.ndarray]:
    """(H, 2·H, 3) directions and (H, 2·H) solid angles of the texels of a map."""
    width = 2 * height
    polar = np.pi * (np.arange(height) + 0.5) / height
    azimuth = 2.0 * np.pi * (0.5 - (np.arange(width) + 0.5) / width)
    flat = np.sin(polar)[:, None]
    directions = np.stack(
        [flat * np.cos(azimuth), flat * np.sin(azimuth), np.broadcast_to(np.cos(polar)[:, None], (height, width))], -1
    )
    edges = np.cos(np.pi * np.arange(height + 1) / height)
    return directions, np.repeat((edges[:-1] - edges[1:])[:, None] * 2.0 * np.pi / width, width, axis=1)


def shrink(light: np.ndarray, width: int) -> np.ndarray:
    """Average an (H, W, 3) map down to (width / 2, width, 3) float32 if it is wider."""
    if light.shape[1] <= width:
        return light
    channels = [Image.fromarray(np.ascontiguousarray(light[..., c], np.float32), "F") for c in range(3)]
    return np.stack([np.asarray(c.resize((width, width // 2), Image.Resampling.BOX)) for c in channels], axis=-1)


def sphere_points(count: int) -> np.ndarray:
    """(N, 3) unit vectors, spread evenly over the sphere."""
    index = np.arange(count) + 0.5
    z, turn = 1.0 - 2.0 * index / count, np.pi * (1.0 + np.sqrt(5.0)) * index
    flat = np.sqrt(1.0 - z * z)
    return np.stack([flat * np.cos(turn), flat * np.sin(turn), z], axis=1)
