"""Pack the output of `helix4d sample` into one self-contained HTML file that works offline."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

from PIL import Image, ImageSequence, UnidentifiedImageError

from helix4d.core import ConfigError, FormatError, write_bytes
from helix4d.render.pages.viewer import viewer_page


def write_viewer(folder: Path) -> Path:
    """Write `view.html` to a sample's folder and return its path.

    Raises:
        ConfigError: if the folder is not a complete sample.
        FormatError: if one of its files is damaged.
    """
    try:
        facts = json.loads((folder / "run.json").read_bytes())
    except OSError as error:
        raise ConfigError(
            f"{folder}: no run.json: this is not an output folder of helix4d sample, or the run was interrupted"
        ) from error
    except ValueError as error:
        raise FormatError(f"{folder}/run.json: damaged ({error})") from error
    frames: list[str | None] = []
    for number, frame in enumerate(facts["frames"]):
        path = folder / f"frame_{number:02d}.glb"
        if frame["faces"] and not path.is_file():
            raise ConfigError(f"{path}: file is missing, but run.json lists it with {frame['faces']} faces")
        frames.append(base64.b64encode(path.read_bytes()).decode() if path.is_file() else None)
    data = {
        "about": _about(facts),
        "fps": facts["playback_fps"],
        "frames": frames,
        "input": _stills(folder / "input.webp"),
    }
    path = folder / "view.html"
    write_bytes(path, viewer_page(data))
    return path


def _about(facts: dict[str, Any]) -> str:
    faces = sum(frame["faces"] for frame in facts["frames"])
    settings = facts["settings"]
    return f"{settings['video']}\n{len(facts['frames'])} frames, {faces:,} triangles\nseed {settings['seed']}"


def _stills(path: Path) -> list[str]:
    """Return the frames of an animation as data URLs; empty if the file does not exist."""
    if not path.is_file():
        return []
    urls = []
    try:
        with Image.open(path) as image:
            for frame in ImageSequence.Iterator(image):
                stream = io.BytesIO()
                frame.convert("RGBA").save(stream, "WEBP", quality=80)
                urls.append("data:image/webp;base64," + base64.b64encode(stream.getvalue()).decode())
    except (OSError, UnidentifiedImageError) as error:
        raise FormatError(f"{path}: cannot read image ({error})") from error
    return urls
