"""What methods are judged on: ActionBench, Helix4DBench, and the test split of our own shards.

A bench is a list of items; an item is read when its turn comes.
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
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from helix4d.core import AssetError, ConfigError, FormatError, generator, sha256_file, sha256_json
from helix4d.curation.shards.shard import ShardReader
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


@dataclass(frozen=True, eq=False)
class Reference:
    """What an item is judged by.

    Args:
        frames: moments T.
        video: (T, H, W, 4) uint8, straight alpha.
        truth: (T, Q, 3) float32, Z up unless the bench says otherwise.
    """

    frames: int
    video: np.ndarray | NotAvailable
    truth: Tensor | NotAvailable


@dataclass(frozen=True)
class BenchItem:
    """What a prediction is judged by.

    Args:
        key: name of the folder that holds the prediction.
        read: reads the reference.
        content: hash of what `read` reads; empty where every copy of the bench is the same.
    """

    key: str
    read: Callable[[], Reference]
    content: str = ""


@dataclass(frozen=True)
class Bench:
    """A list of items.

    Args:
        name, label: what the command takes and what tables print.
        offers: what its items bring.
        items: sorted by key.
        notes: what a reader of the numbers must know, printed below tables.
    """

    name: BenchName
    label: str
    offers: frozenset[Need]
    items: tuple[BenchItem, ...]
    notes: tuple[str, ...] = ()

    def items_sha256(self, count: int | None = None) -> str:
        """Hash of the first `count` items, all by default: numbers of other items cannot stand beside theirs."""
        return sha256_json([[item.key, item.content] for item in self.items[:count]])


def open_bench(name: BenchName, data: Path | None, offline: bool = False) -> Bench:
    """The bench's list of items.

    Args:
        name: which.
        data: its folder; None fetches ActionBench from the hub, others have to be made first.
        offline: read the hub's local cache only.

    Raises:
        ConfigError: if there is no such bench, or nothing of it in `data`.
    """
    if name == "actionbench":
        return _actionbench(fetch_actionbench(offline) if data is None else data)
    if name not in get_args(BenchName):
        raise ConfigError(f"no bench {name!r}: there are {', '.join(get_args(BenchName))}")
    if data is None:
        made_by = "helix4d bench build" if name == "helix4dbench" else "helix4d curate"
        raise ConfigError(f"{name}: say --data, the folder that `{made_by}` wrote")
    return _helix4dbench(data) if name == "helix4dbench" else _texverse_heldout(data)


def fetch_actionbench(offline: bool) -> Path:
    """ActionBench in the hub's cache.

    Raises:
        ConfigError: if it is not there and cannot be fetched.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(ACTIONBENCH_HUB, repo_type="dataset", local_files_only=offline))
    except (OSError, LocalEntryNotFoundError, HfHubHTTPError) as error:
        raise ConfigError(
            f"{ACTIONBENCH_HUB} cannot be fetched ({error}): run `hf download {ACTIONBENCH_HUB} --repo-type dataset "
            "--local-dir actionbench` where there is a network, and say --data actionbench"
        ) from error


def _actionbench(data: Path) -> Bench:
    root = data / "data" if (data / "data").is_dir() else data
    folders = sorted(path.parent for path in root.glob("*/surfaces.npy"))
    if not folders:
        raise ConfigError(f"{data}: no UID/surfaces.npy in it or in its data/: not ActionBench")
    items = tuple(BenchItem(folder.name, partial(_read_actionbench, folder)) for folder in folders)
    offers = frozenset({Need.TRUTH, Need.TRACKS, Need.VIDEO})
    lacking = "" if len(items) == _ACTIONBENCH_ITEMS else f"; {len(items)} of them were found"
    notes = (f"ActionBench is the hub dataset {ACTIONBENCH_HUB}: {_ACTIONBENCH_ITEMS} items{lacking}",)
    return Bench("actionbench", "ActionBench", offers, items, notes)


def _read_actionbench(folder: Path) -> Reference:
    path = folder / "surfaces.npy"
    try:
        surfaces = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise FormatError(f"{path}: not an array ({error})") from error
    if surfaces.ndim != 3 or surfaces.shape[2] != 6 or 0 in surfaces.shape or surfaces.dtype.kind != "f":
        raise FormatError(f"{path}: {surfaces.dtype} {surfaces.shape}, floats (frames, points, 6) are expected")
    truth = torch.from_numpy(np.ascontiguousarray(surfaces[..., :3], np.float32))
    pictures = [path for path in folder.rglob("*") if path.suffix.lower() in _IMAGES]
    return Reference(len(truth), _read_video(sorted(pictures, key=natural_order), len(truth)), truth)


def _helix4dbench(data: Path) -> Bench:
    root = data / "videos" if (data / "videos").is_dir() else data
    folders = sorted(path.parent for path in root.glob("*/entry.json"))
    if not folders:
        raise ConfigError(f"{data}: no videos/ID/entry.json in it: not what `helix4d bench build` writes")
    # `entry.json` holds the hash of every frame.
    items = tuple(
        BenchItem(folder.name, partial(_read_helix4dbench, folder), sha256_file(folder / "entry.json"))
        for folder in folders
    )
    notes = (
        f"Helix4DBench as built here, {len(items)} videos (the full list has {_HELIX4DBENCH_ITEMS}): the paper's "
        "prompts and seeds are not published, so its own numbers are of other videos",
    )
    return Bench("helix4dbench", "Helix4DBench", frozenset({Need.VIDEO}), items, notes)


def _read_helix4dbench(folder: Path) -> Reference:
    pictures = sorted(folder.glob("frame_*.png"), key=natural_order)
    if not pictures:
        raise FormatError(f"{folder}: no frame_00.png in it: build it again")
    video = _read_video(pictures, len(pictures))
    return Reference(len(pictures), video, NotAvailable("Helix4DBench has no true geometry"))


def _texverse_heldout(data: Path) -> Bench:
    readers = [ShardReader(path) for path in sorted((data / "test").glob("*.tar"))]
    if not readers:
        raise ConfigError(f"{data}: no test/*.tar in it: not what `helix4d curate` writes, or it has no test split")
    items = {
        key: BenchItem(key, partial(_read_sample, reader, key), reader.sidecar["sha256"])
        for reader in readers
        for key in reader.keys()  # noqa: SIM118 (not a dict)
    }
    notes = (
        f"the test split of our shards ({len(items)} clips); the true surface is that of the O-Voxels, its points are "
        "not tracked; the video is view 00, whose camera is drawn at random: metrics of pictures look from the front",
    )
    offers = frozenset({Need.TRUTH, Need.VIDEO})
    return Bench("texverse-heldout", "TexVerse held-out", offers, tuple(items[key] for key in sorted(items)), notes)


def _read_sample(reader: ShardReader, key: str) -> Reference:
    members = reader.members(key)
    frames = sum(re.fullmatch(r"frame_\d+\.vxz", name) is not None for name in members)
    views = [name for name in members if re.fullmatch(r"view_00_frame_\d+\.webp", name)]
    where = f"{reader.path}: {key}"
    video: np.ndarray | NotAvailable = NotAvailable("the shard was curated without views")
    if views:
        ordered = sorted(views, key=lambda name: natural_order(Path(name)))
        video = _stack([_decode_image(reader.read(key, name), f"{where}.{name}") for name in ordered], where)
    truth: list[Tensor] = []
    for frame in range(frames):
        vertices, faces = extract_mesh(decode_vxz(reader.read(key, f"frame_{frame:02d}.vxz")))
        # Not the prediction's seeds: a perfect prediction must not get the very points of the truth.
        seed = int(generator("evaluation", key, "truth", frame).integers(2**31))
        try:
            truth.append(sample_surface(Surface(vertices, faces), _TRUTH_POINTS, seed))
        except AssetError as error:
            return Reference(frames, video, NotAvailable(f"frame {frame} of the truth: {error}"))
    if not truth:
        raise FormatError(f"{where}: no frame_00.vxz in it")
    return Reference(frames, video, torch.stack(truth))


def _read_video(paths: list[Path], frames: int) -> np.ndarray | NotAvailable:
    if len(paths) != frames:
        return NotAvailable(f"{len(paths)} pictures for {frames} frames")
    return _stack([_decode_image(path.read_bytes(), path) for path in paths], paths[0].parent)


def _stack(pictures: list[np.ndarray], where: object) -> np.ndarray:
    shapes = {picture.shape for picture in pictures}
    if len(shapes) > 1:
        raise FormatError(f"{where}: the pictures of the video have sizes {sorted(shapes)}")
    return np.stack(pictures)


def _decode_image(data: bytes, where: object) -> np.ndarray:
    """(H, W, 4) uint8."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            return np.asarray(image.convert("RGBA"))
    except (OSError, ValueError, SyntaxError, UnidentifiedImageError) as error:
        raise FormatError(f"{where}: not an image that can be read ({error})") from error
