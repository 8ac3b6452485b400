from __future__ import annotations

import io
import tempfile
from pathlib import Path

import pytest
from PIL import Image, UnidentifiedImageError

from helix4d.core import AssetError, ReasonCode
from helix4d.core.messages import path_end, reason, reproducible
from helix4d.core.scratch import scratch_folder


def test_memory_addresses_are_removed() -> None:
    with pytest.raises(UnidentifiedImageError) as caught:
        Image.open(io.BytesIO(b"BM not an image"))
    assert " at 0x" in str(caught.value)
    assert reason(caught.value) == "cannot identify image file"
    assert reproducible(f"failed: {object()!r}, {reproducible!r}") == (
        "failed: <object object>, <function reproducible>"
    )
    assert reproducible("the chunk at 0x7f3a55 is damaged") == "the chunk at 0x7f3a55 is damaged"


def test_temporary_files_are_named_relative_to_their_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    own = tmp_path / "my asset.glb"
    messages = set()
    for _ in range(2):
        with scratch_folder("helix4d-worker-") as worker:
            for parent in (tmp_path, worker):  # a worker's temporary directory is itself such a folder
                monkeypatch.setattr(tempfile, "tempdir", str(parent))
                with (
                    scratch_folder("helix4d-archive-") as folder,
                    tempfile.TemporaryDirectory(prefix="helix4d-render-") as other,
                    tempfile.NamedTemporaryFile() as unnamed,
                ):
                    with pytest.raises(FileNotFoundError) as caught:
                        (folder / "source/model.fbx").read_bytes()
                    messages.add(reproducible(f"{own}: {caught.value}, {other}/image.exr: {unnamed.name}"))
            monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    missing = "[Errno 2] No such file or directory: 'source/model.fbx'"
    assert messages == {f"{own}: {missing}, image.exr: temporary file"}


def test_errors_of_assets_are_reproducible() -> None:
    with scratch_folder("helix4d-archive-") as folder:
        error = AssetError(ReasonCode.CORRUPT_FILE, f"cannot read {folder}/a.png", folder / "a.glb")
    assert (error.message, str(error)) == ("cannot read a.png", "a.glb: cannot read a.png [corrupt_file]")


def test_a_reason_has_one_short_line() -> None:
    assert reason(ValueError("one\n  two")) == "one two"
    assert reason(ValueError("x" * 999), 10) == "x" * 10
    assert reason(ValueError()) == "ValueError"


def test_a_long_path_keeps_its_end() -> None:
    path = f"/{'folder/' * 20}picture.png"
    assert path_end("a/picture.png") == "a/picture.png"
    assert len(path_end(path)) == 80
    assert path_end(path).startswith("…")
    assert path_end(path).endswith("/folder/picture.png")
