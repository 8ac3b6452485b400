"""Tiny networks under the published file names, for tests of the metrics."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from helix4d.evaluation.learned.towers.clip import ClipTower, load_clip
from helix4d.evaluation.learned.towers.eva import EvaTower, load_eva
from helix4d.evaluation.learned.towers.point_tokens import PointEncoderConfig
from helix4d.evaluation.learned.towers.transformer import VitConfig
from helix4d.evaluation.learned.towers.ulip import UlipEncoder, load_ulip
from helix4d.evaluation.learned.towers.uni3d import Uni3dEncoder, load_uni3d
from helix4d.evaluation.metrics import learned
from helix4d.evaluation.metrics.learned import Network
from tests.evaluation.learned.published import randomized, under

CLIP = VitConfig(image_size=224, patch=56, width=16, layers=1, heads=2, hidden=20, embedding=8)
EVA = VitConfig(image_size=224, patch=56, width=16, layers=1, heads=2, hidden=20, embedding=8)
ULIP = PointEncoderConfig(groups=8, size=6, token=12, width=16, layers=1, heads=2, hidden=64, embedding=8)
UNI3D = PointEncoderConfig(groups=8, size=6, token=12, width=16, layers=1, heads=2, hidden=20, embedding=8)


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of weights of tiny networks under the published names, and loaders with their sizes."""
    made: list[tuple[str, nn.Module, str, str, object, object]] = [
        ("BIG_G_NETWORK", ClipTower(CLIP), "visual.", "state_dict", load_clip, CLIP),
        ("EVA_NETWORK", EvaTower(EVA), "visual.trunk.", "state_dict", load_eva, EVA),
        ("ULIP_NETWORK", UlipEncoder(ULIP), "module.", "state_dict", load_ulip, ULIP),
        ("UNI3D_NETWORK", Uni3dEncoder(UNI3D), "", "module", load_uni3d, UNI3D),
    ]
    for name, network, prefix, key, load, config in made:
        published: Network = getattr(learned, name)
        path = tmp_path / published.files[0].path
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save({key: under(prefix, randomized(network))}, path)
        loader = lambda path, load=load, config=config: load(path, config)  # type: ignore[operator]  # noqa: E731
        monkeypatch.setattr(learned, name, replace(published, load=loader))
    return tmp_path
