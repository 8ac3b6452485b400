"""Determines the opacity of an FBX material, which exporters encode in contradictory ways."""

from __future__ import annotations

from typing import Any

import numpy as np

from helix4d.assets.pictures import Picture
from helix4d.core.arrays import UInt8Array


def constant_alpha(material: Any) -> float:
    """Return the opacity of a Lambert or Phong material without a texture for it, from 0 to 1.

    `Opacity` takes precedence if the material has it. Otherwise transparency is `TransparencyFactor` times
    `TransparentColor`, as in the FBX SDK, or the factor alone if there is no color. A missing factor is 0, so a
    `TransparentColor` alone, which old exporters left at white, has no effect.
    """
    stated = {found.name for found in material.props.props}
    if "Opacity" in stated:
        return _share(material.props.find_real("Opacity", 1.0))
    factor = material.props.find_real("TransparencyFactor", 0.0)
    color = material.fbx.transparency_color.value_vec4[:3] if "TransparentColor" in stated else (1.0, 1.0, 1.0)
    return _share(1.0 - factor * float(np.mean(color)))


def coverage(picture: Picture, is_base: bool) -> UInt8Array:
    """Return the (H, W) uint8 opacity in an image: its alpha channel if it has one, otherwise its brightness.

    Args:
        picture: image of an opacity or transparency texture; exporters write opacity in both cases.
        is_base: whether it is also the base color texture, in which case only its alpha channel is used.
    """
    alpha = picture.pixels[..., 3]
    if is_base or bool((alpha < 255).any()):
        return np.ascontiguousarray(alpha)
    gray = picture.pixels[..., :3].astype(np.float64) @ [0.2126, 0.7152, 0.0722]
    return np.rint(gray).astype(np.uint8)


def _share(value: float) -> float:
    return float(np.clip(value, 0.0, 1.0)) if np.isfinite(value) else 1.0
