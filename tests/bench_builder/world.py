"""A benchmark of four drawn stills, and a way to build it in this process, one entry after the other, without Ray."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image, ImageDraw

from helix4d.bench_builder import HELIX4DBENCH
from helix4d.bench_builder import build as build_module
from helix4d.bench_builder.build import BuildConfig, build
from helix4d.bench_builder.jobs import EntryJob, finish_entry, generate_video
from helix4d.core import sha256_file
from helix4d.curation.config import RunConfig
from helix4d.curation.shards.ledger import Ledger, Outcome
from tests.model.tiny_onnx import write_matting_model

NAMES = ("round", "tall", "wide", "ring")
_BOXES = {"round": (20, 20, 80, 80), "tall": (40, 10, 60, 90), "wide": (10, 40, 90, 60), "ring": (15, 15, 85, 85)}


def write_stills(folder: Path) -> Path:
    """Draw one still per entry, on a transparent background."""
    folder.mkdir(parents=True)
    for number, name in enumerate(NAMES):
        image = Image.new("RGBA", (100, 100))
        ImageDraw.Draw(image).ellipse(_BOXES[name], fill=(250, 40 * number, 20, 255))
        if name == "ring":
            ImageDraw.Draw(image).ellipse((35, 35, 65, 65), fill=(0, 0, 0, 0))
        image.save(folder / f"{name}.png")
    return folder


def write_manifest(path: Path, stills: Path, names: Sequence[str] = NAMES, **changes: Any) -> Path:
    """Write the manifest of Helix4DBench with these entries instead of its own."""
    values = yaml.safe_load(HELIX4DBENCH.read_text(encoding="utf-8"))
    values["entries"] = [
        {
            "id": name,
            "still": f"{name}.png",
            "sha256": hashlib.sha256((stills / f"{name}.png").read_bytes()).hexdigest(),
            "category": "morphing",
            "prompt": f"A {name} thing turns into a square.",
            "negative_prompt": "a circle",
            "seed": number,
        }
        for number, name in enumerate(names)
    ]
    path.write_text(yaml.safe_dump({**values, "count": len(names), **changes}, sort_keys=False), encoding="utf-8")
    return path


class World:
    """A manifest with its stills, a matting model, and a checkpoint.

    Args:
        folder: folder for the files.
        model: folder of the checkpoint.
    """

    def __init__(self, folder: Path, model: Path) -> None:
        self.model = model
        self.stills = write_stills(folder / "stills")
        self.manifest = write_manifest(folder / "bench.yaml", self.stills)
        self.matting = f"u2net_custom:{write_matting_model(folder / 'gray.onnx')}"

    def config(self, output: Path, **changes: Any) -> BuildConfig:
        """A configuration as small as possible."""
        values: dict[str, Any] = {
            "output": output,
            "model": str(self.model),
            "manifest": self.manifest,
            "stills": self.stills,
            "matting": self.matting,
            "size": 32,
            "steps": 2,
            "limit": 3,
        }
        return BuildConfig(**{**values, **changes})

    def arguments(self, output: Path) -> list[str]:
        """The same configuration as command-line arguments."""
        config = self.config(output)
        names = ("output", "model", "manifest", "stills", "matting", "size", "steps", "limit")
        return ["bench", "build", *(word for name in names for word in (f"--{name}", str(getattr(config, name))))]


def quiet(text: str) -> None:
    """A `Report` that shows nothing."""


@contextmanager
def without_ray(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Make `build` work in this process; yields the ids that it works on, in order."""
    worked: list[str] = []

    def work(_: BuildConfig, __: RunConfig, todo: Sequence[EntryJob], ___: int, ledger: Ledger) -> None:
        for job in todo:
            worked.append(job.entry.id)
            result = generate_video(job, quiet, "cpu")
            ledger.append(result if isinstance(result, Outcome) else finish_entry(result, quiet))

    deterministic = torch.are_deterministic_algorithms_enabled()
    try:
        with monkeypatch.context() as patch:
            patch.setattr(build_module, "_work", work)
            yield worked
    finally:
        torch.use_deterministic_algorithms(deterministic)


def build_here(config: BuildConfig, monkeypatch: pytest.MonkeyPatch) -> tuple[dict[str, int], list[str]]:
    """Build in this process; returns the counts and the ids that were worked on."""
    with without_ray(monkeypatch) as worked:
        return build(config), worked


def hashes(output: Path) -> dict[str, str]:
    """Hash of every file whose content does not depend on time."""
    files = [
        path for path in sorted(output.rglob("*")) if path.is_file() and path.name not in ("ledger.jsonl", ".lock")
    ]
    return {path.relative_to(output).as_posix(): sha256_file(path) for path in files}
