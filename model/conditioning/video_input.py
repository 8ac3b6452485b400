"""A video in any common form becomes RGBA frames: a file, a folder of images, an animated WebP or GIF.

Frames that carry alpha keep it. Others lose their background to a matting model of rembg, whose masks are smoothed over
time, so that a part that one frame's mask forgets does not flicker.
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
from helix4d.model.conditioning.images import SAMPLING_ALPHA

MAX_PIXELS = 1 << 26
"""Of one frame; a decoder is not asked for more."""
MAX_FRAMES = 1 << 14

_STILLS = {".png", ".webp", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"}
_ANIMATIONS = {".webp", ".gif", ".png", ".apng"}

Matting = Callable[[Image.Image], np.ndarray]
"""An RGB image to its foreground's alpha, uint8 (H, W)."""


@dataclass(frozen=True, eq=False)
class Video:
    """Frames of one size.

    Attributes:
        frames: RGBA images, straight alpha.
        indices: which frames of the source they are.
        source_frames: how many the source has.
        matted: whether alpha was computed here.
    """

    frames: tuple[Image.Image, ...]
    indices: tuple[int, ...]
    source_frames: int
    matted: bool


def read_video(path: Path, frames: int | None = 16, matting: Matting | None = None) -> Video:
    """Read a video, choose frames spaced evenly with both ends included, and give them alpha.

    Args:
        path: a video file, a folder of images in natural order, or an animated WebP, PNG or GIF.
        frames: how many; None takes all. A source with fewer gives all it has.
        matting: what removes the background where no frame has alpha; asked for nothing otherwise.

    Raises:
        ConfigError: if there is no such file, the source has a single frame, the frames have no alpha and `matting`
            is None, or nothing is left of the first frame.
        FormatError: if it cannot be decoded.
    """
    if not path.exists():
        raise ConfigError(f"{path}: no such file or folder")
    if frames is not None and frames < 2:
        raise ConfigError(f"frames is {frames}: a video has at least two")
    count = sum(1 for _ in _decode(path))
    if count < 2:
        found = "no frame" if count == 0 else "a single frame"
        raise ConfigError(f"{path}: {found}; a video needs two at least, and a still is TRELLIS.2's own case")
    wanted = spaced_frames(count, frames)
    chosen = set(wanted)
    images = [image for number, image in enumerate(_decode(path)) if number in chosen]
    sizes = sorted({image.size for image in images})
    if len(sizes) > 1:
        raise FormatError(f"{path}: frames of different sizes, such as {sizes[0]} and {sizes[-1]}")
    matted = all(np.asarray(image)[..., 3].min() == 255 for image in images)
    if matted:
        if matting is None:
            raise ConfigError(f"{path}: no frame has transparency: name a matting model that removes the background")
        masks = smooth_masks(np.stack([matting(image.convert("RGB")) for image in images]))
        images = [_with_alpha(image, mask) for image, mask in zip(images, masks, strict=True)]
    if int(np.asarray(images[0])[..., 3].max()) <= SAMPLING_ALPHA:
        how = "matting found nothing in it" if matted else "its alpha is empty"
        raise ConfigError(f"{path}: the first frame shows no object ({how}): everything else is built from it")
    return Video(tuple(images), tuple(wanted), count, matted)


def spaced_frames(count: int, frames: int | None) -> list[int]:
    """Indices of `frames` of `count` frames, spaced evenly, both ends included; all where there are no more."""
    if frames is None or count <= frames:
        return list(range(count))
    return [int(i) for i in np.linspace(0, count - 1, frames).round()]


def smooth_masks(masks: np.ndarray) -> np.ndarray:
    """uint8 (T, H, W) to the median of each pixel and its two neighbors in time; the ends keep their own.

    What flickers for one frame only (a hole, a speck) disappears; an edge that moves on stays sharp.
    """
    smoothed = masks.copy()
    if len(masks) > 2:
        before, here, after = masks[:-2], masks[1:-1], masks[2:]
        smoothed[1:-1] = np.maximum(np.minimum(before, here), np.minimum(np.maximum(before, here), after))
    return smoothed


def rembg_matting(model: str, threads: int | None = None) -> Matting:
    """A model of rembg.

    Args:
        model: its name, such as u2net, isnet-general-use or birefnet-general; or the name of one of rembg's `_custom`
            models and an ONNX file of that architecture, such as `dis_custom:my_model.onnx`.
        threads: that it computes with on a CPU; None leaves it to $OMP_NUM_THREADS, else to onnxruntime.

    Raises:
        ConfigError: if rembg is not installed, does not know the model, or would send images elsewhere for it; if the
            model cannot be fetched or read.
    """
    try:
        import onnxruntime  # without it rembg ends the process
        from rembg import remove
        from rembg.sessions import sessions
    except ImportError as error:
        raise ConfigError("removing backgrounds needs rembg: pip install 'rembg[cpu]', or give frames alpha") from error
    name, colon, file = model.partition(":")
    kind = sessions.get(name)
    if kind is None or not kind.is_local():
        local = ", ".join(sorted(known for known, session in sessions.items() if session.is_local()))
        what = "has no model" if kind is None else "sends images to a server for"
        raise ConfigError(f"rembg {what} {name!r}; those that run here: {local}")
    if name.endswith("_custom") != bool(colon):
        raise ConfigError(f"matting model {model!r}: a name alone, or NAME_custom:FILE for a model of your own")
    options = onnxruntime.SessionOptions()
    options.use_deterministic_compute = True
    options.intra_op_num_threads = threads or int(os.environ.get("OMP_NUM_THREADS", 0))
    if colon:
        # rembg takes files of its own folder only: a server's worry.
        kind = type(kind.__name__, (kind,), {"download_models": classmethod(lambda cls, **given: given["model_path"])})
    try:
        session = kind(name, options, **({"model_path": file} if colon else {}))
    except Exception as error:  # onnxruntime's errors have no base of their own, nor have those of downloads
        raise ConfigError(f"matting model {model!r} cannot be loaded: {error}") from error

    def alpha(image: Image.Image) -> np.ndarray:
        return np.asarray(remove(image, session=session, only_mask=True).convert("L"), np.uint8)

    return alpha


def _decode(path: Path) -> Iterator[Image.Image]:
    """The frames of a source as RGBA, one after the other."""
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
        raise FormatError(f"{path}: not an image that can be read ({error})") from error


def _film(path: Path) -> Iterator[Image.Image]:
    try:
        import av
    except ImportError as error:
        raise ConfigError(f"{path}: reading video files needs the package av (pip install av)") from error
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise FormatError(f"{path}: holds no video stream")
            stream = container.streams.video[0]
            _check_size(stream.codec_context.width, stream.codec_context.height, path)
            for number, frame in enumerate(container.decode(stream)):
                _check_count(number, path)
                yield Image.fromarray(frame.to_ndarray(format="rgba"), "RGBA")
    except av.FFmpegError as error:
        raise FormatError(f"{path}: not a video that can be decoded ({error})") from error


def _check_size(width: int, height: int, path: Path) -> None:
    if width * height > MAX_PIXELS:
        raise FormatError(f"{path}: frames of {width} × {height} pixels; {MAX_PIXELS:,} pixels are the limit")


def _check_count(number: int, path: Path) -> None:
    if number >= MAX_FRAMES:
        raise FormatError(f"{path}: more than {MAX_FRAMES:,} frames: cut the part that you want first")


def _natural(path: Path) -> list[tuple[int, int, str]]:
    """frame_2 before frame_10."""
    parts = re.split(r"(\d+)", path.name.lower())
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts]


def _with_alpha(image: Image.Image, alpha: np.ndarray) -> Image.Image:
    result = image.copy()
    result.putalpha(Image.fromarray(alpha, "L"))
    return result
