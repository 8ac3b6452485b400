"""Every access to an asset's files fails once, in every format: none may become the asset's fault, or go unnoticed."""

from __future__ import annotations

import builtins
import errno
import io
import json
import os
import shutil
import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from helix4d.assets import content_hash
from helix4d.assets.samples import SAMPLES
from helix4d.core import AssetState
from helix4d.curation.config import SampleConfig
from helix4d.curation.filters.thresholds import FilterConfig
from helix4d.curation.shards.ledger import Outcome
from helix4d.curation.work import worker
from helix4d.curation.work.jobs import AssetJob
from helix4d.curation.work.stages import Clock
from tests.curation.source_files import KINDS, write_sources

CONFIG = SampleConfig(resolution=32, frames=2, views=0, filters=FilterConfig(min_size=0, min_motion=0))
TEXTURED = "butterfly"


def write_gltf(folder: Path) -> Path:
    """Write a sample as a `.gltf` with its buffer and an image in files of their own."""
    folder.mkdir()
    data = SAMPLES[TEXTURED]()
    (length,) = struct.unpack("<I", data[12:16])
    content, binary = json.loads(data[20 : 20 + length]), data[28 + length :]
    content["buffers"][0]["uri"] = "buffer.bin"
    (folder / "buffer.bin").write_bytes(binary)
    for number, image in enumerate(content["images"]):
        view = content["bufferViews"][image.pop("bufferView")]
        start = view.get("byteOffset", 0)
        image["uri"] = f"image_{number}.png"
        (folder / image["uri"]).write_bytes(binary[start : start + view["byteLength"]])
    (folder / "asset.gltf").write_text(json.dumps(content))
    return folder / "asset.gltf"


@pytest.fixture(scope="module")
def assets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Kind -> an asset that moves and has a texture, in a folder of its own."""
    folder = tmp_path_factory.mktemp("assets")
    write_sources(folder)
    found = {kind: folder / kind / f"asset.{kind}" for kind in KINDS}
    found["obj"] = folder / "obj"
    found["gltf"] = write_gltf(folder / "gltf")
    (folder / "glb").mkdir()
    found["glb"] = folder / "glb" / "asset.glb"
    found["glb"].write_bytes(SAMPLES[TEXTURED]())
    (folder / "zip").mkdir()
    found["zip"] = folder / "zip" / "asset.zip"
    with zipfile.ZipFile(found["zip"], "w") as packed:
        for path in sorted(found["gltf"].parent.iterdir()):
            # Textures in another folder than the file says are found by their name.
            packed.write(path, f"textures/{path.name}" if path.suffix == ".png" else path.name)
    return found


class Faults:
    """Fails the access `number` to a file below `folders`, and counts all of them."""

    def __init__(self, folders: tuple[Path, ...], number: int) -> None:
        self._folders, self._number = [os.path.realpath(folder) for folder in folders], number
        self.count = 0

    def visit(self, path: Any) -> None:
        if not isinstance(path, str | bytes | os.PathLike):
            return
        real = os.path.realpath(os.fsdecode(path))
        if any(real.startswith(f"{folder}/") for folder in self._folders):
            self.count += 1
            if self.count == self._number:
                raise OSError(errno.EIO, os.strerror(errno.EIO), real)


@contextmanager
def injected(faults: Faults, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        for module, name in ((builtins, "open"), (io, "open"), (os, "open"), (os, "link"), (os, "stat")):
            plain = getattr(module, name)

            def access(path: Any, *rest: Any, plain: Any = plain, **options: Any) -> Any:
                faults.visit(path)
                return plain(path, *rest, **options)

            patch.setattr(module, name, access)
        yield


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["glb", "gltf", "zip", *KINDS])
def test_storage_that_fails_at_any_access_is_waited_for(
    kind: str, assets: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "scratch"
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    job = AssetJob(kind, assets[kind], content_hash(assets[kind]), tmp_path / "part", CONFIG, device="cpu")

    def work(number: int) -> tuple[Faults, Outcome | None]:
        """The accesses, and the outcome; None if storage was found to be at fault."""
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        faults = Faults((assets[kind] if kind == "obj" else assets[kind].parent, scratch), number)
        with injected(faults, monkeypatch):
            try:
                return faults, worker._work(job, Clock(lambda event: None))
            except worker._Refused as refused:
                if refused.errno != errno.EIO:
                    raise
                return faults, None

    whole, intact = work(0)
    assert intact is not None
    assert intact.state is AssetState.DONE, intact
    assert whole.count > 2
    for number in range(1, whole.count + 1):
        faults, outcome = work(number)
        assert outcome is None or (faults.count >= whole.count and outcome.keys == intact.keys), (number, outcome)
        assert outcome is None or outcome.warnings == intact.warnings, (number, outcome)
