"""Makes the pictures of a report: for each sample a strip of its frames, and a sheet of normals, O-Voxels and views.

A picture's name contains a hash of its inputs, so existing pictures are reused. Files are written atomically, a
sample's JSON last.
"""

from __future__ import annotations

import io
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from helix4d.core import ConfigError, FormatError, canonical_json, sha256_json, write_bytes
from helix4d.core.documents import parse_json
from helix4d.core.pool import map_processes
from helix4d.core.storage import is_fault
from helix4d.curation.places.folder import Place
from helix4d.curation.shards.layout import PICTURES_FOLDER
from helix4d.curation.shards.members import decode_image
from helix4d.curation.shards.reader import ShardReader
from helix4d.curation.work.progress import Steps
from helix4d.render import Camera, orbit_camera, picture_ovoxel, resized
from helix4d.render.scene.passes import decode_normal
from helix4d.voxelize import decode_vxz

log = logging.getLogger("helix4d.curation")

CELL = 160
"""Pixels per side of a picture."""
COLUMNS = 8
_VERSION = 1
"""Increase it when pictures change."""
_QUALITY = 80
_FRONT_AZIMUTH, _FRONT_ELEVATION = -60.0, 20.0
_MARGIN = 1.1
_FORGOTTEN_S = 3600.0
_PIECE = 4
"""Samples of a shard per task of a process."""
_FEW_VOXELS = 40_000_000
"""Up to this many voxels, drawing takes no longer than starting other processes."""


_Box = tuple[int, int, int, int]
"""Left, top, right and bottom of a part of an image, in pixels."""


@dataclass(frozen=True)
class PictureJob:
    """A sample to picture.

    Attributes:
        shard: path or URL of the `.tar`.
        key: key of the sample.
        voxels: number of voxels over all frames.
        stem: path of the pictures without suffixes (`.strip.webp`, `.sheet.webp`, `.json`).
    """

    shard: Place
    key: str
    voxels: int
    stem: Path


def picture_stem(key: str, sample: Mapping[str, Any], sidecar: Mapping[str, Any]) -> str:
    """Return the path of a sample's pictures in the report, without suffixes. It changes with their content."""
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
    """Make the pictures that do not exist yet.

    Raises:
        FormatError: if a shard is damaged.
        StoreError: if a URL cannot be read.
    """
    missing = [job for job in jobs if not _beside(job.stem, ".json").exists()]
    if not missing:
        return
    by_shard: dict[Place, list[PictureJob]] = {}
    for job in missing:
        by_shard.setdefault(job.shard, []).append(job)
    few = sum(job.voxels for job in missing) < _FEW_VOXELS
    with Steps("pictures", len(missing)) as steps:
        groups = [group for jobs in by_shard.values() for group in _pieces(jobs)]
        for number in map_processes(_picture_samples, groups, 1 if few else workers):
            for _ in range(number):
                steps.advance()


def read_facts(stem: Path) -> dict[str, Any]:
    """Return the facts of a sample's pictures: `frames`, `views`, `view`, `views_frame`, `normals`, `overlap`.

    Raises:
        FormatError: if their JSON is damaged.
    """
    path = _beside(stem, ".json")
    facts = parse_json(path.read_bytes(), path, "picture's description")
    if not isinstance(facts, dict):
        raise FormatError(f"{path}: damaged: delete it and rerun `helix4d report`")
    return facts


def remove_others(folder: Path, stems: Mapping[str, str]) -> None:
    """Delete pictures of samples that are no longer in the output, and temporary files of killed runs.

    Args:
        folder: folder of the report.
        stems: key -> stem of the current pictures, for every sample of the output.
    """
    for path in sorted((folder / PICTURES_FOLDER).glob("*/*")):
        current = stems.get(path.name.split(".")[0], "").rpartition("/")[2]
        if path.name.endswith(".tmp"):
            # A newer one may belong to a report that is being written now.
            if time.time() - path.stat().st_mtime > _FORGOTTEN_S:
                path.unlink(missing_ok=True)
        elif not current or not path.name.startswith(f"{current}."):
            path.unlink(missing_ok=True)


def _pieces(jobs: list[PictureJob]) -> list[list[PictureJob]]:
    return [jobs[start : start + _PIECE] for start in range(0, len(jobs), _PIECE)]


def _picture_samples(jobs: Sequence[PictureJob]) -> int:
    reader = ShardReader(jobs[0].shard)
    for job in jobs:
        try:
            _picture_sample(reader, job)
        except (FormatError, KeyError, OSError) as error:
            if is_fault(error):
                raise
            raise FormatError(f"{job.shard}: cannot draw {job.key} ({error}): run `helix4d verify`") from error
    return len(jobs)


def _picture_sample(reader: ShardReader, job: PictureJob) -> None:
    clip = reader.clip(job.key)
    frames, views = clip["frames"], clip["views"]
    cameras = _cameras(reader, job.key, views)
    view = max(range(views), key=lambda number: _frontness(cameras[number]), default=None)
    passed = view is not None and _normal(view, 0) in reader.members(job.key)
    # An emerging object is hard to see in its first frame.
    fullest = int(np.argmax(clip["voxels"]))
    wanted = [_vxz(frame) for frame in range(frames)] + [_webp(number, fullest) for number in range(views)]
    if view is not None:
        wanted += [_webp(view, frame) for frame in range(frames)]
        wanted += [_normal(view, frame) for frame in range(frames) if passed]
    found = reader.read_members(job.key, wanted)  # all at once: from a URL, each would cost a round trip

    def image_of(view: int, frame: int) -> Image.Image:
        return _image(found[_webp(view, frame)], f"{job.key}.{_webp(view, frame)}", clip["image_size"])

    if view is None:
        camera, stored, box = orbit_camera(_FRONT_AZIMUTH, _FRONT_ELEVATION, CELL), [], (0, 0, CELL, CELL)
    else:
        stored = [image_of(view, frame) for frame in range(frames)]
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
    around = [_shrunk_image(image_of(number, fullest), whole) for number in range(views)]
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
    # The stem contains a dot, so `with_suffix` would cut off the hash.
    return stem.with_name(stem.name + suffix)


def _vxz(frame: int) -> str:
    return f"frame_{frame:02d}.vxz"


def _webp(view: int, frame: int) -> str:
    return f"view_{view:02d}_frame_{frame:02d}.webp"


def _normal(view: int, frame: int) -> str:
    return f"view_{view:02d}_frame_{frame:02d}.normal.exr"


def _cameras(reader: ShardReader, key: str, views: int) -> list[Camera]:
    found = reader.read_members(key, [f"view_{view:02d}.json" for view in range(views)])
    return [camera_of(data, f"{key}.{suffix}") for suffix, data in found.items()]


def camera_of(data: bytes, where: str) -> Camera:
    """Return the camera of a view from its JSON member.

    Raises:
        FormatError: if it does not describe a camera.
    """
    view = parse_json(data, where, "view")
    try:
        return Camera.from_json(view["camera"])
    except (KeyError, TypeError, ValueError, IndexError, ConfigError) as error:
        raise FormatError(f"{where}: not a valid camera ({type(error).__name__}: {error})") from error


def _frontness(camera: Camera) -> float:
    """Return how close a camera is to the usual viewpoint: the front, a little from the side and from above."""
    front = orbit_camera(_FRONT_AZIMUTH, _FRONT_ELEVATION, 1).position
    return float(camera.position @ front / np.linalg.norm(camera.position))


def _image(webp: bytes, where: str, image_size: int) -> Image.Image:
    # In this mode, Pillow's filters weight colors by alpha.
    return decode_image(webp, where, image_size).convert("RGBA").convert("RGBa")


def _box(images: Sequence[Image.Image]) -> _Box:
    """Return the square inside the image that contains the object in all frames of a view, with a margin."""
    boxes = [found for image in images if (found := image.getchannel("a").getbbox())]
    size = images[0].width
    if not boxes:
        return 0, 0, size, size
    low, high = np.min(boxes, axis=0)[:2], np.max(boxes, axis=0)[2:]
    side = min(round(_MARGIN * int((high - low).max())) + 2, size)
    left, top = (int(corner) for corner in np.clip((low + high - side) // 2, 0, size - side))
    return left, top, left + side, top + side


def _cropped(camera: Camera, box: _Box) -> Camera:
    """Return the camera of a square part of the image, at CELL pixels."""
    corner = np.array([[0, 0, box[0]], [0, 0, box[1]], [0, 0, 0]])
    return resized(Camera(camera.intrinsics - corner, camera.extrinsics, box[2] - box[0]), CELL)


def _shrunk_image(image: Image.Image, box: _Box) -> np.ndarray:
    """Resize a part of an image with weighted colors to (CELL, CELL, 4) uint8."""
    return np.asarray(image.resize((CELL, CELL), Image.Resampling.BILINEAR, box).convert("RGBA"))


def _shrunk_normal(normal: np.ndarray, box: _Box) -> np.ndarray:
    """Resize a part of (H, W, 3) normals to (CELL, CELL, 3), normalized again."""
    planes = [Image.fromarray(np.ascontiguousarray(normal[..., axis])) for axis in range(3)]
    small = np.stack(
        [np.asarray(plane.resize((CELL, CELL), Image.Resampling.BILINEAR, box)) for plane in planes], axis=-1
    )
    length = np.linalg.norm(small, axis=-1, keepdims=True)
    return np.asarray(np.where(length > 0, small / np.maximum(length, 1e-12), 0))


def _colored(normal: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Return normals as RGBA colors: -1 to 1 becomes 0 to 255, with the alpha of the image."""
    color = np.rint((normal * 0.5 + 0.5) * 255).astype(np.uint8)
    found = np.abs(normal).max(axis=-1) > 0
    return np.concatenate([color, np.where(found, alpha, 0)[..., None].astype(np.uint8)], axis=-1)


def _overlap(a: np.ndarray, b: np.ndarray) -> float | None:
    """Return the intersection over union of two silhouettes, None if both are empty."""
    one, other = a[..., 3] > 127, b[..., 3] > 127
    union = int((one | other).sum())
    return round(int((one & other).sum()) / union, 4) if union else None


def _sheet(cells: Sequence[np.ndarray]) -> bytes:
    """Arrange cells row by row and encode them as WebP."""
    columns = min(COLUMNS, len(cells))
    rows = -(-len(cells) // columns)
    sheet = np.zeros((rows * CELL, columns * CELL, 4), np.uint8)
    for number, cell in enumerate(cells):
        row, column = divmod(number, columns)
        sheet[row * CELL : (row + 1) * CELL, column * CELL : (column + 1) * CELL] = cell
    stream = io.BytesIO()
    Image.fromarray(sheet, "RGBA").save(stream, "WEBP", quality=_QUALITY, method=4)
    return stream.getvalue()
