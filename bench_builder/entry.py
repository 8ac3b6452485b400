"""The folder of a finished video: 16 frames, two previews and `entry.json`, which is written last.

The folder is renamed into `videos/` when it is complete. `entry.json` lists every file with its hash.
"""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

from helix4d.bench_builder.frames import Pixels
from helix4d.core import FormatError, Schema, fsync_folder, sha256_file, sha256_json, write_bytes, write_json
from helix4d.core.storage import is_fault
from helix4d.render.pages.turntable import animation

ENTRY = Schema("bench entry", version=1, oldest=1, rewrite="build it again into a new --output")
ENTRY_FILE = "entry.json"
WEBP_FILE, MP4_FILE = "preview.webp", "preview.mp4"
PREVIEW_SIZE = 320
_NO_LOOKAHEAD = "rc-lookahead=0:sync-lookahead=0:mbtree=0:weightp=0:bframes=0"
_CRF = "18"


def frame_file(number: int) -> str:
    """File name of a frame."""
    return f"frame_{number:02d}.png"


def write_entry(folder: Path, frames: Pixels, fps: float, facts: Mapping[str, Any], work: Path) -> None:
    """Write a video's folder.

    Args:
        folder: final path of the folder; an existing one is replaced.
        frames: RGBA frames, (T, S, S, 4).
        fps: frames per second of the previews.
        facts: content of `entry.json` besides the list of files.
        work: folder on the same file system to write the files in first; leftovers of earlier attempts are removed.
    """
    shutil.rmtree(work, ignore_errors=True)
    files = {frame_file(number): _png(frame) for number, frame in enumerate(frames)}
    files[WEBP_FILE] = animation(_previews(frames, "RGBA"), fps)
    files[MP4_FILE] = _mp4(_previews(frames, "RGB"), fps)
    for name, data in files.items():
        write_bytes(work / name, data)
    listed = {name: {"bytes": len(data), "sha256": sha256_file(work / name)} for name, data in files.items()}
    content = {"version": ENTRY.version, **facts, "fps": fps, "files": listed}
    write_json(work / ENTRY_FILE, {**content, "sha256": sha256_json(content)})
    folder.parent.mkdir(parents=True, exist_ok=True)
    if folder.exists():
        shutil.rmtree(folder)
    os.rename(work, folder)
    fsync_folder(folder.parent)


def read_entry(folder: Path) -> dict[str, Any] | None:
    """Content of a folder's `entry.json`, or None if it has none.

    Raises:
        NewerError: if a newer version of helix4d wrote it.
        FormatError: if it is damaged or was edited.
    """
    path = folder / ENTRY_FILE
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise FormatError(f"{path}: not JSON ({error})") from error
    ENTRY.check(content, path)
    missing = {"id", "settings_sha256", "files", "frames", "square", "measures"} - content.keys()
    if missing:
        raise FormatError(f"{path}: lacks {', '.join(sorted(missing))}")
    recorded = content.pop("sha256", None)
    if recorded != (sha256 := sha256_json(content)):
        raise FormatError(f"{path}: was edited: records its sha256 as {recorded}, but has {sha256}")
    return dict(content)


def wrong_files(folder: Path, entry: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(file, problem) for every file that is missing, differs from what is listed, or is not listed.

    Hidden files are ignored: file managers create them, and that is no reason to rebuild a video.
    """
    wrong = []
    for name, listed in sorted(entry["files"].items()):
        path = folder / name
        if "/" in name or name.startswith("."):
            wrong.append((name, "listed under an invalid name"))
        elif not path.is_file():
            wrong.append((name, "missing"))
        elif path.stat().st_size != listed["bytes"]:
            wrong.append((name, f"{path.stat().st_size} bytes, but listed with {listed['bytes']}"))
        elif (sha256 := sha256_file(path)) != listed["sha256"]:
            wrong.append((name, f"sha256 {sha256}, but listed with {listed['sha256']}"))
    known = {*entry["files"], ENTRY_FILE}
    names = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    wrong += [(name, "not listed") for name in names if name not in known]
    return wrong


def read_frames(folder: Path, count: int) -> Pixels:
    """RGBA frames of a folder, (T, S, S, 4).

    Raises:
        FormatError: if a frame is missing, not a square RGBA image, or not as large as the first.
        OSError: if storage fails.
    """
    frames: list[np.ndarray] = []
    for number in range(count):
        path = folder / frame_file(number)
        try:
            with Image.open(path) as image:
                if image.mode != "RGBA" or image.width != image.height:
                    raise FormatError(f"{path}: {image.mode} {image.width} × {image.height}, expected square RGBA")
                frames.append(np.asarray(image))
        except (OSError, ValueError, SyntaxError) as error:
            if is_fault(error):
                raise
            raise FormatError(f"{path}: not a readable image ({error})") from error
        if frames[-1].shape != frames[0].shape:
            raise FormatError(
                f"{path}: {frames[-1].shape[0]} pixels per side, the first frame has {frames[0].shape[0]}"
            )
    return np.stack(frames)


def _png(frame: Pixels) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(frame).save(stream, "PNG")
    return stream.getvalue()


def _previews(frames: Pixels, mode: str) -> list[Image.Image]:
    """Small images of the frames, on white for mode RGB."""
    size = min(PREVIEW_SIZE, frames.shape[1])
    small = [Image.fromarray(f).convert("RGBa").resize((size, size)).convert("RGBA") for f in frames]
    if mode == "RGBA":
        return small
    white = Image.new("RGBA", (size, size), "white")
    return [Image.alpha_composite(white, image).convert("RGB") for image in small]


def _mp4(images: list[Image.Image], fps: float) -> bytes:
    """Encode images as H.264, deterministically."""
    stream = io.BytesIO()
    with av.open(stream, "w", format="mp4", options={"fflags": "+bitexact"}) as container:
        # One thread, because x264's output depends on their number. No lookahead, because it reads memory beyond the
        # edge of small frames: one file in ten differed.
        options = {"crf": _CRF, "threads": "1", "x264-params": _NO_LOOKAHEAD}
        video = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1000), options=options)
        video.width = video.height = images[0].width & ~1
        video.pix_fmt = "yuv420p"
        for image in images:
            container.mux(video.encode(av.VideoFrame.from_image(image.crop((0, 0, video.width, video.height)))))
        container.mux(video.encode())
    return stream.getvalue()
