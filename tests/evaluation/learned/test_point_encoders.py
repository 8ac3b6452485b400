"""ULIP-2, Uni3D and EVA02-E: published names, and comparison to their definitions written without modules."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import BeitConfig, ViTConfig
from transformers.models.beit.modeling_beit import BeitLayer
from transformers.models.vit.modeling_vit import ViTLayer

from helix4d.core import ConfigError, FormatError
from helix4d.evaluation.learned.points import group
from helix4d.evaluation.learned.towers.eva import EVA02_E_PLUS, EvaTower, load_eva
from helix4d.evaluation.learned.towers.point_tokens import PointEncoderConfig
from helix4d.evaluation.learned.towers.transformer import Block, BlockConfig, VitConfig
from helix4d.evaluation.learned.towers.ulip import ULIP2, UlipEncoder, load_ulip
from helix4d.evaluation.learned.towers.uni3d import UNI3D_G, Uni3dEncoder, load_uni3d
from tests.evaluation.learned.published import randomized, timm_block, under

TINY_ULIP = PointEncoderConfig(groups=12, size=5, token=24, width=16, layers=2, heads=2, hidden=64, embedding=10)
TINY_UNI3D = PointEncoderConfig(groups=12, size=6, token=24, width=16, layers=2, heads=2, hidden=40, embedding=10)
TINY_EVA = VitConfig(image_size=28, patch=7, width=32, layers=2, heads=4, hidden=50, embedding=12)


def clouds(count: int = 2, points: int = 80) -> Tensor:
    return torch.rand(count, points, 6, generator=torch.Generator().manual_seed(2)) - torch.tensor([0.5] * 3 + [0] * 3)


def shapes(build: type[nn.Module], config: object) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        return {name: tuple(value.shape) for name, value in build(config).state_dict().items()}


def millions(named: dict[str, tuple[int, ...]], more: int = 0) -> float:
    return round((sum(math.prod(shape) for shape in named.values()) + more) / 1e6, 2)


def linear(name: str, out: int, inputs: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (out, inputs), f"{name}.bias": (out,)}


def norm(name: str, width: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def convolutions(prefix: str, token: int) -> dict[str, tuple[int, ...]]:
    named: dict[str, tuple[int, ...]] = {}
    for part, (inputs, middle, out) in {"first_conv": (6, 128, 256), "second_conv": (512, 512, token)}.items():
        named |= {f"{part}.0.weight": (middle, inputs, 1), f"{part}.0.bias": (middle,)} | norm(f"{part}.1", middle)
        named |= {f"{part}.1.running_mean": (middle,), f"{part}.1.running_var": (middle,)}
        named |= {f"{part}.1.num_batches_tracked": (), f"{part}.3.weight": (out, middle, 1), f"{part}.3.bias": (out,)}
    return {prefix + name: shape for name, shape in named.items()}


def test_names_and_shapes_of_ulip2_are_those_of_its_repository() -> None:
    """salesforce/ULIP: models/pointbert/{point_encoder,dvae}.py, models/ULIP_models.py, the 10k colored yaml."""
    p = "point_encoder."
    expected = convolutions(f"{p}encoder.", 256) | linear(f"{p}reduce_dim", 384, 256) | norm(f"{p}norm", 384)
    expected |= {f"{p}cls_token": (1, 1, 384), f"{p}cls_pos": (1, 1, 384), "pc_projection": (768, 1280)}
    expected |= linear(f"{p}pos_embed.0", 128, 3) | linear(f"{p}pos_embed.2", 384, 128)
    for n in range(18):
        b = f"{p}blocks.blocks.{n}."
        expected |= norm(f"{b}norm1", 384) | norm(f"{b}norm2", 384) | {f"{b}attn.qkv.weight": (1152, 384)}
        expected |= linear(f"{b}attn.proj", 384, 384)
        expected |= linear(f"{b}mlp.fc1", 1536, 384) | linear(f"{b}mlp.fc2", 384, 1536)
    assert shapes(UlipEncoder, ULIP2) == expected


def eva_block(b: str, width: int, hidden: int) -> dict[str, tuple[int, ...]]:
    named = norm(f"{b}norm1", width) | norm(f"{b}norm2", width) | linear(f"{b}attn.proj", width, width)
    named |= {f"{b}attn.qkv.weight": (3 * width, width), f"{b}attn.q_bias": (width,), f"{b}attn.v_bias": (width,)}
    return named | linear(f"{b}mlp.fc1", hidden, width) | linear(f"{b}mlp.fc2", width, hidden)


def test_names_and_shapes_of_uni3d_giant_are_those_of_its_repository() -> None:
    """baaivision/Uni3D: models/point_encoder.py, scripts/inference.sh; timm 0.9.7: eva_giant_patch14_560."""
    p = "point_encoder."
    expected = convolutions(f"{p}encoder.", 512) | linear(f"{p}encoder2trans", 1408, 512)
    expected |= linear(f"{p}trans2embed", 1024, 1408) | norm(f"{p}visual.fc_norm", 1408)
    expected |= {f"{p}cls_token": (1, 1, 1408), f"{p}cls_pos": (1, 1, 1408)}
    expected |= linear(f"{p}pos_embed.0", 128, 3) | linear(f"{p}pos_embed.2", 1408, 128)
    for n in range(40):
        expected |= eva_block(f"{p}visual.blocks.{n}.", 1408, 6144)
    assert shapes(Uni3dEncoder, UNI3D_G) == expected
    unused = {"patch_embed": 1408 * 3 * 14 * 14 + 1408, "tokens": 1408 * (40 * 40 + 2), "head": 1000 * 1408 + 1000}
    giant = millions({name: shape for name, shape in expected.items() if "visual" in name}, sum(unused.values()))
    assert giant == 1014.45  # timm's results of eva_giant_patch14_560


def test_names_and_shapes_of_eva02_e_plus_are_timms() -> None:
    """timm: eva02_enormous_patch14_clip_224."""
    expected = {"patch_embed.proj.weight": (1792, 3, 14, 14), "patch_embed.proj.bias": (1792,)}
    expected |= {"cls_token": (1, 1, 1792), "pos_embed": (1, 257, 1792)}
    expected |= norm("norm", 1792) | linear("head", 1024, 1792)
    for n in range(64):
        expected |= eva_block(f"blocks.{n}.", 1792, 15360)
    assert shapes(EvaTower, EVA02_E_PLUS) == expected
    assert millions(expected) == 4350.56  # open_clip's docs/model_profile.csv


def attention(w: dict[str, Tensor], x: Tensor, heads: int) -> Tensor:
    """Softmax attention, head by head."""
    width = x.shape[-1]
    bias = w.get(
        "qkv.bias",
        torch.cat([w.get("q_bias", x.new_zeros(width)), x.new_zeros(width), w.get("v_bias", x.new_zeros(width))]),
    )
    q, k, v = (x @ w["qkv.weight"].T + bias).split(width, dim=-1)
    size = width // heads
    parts = []
    for h in range(heads):
        here = slice(h * size, (h + 1) * size)
        scores = (q[..., here] @ k[..., here].transpose(-1, -2)) / size**0.5
        parts.append(scores.softmax(dim=-1) @ v[..., here])
    return torch.cat(parts, dim=-1) @ w["proj.weight"].T + w["proj.bias"]


def normed(w: dict[str, Tensor], name: str, x: Tensor, eps: float) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], w[f"{name}.weight"], w[f"{name}.bias"], eps)


def block(w: dict[str, Tensor], x: Tensor, config: BlockConfig) -> Tensor:
    a = {name.removeprefix("attn."): value for name, value in w.items() if name.startswith("attn.")}

    def mlp(y: Tensor) -> Tensor:
        hidden = y @ w["mlp.fc1.weight"].T + w["mlp.fc1.bias"]
        hidden = hidden * torch.sigmoid(1.702 * hidden) if config.quick_gelu else F.gelu(hidden)
        return hidden @ w["mlp.fc2.weight"].T + w["mlp.fc2.bias"]

    if config.post_norm:
        x = x + normed(w, "norm1", attention(a, x, config.heads), config.eps)
        return x + normed(w, "norm2", mlp(x), config.eps)
    x = x + attention(a, normed(w, "norm1", x, config.eps), config.heads)
    return x + mlp(normed(w, "norm2", x, config.eps))


@pytest.mark.parametrize(
    "config",
    [
        BlockConfig(12, 3, 20),
        BlockConfig(12, 3, 20, bias="none", eps=1e-5),
        BlockConfig(12, 3, 20, bias="split", post_norm=True),
        BlockConfig(12, 2, 20, bias="split", quick_gelu=True),
    ],
)
def test_a_block_is_its_definition(config: BlockConfig) -> None:
    ours = randomized(Block(config))
    x = torch.randn(2, 7, 12, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(ours(x), block(dict(ours.state_dict()), x, config), atol=1e-5)


@pytest.mark.parametrize("bias", ["full", "none", "split"])
def test_a_block_is_transformers_layer(bias: str) -> None:
    """Point-BERT's and DINO's blocks are ViT's, EVA's are BEiT's without relative positions and layer scale."""
    sizes = {"hidden_size": 12, "num_attention_heads": 3, "intermediate_size": 20, "layer_norm_eps": 1e-6}
    if bias == "split":
        theirs = randomized(BeitLayer(BeitConfig(**sizes, layer_scale_init_value=0.0)))
    else:
        theirs = randomized(ViTLayer(ViTConfig(**sizes, qkv_bias=bias == "full")))
    ours = Block(BlockConfig(12, 3, 20, bias=bias)).eval()
    ours.load_state_dict(timm_block(theirs.state_dict()))
    x = torch.randn(2, 7, 12, generator=torch.Generator().manual_seed(0))
    expected = theirs(x)
    expected = expected[0] if isinstance(expected, tuple) else expected
    assert (ours(x) - expected).abs().max() < 1e-5 * expected.abs().max()


def test_impossible_blocks_are_refused() -> None:
    with pytest.raises(ConfigError, match="width 10 must be divisible by heads 3"):
        BlockConfig(10, 3, 20)
    with pytest.raises(ConfigError, match="must be full"):
        BlockConfig(12, 3, 20, bias="some")


def tokens(w: dict[str, Tensor], prefix: str, members: Tensor) -> Tensor:
    """The small PointNet, point by point."""

    def layer(name: str, x: Tensor) -> Tensor:
        x = x @ w[f"{prefix}{name}.0.weight"][..., 0].T + w[f"{prefix}{name}.0.bias"]
        mean, variance = w[f"{prefix}{name}.1.running_mean"], w[f"{prefix}{name}.1.running_var"]
        x = (x - mean) / (variance + 1e-5).sqrt() * w[f"{prefix}{name}.1.weight"] + w[f"{prefix}{name}.1.bias"]
        return x.relu() @ w[f"{prefix}{name}.3.weight"][..., 0].T + w[f"{prefix}{name}.3.bias"]

    each = layer("first_conv", members)
    whole = each.max(dim=-2, keepdim=True).values.expand_as(each)
    return layer("second_conv", torch.cat([whole, each], dim=-1)).max(dim=-2).values


def positions(w: dict[str, Tensor], prefix: str, centers: Tensor) -> Tensor:
    hidden = F.gelu(centers @ w[f"{prefix}0.weight"].T + w[f"{prefix}0.bias"])
    return hidden @ w[f"{prefix}2.weight"].T + w[f"{prefix}2.bias"]


def part(w: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in w.items() if name.startswith(prefix)}


def test_ulip2_is_its_definition(tmp_path: Path) -> None:
    network = randomized(UlipEncoder(TINY_ULIP))
    path = tmp_path / "ulip.pt"
    state = {**under("module.", network), "module.logit_scale": torch.ones(())}
    torch.save({"state_dict": state, "args": argparse.Namespace(model="ULIP2_PointBERT_Colored"), "epoch": 1}, path)
    w = part(dict(network.state_dict()), "point_encoder.")
    members, centers = group(clouds(), TINY_ULIP.groups, TINY_ULIP.size)
    x = tokens(w, "encoder.", members) @ w["reduce_dim.weight"].T + w["reduce_dim.bias"]
    x = torch.cat([w["cls_token"].expand(2, -1, -1), x], dim=1)
    place = torch.cat([w["cls_pos"].expand(2, -1, -1), positions(w, "pos_embed.", centers)], dim=1)
    for n in range(TINY_ULIP.layers):
        x = block(part(w, f"blocks.blocks.{n}."), x + place, BlockConfig(16, 2, 64, bias="none", eps=1e-5))
    x = normed(w, "norm", x, 1e-5)
    expected = torch.cat([x[:, 0], x[:, 1:].max(dim=1).values], dim=-1) @ network.pc_projection
    assert torch.allclose(load_ulip(path, TINY_ULIP)(clouds()), expected, atol=1e-4)


def test_uni3d_is_its_definition(tmp_path: Path) -> None:
    network = randomized(Uni3dEncoder(TINY_UNI3D))
    path = tmp_path / "model.pt"
    eva = {"patch_embed.proj.weight": 4, "pos_embed": 3, "cls_token": 2, "head.weight": 1, "head.bias": 1}
    unused = {f"point_encoder.visual.{name}": torch.zeros(size) for name, size in eva.items()}
    torch.save({"module": {**network.state_dict(), **unused, "logit_scale": torch.ones(())}}, path)
    w = part(dict(network.state_dict()), "point_encoder.")
    members, centers = group(clouds(), TINY_UNI3D.groups, TINY_UNI3D.size)
    x = tokens(w, "encoder.", members) @ w["encoder2trans.weight"].T + w["encoder2trans.bias"]
    x = torch.cat([w["cls_token"].expand(2, -1, -1), x], dim=1)
    x = x + torch.cat([w["cls_pos"].expand(2, -1, -1), positions(w, "pos_embed.", centers)], dim=1)
    for n in range(TINY_UNI3D.layers):
        x = block(part(w, f"visual.blocks.{n}."), x, BlockConfig(16, 2, 40, bias="split"))
    x = normed(w, "visual.fc_norm", x[:, 0], 1e-6)
    expected = x @ w["trans2embed.weight"].T + w["trans2embed.bias"]
    assert torch.allclose(load_uni3d(path, TINY_UNI3D)(clouds()), expected, atol=1e-4)


def test_eva02_is_its_definition(tmp_path: Path) -> None:
    network = randomized(EvaTower(TINY_EVA))
    path = tmp_path / "open_clip_pytorch_model.bin"
    torch.save({**under("visual.trunk.", network), "text.token_embedding.weight": torch.zeros(3)}, path)
    w = dict(network.state_dict())
    pixels = torch.randn(2, 3, 28, 28, generator=torch.Generator().manual_seed(3))
    patches = pixels.unfold(2, 7, 7).unfold(3, 7, 7).permute(0, 2, 3, 1, 4, 5).reshape(2, 16, -1)
    x = patches @ w["patch_embed.proj.weight"].flatten(1).T + w["patch_embed.proj.bias"]
    x = torch.cat([w["cls_token"].expand(2, -1, -1), x], dim=1) + w["pos_embed"]
    for n in range(TINY_EVA.layers):
        x = block(part(w, f"blocks.{n}."), x, BlockConfig(32, 4, 50, bias="split", post_norm=True))
    expected = normed(w, "norm", x, 1e-6)[:, 0] @ w["head.weight"].T + w["head.bias"]
    assert torch.allclose(load_eva(path, TINY_EVA)(pixels), expected, atol=1e-4)


@pytest.mark.parametrize("network", [UlipEncoder(TINY_ULIP), Uni3dEncoder(TINY_UNI3D)])
def test_features_do_not_depend_on_the_order_of_points(network: nn.Module) -> None:
    network = randomized(network)
    order = torch.cat([torch.zeros(1, dtype=torch.long), 1 + torch.randperm(79)])
    assert torch.allclose(network(clouds()[:, order]), network(clouds()), atol=1e-5)
    assert not torch.allclose(network(clouds().flip(-1)), network(clouds()), atol=1e-2)


def test_mismatched_tensors_are_listed(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save({"module": Uni3dEncoder(TINY_UNI3D).state_dict()}, path)
    with pytest.raises(FormatError, match=r"model\.pt: does not match UlipEncoder: .*tensors missing.*unknown"):
        load_ulip(path, TINY_ULIP)
    with pytest.raises(FormatError, match="of another shape"):
        load_uni3d(path, UNI3D_G)
    with pytest.raises(FormatError, match="no tensors for EvaTower"):
        load_eva(path, TINY_EVA)
