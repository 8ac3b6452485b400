"""Lights of a view: one to three white point lights and a white environment that takes what is left.

Unit of strength: the irradiance on a surface at the origin that faces the light, in the unit in which an environment of
radiance 1 gives π. A white diffuse surface under irradiance E has radiance E/π, and radiance 1 is white on the screen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from helix4d.core import ConfigError, generator
from helix4d.render.scene.cameras import Camera

TOTAL_IRRADIANCE = 1.5
"""What a surface at the origin that faces the camera receives from all lights and the environment together.

The point lights alone never exceed it either, so no white diffuse point can receive more than twice as much (a little
more where it stands nearer to a lamp than the origin does): 3.0 < π, and nothing diffuse and convex clips.
"""

DISTANCE_RANGE = (10.0, 100.0)
UPWARD_BIAS = 0.6
MAX_POINT_LIGHTS = 3


@dataclass(frozen=True)
class PointLight:
    """A lamp without extent.

    Attributes:
        position: world coordinates.
        irradiance: on a surface at the origin that faces the lamp; the module's docstring has the unit.
        color: linear RGB that multiplies the irradiance.
    """

    position: tuple[float, float, float]
    irradiance: float
    color: tuple[float, float, float] = (1.0, 1.0, 1.0)

    @property
    def watts(self) -> float:
        """Blender's power: its point lamp of P watts gives the irradiance P / (4π d²) at distance d (measured)."""
        distance_squared = float(np.dot(self.position, self.position))
        return 4.0 * np.pi * distance_squared * self.irradiance


@dataclass(frozen=True)
class MapPlacement:
    """An environment map in the place of the uniform environment; see `helix4d.render.scene.environment`.

    Attributes:
        file: its name.
        sha256: of the file.
        turn: counterclockwise about Z, in radians.
        scale: of its radiance.
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
        environment: irradiance of the uniform environment on any surface that sees half of it; of an environment map,
            on a surface that faces the camera.
        environment_color: linear RGB that multiplies the uniform environment.
        environment_map: what takes the place of the uniform environment.
    """

    points: tuple[PointLight, ...]
    environment: float
    environment_color: tuple[float, float, float] = (1.0, 1.0, 1.0)
    environment_map: MapPlacement | None = None

    def __post_init__(self) -> None:
        strengths = [self.environment, *(light.irradiance for light in self.points)]
        if not (np.isfinite(strengths).all() and min(strengths) >= 0.0):
            raise ConfigError(f"irradiances {strengths}: expected finite numbers that are not negative")

    @property
    def environment_radiance(self) -> float:
        """Strength of Blender's background shader."""
        return self.environment / np.pi

    def to_json(self) -> dict[str, Any]:
        """Lists and numbers; floats survive JSON exactly."""
        content: dict[str, Any] = {
            "points": [
                {"position": list(light.position), "irradiance": light.irradiance, "color": list(light.color)}
                for light in self.points
            ],
            "environment": self.environment,
            "environment_color": list(self.environment_color),
        }
        if self.environment_map is not None:
            content["environment_map"] = asdict(self.environment_map)
        return content

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Lights:
        """The lights that `to_json` described.

        Raises:
            ConfigError: if a strength is negative or not finite.
        """
        points = tuple(
            PointLight(_triple(light["position"]), light["irradiance"], _triple(light["color"]))
            for light in value["points"]
        )
        placed = value.get("environment_map")
        return cls(
            points,
            value["environment"],
            _triple(value["environment_color"]),
            None if placed is None else MapPlacement(**placed),
        )


def sample_lights(seed: int, key: str, cameras: Sequence[Camera]) -> list[Lights]:
    """The lights of every view of an asset: `sample_view_lights` for each camera."""
    return [sample_view_lights(seed, key, view, camera) for view, camera in enumerate(cameras)]


def sample_view_lights(seed: int, key: str, view: int, camera: Camera) -> Lights:
    """The lights of view number `view`, which `camera` sees.

    One to three lamps, directions uniform on the sphere and then biased upwards, distances uniform. Lamps and
    environment share `TOTAL_IRRADIANCE` at random (a flat Dirichlet draw); what the lamps then do not give to a surface
    that faces the camera, because they stand beside or behind it, the environment gives.

    Args:
        seed: the data set's.
        key: the asset's.
        view: the view's number; the draw depends on (seed, key, view) alone.
        camera: only its position matters.
    """
    draw = generator(seed, key, "lights", view)
    count = int(draw.integers(1, MAX_POINT_LIGHTS + 1))
    directions = _unit(_unit(draw.normal(size=(count, 3))) + np.array([0.0, 0.0, UPWARD_BIAS]))
    distances = draw.uniform(*DISTANCE_RANGE, size=count)
    strengths = TOTAL_IRRADIANCE * draw.dirichlet(np.ones(count + 1))[:count]
    facing = np.maximum(directions @ _unit(camera.position), 0.0)
    points = tuple(
        PointLight(_triple(direction * distance), float(strength))
        for direction, distance, strength in zip(directions, distances, strengths, strict=True)
    )
    return Lights(points, float(TOTAL_IRRADIANCE - strengths @ facing))


def _unit(vectors: np.ndarray) -> np.ndarray:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True))


def _triple(values: Sequence[float] | np.ndarray) -> tuple[float, float, float]:
    x, y, z = (float(value) for value in values)
    return x, y, z
