"""Lights of a view: one to three white lamps and a white environment that provides the rest.

Strengths are irradiances on a surface at the origin that faces the light, in the unit in which an environment of
radiance 1 gives π. A white diffuse surface under irradiance E has radiance E/π, and radiance 1 is white on the screen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np

from helix4d.core import ConfigError, generator
from helix4d.render.scene.cameras import Camera

LightDistribution = Literal["trellis2", "even"]
"""Distribution of strengths: TRELLIS.2's budget, with varying exposure and soft shadows; or even, with equal
exposure in every view and hard shadows."""

TOTAL_IRRADIANCE = 1.5
"""Irradiance of `even` lights and of the environment on a surface at the origin that faces the camera.

Their point lights alone never exceed it either, so no white diffuse point receives more than twice as much (slightly
more where it is closer to a lamp than the origin is): 3.0 < π, so diffuse convex surfaces never clip.
"""

DISTANCE_RANGE = (10.0, 100.0)
UPWARD_BIAS = 0.6
MAX_POINT_LIGHTS = 3

_BUDGET = 1.5  # of TRELLIS.2's lights, in Blender's units of a background's strength
_WATTS = 31.4  # per unit of the budget and squared unit of distance


@dataclass(frozen=True)
class PointLight:
    """A point light, or a sphere that emits the same light evenly from its surface.

    Attributes:
        position: world coordinates.
        irradiance: strength on a surface at the origin that faces the lamp; see the module's docstring.
        color: linear RGB that multiplies the irradiance.
        radius: radius of the sphere in world units, 0 for a point, which casts hard shadows.
    """

    position: tuple[float, float, float]
    irradiance: float
    color: tuple[float, float, float] = (1.0, 1.0, 1.0)
    radius: float = 0.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.radius < float(np.linalg.norm(self.position)):
            raise ConfigError(
                f"lamp at {self.position}: radius {self.radius}: must be at least 0, and less than its distance"
            )

    @property
    def watts(self) -> float:
        """Power in Blender: a point light of P watts gives the irradiance P / (4π d²) at distance d (measured)."""
        distance_squared = float(np.dot(self.position, self.position))
        return 4.0 * np.pi * distance_squared * self.irradiance


@dataclass(frozen=True)
class MapPlacement:
    """An environment map that replaces the uniform environment; see `helix4d.render.scene.environment`.

    Attributes:
        file: name of the file.
        sha256: hash of the file.
        turn: rotation about Z in radians, counterclockwise.
        scale: factor on its radiance.
    """

    file: str
    sha256: str
    turn: float
    scale: float

    def __post_init__(self) -> None:
        if not (np.isfinite([self.turn, self.scale]).all() and self.scale >= 0.0):
            raise ConfigError(f"{self.file}: turn {self.turn} and scale {self.scale}: expected finite numbers")


@dataclass(frozen=True)
class Lights:
    """The lights of one view, the same for all of its frames.

    Attributes:
        points: point lights.
        environment: irradiance from the uniform environment on any unoccluded surface; with an environment map, on a
            surface that faces the camera.
        environment_color: linear RGB that multiplies the uniform environment.
        environment_map: replaces the uniform environment.
    """

    points: tuple[PointLight, ...]
    environment: float
    environment_color: tuple[float, float, float] = (1.0, 1.0, 1.0)
    environment_map: MapPlacement | None = None

    def __post_init__(self) -> None:
        strengths = [self.environment, *(light.irradiance for light in self.points)]
        if not (np.isfinite(strengths).all() and min(strengths) >= 0.0):
            raise ConfigError(f"irradiances {strengths}: must be finite and not negative")

    @property
    def environment_radiance(self) -> float:
        """Strength of Blender's background shader."""
        return self.environment / np.pi

    def to_json(self) -> dict[str, Any]:
        """Return the lights as lists and numbers, which JSON keeps exactly."""
        content: dict[str, Any] = {
            "points": [_lamp_to_json(light) for light in self.points],
            "environment": self.environment,
            "environment_color": list(self.environment_color),
        }
        if self.environment_map is not None:
            content["environment_map"] = asdict(self.environment_map)
        return content

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Lights:
        """Return the lights from a result of `to_json`.

        Raises:
            ConfigError: if a strength is negative or not finite.
        """
        points = tuple(
            PointLight(
                _triple(light["position"]), light["irradiance"], _triple(light["color"]), light.get("radius", 0.0)
            )
            for light in value["points"]
        )
        placed = value.get("environment_map")
        return cls(
            points,
            value["environment"],
            _triple(value["environment_color"]),
            None if placed is None else MapPlacement(**placed),
        )


def sample_lights(
    seed: int, key: str, cameras: Sequence[Camera], distribution: LightDistribution = "trellis2"
) -> list[Lights]:
    """Sample the lights of all views of an asset, each with `sample_view_lights`."""
    return [sample_view_lights(seed, key, view, camera, distribution) for view, camera in enumerate(cameras)]


def sample_view_lights(
    seed: int, key: str, view: int | str, camera: Camera, distribution: LightDistribution = "trellis2"
) -> Lights:
    """Sample the lights of one view: one to three lamps, in directions biased upward, and a white environment.

    - `trellis2`: each lamp uses part of a budget of 1.5, and the environment's radiance is the remainder. A lamp behind
      the camera uses more of it than one behind the object. Exposure varies by a factor of
      nine between views, so bright surfaces may clip.
    - `even`: lamps and environment share `TOTAL_IRRADIANCE` at random (a flat Dirichlet draw). The irradiance that
      a surface facing the camera does not receive from lamps beside or behind it comes from the environment.

    Args:
        seed: seed of the data set.
        key: key of the asset.
        view: number or name of the view; the draw depends only on (seed, key, view).
        camera: camera of the view; only its position matters.
        distribution: see `LightDistribution`.

    Raises:
        ConfigError: if there is no such distribution.
    """
    if distribution not in get_args(LightDistribution):
        raise ConfigError(f"lights {distribution!r}: expected one of {', '.join(get_args(LightDistribution))}")
    draw, towards = generator(seed, key, "lights", view), _unit(camera.position)
    return _even_lights(draw, towards) if distribution == "even" else _trellis2_lights(draw, towards)


def _even_lights(draw: np.random.Generator, towards: np.ndarray) -> Lights:
    count = int(draw.integers(1, MAX_POINT_LIGHTS + 1))
    directions = _unit(_unit(draw.normal(size=(count, 3))) + np.array([0.0, 0.0, UPWARD_BIAS]))
    distances = draw.uniform(*DISTANCE_RANGE, size=count)
    strengths = TOTAL_IRRADIANCE * draw.dirichlet(np.ones(count + 1))[:count]
    facing = np.maximum(directions @ towards, 0.0)
    points = tuple(
        PointLight(_triple(direction * distance), float(strength))
        for direction, distance, strength in zip(directions, distances, strengths, strict=True)
    )
    return Lights(points, float(TOTAL_IRRADIANCE - strengths @ facing))


def _trellis2_lights(draw: np.random.Generator, towards: np.ndarray) -> Lights:
    near, far = DISTANCE_RANGE
    budget = _BUDGET
    points = []
    for _ in range(int(draw.integers(1, MAX_POINT_LIGHTS + 1))):
        distance = 1.0 / draw.uniform(1.0 / far, 1.0 / near)
        direction = _unit(draw.normal(size=3) + np.array([0.0, 0.0, UPWARD_BIAS]))
        radius = draw.uniform(0.1, 0.1 * distance)
        cosine = float(direction @ towards)
        share = np.sqrt(draw.uniform(0.01, 1.0)) * budget / (0.45 * cosine + 0.55)
        # Blender's power is 31.4 · share · distance², see `PointLight.watts`.
        points.append(
            PointLight(_triple(direction * distance), float(_WATTS * share / (4.0 * np.pi)), radius=float(radius))
        )
        budget -= max(0.5 * cosine + 0.5, 0.0) * share
    return Lights(tuple(points), float(np.pi * max(budget, 0.0)))


def _lamp_to_json(light: PointLight) -> dict[str, Any]:
    content: dict[str, Any] = {
        "position": list(light.position),
        "irradiance": light.irradiance,
        "color": list(light.color),
    }
    return {**content, "radius": light.radius} if light.radius else content


def _unit(vectors: np.ndarray) -> np.ndarray:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True))


def _triple(values: Sequence[float] | np.ndarray) -> tuple[float, float, float]:
    x, y, z = (float(value) for value in values)
    return x, y, z
