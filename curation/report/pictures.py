"""The pictures of a report: for each sample a strip of its frames, and a sheet of normals, O-Voxels and views.

A picture's name holds a hash of all that it was made from, so a picture that is there is never made again. Files of a
sample appear whole, and its JSON last.
"""

from __future__ import annotations

import io
import json
import logging
import multiprocessing
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from helix4d.core import FormatError, canonical_json, sha256_json, write_bytes
from helix4d.curation.places.folder import Place
from helix4d.curation.shards.layout import PICTURES_FOLDER
from helix4d.curation.shards.shard import ShardReader
from helix4d.curation.work.progress import Steps
from helix4d.render import Camera, orbit_camera, picture_ovoxel, resized
from helix4d.render.scene.passes import decode_normal
from helix4d.voxelize import decode_vxz

log = logging.getLogger("helix4d.curation")

CELL = 160
"""Pixels per side of a picture."""
COLUMNS = 8
_VERSION = 1
"""Raise it when pictures change."""
_QUALITY = 80
_FRONT_AZIMUTH, _FRONT_ELEVATION = -60.0, 20.0
_MARGIN = 1.1
_FORGOTTEN_S = 3600.0
_PIECE = 4
"""Samples of a shard that one process pictures in a row."""
_FEW_VOXELS = 40_000_000
"""So many are drawn in about the seconds that it takes to start other processes."""


_Box = tuple[int, int, int, int]
"""Left, top, right and bottom of a part of an image, in pixels."""


@dataclass(frozen=True)
class PictureJob:
    """A sample to picture.

    Attributes:
        shard: its `.tar`, near or far.
        key: its key.
        voxels: of all its frames.
        stem: path of its pictures without suffixes: `.strip.webp`, `.sheet.webp`, `.json`.
    """

    shard: Place
    key: str
    voxels: int
    stem: Path


def picture_stem(key: str, sample: Mapping[str, Any], sidecar: Mapping[str, Any]) -> str:
    """Where a sample's pictures lie in the report, without suffixes; another name for another content."""
    made_of = {
        "version": _VERSION,
        "cell": CELL,
        "key": key,
        "content": sample["content_sha256"],
        "config": sidecar["config_sha256"],
        "tools": sidecar["tools"],
    }
    return f"{PICTURES_FOLDER}/{key[:2]}/{key}.{sha256_json(made_of)[:12]}"


def make_pictures(jobs: Sequence[PictureJob], workers: int) -> None:
    """Make the pictures that are not there yet.

    Raises:
        FormatError: if a shard is damaged.
        StoreError: if a far one cannot be had.
    """
    missing = [job for job in jobs if not _beside(job.stem, ".json").exists()]
    if not missing:
        return
    by_shard: dict[Place, list[PictureJob]] = {}
    for job in missing:
        by_shard.setdefault(job.shard, []).append(job)
    few = sum(job.voxels for job in missing) < _FEW_VOXELS
    with Steps("pictures", len(missing)) as steps:
        for number in _run([group for jobs in by_shard.values() for group in _pieces(jobs)], 1 if few else workers):
            for _ in range(number):
                steps.advance()


def read_facts(stem: Path) -> dict[str, Any]:
    """What is known of a sample's pictures: `frames`, `views`, `view`, `views_frame`, `normals`, `overlap`.

    Raises:
        FormatError: if that is damaged.
    """
    path = _beside(stem, ".json")
    try:
        return dict(json.loads(path.read_bytes()))
    except ValueError as error:
        raise FormatError(f"{path}: damaged ({error}): delete it and make the report again") from error


def remove_others(folder: Path, stems: Mapping[str, str]) -> None:
    """Delete pictures of samples that the output does not hold any more, and what killed runs left.

    Args:
        folder: of the report.
        stems: key -> the stem of its current pictures, for every sample of the output.
    """
    for path in sorted((folder / PICTURES_FOLDER).glob("*/*")):
        current = stems.get(path.name.split(".")[0], "").rpartition("/")[2]
        if path.name.endswith(".tmp"):
            # A younger one may belong to a report that is being written now.
            if time.time() - path.stat().st_mtime > _FORGOTTEN_S:
                path.unlink(missing_ok=True)
        elif not current or not path.name.startswith(f"{current}."):
            path.unlink(missing_ok=True)


def _pieces(jobs: list[PictureJob]) -> list[list[PictureJob]]:
    return [jobs[start : start + _PIECE] for start in range(0, len(jobs), _PIECE)]


def _run(groups: list[list[PictureJob]], workers: int) -> Iterator[int]:
    workers = min(workers, len(groups))
    if workers < 2:
        yield from map(_picture_samples, groups)
        return
    # A forked child would inherit the state of numba's threads without the threads.
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(_picture_samples, groups)


def _picture_samples(jobs: Sequence[PictureJob]) -> int:
    reader = ShardReader(jobs[0].shard)
    for job in jobs:
        try:
            _picture_sample(reader, job)
        except (FormatError, KeyError, OSError) as error:
            raise FormatError(f"{job.shard}: {job.key} cannot be pictured ({error}): see `helix4d verify`") from error
    return len(jobs)


def _picture_sample(reader: ShardReader, job: PictureJob) -> None:
    clip = reader.clip(job.key)
    frames, views = clip["frames"], clip["views"]
    cameras = _cameras(reader, job.key, views)
    view = max(range(views), key=lambda number: _frontness(cameras[number]), default=None)
    passed = view is not None and _normal(view, 0) in reader.members(job.key)
    # An emerging thing is hard to see in its first frame.
    fullest = int(np.argmax(clip["voxels"]))
    wanted = [_vxz(frame) for frame in range(frames)] + [_webp(number, fullest) for number in range(views)]
    if view is not None:
        wanted += [_webp(view, frame) for frame in range(frames)]
        wanted += [_normal(view, frame) for frame in range(frames) if passed]
    found = reader.read_members(job.key, wanted)  # all at once: from afar each would cost a journey
    if view is None:
        camera, stored, box = orbit_camera(_FRONT_AZIMUTH, _FRONT_ELEVATION, CELL), [], (0, 0, CELL, CELL)
    else:
        stored = [_image(found[_webp(view, frame)]) for frame in range(frames)]
        box = _box(stored)
        camera = _cropped(cameras[view], box)
    images, normals, ovoxels, overlap = [], [], [], []
    for frame in range(frames):
        drawn = picture_ovoxel(decode_vxz(found[_vxz(frame)]), camera)
        ovoxels.append(drawn.rgba)
        image = drawn.rgba if view is None else _shrunk_image(stored[frame], box)
        images.append(image)
        normal = drawn.normal
        if view is not None and passed:
            normal = _shrunk_normal(decode_normal(found[_normal(view, frame)]), box)
        normals.append(_colored(normal, image[..., 3]))
        overlap.append(_overlap(image, drawn.rgba))
    whole = (0, 0, clip["image_size"], clip["image_size"])
    around = [_shrunk_image(_image(found[_webp(number, fullest)]), whole) for number in range(views)]
    write_bytes(_beside(job.stem, ".strip.webp"), _sheet(images))
    write_bytes(_beside(job.stem, ".sheet.webp"), _sheet([*normals, *ovoxels, *around]))
    facts = {
        "frames": frames,
        "views": views,
        "view": view,
        "views_frame": fullest,
        "normals": "pass" if passed else "ovoxels",
        "overlap": None if view is None else overlap,
    }
    write_bytes(_beside(job.stem, ".json"), canonical_json(facts))


def _beside(stem: Path, suffix: str) -> Path:
    # The stem has a dot of its own, so `with_suffix` would cut the hash.
    return stem.with_name(stem.name + suffix)


def _vxz(frame: int) -> str:
    return f"frame_{frame:02d}.vxz"


def _webp(view: int, frame: int) -> str:
    return f"view_{view:02d}_frame_{frame:02d}.webp"


def _normal(view: int, frame: int) -> str:
    return f"view_{view:02d}_frame_{frame:02d}.normal.exr"


def _cameras(reader: ShardReader, key: str, views: int) -> list[Camera]:
    found = reader.read_members(key, [f"view_{view:02d}.json" for view in range(views)])
    return [Camera.from_json(json.loads(data)["camera"]) for data in found.values()]


def _frontness(camera: Camera) -> float:
    """How close a camera stands to where people look from: the front, a little from the side and above."""
    front = orbit_camera(_FRONT_AZIMUTH, _FRONT_ELEVATION, 1).position
    return float(camera.position @ front / np.linalg.norm(camera.position))


def _image(webp: bytes) -> Image.Image:
    with Image.open(io.BytesIO(webp)) as image:
        # The mode in which Pillow's filters weight colors by alpha.
        return image.convert("RGBA").convert("RGBa")


def _box(images: Sequence[Image.Image]) -> _Box:
    """The square that holds what all frames of a view show, with a margin; inside the image."""
    boxes = [found for image in images if (found := image.getchannel("a").getbbox())]
    size = images[0].width
    if not boxes:
        return 0, 0, size, size
    low, high = np.min(boxes, axis=0)[:2], np.max(boxes, axis=0)[2:]
    side = min(round(_MARGIN * int((high - low).max())) + 2, size)
    left, top = (int(corner) for corner in np.clip((low + high - side) // 2, 0, size - side))
    return left, top, left + side, top + side


def _cropped(camera: Camera, box: _Box) -> Camera:
    """The camera of a square part of the image, at CELL pixels."""
    corner = np.array([[0, 0, box[0]], [0, 0, box[1]], [0, 0, 0]])
    return resized(Camera(camera.intrinsics - corner, camera.extrinsics, box[2] - box[0]), CELL)


def _shrunk_image(image: Image.Image, box: _Box) -> np.ndarray:
    """(CELL, CELL, 4) uint8 of a part of an image with weighted colors."""
    return np.asarray(image.resize((CELL, CELL), Image.Resampling.BILINEAR, box).convert("RGBA"))


def _shrunk_normal(normal: np.ndarray, box: _Box) -> np.ndarray:
    """A part of (H, W, 3) to (CELL, CELL, 3), unit length again."""
    planes = [Image.fromarray(np.ascontiguousarray(normal[..., axis])) for axis in range(3)]
    small = np.stack(
        [np.asarray(plane.resize((CELL, CELL), Image.Resampling.BILINEAR, box)) for plane in planes], axis=-1
    )
    length = np.linalg.norm(small, axis=-1, keepdims=True)
    return np.asarray(np.where(length > 0, small / np.maximum(length, 1e-12), 0))


def _colored(normal: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Normals as colors: -1 to 1 becomes 0 to 255; seen through the alpha of the image."""
    color = np.rint((normal * 0.5 + 0.5) * 255).astype(np.uint8)
    found = np.abs(normal).max(axis=-1) > 0
    return np.concatenate([color, np.where(found, alpha, 0)[..., None].astype(np.uint8)], axis=-1)


def _overlap(a: np.ndarray, b: np.ndarray) -> float | None:
    """Intersection over union of two silhouettes; None where both are empty."""
    one, other = a[..., 3] > 127, b[..., 3] > 127
    union = int((one | other).sum())
    return round(int((one & other).sum()) / union, 4) if union else None


def _sheet(cells: Sequence[np.ndarray]) -> bytes:
    """Cells row by row as WebP."""
    columns = min(COLUMNS, len(cells))
    rows = -(-len(cells) // columns)
    sheet = np.zeros((rows * CELL, columns * CELL, 4), np.uint8)
    for number, cell in enumerate(cells):
        row, column = divmod(number, columns)
        sheet[row * CELL : (row + 1) * CELL, column * CELL : (column + 1) * CELL] = cell
    stream = io.BytesIO()
    Image.fromarray(sheet, "RGBA").save(stream, "WEBP", quality=_QUALITY, method=4)
    return stream.getvalue()
