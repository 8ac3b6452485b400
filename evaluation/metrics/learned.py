"""The learned metrics as entries of the registry: their networks, weights, images and definitions.

Images and features that several metrics need are computed once per item; networks are loaded once per run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from torch import Tensor, nn

from helix4d.core import AssetError, ConfigError
from helix4d.evaluation.learned import published as files
from helix4d.evaluation.learned.frechet import frechet_distance
from helix4d.evaluation.learned.pictures import CLIP_PIXELS, PixelStatistics
from helix4d.evaluation.learned.points import colored_cloud
from helix4d.evaluation.learned.scores import (
    SIGNED_PIXELS,
    UNIT_PIXELS,
    encode_clouds,
    encode_pictures,
    encode_video,
    mean_cosine,
    mean_distance,
)
from helix4d.evaluation.learned.towers.clip import load_clip
from helix4d.evaluation.learned.towers.dreamsim import load_dreamsim
from helix4d.evaluation.learned.towers.eva import load_eva
from helix4d.evaluation.learned.towers.i3d import FRAMES, load_i3d, load_scripted_i3d, pieces_of
from helix4d.evaluation.learned.towers.lpips import VGG, load_lpips
from helix4d.evaluation.learned.towers.ulip import load_ulip
from helix4d.evaluation.learned.towers.uni3d import load_uni3d
from helix4d.evaluation.learned.weights import Networks, WeightFile
from helix4d.evaluation.metrics.metric import Item, Measure, Metric, Need, NotAvailable, SetMetric, View

_PIXELS = 224
_DRAWN = 448
"""Pixels per side of the renderings; their crops are about as large as the networks' input."""
_LPIPS_PIXELS = 512
_AZIMUTHS = (0.0, 90.0, 180.0, 270.0)
_FRONT = View(0.0, 0.0, "color", _DRAWN)
_LARGE_FRONT = View(0.0, 0.0, "color", 1024)
_SEED = 44

Y_UP = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])
"""Rows of the map from our Z-up frame to glTF's Y-up frame."""

_CUT = (
    "renderings and frames are cropped to a square around the union of their own alpha, 1.1 times its size, over white"
)
_DRAWN_BY = "rendered by Blender Cycles with 32 samples, field of view 40°, lit evenly from all sides"
_OWN_VIEW = "the video is assumed to show the front (azimuth 0, elevation 0), whatever its camera was"


@dataclass(frozen=True)
class Network:
    """A network and its files.

    Args:
        name: name under which the loaded network is cached.
        files: the files that `load` needs, in the order of its arguments.
        load: loads the network from their paths.
    """

    name: str
    files: tuple[WeightFile, ...]
    load: Callable[..., nn.Module]

    def on(self, networks: Networks, item: Item) -> nn.Module:
        """Return the network on the item's device."""
        return networks.get(self.name, item.device, lambda: self.load(*(networks.path(file) for file in self.files)))


def _load_dreamsim(dino: Path, clip: Path, open_clip: Path, adapter: Path) -> nn.Module:
    return load_dreamsim((dino, clip, open_clip), adapter)


BIG_G_NETWORK = Network("clip-bigg", (files.BIG_G_FILE,), load_clip)
EVA_NETWORK = Network("eva02-e-plus", (files.EVA_FILE,), load_eva)
ULIP_NETWORK = Network("ulip-2", (files.ULIP_FILE,), load_ulip)
UNI3D_NETWORK = Network("uni3d-g", (files.UNI3D_FILE,), load_uni3d)
STYLEGAN_V_NETWORK = Network("i3d-stylegan-v", (files.STYLEGAN_V_FILE,), load_scripted_i3d)
VIDEOGPT_NETWORK = Network("i3d-videogpt", (files.VIDEOGPT_FILE,), load_i3d)
ALEX_NETWORK = Network("lpips-alex", (files.ALEX_FILE, files.ALEX_LPIPS_FILE), load_lpips)
VGG_NETWORK = Network("lpips-vgg", (files.VGG_FILE, files.VGG_LPIPS_FILE), partial(load_lpips, backbone=VGG))
DREAMSIM_NETWORK = Network(
    "dreamsim",
    (files.DINO_FILE, files.DREAMSIM_CLIP_FILE, files.DREAMSIM_OPEN_CLIP_FILE, files.DREAMSIM_ADAPTER_FILE),
    _load_dreamsim,
)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Learned(Measure):
    """A measure with networks.

    Args:
        networks: networks of the run.
        used: networks of this measure.
    """

    networks: Networks
    used: tuple[Network, ...]

    def available(self) -> str | None:
        """None, or the commands that download missing files."""
        return self.networks.missing([file for network in self.used for file in network.files])

    def _on(self, network: Network, item: Item) -> nn.Module:
        return network.on(self.networks, item)

    def _video_features(self, tower: Network, item: Item) -> Tensor:
        """(T, C) features of the input frames, computed once per item for all metrics with this tower."""
        return item.once(
            ("video features", tower.name),
            lambda: encode_pictures(self._on(tower, item), video_of(item), _PIXELS, CLIP_PIXELS, item.device),
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class ClipScore(_Learned, Metric):
    """Cosine similarity between views around the prediction and the input frames.

    Args:
        shows: color images or normal maps.
    """

    shows: Literal["color", "normal"]

    def evaluate(self, item: Item) -> float | NotAvailable:
        """Return a value in [-1, 1]."""
        tower = self.used[0]
        reference = self._video_features(tower, item)
        network = self._on(tower, item)
        views = [View(azimuth, 0.0, self.shows, _DRAWN) for azimuth in _AZIMUTHS]
        seen = {
            view: encode_pictures(network, item.pictures(view), _PIXELS, CLIP_PIXELS, item.device) for view in views
        }
        own = replace(_FRONT, shows=self.shows)
        return mean_cosine([*seen.values(), seen[own]], reference)


@dataclass(frozen=True, kw_only=True, eq=False)
class PointScore(_Learned, Metric):
    """Cosine similarity between the features of each frame's surface and of its input frame.

    Args:
        axes: (3, 3) rows of the map from our frame to the encoder's.
    """

    axes: np.ndarray

    def evaluate(self, item: Item) -> float | NotAvailable:
        """Return a value in [-1, 1]."""
        encoder, tower = self.used
        try:
            clouds = item.once("clouds", lambda: colored_clouds(item))
        except AssetError as error:
            return NotAvailable(str(error))
        features = encode_clouds(self._on(encoder, item), clouds, self.axes, item.device)
        return mean_cosine([features], self._video_features(tower, item))


@dataclass(frozen=True, kw_only=True, eq=False)
class FrameDistance(_Learned, Metric):
    """An image distance between the prediction seen from the front and the input frames.

    Args:
        statistics: normalization of the network's input.
        pixels: pixels per side of the network's input.
        view: view from which the prediction is rendered.
    """

    statistics: PixelStatistics
    pixels: int
    view: View

    def evaluate(self, item: Item) -> float | NotAvailable:
        """Return a value of at least 0."""
        return mean_distance(
            self._on(self.used[0], item),
            item.pictures(self.view),
            video_of(item),
            self.pixels,
            self.statistics,
            item.device,
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class VideoDistance(_Learned, SetMetric):
    """The Fréchet distance between predictions, seen from the front, and input videos.

    Args:
        paired: average the distances between each prediction and its own input; otherwise, compute one distance between
            all predictions and all inputs.
    """

    paired: bool

    def features(self, item: Item) -> np.ndarray | NotAvailable:
        """Return (P, 2, 400) features of the segments of the prediction and of the input."""
        network = self._on(self.used[0], item)
        videos = (item.pictures(_FRONT), video_of(item))
        return np.stack([encode_video(network, pieces_of(video), item.device) for video in videos], axis=1)

    def reduce(self, features: Sequence[np.ndarray]) -> float | NotAvailable:
        """Return a value of at least 0."""
        if self.paired:
            return float(np.mean([frechet_distance(pieces[:, 0], pieces[:, 1]) for pieces in features]))
        if len(features) < 2:
            return NotAvailable(f"the distance between two sets needs at least two items, found {len(features)}")
        pieces = np.concatenate(features)
        return frechet_distance(pieces[:, 0], pieces[:, 1])


def learned_metrics(weights: Path | None = None) -> tuple[Measure, ...]:
    """All learned metrics, in the order of the paper's table, then LPIPS.

    Args:
        weights: folder of the published weights; metrics with missing files report the download commands.
    """
    networks = Networks(weights)
    video, textured = frozenset({Need.VIDEO}), frozenset({Need.VIDEO, Need.TEXTURE})
    around = "mean over frames and five views: azimuths 0, 90, 180 and 270 at elevation 0, and the video's own view"
    clip = partial(
        ClipScore, higher_is_better=True, networks=networks, used=(BIG_G_NETWORK,), choices=(_DRAWN_BY, _CUT, _OWN_VIEW)
    )
    point = partial(PointScore, higher_is_better=True, needs=video, networks=networks)
    distance = partial(
        FrameDistance, higher_is_better=False, needs=textured, networks=networks, choices=(_DRAWN_BY, _CUT, _OWN_VIEW)
    )
    big_g = "open_clip ViT-bigG-14 laion2b_s39b_b160k"
    clouds = (
        "10,000 points per frame, by farthest-point sampling of 40,000 uniform ones; gray 0.4 without textures",
        "cosine of each frame with its own input frame, then the mean",
        "points with Y up, as in glTF",
        _CUT,
    )
    return (
        clip(
            name="clip",
            label="CLIP",
            needs=textured,
            shows="color",
            definition=f"cosine of CLIP features of renderings and of the input frame, {around}",
            checkpoint=big_g,
        ),
        clip(
            name="clip_n",
            label="CLIP-N",
            needs=video,
            shows="normal",
            definition=f"cosine of CLIP features of camera-space normal maps and of the input frame, {around}",
            checkpoint=big_g,
        ),
        point(
            name="ulip_2",
            label="ULIP-2",
            used=(ULIP_NETWORK, BIG_G_NETWORK),
            axes=Y_UP,
            definition="cosine of ULIP-2's features of the surface and of the input frame (Xue et al. 2024)",
            checkpoint=f"ULIP-2-PointBERT-10k-xyzrgb ensembled (SFXX/ulip) with {big_g}",
            choices=clouds,
        ),
        point(
            name="uni3d",
            label="Uni3D",
            used=(UNI3D_NETWORK, EVA_NETWORK),
            axes=Y_UP,
            definition="cosine of Uni3D's features of the surface and of the input frame (Zhou et al. 2024)",
            checkpoint="Uni3D-g (BAAI/Uni3D modelzoo/uni3d-g) with EVA02-E-14-plus laion2b_s9b_b144k",
            choices=clouds,
        ),
        distance(
            name="dreamsim",
            label="DreamSim",
            used=(DREAMSIM_NETWORK,),
            statistics=UNIT_PIXELS,
            pixels=_PIXELS,
            view=_FRONT,
            definition="DreamSim distance of the rendering and the input frame, mean over frames (Fu et al. 2023)",
            checkpoint="dreamsim v0.2.0 ensemble: DINO, CLIP and OpenCLIP ViT-B/16 with LoRA",
        ),
        *_video_distances(partial(VideoDistance, higher_is_better=False, needs=textured, networks=networks)),
        *(
            distance(
                name=f"lpips_{name.lower()}",
                label=f"LPIPS ({name})",
                used=(network,),
                statistics=SIGNED_PIXELS,
                pixels=_LPIPS_PIXELS,
                view=_LARGE_FRONT,
                definition="LPIPS 0.1 of the rendering and the input frame at 512², mean over frames "
                "(Zhang et al. 2018)",
                checkpoint=checkpoint,
            )
            for name, network, checkpoint in (
                ("VGG", VGG_NETWORK, "VGG-16 (torchvision 397923af) with lpips v0.1 vgg"),
                ("Alex", ALEX_NETWORK, "AlexNet (torchvision owt-7be5be79) with lpips v0.1 alex"),
            )
        ),
    )


def _video_distances(distance: Callable[..., VideoDistance]) -> Iterator[VideoDistance]:
    """Return both published conventions of the Fréchet video distance, with both published networks."""
    conventions = (
        ("set", False, "of all rendered videos to all input videos"),
        ("pair", True, "of each rendered video to its input video, mean over videos"),
    )
    networks = (
        ("StyleGAN-V", STYLEGAN_V_NETWORK, "I3D Kinetics-400, i3d_torchscript.pt of StyleGAN-V"),
        ("VideoGPT", VIDEOGPT_NETWORK, "I3D Kinetics-400, i3d_pretrained_400.pt of VideoGPT"),
    )
    for network_label, network, checkpoint in networks:
        for name, paired, of in conventions:
            yield distance(
                name=f"fvd_{name}" if network is STYLEGAN_V_NETWORK else f"fvd_{name}_videogpt",
                label=f"FVD {name}, {network_label}",
                paired=paired,
                used=(network,),
                definition=f"Fréchet distance of I3D logits {of}, in segments of {FRAMES} frames at 224², pixels from "
                "-1 to 1 (Unterthiner et al. 2018)",
                checkpoint=checkpoint,
                choices=(
                    f"videos of fewer than {FRAMES} frames are extended by playing them backward and forward in turn",
                    _DRAWN_BY,
                    _CUT,
                    _OWN_VIEW,
                ),
            )


def colored_clouds(item: Item) -> np.ndarray:
    """(T, N, 6) float32 clouds of all frames; the seed is that of the distances plus the frame.

    Raises:
        AssetError: if a frame has no surface.
    """
    clip, colored = item.prediction, item.textured and item.lost_textures is None
    clouds = []
    for number, frame in enumerate(clip.frames):
        try:
            clouds.append(colored_cloud(clip, frame, _SEED + number, colored))
        except AssetError as error:
            raise AssetError(error.code, f"frame {number}: {error.message}") from error
    return np.stack(clouds)


def video_of(item: Item) -> np.ndarray:
    """Return the input frames of an item.

    Raises:
        ConfigError: if the item has none, which `Need.VIDEO` rules out.
    """
    if isinstance(item.video, NotAvailable):
        raise ConfigError(f"{item.key}: {item.video.reason}")
    return item.video
