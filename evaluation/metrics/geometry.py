"""CD-3D, CD-4D and CD-M as metrics of the registry; all three share one measurement."""

from __future__ import annotations

from dataclasses import dataclass

from helix4d.assets import Clip
from helix4d.core import ConfigError
from helix4d.evaluation.geometry.protocol import GeometryScores, Protocol, measure_geometry
from helix4d.evaluation.geometry.sampling import Surface
from helix4d.evaluation.metrics.metric import Item, Metric, Need, NotAvailable

_SOURCE = "ActionBench (Sabathier et al. 2026), re-implemented"
_CHOICES = (
    "all 24 rotations that map axes to axes are tried, whereas the published list repeats two and omits two",
    "items whose metric cannot be computed are excluded from the mean and counted; changing topology affects only CD-M",
)


@dataclass(frozen=True, kw_only=True)
class ChamferMetric(Metric):
    """One of the three distances of `measure_geometry`."""

    protocol: Protocol

    def evaluate(self, item: Item) -> float | NotAvailable:
        """Return the distance in units of the ground truth."""
        scores = item.once(("geometry", self.protocol), lambda: _measure(item, self.protocol))
        value: float | None = getattr(scores, self.name)
        return NotAvailable(scores.reasons[self.name]) if value is None else value


def geometry_metrics(protocol: Protocol | None = None) -> tuple[ChamferMetric, ...]:
    """Return the three metrics with one protocol, by default ActionBench's."""
    used = Protocol() if protocol is None else protocol
    sums = "mean distance (not squared) from truth to prediction plus mean distance from prediction to truth"
    definitions = {
        "cd_3d": f"{sums}, each frame aligned separately",
        "cd_4d": f"{sums}, all frames aligned with the pose of frame 0",
        "cd_m": "as CD-4D, but between tracked points, with the pairs matched in frame 0 kept in all frames",
    }
    return tuple(
        ChamferMetric(
            name=name,
            label=name.upper().replace("_", "-"),
            higher_is_better=False,
            needs=frozenset({Need.TRUTH, Need.TRACKS} if name == "cd_m" else {Need.TRUTH}),
            definition=f"{definition}; {_SOURCE}",
            choices=_CHOICES,
            protocol=used,
        )
        for name, definition in definitions.items()
    )


def clip_surfaces(clip: Clip) -> list[Surface]:
    """Return the frames of a clip without materials."""
    return [Surface(frame.vertices, frame.faces) for frame in clip.frames]


def _measure(item: Item, protocol: Protocol) -> GeometryScores:
    if isinstance(item.truth, NotAvailable):
        raise ConfigError(f"{item.key}: cannot compute distances without ground truth")
    return measure_geometry(clip_surfaces(item.prediction), item.truth.to(item.device), protocol)
