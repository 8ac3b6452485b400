"""The benchmarks: ActionBench, Helix4DBench, and the test split of our own shards.

A bench is a list of items, which are read lazily.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from helix4d.core import AssetError, ConfigError, FormatError, generator, sha256_file, sha256_json
from helix4d.core.messages import reason
from helix4d.curation.shards.reader import ShardReader
from helix4d.curation.shards.track_files import TRACKS_MEMBER, decode_tracks
from helix4d.evaluation.geometry.sampling import Surface, sample_surface
from helix4d.evaluation.methods.adapters import natural_order
from helix4d.evaluation.metrics.metric import Need, NotAvailable
from helix4d.voxelize import decode_vxz, extract_mesh

BenchName = Literal["actionbench", "helix4dbench", "texverse-heldout"]
ACTIONBENCH_HUB = "facebook/actionbench"
_ACTIONBENCH_ITEMS = 128
_HELIX4DBENCH_ITEMS = 52
_IMAGES = (".png", ".webp", ".jpg", ".jpeg")
_TRUTH_POINTS = 100_000
_FRONT_AZIMUTH = -90.0


@dataclass(frozen=True, eq=False)
class Reference:
    """Reference data of an item.

    Args:
        frames: number of frames, T.
        video: (T, H, W, 4) uint8, straight alpha.
        truth: (T, Q, 3) float32, points on the true surface, Z up unless the bench specifies otherwise.
        tracked: whether point q is the same point of the surface in all frames.
    """

    frames: int
    video: np.ndarray | NotAvailable
    truth: Tensor | NotAvailable
    tracked: bool = False


@dataclass(frozen=True)
class BenchItem:
    """An item of a benchmark.

    Args:
        key: key of the item, and name of the folder with its prediction.
        read: function that reads the reference data.
        content: hash of the data that `read` reads; empty if all copies of the benchmark are identical.
    """

    key: str
    read: Callable[[], Reference]
    content: str = ""


@dataclass(frozen=True)
class Bench:
    """A benchmark.

    Args:
        name: name on the command line.
        label: name in tables.
        offers: reference data that its items provide.
        items: items sorted by key.
        notes: caveats for readers of the results, printed below tables.
    """

    name: BenchName
    label: str
    offers: frozenset[Need]
    items: tuple[BenchItem, ...]
    notes: tuple[str, ...] = ()

    def items_sha256(self, count: int | None = None) -> str:
        """Hash of the first `count` items (by default all): results are comparable only if it is equal."""
        return sha256_json([[item.key, item.content] for item in self.items[:count]])


def open_bench(name: BenchName, data: Path | None, offline: bool = False) -> Bench:
    """Open a benchmark.

    Args:
        name: name of the benchmark.
        data: folder of the benchmark; None downloads ActionBench from the hub, the others must be built first.
        offline: whether to read only the local hub cache.

    Raises:
        ConfigError: if the benchmark is unknown, or `data` does not contain it.
    """
    if name == "actionbench":
        return _actionbench(fetch_actionbench(offline) if data is None else data)
    if name not in get_args(BenchName):
        raise ConfigError(f"unknown bench {name!r}: must be one of {', '.join(get_args(BenchName))}")
    if data is None:
        made_by = "helix4d bench build" if name == "helix4dbench" else "helix4d curate"
        raise ConfigError(f"{name}: pass the output folder of `{made_by}` with --data")
    return _helix4dbench(data) if name == "helix4dbench" else _texverse_heldout(data)


def fetch_actionbench(offline: bool) -> Path:
    """Return ActionBench's folder in the hub cache, downloading it if necessary.

    Raises:
        ConfigError: if it cannot be downloaded.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(ACTIONBENCH_HUB, repo_type="dataset", local_files_only=offline))
    except (OSError, LocalEntryNotFoundError, HfHubHTTPError) as error:
        raise ConfigError(
            f"{ACTIONBENCH_HUB} could not be downloaded ({error}): run `hf download {ACTIONBENCH_HUB} --repo-type "
            "dataset --local-dir actionbench` on a machine with network access and pass --data actionbench"
        ) from error


def _actionbench(data: Path) -> Bench:
    root = data / "data" if (data / "data").is_dir() else data
    folders = sorted(path.parent for path in root.glob("*/surfaces.npy"))
    if not folders:
        raise ConfigError(f"{data}: no UID/surfaces.npy here or in data/: this is not ActionBench")
    items = tuple(BenchItem(folder.name, partial(_read_actionbench, folder)) for folder in folders)
    offers = frozenset({Need.TRUTH, Need.TRACKS, Need.VIDEO})
    notes = (f"ActionBench: hub dataset {ACTIONBENCH_HUB}, {len(items)} of {_ACTIONBENCH_ITEMS} items",)
    return Bench("actionbench", "ActionBench", offers, items, notes)


def _read_actionbench(folder: Path) -> Reference:
    path = folder / "surfaces.npy"
    try:
        surfaces = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise FormatError(f"{path}: cannot read array ({error})") from error
    if surfaces.ndim != 3 or surfaces.shape[2] != 6 or 0 in surfaces.shape or surfaces.dtype.kind != "f":
        raise FormatError(f"{path}: expected floats (frames, points, 6), found {surfaces.dtype} {surfaces.shape}")
    truth = torch.from_numpy(np.ascontiguousarray(surfaces[..., :3], np.float32))
    pictures = [path for path in folder.rglob("*") if path.suffix.lower() in _IMAGES]
    return Reference(len(truth), _read_video(sorted(pictures, key=natural_order), len(truth)), truth, tracked=True)


def _helix4dbench(data: Path) -> Bench:
    root = data / "videos" if (data / "videos").is_dir() else data
    folders = sorted(path.parent for path in root.glob("*/entry.json"))
    if not folders:
        raise ConfigError(f"{data}: no videos/ID/entry.json: this is not an output folder of `helix4d bench build`")
    # `entry.json` contains the hash of every frame.
    items = tuple(
        BenchItem(folder.name, partial(_read_helix4dbench, folder), sha256_file(folder / "entry.json"))
        for folder in folders
    )
    notes = (
        f"Helix4DBench as built here, {len(items)} of {_HELIX4DBENCH_ITEMS} videos: the paper's prompts and seeds are "
        "unpublished, so its numbers are for different videos",
    )
    return Bench("helix4dbench", "Helix4DBench", frozenset({Need.VIDEO}), items, notes)


def _read_helix4dbench(folder: Path) -> Reference:
    pictures = sorted(folder.glob("frame_*.png"), key=natural_order)
    if not pictures:
        raise FormatError(f"{folder}: no frame_00.png: rebuild the bench")
    video = _read_video(pictures, len(pictures))
    return Reference(len(pictures), video, NotAvailable("Helix4DBench has no ground-truth geometry"))


def _texverse_heldout(data: Path) -> Bench:
    readers = [ShardReader(path) for path in sorted((data / "test").glob("*.tar"))]
    if not readers:
        raise ConfigError(
            f"{data}: no test/*.tar: this is not an output folder of `helix4d curate`, or it has no test split"
        )
    items = {
        key: BenchItem(key, partial(_read_sample, reader, key), reader.sidecar["sha256"])
        for reader in readers
        for key in reader.keys()  # noqa: SIM118 (not a dict)
    }
    notes = (
        f"test split of our shards ({len(items)} clips); the ground truth is the tracked points of a clip if all are "
        "present in all frames (--tracks), otherwise the surface of its O-Voxels, without tracks",
        "the video is the fixed front view if the shards have one (--fixed-views front), otherwise view 00 with its "
        "random camera, whereas image metrics use a front view",
    )
    tracked = any(reader.sidecar["config"].get("tracks") for reader in readers)
    offers = frozenset({Need.TRUTH, Need.VIDEO, *([Need.TRACKS] if tracked else [])})
    return Bench("texverse-heldout", "TexVerse held-out", offers, tuple(items[key] for key in sorted(items)), notes)


def _read_sample(reader: ShardReader, key: str) -> Reference:
    members = reader.members(key)
    frames = sum(re.fullmatch(r"frame_\d+\.vxz", name) is not None for name in members)
    front = _front_view(reader, key)
    views = [name for name in members if re.fullmatch(rf"{front}_frame_\d+\.webp", name)]
    where = f"{reader.path}: {key}"
    video: np.ndarray | NotAvailable = NotAvailable("the shard was curated without views")
    if views:
        ordered = sorted(views, key=lambda name: natural_order(Path(name)))
        video = _stack([_decode_image(reader.read(key, name), f"{where}.{name}") for name in ordered], where)
    tracks = _tracks(reader, key, f"{where}.{TRACKS_MEMBER}")
    if tracks is not None:
        return Reference(frames, video, tracks, tracked=True)
    truth: list[Tensor] = []
    for frame in range(frames):
        vertices, faces = extract_mesh(decode_vxz(reader.read(key, f"frame_{frame:02d}.vxz")))
        # Different seeds from the prediction's, so that a perfect prediction is not sampled at the same points.
        seed = int(generator("evaluation", key, "truth", frame).integers(2**31))
        try:
            truth.append(sample_surface(Surface(vertices, faces), _TRUTH_POINTS, seed))
        except AssetError as error:
            return Reference(frames, video, NotAvailable(f"ground truth, frame {frame}: {error}"))
    if not truth:
        raise FormatError(f"{where}: no frame_00.vxz")
    return Reference(frames, video, torch.stack(truth))


def _tracks(reader: ShardReader, key: str, where: str) -> Tensor | None:
    """Return (T, Q, 3) tracked points; None without tracks, or if a point is not present in all frames."""
    clip = reader.clip(key)
    if TRACKS_MEMBER not in reader.members(key):
        return None
    tracks = decode_tracks(reader.read(key, TRACKS_MEMBER), clip["frames"], clip.get("tracks", 0), where)
    return torch.from_numpy(np.array(tracks.positions)) if tracks.present.all() else None


def _front_view(reader: ShardReader, key: str) -> str:
    """Return the name of the view that serves as the video: the fixed one from the front, else the first random one."""
    azimuths = reader.clip(key).get("fixed_views", [])
    return f"fixed_{azimuths.index(_FRONT_AZIMUTH):02d}" if _FRONT_AZIMUTH in azimuths else "view_00"


def _read_video(paths: list[Path], frames: int) -> np.ndarray | NotAvailable:
    if len(paths) != frames:
        return NotAvailable(f"{len(paths)} images for {frames} frames")
    return _stack([_decode_image(path.read_bytes(), path) for path in paths], paths[0].parent)


def _stack(pictures: list[np.ndarray], where: object) -> np.ndarray:
    shapes = {picture.shape for picture in pictures}
    if len(shapes) > 1:
        raise FormatError(f"{where}: images of the video have different sizes {sorted(shapes)}")
    return np.stack(pictures)


def _decode_image(data: bytes, where: object) -> np.ndarray:
    """Decode an image as (H, W, 4) uint8."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            return np.asarray(image.convert("RGBA"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise FormatError(f"{where}: cannot read image ({reason(error)})") from error
