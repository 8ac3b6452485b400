from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection, ViTConfig, ViTModel

from helix4d.core import ConfigError, FormatError
from helix4d.evaluation.learned.pictures import CLIP_PIXELS, IMAGENET_PIXELS
from helix4d.evaluation.learned.towers.dreamsim import CLIP, DINO, ENSEMBLE, Branch, BranchConfig, load_dreamsim
from helix4d.evaluation.learned.towers.transformer import VitConfig
from tests.evaluation.learned.published import randomized, timm_vit

SIZES = VitConfig(image_size=28, patch=7, width=24, layers=2, heads=3, hidden=96, embedding=10)
TINY = (
    BranchConfig(IMAGENET_PIXELS, clip=False, sizes=SIZES),
    BranchConfig(CLIP_PIXELS, clip=True, sizes=replace(SIZES, quick_gelu=True)),
    BranchConfig(CLIP_PIXELS, clip=True, sizes=SIZES),
)
RANK, ALPHA = 4, 0.5


def images(seed: int) -> Tensor:
    return torch.rand(3, 3, 28, 28, generator=torch.Generator().manual_seed(seed))


def saved(folder: Path, configs: tuple[BranchConfig, ...]) -> tuple[list[Branch], list[Path], Path, dict[str, Tensor]]:
    """Base ViTs and an adapter in the layouts of DreamSim 0.2."""
    branches = [randomized(Branch(config), seed) for seed, config in enumerate(configs)]
    paths = []
    for index, branch in enumerate(branches):
        path = folder / f"branch_{index}.pth"
        state = dict(branch.state_dict())
        torch.save({"state_dict": state} if index else state, path)  # DINO's own file is the bare state
        paths.append(path)
    random = torch.Generator().manual_seed(9)
    adapter = {}
    for index in range(len(configs)):
        for layer in range(SIZES.layers):
            name = f"base_model.model.extractor_list.{index}.model.blocks.{layer}.attn.qkv"
            adapter[f"{name}.lora_A.weight"] = torch.randn(RANK, 24, generator=random)
            adapter[f"{name}.lora_B.weight"] = torch.randn(72, RANK, generator=random)
    lora = folder / "ensemble_lora"
    lora.mkdir(exist_ok=True)
    save_file(adapter, lora / "adapter_model.safetensors")
    (lora / "adapter_config.json").write_text(json.dumps({"r": RANK, "lora_alpha": ALPHA, "bias": "none"}))
    return branches, paths, lora / "adapter_model.safetensors", adapter


def test_names_of_the_branches_are_those_of_dino_and_dreamsim() -> None:
    """facebookresearch/dino: vit_base; ssundaram21/dreamsim: load_clip_as_dino."""
    with torch.device("meta"):
        dino, clip = ({k: tuple(v.shape) for k, v in Branch(c).state_dict().items()} for c in (DINO, CLIP))
    block = {
        "norm1.weight": (768,), "norm1.bias": (768,), "norm2.weight": (768,), "norm2.bias": (768,),
        "attn.qkv.weight": (2304, 768), "attn.qkv.bias": (2304,),
        "attn.proj.weight": (768, 768), "attn.proj.bias": (768,),
        "mlp.fc1.weight": (3072, 768), "mlp.fc1.bias": (3072,), "mlp.fc2.weight": (768, 3072), "mlp.fc2.bias": (768,),
    }  # fmt: skip
    expected = {"cls_token": (1, 1, 768), "pos_embed": (1, 197, 768), "patch_embed.proj.weight": (768, 3, 16, 16)}
    expected |= {"patch_embed.proj.bias": (768,), "norm.weight": (768,), "norm.bias": (768,)}
    expected |= {f"blocks.{n}.{name}": shape for n in range(12) for name, shape in block.items()}
    assert dino == expected
    assert clip == expected | {"pos_drop.weight": (768,), "pos_drop.bias": (768,), "proj": (768, 512)}
    assert len(ENSEMBLE) == 3


def test_clip_branches_are_clips_image_tower() -> None:
    for config, activation in ((TINY[1], "quick_gelu"), (TINY[2], "gelu")):
        theirs = randomized(
            CLIPVisionModelWithProjection(
                CLIPVisionConfig(
                    hidden_size=24, intermediate_size=96, projection_dim=10, num_hidden_layers=2, num_attention_heads=3,
                    image_size=28, patch_size=7, hidden_act=activation,
                )
            )
        )  # fmt: skip
        w = theirs.state_dict()
        v = "vision_model."
        state = {
            "cls_token": w[f"{v}embeddings.class_embedding"].view(1, 1, -1),
            "pos_embed": w[f"{v}embeddings.position_embedding.weight"][None],
            "patch_embed.proj.weight": w[f"{v}embeddings.patch_embedding.weight"],
            "patch_embed.proj.bias": torch.zeros(24),
            "proj": w["visual_projection.weight"].T,
        }
        for ours, old in (("pos_drop", "pre_layrnorm"), ("norm", "post_layernorm")):
            state |= {f"{ours}.{p}": w[f"{v}{old}.{p}"] for p in ("weight", "bias")}
        for n in range(2):
            for p in ("weight", "bias"):
                layer = f"{v}encoder.layers.{n}."
                state[f"blocks.{n}.attn.qkv.{p}"] = torch.cat([w[f"{layer}self_attn.{q}_proj.{p}"] for q in "qkv"])
                for ours, old in (
                    ("norm1", "layer_norm1"), ("norm2", "layer_norm2"), ("attn.proj", "self_attn.out_proj"),
                    ("mlp.fc1", "mlp.fc1"), ("mlp.fc2", "mlp.fc2"),
                ):  # fmt: skip
                    state[f"blocks.{n}.{ours}.{p}"] = w[f"{layer}{old}.{p}"]
        branch = Branch(config).eval()
        branch.load_state_dict(state)
        expected = theirs(CLIP_PIXELS.normalize(images(0))).image_embeds
        assert torch.allclose(branch(images(0)), expected, atol=1e-5 * float(expected.abs().max()))


def test_the_dino_branch_is_transformers_vit() -> None:
    config = ViTConfig(
        hidden_size=24, intermediate_size=96, num_hidden_layers=2, num_attention_heads=3, image_size=28, patch_size=7,
        layer_norm_eps=1e-6,
    )  # fmt: skip
    theirs = randomized(ViTModel(config, add_pooling_layer=False))
    branch = Branch(TINY[0]).eval()
    branch.load_state_dict(timm_vit(theirs.state_dict(), layers=2))
    hidden = theirs(IMAGENET_PIXELS.normalize(images(0)), output_hidden_states=True).hidden_states
    expected = hidden[-1][:, 0]
    assert expected.abs().max() > 0.1
    assert (branch(images(0)) - expected).abs().max() < 1e-5 * expected.abs().max()


def test_dinos_feature_is_the_class_token_before_the_last_norm() -> None:
    branch = randomized(Branch(TINY[0]))
    before = branch(images(0))
    branch.norm.weight.zero_()
    assert torch.equal(branch(images(0)), before)
    assert before.shape == (3, 24)


def test_the_ensemble_is_the_base_with_low_rank_layers_beside_it(tmp_path: Path) -> None:
    branches, paths, adapter, tensors = saved(tmp_path, TINY)
    ours = load_dreamsim(paths, adapter, TINY)
    features = {}
    for seed in (0, 1):
        each = []
        for index, branch in enumerate(branches):
            hooks = []
            for layer, block in enumerate(branch.blocks):
                name = f"base_model.model.extractor_list.{index}.model.blocks.{layer}.attn.qkv"
                a, b = tensors[f"{name}.lora_A.weight"], tensors[f"{name}.lora_B.weight"]
                hooks.append(
                    block.attn.qkv.register_forward_hook(
                        lambda _, x, y, a=a, b=b: y + (x[0] @ a.T @ b.T) * (ALPHA / RANK)
                    )
                )
            each.append(branch(images(seed)))
            for hook in hooks:
                hook.remove()
        joined = torch.cat(each, dim=1)
        unit = joined / joined.norm(dim=1, keepdim=True)
        features[seed] = unit - unit.mean(dim=1, keepdim=True)  # the order of release 0.1
    expected = 1 - torch.cosine_similarity(features[0], features[1])
    assert expected.min() > 0.01
    assert torch.allclose(ours(images(0), images(1)), expected, atol=1e-5)
    assert ours(images(0), images(0)).abs().max() < 1e-6


def test_one_branch_alone(tmp_path: Path) -> None:
    _, paths, adapter, _ = saved(tmp_path, TINY[:1])
    network = load_dreamsim(paths, adapter, TINY[:1])
    assert network.embed(images(0)).shape == (3, 24)
    with pytest.raises(FormatError, match="2 branches: missing"):
        load_dreamsim(paths * 2, adapter, TINY[:1] * 2)
    with pytest.raises(ConfigError, match="1 checkpoints for 3"):
        load_dreamsim(paths, adapter, TINY)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"use_dora": True}, "use_dora"),
        ({"enable_lora": [True, False, True]}, "enable_lora"),
        ({"bias": "all"}, "bias all"),
        ({"r": 0}, "rank 0"),
    ],
)
def test_other_kinds_of_adapters_are_refused(tmp_path: Path, change: dict[str, object], message: str) -> None:
    _, paths, adapter, _ = saved(tmp_path, TINY[:1])
    config = adapter.with_name("adapter_config.json")
    config.write_text(json.dumps({"r": RANK, "lora_alpha": ALPHA, "bias": "none", **change}))
    with pytest.raises(FormatError, match=message):
        load_dreamsim(paths, adapter, TINY[:1])
    config.unlink()
    with pytest.raises(FormatError, match="not the configuration"):
        load_dreamsim(paths, adapter, TINY[:1])


def test_adapters_of_other_networks_are_refused(tmp_path: Path) -> None:
    _, paths, adapter, tensors = saved(tmp_path, TINY[:1])
    save_file({**tensors, "base_model.model.head.lora_A.weight": torch.zeros(1)}, adapter)
    with pytest.raises(FormatError, match=r"unknown \['base_model.model.head"):
        load_dreamsim(paths, adapter, TINY[:1])
    save_file(
        {name: value[:, :2].contiguous() if "lora_A" in name else value for name, value in tensors.items()}, adapter
    )
    with pytest.raises(FormatError, match=r"an update of shape \(72, 2\)"):
        load_dreamsim(paths, adapter, TINY[:1])
