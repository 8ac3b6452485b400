"""The device that was asked for, or an error."""

from __future__ import annotations

import json

import pytest
import torch
from PIL import Image

from core import ConfigError
from model.checkpoint import save_network
from model.config import FlowConfig
from model.device import choose_device
from model.flow import DenseFlow, SparseFlow
from model.video_input import Video
from model.video_pipeline import FLOWS, Helix4DPipeline
from tests.train import world
from train import parallel


def test_auto_takes_a_gpu_where_there_is_one(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device("auto") == choose_device("cuda") == torch.device("cuda")
    assert choose_device("cuda", 3) == torch.device("cuda", 3)
    assert choose_device("cpu", 3) == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == torch.device("cpu")


@pytest.mark.parametrize(("name", "message"), [("cuda", "sees no GPU"), ("cuda:1", "CUDA_VISIBLE"), ("gpu", "one of")])
def test_nothing_else_is_used_in_its_place(name, message, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=message):
        choose_device(name)
    with pytest.raises(ConfigError, match=message), parallel.world(name):
        pass
    with pytest.raises(ConfigError, match=message):
        Helix4DPipeline.from_pretrained("nowhere", device=name)


def _tiny_model(folder):
    world.write_models(folder)
    sizes = {"model_channels": 32, "cond_channels": 16, "num_blocks": 1, "num_heads": 2}
    flows = dict(
        zip(
            FLOWS,
            [
                DenseFlow(FlowConfig(resolution=2, in_channels=4, out_channels=4, **sizes)),
                SparseFlow(FlowConfig(resolution=4, in_channels=8, out_channels=8, **sizes)),
                SparseFlow(FlowConfig(resolution=4, in_channels=16, out_channels=8, **sizes)),
            ],
            strict=True,
        )
    )
    document = json.loads((folder / "pipeline.json").read_text())
    for name, network in flows.items():
        save_network(network, folder, f"ckpts/{name}")
        document["args"]["models"][name] = f"ckpts/{name}"
    document["args"]["image_cond_model"] = {"args": {"model_name": str(folder / "image_encoder")}}
    (folder / "pipeline.json").write_text(json.dumps(document))
    return str(folder)


@pytest.mark.parametrize(
    ("device", "flow", "vae"),
    [("cuda", torch.bfloat16, torch.float16), ("cpu", torch.float32, torch.float32)],
)
def test_networks_compute_in_trellis2s_types(device, flow, vae, monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    path = _tiny_model(tmp_path)
    pipeline = Helix4DPipeline.from_pretrained(path, path, device=device, anchor_fit=True)
    assert pipeline.device.type == device
    stages = [s for kind in (pipeline.base, pipeline.video) for s in (kind.structure, kind.geometry, kind.material)]
    assert [stage.compute_dtype for stage in stages] == [flow] * 6
    decoders = [pipeline.structure_decoder, pipeline.shape_decoder, pipeline.texture_decoder]
    encoders = [pipeline.encoders.structure, pipeline.encoders.shape, pipeline.encoders.texture]
    assert [network.compute_dtype for network in decoders + encoders] == [vae] * 6


def test_a_video_of_one_frame_is_refused_by_the_pipeline_too(tmp_path):
    path = _tiny_model(tmp_path)
    pipeline = Helix4DPipeline.from_pretrained(path, path, device="cpu")
    still = Video((Image.new("RGBA", (32, 32), "red"),), (0,), 1, False)
    with pytest.raises(ConfigError, match="1 frames: two at least"):
        next(pipeline(still))
