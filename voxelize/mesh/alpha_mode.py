"""Decides how alpha is drawn: once per clip, because frames that differ in mode flicker."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from helix4d.assets import AlphaMode
from helix4d.voxelize.ovoxel import OVoxel

_OPAQUE_ALPHA = 250
"""Voxels with at least this alpha count as opaque: decoders seldom reach 255."""
_TRANSPARENT_SHARE = 0.005
"""Share of other voxels up to which they are noise."""
_CLEAR_ALPHA, _SOLID_ALPHA = 12, 242
"""Alpha is binary up to the first value and above the second: 5 % of the range."""
_BETWEEN_SHARE = 0.25
"""Voxels in between, per clear voxel, up to which they are the edges of a mask. Measured: 0.01 to 0.02 for sample
assets with masked materials, over 60 for those with blended ones."""


@dataclass(frozen=True)
class AlphaCounts:
    """Numbers of voxels by alpha.

    Attributes:
        voxels: all of them.
        translucent: those that are not opaque.
        between: those that are neither clear nor solid.
        clear: those that do not show.
    """

    voxels: int = 0
    translucent: int = 0
    between: int = 0
    clear: int = 0

    @classmethod
    def of(cls, ovoxel: OVoxel) -> AlphaCounts:
        """Count the voxels of a frame."""
        alpha = ovoxel.alpha
        between = (alpha > _CLEAR_ALPHA) & (alpha <= _SOLID_ALPHA)
        counts = (alpha < _OPAQUE_ALPHA, between, alpha <= _CLEAR_ALPHA)
        return cls(len(ovoxel), *(int(np.count_nonzero(count)) for count in counts))

    def __add__(self, other: AlphaCounts) -> AlphaCounts:
        return AlphaCounts(
            self.voxels + other.voxels,
            self.translucent + other.translucent,
            self.between + other.between,
            self.clear + other.clear,
        )

    @property
    def mode(self) -> AlphaMode:
        """OPAQUE if hardly a voxel is translucent, MASK if alpha is nearly binary, otherwise BLEND."""
        if self.translucent <= _TRANSPARENT_SHARE * self.voxels:
            return AlphaMode.OPAQUE
        return AlphaMode.MASK if self.between <= _BETWEEN_SHARE * self.clear else AlphaMode.BLEND


def clip_alpha_mode(frames: Iterable[AlphaCounts]) -> AlphaMode:
    """Return the mode of a clip's frames together."""
    return sum(frames, AlphaCounts()).mode
