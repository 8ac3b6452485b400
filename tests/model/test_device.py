from __future__ import annotations

import pytest
import torch

from core import ConfigError
from model.device import choose_device


def test_names_become_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device("auto") == torch.device("cuda")
    assert choose_device("cuda:1") == torch.device("cuda", 1)
    assert choose_device("cpu") == torch.device("cpu")
    with pytest.raises(ConfigError, match="--device cuda:2: torch finds 2 GPUs"):
        choose_device("cuda:2")


@pytest.mark.parametrize("name", ["gpu", "tpu", "cuda:x", "cpu:3", ""])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="auto, cpu or cuda is needed"):
        choose_device(name)


def test_without_a_gpu_auto_is_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert choose_device("auto") == torch.device("cpu")
    with pytest.raises(ConfigError, match=r"run\.device cuda: torch finds 0 GPUs here"):
        choose_device("cuda", "run.device")
