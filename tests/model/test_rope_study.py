"""Truncation study on a tiny random checkpoint: full rotary is exact, the table complete, the noise reproducible."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image

from helix4d.core import ConfigError
from helix4d.model.checkpoint.checkpoint import Pipeline
from helix4d.model.networks.config import BASE, DenseDecoderConfig, FlowConfig, SparseDecoderConfig
from helix4d.model.networks.flow import DenseFlow, SparseFlow
from helix4d.model.networks.initialize import initialize_vae
from helix4d.model.networks.sparse import SparseLayout, SparseTensor
from helix4d.model.sampling.stages import named_noise, sample_texture, sampler_from_json
from helix4d.model.studies.rope_study import PAPER, SHARES, StudyNetworks, chamfer_distance, format_table, study_rope
from helix4d.model.vae.dense_vae import DenseDecoder
from helix4d.model.vae.sc_vae import SparseDecoder
from tests.packages import needs


def _flow(build, config, seed):
    network = build(config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.15)
    return network.eval()


def _pipeline(cond_channels=16) -> Pipeline:
    common = {"model_channels": 64, "cond_channels": cond_channels, "num_blocks": 1, "num_heads": 2}
    generator = torch.Generator().manual_seed(5)
    decoder = DenseDecoder(DenseDecoderConfig(channels=(8, 8, 8), num_res_blocks=1, num_res_blocks_middle=0))
    shape = SparseDecoder(SparseDecoderConfig(model_channels=(16, 8), latent_channels=32, num_blocks=(1, 0)))
    initialize_vae(decoder, generator)
    initialize_vae(shape, generator)
    structure = FlowConfig(resolution=4, in_channels=8, out_channels=8, **common)
    tokens = FlowConfig(resolution=8, in_channels=32, out_channels=32, **common)
    sampler = {
        "args": {"sigma_min": 1e-5},
        "params": {"steps": 2, "guidance_strength": 2.0, "guidance_rescale": 0.5, "guidance_interval": [0.5, 1.0]},
    }
    return Pipeline(
        {
            "sparse_structure_flow_model": _flow(DenseFlow, structure, 1),
            "sparse_structure_decoder": decoder.eval(),
            "shape_slat_flow_model_512": _flow(SparseFlow, tokens, 2),
            "shape_slat_decoder": shape.eval(),
        },
        {"sparse_structure_sampler": sampler, "shape_slat_sampler": sampler},
    )


def test_the_study():
    pipeline = _pipeline()
    cond = torch.randn(1, 5, 16, generator=torch.Generator().manual_seed(0))
    structure = StudyNetworks(
        pipeline.networks["sparse_structure_flow_model"], pipeline.networks["sparse_structure_decoder"]
    )
    networks = StudyNetworks.from_pipeline(pipeline)
    assert networks.shape_sampler.steps == 2
    said: list[str] = []
    rows = study_rope(networks, cond, (0.0, 1.0), progress=said.append)
    assert len(said) == 2
    assert [row.pairs for row in rows] == [0, 5]
    full = rows[-1]
    assert (full.chamfer, full.overlap, full.objects) == (pytest.approx(0, abs=1e-6), 1.0, 1)
    assert rows[0].chamfer > 1e-5
    assert networks.structure_flow.video == BASE  # restored
    assert study_rope(structure, cond, (0.0,)) == study_rope(structure, cond, (0.0,))
    table = format_table(rows, 32)
    assert "0.0181" in table
    assert len(table.splitlines()) == 3


def test_paper_table_covers_the_default_shares():
    assert set(PAPER) == set(SHARES)


def test_chamfer_distance():
    a = torch.tensor([[0.0, 0, 0], [1, 0, 0]])
    assert chamfer_distance(a, a) == 0
    assert chamfer_distance(a, a[:1]) == pytest.approx(0.5 + 0)
    assert chamfer_distance(a[:1], a) == pytest.approx(0 + 0.5)
    assert not math.isnan(chamfer_distance(a, a + 1))


def test_networks_of_stage_two_must_be_passed_together():
    pipeline = _pipeline()
    del pipeline.networks["shape_slat_decoder"]
    with pytest.raises(ConfigError, match="passed together"):
        StudyNetworks.from_pipeline(pipeline)


def test_noise_depends_only_on_its_names():
    assert torch.equal(named_noise((3, 4), "a", 1), named_noise((3, 4), "a", 1))
    assert not torch.equal(named_noise((3, 4), "a", 1), named_noise((3, 4), "a", 2))


def test_sampler_entry_of_a_pipeline():
    settings = sampler_from_json({"args": {"sigma_min": 1e-4}, "params": {"steps": 7, "guidance_strength": 3.0}})
    assert (settings.steps, settings.guidance, settings.sigma_min, settings.rescale_t) == (7, 3.0, 1e-4, 1.0)


def test_texture_stage_receives_the_normalized_shape_as_side_input():
    flow = _flow(
        SparseFlow,
        FlowConfig(
            resolution=32,
            in_channels=64,
            out_channels=32,
            model_channels=64,
            cond_channels=16,
            num_blocks=1,
            num_heads=2,
        ),
        3,
    )
    layout = SparseLayout.from_coords(torch.tensor([[0, 1, 2, 3], [0, 4, 5, 6], [1, 1, 1, 1]]))
    shape = SparseTensor(torch.randn(3, 32, generator=torch.Generator().manual_seed(0)), layout)
    cond, noise = torch.zeros(2, 5, 16), named_noise((3, 32), "texture")
    first = sample_texture(flow, shape, cond, noise)
    assert first.feats.shape == (3, 32)
    other = sample_texture(flow, shape.replace(shape.feats + 1), cond, noise)
    assert not torch.equal(first.feats, other.feats)


@needs("tyro")
def test_the_command(tmp_path, capsys):
    from helix4d.cli.study import run

    transformers = pytest.importorskip("transformers", reason="the image encoder needs transformers")
    _pipeline().save_pretrained(tmp_path / "checkpoint")
    config = transformers.DINOv3ViTConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, num_register_tokens=4
    )
    transformers.DINOv3ViTModel(config).save_pretrained(tmp_path / "encoder")
    (tmp_path / "images").mkdir()
    pixels = np.full((20, 20, 4), 200, dtype=np.uint8)
    Image.fromarray(pixels, "RGBA").save(tmp_path / "images/one.png")
    arguments = ["--checkpoint", str(tmp_path / "checkpoint"), "--images", str(tmp_path / "images")]
    arguments += ["--encoder", str(tmp_path / "encoder"), "--shares", "0", "1", "--image-size", "32"]
    arguments += ["--structure-only", "--output", str(tmp_path / "table.json")]
    assert run(["rope", *arguments]) == 0
    assert "chamfer" in capsys.readouterr().out
    assert (tmp_path / "table.json").is_file()
