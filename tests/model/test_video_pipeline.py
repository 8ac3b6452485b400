"""Loading and validation before a video is sampled; tests/train/test_small_world.py covers sampling."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from PIL import Image

from helix4d.core import ConfigError, Helix4DError
from helix4d.model.conditioning.video_input import Video
from helix4d.model.sampling.video_pipeline import AnchorOptions, Helix4DPipeline


@pytest.mark.parametrize(
    ("device", "flow", "vae"),
    [("cuda", torch.bfloat16, torch.float16), ("cpu", torch.float32, torch.float32)],
)
def test_networks_use_trellis2s_activation_types(device, flow, vae, monkeypatch, tiny):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    path = str(tiny)
    pipeline = Helix4DPipeline.from_pretrained(path, path, device=device, anchor=AnchorOptions(fit=True))
    assert pipeline.placement.device.type == device
    stages = [s for kind in (pipeline.base, pipeline.video) for s in (kind.structure, kind.geometry, kind.material)]
    assert [stage.compute_dtype for stage in stages] == [flow] * 6
    networks = pipeline.vae
    decoders = [networks.structure, networks.shape, networks.texture]
    encoders = [networks.encoders.structure, networks.encoders.shape, networks.encoders.texture]
    assert [network.compute_dtype for network in decoders + encoders] == [vae] * 6


def test_the_pipeline_rejects_a_video_of_one_frame(tiny):
    path = str(tiny)
    pipeline = Helix4DPipeline.from_pretrained(path, path, device="cpu")
    still = Video((Image.new("RGBA", (32, 32), "red"),), (0,), 1, False)
    with pytest.raises(ConfigError, match="1 frames: at least two are needed"):
        next(pipeline(still))


def test_cuda_graphs_need_a_gpu(tiny):
    with pytest.raises(ConfigError, match="cuda_graphs is set, but the device is cpu"):
        Helix4DPipeline.from_pretrained(str(tiny), str(tiny), device="cpu", cuda_graphs=True)


FLOW = "ckpts/sparse_structure_flow_model.json"
DECODER = "ckpts/shape_slat_decoder.json"


@pytest.mark.parametrize(
    ("file", "path", "value"),
    [
        ("pipeline.json", ("args", "models"), None),
        ("pipeline.json", ("args", "models", "shape_slat_decoder"), 7),
        ("pipeline.json", ("args", "models", "sparse_structure_encoder"), "nobody/nothing/ckpts/none"),
        ("pipeline.json", ("args", "image_cond_model"), "dino"),
        ("pipeline.json", ("args", "image_cond_model", "args"), {}),
        ("pipeline.json", ("args", "image_cond_model", "args", "model_name"), "nobody/nothing"),
        ("pipeline.json", ("args", "shape_slat_normalization"), {"mean": [0.0]}),
        (FLOW, ("name",), None),
        (FLOW, ("args",), {}),
        (FLOW, ("args", "num_heads"), "two"),
        (FLOW, ("args", "mlp_ratio"), None),
        (FLOW, ("helix4d",), {"windows": 2}),
        (FLOW, ("helix4d",), {"pattern": "round"}),
        (DECODER, ("args", "model_channels"), 7),
        (DECODER, ("args", "out_channels"), -1),
    ],
)
def test_a_wrong_layout_is_reported_in_one_line(file, path, value, tiny, tmp_path):
    folder = shutil.copytree(tiny, tmp_path / "model")
    document = json.loads((folder / file).read_text())
    inner = document
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = value
    (folder / file).write_text(json.dumps(document))
    with pytest.raises(Helix4DError, match=r"(model|ckpts|nobody|pipeline\.json|mean)"):
        Helix4DPipeline.from_pretrained(
            str(folder), str(folder), device="cpu", anchor=AnchorOptions(fit=True), offline=True
        )
