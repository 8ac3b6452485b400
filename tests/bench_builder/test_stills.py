"""The stills of the benchmark, where their folder is present."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from helix4d.bench_builder import Manifest, pad_still, read_manifest, verify_stills


def test_all_52_stills_are_the_ones_listed(stills: Path) -> None:
    assert verify_stills(read_manifest(), stills) == []


def test_every_still_can_be_laid_into_the_default_models_frame(stills: Path) -> None:
    manifest = read_manifest()
    model, framing = manifest.models[manifest.default_model], manifest.framing
    for entry in manifest.entries:
        with Image.open(stills / entry.still) as still:
            frame = pad_still(still, model.size, framing.fill, framing.background)
        assert frame.size == (model.size, model.size), entry.id
        margin = int(model.size * (1 - framing.fill) / 2) - 1
        assert frame.crop((0, 0, model.size, margin)).getcolors() == [(model.size * margin, framing.background)]


@pytest.fixture
def small(tmp_path: Path) -> tuple[Manifest, Path]:
    """A manifest of three stills and a folder with exactly those."""
    manifest = read_manifest()
    entries = []
    for number, entry in enumerate(manifest.entries[:3]):
        data = f"still {number}".encode()
        (tmp_path / entry.still).write_bytes(data)
        entries.append(replace(entry, sha256=hashlib.sha256(data).hexdigest()))
    return replace(manifest, count=3, entries=tuple(entries)), tmp_path


def test_a_complete_folder_has_no_problems(small: tuple[Manifest, Path]) -> None:
    manifest, folder = small
    (folder / "another.webp").write_bytes(b"not of the benchmark")
    assert verify_stills(manifest, folder) == []


def test_a_tampered_still_is_reported_with_both_hashes(small: tuple[Manifest, Path]) -> None:
    manifest, folder = small
    entry = manifest.entries[1]
    (folder / entry.still).write_bytes(b"still 1!")
    (problem,) = verify_stills(manifest, folder)
    assert problem.startswith(f"{entry.id}: ")
    assert entry.sha256 in problem
    assert hashlib.sha256(b"still 1!").hexdigest() in problem


def test_a_missing_still_is_reported_with_its_address(small: tuple[Manifest, Path]) -> None:
    manifest, folder = small
    entry = manifest.entries[2]
    (folder / entry.still).unlink()
    (problem,) = verify_stills(manifest, folder)
    assert problem.startswith(f"{entry.id}: {folder / entry.still} is missing: ")
    assert f"https://raw.githubusercontent.com/microsoft/TRELLIS.2/{manifest.source.commit}" in problem


def test_a_missing_folder_lacks_every_still(small: tuple[Manifest, Path], tmp_path: Path) -> None:
    assert len(verify_stills(small[0], tmp_path / "nowhere")) == 3
