"""Cameras on a sphere around the unit cube: sampled from an asset's key, stored as OpenCV matrices.

World: right-handed, Z up, the object inside [-0.5, 0.5]³. Camera: x right, y down, z forward (OpenCV). Pixels: x right,
y down, the upper left corner of the image is (0, 0), so the center of the first pixel is (0.5, 0.5) and the center of
the image is (image_size / 2, image_size / 2). The sampled ranges are those of TRELLIS.2 (docs/rendering.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from helix4d.core import ConfigError, generator

CameraDistribution = Literal["trellis2", "even"]
"""Distribution of directions over the sphere: as in TRELLIS.2, a quarter of them below the horizon; or even."""

BOUNDING_RADIUS = float(np.sqrt(3.0) / 2.0)
"""Radius of the unit cube's bounding sphere, which every sampled camera keeps in frame."""

FOV_RANGE_DEG = (10.0, 70.0)
"""Fields of view that fit the bounding sphere at the farthest and the nearest sampled radius."""

RADIUS_JITTER = 1.15
"""Largest factor by which a camera is farther away than its field of view needs."""

_OPENCV_TO_OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])

_FIT_MARGIN = 1.0 - 1e-9  # rounding must not push a sphere that fits exactly over the edge


@dataclass(frozen=True, eq=False)
class Camera:
    """A pinhole camera with square images.

    Attributes:
        intrinsics: (3, 3) float64, pixels: [[f, 0, cx], [0, f, cy], [0, 0, 1]].
        extrinsics: (4, 4) float64, world to camera, rigid.
        image_size: pixels per side.
    """

    intrinsics: np.ndarray
    extrinsics: np.ndarray
    image_size: int

    def __post_init__(self) -> None:
        k, w = self.intrinsics, self.extrinsics
        if k.shape != (3, 3) or w.shape != (4, 4):
            raise ConfigError(f"intrinsics {k.shape} and extrinsics {w.shape}: expected (3, 3) and (4, 4)")
        if self.image_size < 1:
            raise ConfigError(f"image_size {self.image_size}: expected at least 1 pixel")
        pinhole = np.array([[k[0, 0], 0.0, k[0, 2]], [0.0, k[0, 0], k[1, 2]], [0.0, 0.0, 1.0]])
        if not (np.isfinite(k).all() and k[0, 0] > 0.0 and np.allclose(k, pinhole, rtol=1e-9, atol=1e-9)):
            raise ConfigError(f"intrinsics {k.tolist()}: expected square pixels and no skew")
        rotation = w[:3, :3]
        rigid = np.isfinite(w).all() and np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-6)
        if not (rigid and np.linalg.det(rotation) > 0.0 and np.array_equal(w[3], [0.0, 0.0, 0.0, 1.0])):
            raise ConfigError(f"extrinsics {w.tolist()}: expected a rotation and a translation")

    @property
    def focal(self) -> float:
        """Focal length in pixels."""
        return float(self.intrinsics[0, 0])

    @property
    def fov_deg(self) -> float:
        """Full field of view over the image's side, degrees."""
        return float(np.degrees(2.0 * np.arctan(0.5 * self.image_size / self.focal)))

    @property
    def position(self) -> np.ndarray:
        """(3,) float64 center of projection in the world."""
        return -self.extrinsics[:3, :3].T @ self.extrinsics[:3, 3]

    def to_json(self) -> dict[str, Any]:
        """Return the camera as lists and numbers, which JSON keeps exactly."""
        return {
            "intrinsics": self.intrinsics.tolist(),
            "extrinsics": self.extrinsics.tolist(),
            "image_size": self.image_size,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Camera:
        """Return the camera from a result of `to_json`.

        Raises:
            ConfigError: if the matrices do not describe a camera.
        """
        return cls(
            np.array(value["intrinsics"], np.float64), np.array(value["extrinsics"], np.float64), value["image_size"]
        )


def sample_cameras(
    seed: int, key: str, views: int, image_size: int, distribution: CameraDistribution = "trellis2"
) -> list[Camera]:
    """Sample all views of an asset, each with `sample_camera`."""
    return [sample_camera(seed, key, view, views, image_size, distribution) for view in range(views)]


def sample_camera(
    seed: int, key: str, view: int, views: int, image_size: int, distribution: CameraDistribution = "trellis2"
) -> Camera:
    """Sample camera number `view` of the `views` that cover the sphere around an asset.

    Directions are Hammersley points shifted by one random offset per asset. TRELLIS.2 shifts the sequence upward: a
    quarter of its views look from below the horizon, and the median elevation is 19.5°. The radius has 1/r² uniform
    between the two radii that fit the bounding sphere exactly into the ends of `FOV_RANGE_DEG`. The camera then steps
    back by a factor of U(1, `RADIUS_JITTER`), and its focal length is uniform between the previous one and the one
    that fits again.

    Args:
        seed: seed of the data set.
        key: key of the asset.
        view: 0 ≤ view < views.
        views: number of views; it affects every camera, since together the directions cover the sphere.
        image_size: pixels per side.
        distribution: of the directions, see `CameraDistribution`.

    Raises:
        ConfigError: if `view` is out of range, or there is no such distribution.
    """
    if not 0 <= view < views:
        raise ConfigError(f"view {view} of {views}: must be between 0 and {views - 1}")
    if distribution not in get_args(CameraDistribution):
        raise ConfigError(f"cameras {distribution!r}: expected one of {', '.join(get_args(CameraDistribution))}")
    shift = generator(seed, key, "view directions").random(2)
    turn = (_radical_inverse(view) + shift[1]) % 1.0
    if distribution == "even":
        elevation = float(np.arcsin(1.0 - 2.0 * (((view + 0.5) / views + shift[0]) % 1.0)))
    else:
        elevation = _bent_elevation((view + shift[0]) / views)
    draw = generator(seed, key, "camera", view)
    near, far = (fitting_radius(fov) for fov in reversed(FOV_RANGE_DEG))
    fit = 1.0 / np.sqrt(draw.uniform(far**-2, near**-2))
    radius = fit * draw.uniform(1.0, RADIUS_JITTER)
    focal = draw.uniform(_fitting_focal(fit, image_size), _fitting_focal(radius, image_size))
    return _camera(2.0 * np.pi * turn, elevation, radius, focal, image_size)


def orbit_camera(
    azimuth_deg: float, elevation_deg: float, image_size: int, fov_deg: float = 40.0, radius: float | None = None
) -> Camera:
    """A camera that looks at the origin from a given direction.

    Args:
        azimuth_deg: angle about Z, from +X toward +Y. glTF assets face -Y in this frame, so -90 shows their front.
        elevation_deg: -90 to 90; at the poles, the image's right is that of the same azimuth at the equator.
        image_size: pixels per side.
        fov_deg: full field of view in degrees.
        radius: distance from the origin; None fits the unit cube's bounding sphere exactly.
    """
    distance = fitting_radius(fov_deg) if radius is None else radius
    focal = 0.5 * image_size / np.tan(np.radians(fov_deg) / 2.0)
    return _camera(np.radians(azimuth_deg), np.radians(elevation_deg), distance, focal * _FIT_MARGIN, image_size)


def fitting_radius(fov_deg: float) -> float:
    """Distance at which the unit cube's bounding sphere exactly fills a field of view."""
    return float(BOUNDING_RADIUS / np.sin(np.radians(fov_deg) / 2.0))


def project(camera: Camera, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Project world points to pixels and depths.

    Args:
        camera: the camera.
        points: (..., 3) world coordinates.

    Returns:
        (..., 2) float64 pixels (x right, y down, corner of the image at 0) and (...) float64 depths along the optical
        axis in world units. Pixels are meaningless where the depth is not positive.
    """
    seen = np.asarray(points, np.float64) @ camera.extrinsics[:3, :3].T + camera.extrinsics[:3, 3]
    depth = seen[..., 2]
    with np.errstate(divide="ignore", invalid="ignore"):
        pixels = camera.focal * seen[..., :2] / depth[..., None] + camera.intrinsics[:2, 2]
    return pixels, depth


def camera_to_world(camera: Camera) -> np.ndarray:
    """(4, 4) float64 pose in the camera axes of OpenGL, Blender and NeRF tools: x right, y up, z backward."""
    return np.asarray(np.linalg.inv(camera.extrinsics) @ _OPENCV_TO_OPENGL)


def _camera(azimuth: float, elevation: float, radius: float, focal: float, image_size: int) -> Camera:
    # The right axis depends only on the azimuth, so the poles need no special case.
    away = np.array([np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)])
    right = np.array([-np.sin(azimuth), np.cos(azimuth), 0.0])
    extrinsics = np.eye(4)
    extrinsics[:3, :3] = [right, np.cross(-away, right), -away]
    extrinsics[2, 3] = radius
    center = image_size / 2.0
    return Camera(np.array([[focal, 0.0, center], [0.0, focal, center], [0.0, 0.0, 1.0]]), extrinsics, image_size)


def _fitting_focal(radius: float, image_size: int) -> float:
    """Focal length in pixels at which the bounding sphere, seen from `radius`, touches the image's edges."""
    tangent = BOUNDING_RADIUS / np.sqrt(radius**2 - BOUNDING_RADIUS**2)
    return float(0.5 * image_size / tangent * _FIT_MARGIN)


def _bent_elevation(height: float) -> float:
    """Return TRELLIS.2's elevation in radians for a height that is uniform in [0, 1), from below to above."""
    bent = 2.0 * height if height < 0.25 else 2.0 * height / 3.0 + 1.0 / 3.0
    return float(np.arcsin(2.0 * bent - 1.0))


def _radical_inverse(index: int) -> float:
    """Return the van der Corput sequence in base 2: the bits of `index` mirrored at the binary point."""
    value, weight = 0.0, 0.5
    while index:
        value += weight * (index & 1)
        index >>= 1
        weight /= 2.0
    return value
