from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import CLIPConfig, CLIPModel, CLIPVisionConfig, CLIPVisionModelWithProjection

from helix4d.core import ConfigError, FormatError
from helix4d.evaluation.learned.towers.clip import BIG_G, ClipTower, load_clip
from helix4d.evaluation.learned.towers.transformer import VitConfig
from tests.evaluation.learned.published import randomized, under

TINY = VitConfig(image_size=28, patch=7, width=48, layers=3, heads=4, hidden=80, embedding=20)


def pixels(count: int = 2, size: int = TINY.image_size) -> torch.Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(1))


def vision_config(config: VitConfig) -> CLIPVisionConfig:
    return CLIPVisionConfig(
        hidden_size=config.width,
        intermediate_size=config.hidden,
        projection_dim=config.embedding,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        image_size=config.image_size,
        patch_size=config.patch,
        hidden_act="quick_gelu" if config.quick_gelu else "gelu",
    )


@pytest.mark.parametrize("quick", [False, True])
def test_features_are_those_of_transformers(tmp_path: Path, quick: bool) -> None:
    config = VitConfig(28, 7, 48, 3, 4, 80, 20, quick_gelu=quick)
    theirs = randomized(CLIPVisionModelWithProjection(vision_config(config)))
    save_file({k: v.contiguous() for k, v in theirs.state_dict().items()}, tmp_path / "model.safetensors")
    ours = load_clip(tmp_path / "model.safetensors", config)
    expected = theirs(pixels()).image_embeds
    assert expected.abs().max() > 0.1
    assert (ours(pixels()) - expected).abs().max() < 1e-5 * expected.abs().max()


def test_the_whole_clip_model_of_transformers_is_read(tmp_path: Path) -> None:
    text = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision = vision_config(TINY).to_dict()
    both = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=TINY.embedding))
    theirs = randomized(both)
    torch.save(theirs.state_dict(), tmp_path / "pytorch_model.bin")
    ours = load_clip(tmp_path / "pytorch_model.bin", TINY)
    expected = theirs.visual_projection(theirs.vision_model(pixels()).pooler_output)
    assert torch.allclose(ours(pixels()), expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


def test_open_clips_layout_is_read_without_its_text_tower(tmp_path: Path) -> None:
    tower = randomized(ClipTower(TINY))
    path = tmp_path / "open_clip_pytorch_model.bin"
    torch.save({**under("visual.", tower), "token_embedding.weight": torch.zeros(9, 4)}, path)
    assert torch.equal(load_clip(path, TINY)(pixels()), tower(pixels()))


def test_names_and_shapes_of_bigg_are_open_clips() -> None:
    """open_clip's `VisionTransformer`, model_configs/ViT-bigG-14.json."""
    with torch.device("meta"):
        shapes = {name: tuple(value.shape) for name, value in ClipTower(BIG_G).state_dict().items()}
    block = {
        "attn.in_proj_weight": (4992, 1664), "attn.in_proj_bias": (4992,),
        "attn.out_proj.weight": (1664, 1664), "attn.out_proj.bias": (1664,),
        "ln_1.weight": (1664,), "ln_1.bias": (1664,), "ln_2.weight": (1664,), "ln_2.bias": (1664,),
        "mlp.c_fc.weight": (8192, 1664), "mlp.c_fc.bias": (8192,),
        "mlp.c_proj.weight": (1664, 8192), "mlp.c_proj.bias": (1664,),
    }  # fmt: skip
    expected = {
        "conv1.weight": (1664, 3, 14, 14), "class_embedding": (1664,), "positional_embedding": (257, 1664),
        "ln_pre.weight": (1664,), "ln_pre.bias": (1664,), "ln_post.weight": (1664,), "ln_post.bias": (1664,),
        "proj": (1664, 1280),
    }  # fmt: skip
    expected |= {f"transformer.resblocks.{n}.{name}": shape for n in range(48) for name, shape in block.items()}
    assert shapes == expected
    millions = sum(math.prod(shape) for shape in shapes.values()) / 1e6
    assert round(millions, 2) == 1844.91  # open_clip's docs/model_profile.csv


def test_mismatched_tensors_are_listed(tmp_path: Path) -> None:
    tensors = under("visual.", ClipTower(TINY))
    tensors["visual.other"] = tensors.pop("visual.ln_pre.bias")
    tensors["visual.proj"] = torch.zeros(3, 3)
    path = tmp_path / "open_clip_model.safetensors"
    save_file({k: v.contiguous() for k, v in tensors.items()}, path)
    with pytest.raises(FormatError, match=r"1 tensors missing \['ln_pre.bias'\], 1 unknown \['other'\].*\(3, 3\)"):
        load_clip(path, TINY)
    save_file({"something": torch.zeros(1)}, path)
    with pytest.raises(FormatError, match="no tensors for ClipTower: expected names that begin with visual"):
        load_clip(path, TINY)
    save_file({"vision_model.embeddings.class_embedding": torch.zeros(1)}, path)
    with pytest.raises(FormatError, match=r"lacks 'vision_model\.embeddings\.patch_embedding\.weight'"):
        load_clip(path, TINY)


def test_more_layers_than_expected_are_reported(tmp_path: Path) -> None:
    theirs = CLIPVisionModelWithProjection(vision_config(VitConfig(28, 7, 48, 4, 4, 80, 20)))
    save_file({k: v.contiguous() for k, v in theirs.state_dict().items()}, tmp_path / "model.safetensors")
    with pytest.raises(FormatError, match=r"unknown \['vision_model.encoder.layers.3"):
        load_clip(tmp_path / "model.safetensors", TINY)


def test_sizes_that_do_not_divide_are_refused() -> None:
    with pytest.raises(ConfigError, match="image_size 30 must be divisible by patch 7"):
        VitConfig(30, 7, 48, 3, 4, 80, 20)
