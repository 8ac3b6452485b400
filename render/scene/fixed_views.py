"""Fixed views: cameras at elevation 0 around the object, the same for every asset, in addition to the random views."""

from __future__ import annotations

import re

from helix4d.core import ConfigError
from helix4d.render.scene.cameras import Camera, orbit_camera

FOV_DEG = 40.0
"""Field of view of the fixed views. Their distance fits the unit cube's bounding sphere exactly: 2.53."""

MAX_FIXED_VIEWS = 100

_FRONT = -90.0
_SIDES = {"front": _FRONT, "right": 0.0, "back": 90.0, "left": 180.0}
_ORBIT = re.compile(r"orbit:([1-9][0-9]{0,2})")


def fixed_azimuths(names: str) -> tuple[float, ...]:
    """Return the azimuths in degrees, about Z from +X towards +Y, that a list of fixed views names.

    Args:
        names: names separated by commas: front, right, back or left (right is on the right when looking at the front),
            or orbit:N for N views evenly around the object, from the front towards the right. A direction that is
            named twice counts once. "" for none.

    Raises:
        ConfigError: for any other name, or more than `MAX_FIXED_VIEWS` views.
    """
    azimuths: list[float] = []
    for name in filter(None, (name.strip() for name in names.split(","))):
        orbit = _ORBIT.fullmatch(name)
        if orbit is None and name not in _SIDES:
            raise ConfigError(f"fixed view {name!r}: expected {', '.join(_SIDES)} or orbit:N, such as orbit:8")
        steps = int(orbit[1]) if orbit else 0
        azimuths += [_turned(_FRONT + 360.0 * n / steps) for n in range(steps)] if orbit else [_SIDES[name]]
    distinct = tuple(dict.fromkeys(azimuths))
    if len(distinct) > MAX_FIXED_VIEWS:
        raise ConfigError(f"{len(distinct)} fixed views: at most {MAX_FIXED_VIEWS} are allowed")
    return distinct


def fixed_cameras(names: str, image_size: int) -> list[Camera]:
    """Return the cameras of a list of fixed views, see `fixed_azimuths`."""
    return [orbit_camera(azimuth, 0.0, image_size, FOV_DEG) for azimuth in fixed_azimuths(names)]


def _turned(azimuth: float) -> float:
    """Return an angle within (-180, 180], rounded so that equal directions are equal numbers."""
    turned = round((azimuth + 180.0) % 360.0 - 180.0, 6)
    return 180.0 if turned == -180.0 else turned
