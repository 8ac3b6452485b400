"""The requested device is used, or an error is raised."""

from __future__ import annotations

import pytest
import torch

from helix4d.core import ConfigError
from helix4d.model.device import choose_device
from helix4d.model.sampling.video_pipeline import Helix4DPipeline
from helix4d.train import parallel


def test_auto_selects_a_gpu_if_available(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device("auto") == choose_device("cuda") == torch.device("cuda")
    assert choose_device("cuda", 3) == torch.device("cuda", 3)
    assert choose_device("cpu", 3) == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == torch.device("cpu")


@pytest.mark.parametrize(("name", "message"), [("cuda", "finds no GPU"), ("cuda:1", "CUDA_VISIBLE"), ("gpu", "one of")])
def test_unavailable_devices_are_rejected_without_fallback(name, message, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=message):
        choose_device(name)
    with pytest.raises(ConfigError, match=message), parallel.world(name):
        pass
    with pytest.raises(ConfigError, match=message):
        Helix4DPipeline.from_pretrained("nowhere", device=name)
