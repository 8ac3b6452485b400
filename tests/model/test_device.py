"""The requested device is used, or an error is raised."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
import torch
from torch import nn

from helix4d.core import ConfigError, SetupError
from helix4d.model.device import choose_device, own_compile_cache
from helix4d.model.networks.attention.plan import _flex
from helix4d.model.networks.flow import FlowTransformer
from helix4d.model.sampling.video_pipeline import Helix4DPipeline
from helix4d.train import parallel
from helix4d.train.signals import StopRequest


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
    with pytest.raises(ConfigError, match=message), parallel.world(name, StopRequest(), 60.0):
        pass
    with pytest.raises(ConfigError, match=message):
        Helix4DPipeline.from_pretrained("nowhere", device=name)


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty temporary directory, and no cache of compiled code named in the environment."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "")
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR")
    return tmp_path


def compile_blocks() -> None:
    network = FlowTransformer.__new__(FlowTransformer)
    nn.Module.__init__(network)
    network.blocks = nn.ModuleList()
    network.compile_blocks()


@pytest.mark.parametrize("compile_something", [compile_blocks, lambda: _flex.__wrapped__(True)])
def test_compiled_code_is_kept_where_only_this_user_can_write(temporary, compile_something):
    compile_something()
    folder = Path(os.environ["TORCHINDUCTOR_CACHE_DIR"])
    assert folder == temporary / f"helix4d-torchinductor-{os.geteuid()}"
    assert folder.stat().st_mode & 0o777 == 0o700


def test_compiled_code_in_a_folder_of_others_is_not_run(temporary, monkeypatch):
    folder = temporary / f"helix4d-torchinductor-{os.geteuid()}"
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(SetupError, match=f"{folder}: is a link, or belongs to another user, or is writable by others"):
        own_compile_cache()
    assert "TORCHINDUCTOR_CACHE_DIR" not in os.environ
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "chosen")
    own_compile_cache()
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == "chosen"
