"""Read a video as RGBA frames: a video file, a folder of images, or an animated WebP, PNG or GIF.

Frames are selected by their presentation times. Frames that have alpha keep it. For other videos a rembg matting model
removes the background; its masks are smoothed over time to suppress single-frame flicker.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from helix4d.core import ConfigError, FormatError
from helix4d.core.extras import missing_package
from helix4d.model.conditioning.film import film_frames
from helix4d.model.conditioning.images import GIVEN_ALPHA, MATTED_ALPHA
from helix4d.model.conditioning.pictures import ANIMATIONS, animation_frames, folder_frames
from helix4d.model.conditioning.source_frame import SourceFrame

log = logging.getLogger("helix4d.model")

Matting = Callable[[Image.Image], np.ndarray]
"""Maps an RGB image to the alpha of its foreground, uint8 (H, W)."""


@dataclass(frozen=True, eq=False)
class Video:
    """Frames sampled from a video, all of one size.

    Attributes:
        frames: RGBA images with straight alpha, upright.
        indices: indices of the frames in the source.
        source_frames: number of frames in the source, or up to the end of the window.
        matted: whether alpha was computed by matting.
        times_s: presentation times of the frames in seconds since the source's first frame; empty if it has none.
    """

    frames: tuple[Image.Image, ...]
    indices: tuple[int, ...]
    source_frames: int
    matted: bool
    times_s: tuple[float, ...] = ()

    @property
    def alpha_threshold(self) -> int:
        """Alpha above which a pixel belongs to the object: all that shows, unless matting left a veil."""
        return MATTED_ALPHA if self.matted else GIVEN_ALPHA


def read_video(
    path: Path,
    frames: int | None = 16,
    matting: Matting | None = None,
    *,
    start_s: float = 0.0,
    fps: float | None = None,
) -> Video:
    """Select frames of a video and remove their background if they have no alpha.

    Args:
        path: a video file, a folder of images in natural order, or an animated WebP, PNG or GIF.
        frames: number of frames; None selects all from `start_s` on. A source with fewer frames gives fewer.
        matting: function that computes the alpha; called only if no frame has alpha.
        start_s: time of the first frame in seconds since the source's first.
        fps: frames per second, so that the frames span a window of the source, and of the images of a folder, which
            have no times. None spreads the frames evenly between `start_s` and the end, both included.

    Raises:
        ConfigError: if the file does not exist, fewer than two frames are selected, the frames have no alpha and
            `matting` is None, or nothing shows in the first frame.
        FormatError: if the source cannot be decoded.
    """
    if not path.exists():
        raise ConfigError(f"{path}: no such file or folder")
    if frames is not None and frames < 2:
        raise ConfigError(f"frames is {frames}: must be at least 2")
    if not 0 <= start_s < np.inf or (fps is not None and not 0 < fps < np.inf):
        raise ConfigError(f"start is {start_s} and fps {fps}: must be at least 0, and above 0 or none")
    until_s = np.inf if frames is None or fps is None else start_s + (frames - 1) / fps
    times = _times(path, until_s, start_s, fps)
    if len(times) < 2:
        available = "no frames" if len(times) == 0 else "only one frame"
        raise ConfigError(f"{path}: {available}; at least two frames are needed. For a still, use TRELLIS.2 itself")
    indices = spaced_frames(times, frames, start_s, fps)
    if len(indices) < 2:
        raise ConfigError(
            f"{path}: {len(indices)} frames from {start_s:g} s on, where the last is at {times[-1]:.3f} s: at least "
            "two are needed; choose an earlier start or a higher fps"
        )
    if repeated := len(indices) - len(set(indices)):
        log.warning("%s: %d of %d frames repeat, because it has fewer there", path, repeated, len(indices))
    images = _images(path, indices)
    matted = all(np.asarray(image)[..., 3].min() == 255 for image in images)
    if matted:
        images = _matted(images, matting, path)
    timed = fps is not None or not path.is_dir()
    times_s = tuple(float(times[i]) for i in indices) if timed else ()
    video = Video(tuple(images), tuple(indices), len(times), matted, times_s)
    if int(np.asarray(images[0])[..., 3].max()) <= video.alpha_threshold:
        reason = "matting found no foreground" if matted else "its alpha is zero everywhere"
        raise ConfigError(f"{path}: no object in the first frame ({reason}): all other frames are generated from it")
    return video


def spaced_frames(times: np.ndarray, frames: int | None, start_s: float = 0.0, fps: float | None = None) -> list[int]:
    """Select frames at evenly spaced times.

    Args:
        times: float (N,), N ≥ 2, presentation times of the source's frames, not decreasing.
        frames: number of frames; None selects all from `start_s` on.
        start_s: time of the first frame.
        fps: frames per second; None spreads the frames evenly up to the last one.

    Returns:
        the indices of the frames whose times are nearest. There are fewer than `frames` if the source ends before or
        has fewer, and indices repeat where the source has fewer frames than `fps` or gaps.
    """
    # Half a millisecond of tolerance: containers such as WebM round times to milliseconds.
    available = np.nonzero(times >= start_s - 5e-4)[0]
    if len(available) == 0 or (frames is None and fps is None):
        return [int(i) for i in available]
    if fps is None:
        wanted = np.linspace(max(start_s, times[0]), times[-1], min(frames or len(available), len(available)))
    else:
        count = int(np.floor((times[-1] - start_s) * fps + 5e-4 * fps)) + 1
        wanted = start_s + np.arange(min(frames or count, count)) / fps
    after = np.searchsorted(times, wanted).clip(1, len(times) - 1)
    nearer = wanted - times[after - 1] <= times[after] - wanted + 1e-6  # the earlier frame if both are as near
    return [int(i) for i in np.where(nearer, after - 1, after)]


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


def _frames(path: Path) -> Iterator[SourceFrame]:
    if path.is_dir():
        return folder_frames(path)
    return animation_frames(path) if path.suffix.lower() in ANIMATIONS else film_frames(path)


def _times(path: Path, until_s: float, start_s: float, fps: float | None) -> np.ndarray:
    """Return the presentation times of the frames up to the first at or after `until_s`: float64 (N,)."""
    times = []
    for number, frame in enumerate(_frames(path)):
        if frame.time_s is not None:
            times.append(frame.time_s)
        elif fps is not None:
            times.append(number / fps)
        elif start_s:
            raise ConfigError(f"{path}: start is {start_s} s, but the images of a folder have no times: also set fps")
        else:
            times.append(float(number))
        if times[-1] >= until_s:
            break
    return np.array(times)


def _images(path: Path, indices: Sequence[int]) -> list[Image.Image]:
    """Load the frames at `indices`, which do not decrease and may repeat."""
    wanted, loaded = set(indices), {}
    for number, frame in enumerate(_frames(path)):
        if number in wanted:
            loaded[number] = frame.load()
        if number == indices[-1]:
            break
    sizes = sorted({image.size for image in loaded.values()})
    if len(sizes) > 1:
        raise FormatError(f"{path}: frames have different sizes, such as {sizes[0]} and {sizes[-1]}")
    return [loaded[i] for i in indices]


def _matted(images: Sequence[Image.Image], matting: Matting | None, path: Path) -> list[Image.Image]:
    """Return the images with the alpha that matting computes, smoothed over time."""
    if matting is None:
        raise ConfigError(f"{path}: no frame has alpha: choose a matting model to remove the background")
    masks = smooth_masks(np.stack([matting(image.convert("RGB")) for image in images]))
    return [_with_alpha(image, mask) for image, mask in zip(images, masks, strict=True)]


def _with_alpha(image: Image.Image, alpha: np.ndarray) -> Image.Image:
    result = image.copy()
    result.putalpha(Image.fromarray(alpha, "L"))
    return result
