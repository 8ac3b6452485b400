"""What a metric is: a name, a direction, a definition, what it needs, and a function of one item or of all items.

A new metric is a class with these attributes, and a line in `registry.metrics`. A metric that cannot be
computed answers `NotAvailable` with the reason, and where weights are missing with the command that fetches them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal, TypeVar, cast

import numpy as np
import torch
from torch import Tensor

from helix4d.assets import Clip, normalize
from helix4d.core import Helix4DError

_T = TypeVar("_T")

FAULTS = (Helix4DError, OSError, ValueError, ArithmeticError, RuntimeError, MemoryError)
"""What files and numbers of strangers can lead to: an item, a number or a picture is lost then, and the run goes on."""


class Need(StrEnum):
    """What an item must bring."""

    TRUTH = "truth"
    """Points of the true surface."""
    TRACKS = "tracks"
    """True points that are the same surface points in all frames."""
    VIDEO = "video"
    """The frames that the method was given."""
    TEXTURE = "texture"
    """A method that makes textures; for others the metric is not defined."""


@dataclass(frozen=True)
class NotAvailable:
    """No number, and why."""

    reason: str


@dataclass(frozen=True)
class View:
    """A camera on the unit cube, and what it sees.

    Args:
        azimuth_deg: about Z; 0 sees the front, 90 the side on the viewer's right of a thing that faces the camera at 0.
        elevation_deg: -90 to 90.
        shows: "color", or "normal": camera-space normals as (n + 1) / 2 in RGB, x right, y up, z to the camera.
        image_size: pixels per side.
        draft: for a look, with the noise of few samples; what is measured must be free of it.
    """

    azimuth_deg: float = 0.0
    elevation_deg: float = 0.0
    shows: Literal["color", "normal"] = "color"
    image_size: int = 224
    draft: bool = False


@dataclass(frozen=True, eq=False, kw_only=True)
class Item:
    """One prediction beside what it is judged by; all of it shows the same T moments.

    Args:
        key: of the item in its bench.
        prediction: T frames, Z up, front towards -Y, where the method's files put it.
        video: (T, H, W, 4) uint8, straight alpha: the frames that the method was given.
        truth: (T, Q, 3) float32 points.
        tracked: whether the points of the truth are the same in all frames.
        textured: whether the method makes textures.
        device: where tensors are to be.
        lost_textures: why the prediction's own were not read; None if they were.
        draw: pictures of a clip in the unit cube, (T, S, S, 4) uint8 with straight alpha.
    """

    key: str
    prediction: Clip
    video: np.ndarray | NotAvailable
    truth: Tensor | NotAvailable
    tracked: bool
    textured: bool
    device: torch.device
    draw: Callable[[Clip, View], np.ndarray]
    lost_textures: str | None = None
    _kept: dict[Hashable, object] = field(default_factory=dict)

    def once(self, name: Hashable, compute: Callable[[], _T]) -> _T:
        """`compute()`, kept for the metrics that ask for the same name later."""
        if name not in self._kept:
            self._kept[name] = compute()
        return cast(_T, self._kept[name])

    def normalized(self) -> Clip:
        """The prediction with all its frames moved and scaled as one into the unit cube.

        Raises:
            AssetError: if no frame has a surface.
        """
        return self.once("normalized", lambda: normalize(self.prediction)[0])

    def pictures(self, view: View) -> np.ndarray:
        """(T, S, S, 4) uint8 of the normalized prediction, straight alpha, drawn once a view."""
        return self.once(view, lambda: self.draw(self.normalized(), view))


@dataclass(frozen=True, kw_only=True)
class Measure(ABC):
    """What `Metric` and `SetMetric` share.

    Args:
        name: of the column in CSV and JSON: lowercase words joined by underscores.
        label: what tables print, without the arrow.
        higher_is_better: the direction.
        needs: what an item must bring; where it is missing the metric is not asked.
        definition: what it is, from what source; printed below tables.
        checkpoint: whose weights it uses, with version; None for none.
        choices: what the paper leaves open and how it is decided here; printed below tables as ours.
    """

    name: str
    label: str
    higher_is_better: bool
    needs: frozenset[Need]
    definition: str
    checkpoint: str | None = None
    choices: tuple[str, ...] = ()

    def available(self) -> str | None:
        """None if it can be computed here; else the reason, with the command that fetches what is missing.

        It is asked once a run and must be quick: no weights are loaded.
        """
        return None


class Metric(Measure):
    """A number for each item; the table shows the mean."""

    @abstractmethod
    def evaluate(self, item: Item) -> float | NotAvailable:
        """The number of one item; finite."""


class SetMetric(Measure):
    """A number for all items at once, such as a Fréchet distance.

    Features are kept beside the item's result, so a resumed run does not compute them again.
    """

    @abstractmethod
    def features(self, item: Item) -> np.ndarray | NotAvailable:
        """(…) float32 of one item, finite, the same shape for all items."""

    @abstractmethod
    def reduce(self, features: Sequence[np.ndarray]) -> float | NotAvailable:
        """The number of all items' features, in the order of their keys."""


def missing(metric: Measure, item: Item) -> NotAvailable | None:
    """What the metric needs and the item lacks."""
    if Need.TRUTH in metric.needs and isinstance(item.truth, NotAvailable):
        return item.truth
    if Need.TRACKS in metric.needs and not item.tracked:
        return NotAvailable("the bench does not track its points")
    if Need.VIDEO in metric.needs and isinstance(item.video, NotAvailable):
        return item.video
    if Need.TEXTURE in metric.needs and not item.textured:
        return NotAvailable("the method makes no textures")
    if Need.TEXTURE in metric.needs and item.lost_textures is not None:
        return NotAvailable(item.lost_textures)
    return None
