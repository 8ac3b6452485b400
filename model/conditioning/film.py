"""Decode video files with PyAV: upright, with square pixels, with the alpha that their codec stores.

FFmpeg's own VP8 and VP9 decoders drop the alpha of WebM files, so those are decoded by libvpx. HEVC's alpha is a second
layer, which FFmpeg decodes only for callers that choose the pixel format. PyAV does not, so such files are refused. HDR
is refused, too: PyAV's FFmpeg has no zscale filter, and swscale's tone mapping depends on the mastering metadata.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from helix4d.core import FormatError
from helix4d.core.extras import missing_package
from helix4d.model.conditioning.source_frame import SourceFrame, check_count, check_size

_HDR = {16: "PQ", 18: "HLG"}
"""Transfer characteristics (ITU-T H.273) of HDR video."""
_WITH_ALPHA = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
_VPS = re.compile(rb"\x40\x01(..)\xff\xff", re.DOTALL)
"""HEVC's video parameter set: NAL header; ID (4 bits), flags (2), layers - 1 (6), sublayers (4); 16 reserved bits."""
_SDR_COMMAND = (
    "ffmpeg -i HDR.mp4 -vf zscale=t=linear:npl=203,tonemap=mobius,zscale=t=bt709:m=bt709:p=bt709,format=yuv420p SDR.mp4"
)


def film_frames(path: Path) -> Iterator[SourceFrame]:
    """Yield the frames of a video file's main video stream in order of presentation.

    Raises:
        FormatError: if the file cannot be decoded, has no video stream, is HDR or HEVC with two layers, has frames
            without times or with times that decrease, is turned by an angle other than a multiple of 90°, or has too
            many or too large frames.
    """
    try:
        import av
    except ImportError as error:
        raise missing_package(f"{path}: reading video files", "av") from error
    try:
        with av.open(str(path)) as container:
            stream: Any = container.streams.best("video")
            if stream is None:
                raise FormatError(f"{path}: no video stream")
            check_size(stream.codec_context.width, stream.codec_context.height, path)
            shape, turn = float(stream.sample_aspect_ratio or 1), _display_matrix(path)
            first = before = None
            for number, frame in enumerate(_decoded(container, stream, path)):
                check_count(number, path)
                check_size(frame.width, frame.height, path)
                _check_transfer(frame.color_trc, path)
                time = _time(frame, number, container, stream, path)
                first = time if first is None else first
                if before is not None and time < before:
                    raise FormatError(
                        f"{path}: frame {number} is shown at {time:.3f} s, before its predecessor at {before:.3f} s: "
                        "write the video again with increasing timestamps"
                    )
                before = time
                yield SourceFrame(time - first, partial(_picture, frame, shape, turn, path))
    except av.FFmpegError as error:
        raise FormatError(f"{path}: cannot decode video ({error})") from error


def _decoded(container: Any, stream: Any, path: Path) -> Iterator[Any]:
    """Yield `av.VideoFrame`s, with alpha if the stream has one."""
    import av

    codec, header = stream.codec_context.name, stream.codec_context.extradata or b""
    if codec == "hevc" and any(vps[1][0] & 3 or vps[1][1] >> 4 for vps in _VPS.finditer(header)):
        raise FormatError(
            f"{path}: HEVC with a second layer, alpha or another view, which cannot be decoded here: convert it to "
            f"images, for example with ffmpeg -i {path.name} FOLDER/%04d.png"
        )
    if stream.metadata.get("alpha_mode") != "1":
        yield from container.decode(stream)
        return
    decoder = _WITH_ALPHA.get(codec)
    if decoder is None or decoder not in av.codecs_available:
        raise FormatError(f"{path}: this FFmpeg cannot decode the alpha of {codec} video: export it as a folder of PNG")
    context: Any = av.CodecContext.create(decoder, "r")
    for packet in container.demux(stream):
        yield from context.decode(packet if packet.size else None)  # an empty packet flushes the decoder


def _time(frame: Any, number: int, container: Any, stream: Any, path: Path) -> float:
    """Return a frame's presentation time in seconds. AVI and raw streams store none, only a constant rate."""
    if container.format.name == "avi" or stream.start_time is None:
        rate = stream.guessed_rate or stream.average_rate
        time = None if not rate else number / float(rate)
    else:
        time = frame.time
    if time is None:
        raise FormatError(f"{path}: frame {number} has no presentation time: write the video again with timestamps")
    return float(time)


def _check_transfer(transfer: int, path: Path) -> None:
    if transfer in _HDR:
        raise FormatError(
            f"{path}: HDR video ({_HDR[transfer]} transfer), but the networks were trained on SDR images: convert it "
            f"first, for example with {_SDR_COMMAND}"
        )


def _display_matrix(path: Path) -> np.ndarray:
    """Return how the container turns or mirrors frames for display, as signs int (2, 2).

    A pixel's position (x, y), y downwards, is multiplied from the left. libvpx's frames lack the matrix, so it is that
    of the first frame that the default decoder returns.
    """
    import av
    from av.sidedata.sidedata import Type

    with av.open(str(path)) as container:
        frame: Any = next(container.decode(container.streams.best("video")), None)
        if frame is None or (data := frame.side_data.get(Type.DISPLAYMATRIX)) is None:
            return np.eye(2, dtype=int)
        a, b, _, c, d, _, *_ = np.frombuffer(bytes(data), np.int32) / 65536  # 16.16 fixed point
    matrix = np.array([[a, c], [b, d]])
    signs = np.sign(matrix * (np.abs(matrix) > 1e-3 * np.abs(matrix).max())).astype(int)
    if abs(np.linalg.det(signs)) != 1 or np.abs(signs).sum() != 2:
        raise FormatError(
            f"{path}: turned by {frame.rotation}° for display, which is no multiple of 90°: write it again upright"
        )
    return signs


def _picture(frame: Any, pixel_width: float, turn: np.ndarray, path: Path) -> Image.Image:
    """Convert a frame to RGBA, make its pixels square and turn it upright."""
    image = Image.fromarray(frame.to_ndarray(format="rgba"), "RGBA")
    if pixel_width != 1:
        width, height = image.size
        size = (round(width * max(pixel_width, 1)), round(height / min(pixel_width, 1)))
        check_size(*size, path)
        image = image.resize(size, Image.Resampling.LANCZOS)
    pixels = np.asarray(image)
    if turn[0, 0] == 0:
        pixels = pixels.swapaxes(0, 1)
    pixels = pixels[:, ::-1] if turn[0].sum() < 0 else pixels
    pixels = pixels[::-1] if turn[1].sum() < 0 else pixels
    return Image.fromarray(np.ascontiguousarray(pixels), "RGBA")
