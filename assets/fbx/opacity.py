"""Decides how opaque an FBX material is, which exporters state in contradictory ways."""

from __future__ import annotations

from typing import Any

import numpy as np

from helix4d.assets.pictures import Picture
from helix4d.core.arrays import UInt8Array


def constant_alpha(material: Any) -> float:
    """Return the opacity of a Lambert or Phong material without a texture for it, from 0 to 1.

    `Opacity`, where a material states it, is what its exporter meant. Otherwise transparency is `TransparencyFactor`
    times `TransparentColor`, as in the FBX SDK; a factor without a color counts alone. Without a factor of its own the
    default counts, 0: a `TransparentColor` alone, which old exporters left at white, makes nothing transparent.
    """
    stated = {found.name for found in material.props.props}
    if "Opacity" in stated:
        return _share(material.props.find_real("Opacity", 1.0))
    factor = material.props.find_real("TransparencyFactor", 0.0)
    color = material.fbx.transparency_color.value_vec4[:3] if "TransparentColor" in stated else (1.0, 1.0, 1.0)
    return _share(1.0 - factor * float(np.mean(color)))


def coverage(picture: Picture, is_base: bool) -> UInt8Array:
    """Return the (H, W) uint8 opacity in a picture: its alpha channel if it has one, or else how bright it is.

    Args:
        picture: picture of a texture for opacity or transparency; exporters write opacity in both cases.
        is_base: whether it is the base color's texture, too, of which only the alpha channel can be meant.
    """
    alpha = picture.pixels[..., 3]
    if is_base or bool((alpha < 255).any()):
        return np.ascontiguousarray(alpha)
    gray = picture.pixels[..., :3].astype(np.float64) @ [0.2126, 0.7152, 0.0722]
    return np.rint(gray).astype(np.uint8)


def _share(value: float) -> float:
    return float(np.clip(value, 0.0, 1.0)) if np.isfinite(value) else 1.0
