"""Reading and writing TRELLIS.2's checkpoint layout."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from helix4d.core import ConfigError, FormatError
from helix4d.model import (
    BASE,
    CheckpointSource,
    DenseDecoder,
    DenseDecoderConfig,
    DenseEncoder,
    DenseEncoderConfig,
    DenseFlow,
    FlowConfig,
    Pipeline,
    SparseDecoder,
    SparseDecoderConfig,
    SparseEncoder,
    SparseEncoderConfig,
    SparseFlow,
    VideoConfig,
    initialize_flow,
    initialize_vae,
    load_network,
    save_network,
)

_FLOW_SIZE = {"model_channels": 48, "cond_channels": 12, "num_blocks": 1, "num_heads": 2}
FLOW = FlowConfig(resolution=3, in_channels=4, out_channels=4, **_FLOW_SIZE)


def _networks():
    generator = torch.Generator().manual_seed(0)
    flows = [DenseFlow(FLOW), SparseFlow(FLOW, VideoConfig(window=1))]
    vaes = [
        DenseEncoder(DenseEncoderConfig(channels=(8, 16))),
        DenseDecoder(DenseDecoderConfig(channels=(16, 8))),
        SparseEncoder(SparseEncoderConfig(model_channels=(8, 16), num_blocks=(1, 1))),
        SparseDecoder(SparseDecoderConfig(model_channels=(16, 8), num_blocks=(1, 1))),
    ]
    for flow in flows:
        initialize_flow(flow, generator)
    for vae in vaes:
        initialize_vae(vae, generator)
    return [*flows, *vaes]


@pytest.mark.parametrize("network", _networks(), ids=lambda n: type(n).__name__)
def test_networks_round_trip(network, tmp_path):
    save_network(network, tmp_path, "ckpts/one")
    again = load_network(str(tmp_path), "ckpts/one")
    assert type(again) is type(network)
    assert again.config == network.config
    assert not again.training
    for (name, a), (other, b) in zip(network.state_dict().items(), again.state_dict().items(), strict=True):
        assert name == other
        assert torch.equal(a, b)
    first = (tmp_path / "ckpts/one.json").read_bytes()
    save_network(again, tmp_path, "ckpts/two")
    assert (tmp_path / "ckpts/two.json").read_bytes() == first
    assert (tmp_path / "ckpts/two.safetensors").read_bytes() == (tmp_path / "ckpts/one.safetensors").read_bytes()


def test_video_settings_are_stored_next_to_trellis2s(tmp_path):
    base, video = _networks()[:2]
    save_network(base, tmp_path, "ckpts/base")
    save_network(video, tmp_path, "ckpts/video")
    assert set(json.loads((tmp_path / "ckpts/base.json").read_text())) == {"name", "args"}
    document = json.loads((tmp_path / "ckpts/video.json").read_text())
    assert document["name"] == "SLatFlowModel"
    assert document["helix4d"]["window"] == 1
    assert load_network(str(tmp_path), "ckpts/video").video == VideoConfig(window=1)
    assert load_network(str(tmp_path), "ckpts/base").video == BASE


def test_released_configurations_round_trip_unchanged(tmp_path):
    args = {
        "resolution": 256,
        "model_channels": [16, 8],
        "latent_channels": 4,
        "num_blocks": [1, 0],
        "block_type": ["SparseConvNeXtBlock3d"] * 2,
        "up_block_type": ["SparseResBlockC2S3d"],
        "block_args": [{}, {}],
        "use_fp16": True,
    }
    network = SparseDecoder(SparseDecoderConfig.from_args(args))
    (tmp_path / "ckpts").mkdir()
    (tmp_path / "ckpts/dec.json").write_text(json.dumps({"name": "FlexiDualGridVaeDecoder", "args": args}))
    save_file({k: v.half() for k, v in network.state_dict().items()}, tmp_path / "ckpts/dec.safetensors")
    read = load_network(str(tmp_path), "ckpts/dec")
    assert {p.dtype for p in read.parameters()} == {torch.float16}
    save_network(read, tmp_path, "ckpts/again")
    assert json.loads((tmp_path / "ckpts/again.json").read_text()) == {"name": "FlexiDualGridVaeDecoder", "args": args}
    assert {p.dtype for p in load_network(str(tmp_path), "ckpts/dec", torch.float32).parameters()} == {torch.float32}


def test_stored_rope_phases_are_ignored_and_not_written(tmp_path):
    network = _networks()[0]
    save_network(network, tmp_path, "ckpts/one")
    tensors = load_file(tmp_path / "ckpts/one.safetensors")
    assert "rope_phases" not in tensors
    save_file({**tensors, "rope_phases": torch.zeros(27, 12, 2)}, tmp_path / "ckpts/one.safetensors")
    again = load_network(str(tmp_path), "ckpts/one")
    assert torch.equal(again.state_dict()["rope_phases"], network.state_dict()["rope_phases"])


def test_pipelines_round_trip_and_may_refer_to_other_repositories(tmp_path):
    dense, sparse, _, decoder, *_ = _networks()
    home, foreign = tmp_path / "home", tmp_path / "foreign"
    save_network(dense, home, "ckpts/flow")
    save_network(sparse, home, "ckpts/slat")
    save_network(decoder, foreign, "ckpts/dec")
    models = {
        "sparse_structure_flow_model": "ckpts/flow",
        "shape_slat_flow_model_512": "ckpts/slat",
        "sparse_structure_decoder": "someone/their-repository/ckpts/dec",
    }
    document = {"name": "Trellis2ImageTo3DPipeline", "args": {"models": models, "default_pipeline_type": "512"}}
    (home / "pipeline.json").write_text(json.dumps(document))
    source = CheckpointSource(str(home), mirrors={"someone/their-repository": str(foreign)})
    pipeline = Pipeline.from_pretrained(source)
    assert pipeline.args == {"default_pipeline_type": "512"}
    assert isinstance(pipeline.networks["sparse_structure_decoder"], DenseDecoder)
    some = Pipeline.from_pretrained(source, ["sparse_structure_flow_model"])
    assert list(some.networks) == ["sparse_structure_flow_model"]

    pipeline.save_pretrained(tmp_path / "copy")
    copy = Pipeline.from_pretrained(str(tmp_path / "copy"))
    assert copy.networks.keys() == pipeline.networks.keys()
    assert copy.args == pipeline.args
    with pytest.raises(ConfigError, match="does not list"):
        Pipeline.from_pretrained(source, ["tex_slat_decoder"])


def test_only_needed_files_are_requested_from_hub_repositories(tmp_path, monkeypatch):
    import huggingface_hub

    dense, _, _, decoder, *_ = _networks()
    save_network(dense, tmp_path, "ckpts/flow")
    save_network(decoder, tmp_path, "ckpts/dec")
    models = {"sparse_structure_flow_model": "ckpts/flow", "sparse_structure_decoder": "other/place/ckpts/dec"}
    (tmp_path / "pipeline.json").write_text(json.dumps({"name": "P", "args": {"models": models}}))
    requests = []

    def download(repository, name, revision=None, local_files_only=False):
        requests.append((repository, name, revision, local_files_only))
        return str(tmp_path / name)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    Pipeline.from_pretrained(CheckpointSource("some/where", revision="abc", offline=True))
    assert requests == [
        ("some/where", "pipeline.json", "abc", True),
        ("some/where", "ckpts/flow.json", "abc", True),
        ("some/where", "ckpts/flow.safetensors", "abc", True),
        ("other/place", "ckpts/dec.json", None, True),
        ("other/place", "ckpts/dec.safetensors", None, True),
    ]


def test_mismatched_weights_are_rejected_with_their_names(tmp_path):
    network = _networks()[0]
    save_network(network, tmp_path, "ckpts/one")
    tensors = load_file(tmp_path / "ckpts/one.safetensors")
    tensors["out_layer.bias"] = torch.zeros(9)
    tensors["strange"] = tensors.pop("input_layer.weight")
    save_file(tensors, tmp_path / "ckpts/one.safetensors")
    with pytest.raises(FormatError, match=r"1 missing tensors \['input_layer.weight'\], 1 unexpected \['strange'\]"):
        load_network(str(tmp_path), "ckpts/one")


@pytest.mark.parametrize("reference", ["../one", "/etc/one", "ckpts/../../one", "a\\b", "owner/repo/../../one"])
def test_paths_outside_the_folder_are_rejected(reference, tmp_path):
    with pytest.raises(FormatError, match="points outside its folder"):
        load_network(str(tmp_path), reference)


def test_broken_files_are_reported(tmp_path):
    (tmp_path / "ckpts").mkdir()
    with pytest.raises(FormatError, match=r"ckpts/one.json not found"):
        load_network(str(tmp_path), "ckpts/one")
    (tmp_path / "ckpts/one.json").write_text("{")
    with pytest.raises(FormatError, match="invalid JSON"):
        load_network(str(tmp_path), "ckpts/one")
    (tmp_path / "ckpts/one.json").write_text('{"name": "Mystery", "args": {}}')
    (tmp_path / "ckpts/one.safetensors").write_bytes(b"nonsense")
    with pytest.raises(FormatError, match="unknown network 'Mystery'"):
        load_network(str(tmp_path), "ckpts/one")
    (tmp_path / "ckpts/one.json").write_text(json.dumps({"name": "SLatFlowModel", "args": FLOW.to_args()}))
    with pytest.raises(FormatError, match="not a safetensors file"):
        load_network(str(tmp_path), "ckpts/one")
    with pytest.raises(FormatError, match="neither a folder nor a hub repository"):
        load_network("nowhere", "ckpts/one")
    with pytest.raises(ConfigError, match="unknown settings"):
        FlowConfig.from_args({**FLOW.to_args(), "surprise": 1})
