"""Read a video as RGBA frames: a video file, a folder of images, or an animated WebP or GIF.

Frames that have alpha keep it. For other videos a rembg matting model removes the background; its masks are smoothed
over time to suppress single-frame flicker.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageSequence, UnidentifiedImageError

from helix4d.core import ConfigError, FormatError
from helix4d.core.extras import missing_package
from helix4d.model.conditioning.images import SAMPLING_ALPHA

MAX_PIXELS = 1 << 26
"""Maximum number of pixels of a frame; larger frames are refused before decoding."""
MAX_FRAMES = 1 << 14

_STILLS = {".png", ".webp", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"}
_ANIMATIONS = {".webp", ".gif", ".png", ".apng"}

Matting = Callable[[Image.Image], np.ndarray]
"""Maps an RGB image to the alpha of its foreground, uint8 (H, W)."""


@dataclass(frozen=True, eq=False)
class Video:
    """Frames sampled from a video, all of one size.

    Attributes:
        frames: RGBA images with straight alpha.
        indices: indices of the frames in the source.
        source_frames: number of frames in the source.
        matted: whether alpha was computed by matting.
    """

    frames: tuple[Image.Image, ...]
    indices: tuple[int, ...]
    source_frames: int
    matted: bool


def read_video(path: Path, frames: int | None = 16, matting: Matting | None = None) -> Video:
    """Read evenly spaced frames of a video, both ends included, and remove their background if they have no alpha.

    Args:
        path: a video file, a folder of images in natural order, or an animated WebP, PNG or GIF.
        frames: number of frames; None, or a source with fewer frames, selects all.
        matting: function that computes the alpha; called only if no frame has alpha.

    Raises:
        ConfigError: if the file does not exist, the source has fewer than two frames, the frames have no alpha and
            `matting` is None, or the first frame has no foreground.
        FormatError: if the source cannot be decoded.
    """
    if not path.exists():
        raise ConfigError(f"{path}: no such file or folder")
    if frames is not None and frames < 2:
        raise ConfigError(f"frames is {frames}: must be at least 2")
    count = sum(1 for _ in _decode(path))
    if count < 2:
        available = "no frames" if count == 0 else "only one frame"
        raise ConfigError(f"{path}: {available}; at least two frames are needed. For a still, use TRELLIS.2 itself")
    indices = spaced_frames(count, frames)
    chosen = set(indices)
    images = [image for number, image in enumerate(_decode(path)) if number in chosen]
    sizes = sorted({image.size for image in images})
    if len(sizes) > 1:
        raise FormatError(f"{path}: frames have different sizes, such as {sizes[0]} and {sizes[-1]}")
    matted = all(np.asarray(image)[..., 3].min() == 255 for image in images)
    if matted:
        if matting is None:
            raise ConfigError(f"{path}: no frame has alpha: choose a matting model to remove the background")
        masks = smooth_masks(np.stack([matting(image.convert("RGB")) for image in images]))
        images = [_with_alpha(image, mask) for image, mask in zip(images, masks, strict=True)]
    if int(np.asarray(images[0])[..., 3].max()) <= SAMPLING_ALPHA:
        reason = "matting found no foreground" if matted else "its alpha is empty"
        raise ConfigError(f"{path}: no object in the first frame ({reason}): all other frames are generated from it")
    return Video(tuple(images), tuple(indices), count, matted)


def spaced_frames(count: int, frames: int | None) -> list[int]:
    """Return the indices of `frames` evenly spaced frames out of `count`, both ends included, or of all if fewer."""
    if frames is None or count <= frames:
        return list(range(count))
    return [int(i) for i in np.linspace(0, count - 1, frames).round()]


def smooth_masks(masks: np.ndarray) -> np.ndarray:
    """Replace each pixel of uint8 (T, H, W) by the median of itself and its two neighbors in time, except at the ends.

    Single-frame flicker (a hole, a speck) disappears; moving edges stay sharp.
    """
    smoothed = masks.copy()
    if len(masks) > 2:
        before, here, after = masks[:-2], masks[1:-1], masks[2:]
        smoothed[1:-1] = np.maximum(np.minimum(before, here), np.minimum(np.maximum(before, here), after))
    return smoothed


def rembg_matting(model: str, threads: int | None = None) -> Matting:
    """Load a rembg matting model.

    Args:
        model: model name, such as u2net, isnet-general-use or birefnet-general; or the name of one of rembg's
            `_custom` models and an ONNX file of that architecture, such as `dis_custom:my_model.onnx`.
        threads: number of CPU threads; by default $OMP_NUM_THREADS, else onnxruntime's choice.

    Raises:
        ConfigError: if rembg is not installed, the model is unknown or runs on a remote server, or the model cannot be
            downloaded or read.
    """
    try:
        import onnxruntime  # rembg exits the process if it is missing
        from rembg import remove
        from rembg.sessions import sessions
    except ImportError as error:
        raise ConfigError(f"{missing_package('removing backgrounds', 'rembg')}. Or use frames with alpha") from error
    name, colon, file = model.partition(":")
    kind = sessions.get(name)
    if kind is None or not kind.is_local():
        local = ", ".join(sorted(known for known, session in sessions.items() if session.is_local()))
        reason = "unknown to rembg" if kind is None else "not run locally: rembg sends images to a server"
        raise ConfigError(f"matting model {name!r} is {reason}; local models: {local}")
    if name.endswith("_custom") != bool(colon):
        raise ConfigError(f"matting model {model!r}: must be NAME, or NAME_custom:FILE for your own model")
    options = onnxruntime.SessionOptions()
    options.use_deterministic_compute = True
    options.intra_op_num_threads = threads or int(os.environ.get("OMP_NUM_THREADS", 0))
    if colon:
        # rembg accepts only files in its own folder, a safeguard for servers.
        kind = type(
            kind.__name__, (kind,), {"download_models": classmethod(lambda cls, **options: options["model_path"])}
        )
    try:
        session = kind(name, options, **({"model_path": file} if colon else {}))
    except Exception as error:  # neither onnxruntime nor the download has a base class for its errors
        raise ConfigError(f"matting model {model!r} cannot be loaded: {error}") from error

    def alpha(image: Image.Image) -> np.ndarray:
        return np.asarray(remove(image, session=session, only_mask=True).convert("L"), np.uint8)

    return alpha


def _decode(path: Path) -> Iterator[Image.Image]:
    """Yield the frames of a source as RGBA images."""
    if path.is_dir():
        for number, file in enumerate(sorted((p for p in path.iterdir() if p.suffix.lower() in _STILLS), key=_natural)):
            _check_count(number, path)
            yield from _pictures(file, first_only=True)
    elif path.suffix.lower() in _ANIMATIONS:
        yield from _pictures(path, first_only=False)
    else:
        yield from _film(path)


def _pictures(path: Path, first_only: bool) -> Iterator[Image.Image]:
    try:
        with Image.open(path) as image:
            _check_size(image.width, image.height, path)
            for number, frame in enumerate(ImageSequence.Iterator(image)):
                _check_count(number, path)
                yield frame.convert("RGBA")
                if first_only:
                    return
    except (OSError, UnidentifiedImageError, ValueError, SyntaxError) as error:
        raise FormatError(f"{path}: cannot read image ({error})") from error


def _film(path: Path) -> Iterator[Image.Image]:
    try:
        import av
    except ImportError as error:
        raise missing_package(f"{path}: reading video files", "av") from error
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise FormatError(f"{path}: no video stream")
            stream = container.streams.video[0]
            _check_size(stream.codec_context.width, stream.codec_context.height, path)
            for number, frame in enumerate(container.decode(stream)):
                _check_count(number, path)
                yield Image.fromarray(frame.to_ndarray(format="rgba"), "RGBA")
    except av.FFmpegError as error:
        raise FormatError(f"{path}: cannot decode video ({error})") from error


def _check_size(width: int, height: int, path: Path) -> None:
    if width * height > MAX_PIXELS:
        raise FormatError(f"{path}: frames of {width} × {height} pixels exceed the limit of {MAX_PIXELS:,} pixels")


def _check_count(number: int, path: Path) -> None:
    if number >= MAX_FRAMES:
        raise FormatError(f"{path}: more than {MAX_FRAMES:,} frames: trim the video first")


def _natural(path: Path) -> list[tuple[int, int, str]]:
    """Sort key that orders frame_2 before frame_10."""
    parts = re.split(r"(\d+)", path.name.lower())
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts]


def _with_alpha(image: Image.Image, alpha: np.ndarray) -> Image.Image:
    result = image.copy()
    result.putalpha(Image.fromarray(alpha, "L"))
    return result
