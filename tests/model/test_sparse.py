"""Sparse tensors and the submanifold convolution, checked against a dense convolution and finite differences."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from helix4d.core import ConfigError
from helix4d.model.networks.config import SparseDecoderConfig, SparseEncoderConfig
from helix4d.model.networks.convolution.sparse_conv import gather_conv, submanifold_conv
from helix4d.model.networks.initialize import initialize_vae
from helix4d.model.networks.sparse import SparseLayout, SparseTensor, concatenate
from helix4d.model.vae.sc_vae import SparseDecoder, SparseEncoder, channel_to_space, space_to_channel
from tests.triton_interpreter import needs_triton, run_interpreted


def _layout(seed: int, side: int = 6, samples: int = 2, share: float = 0.3) -> SparseLayout:
    generator = torch.Generator().manual_seed(seed)
    occupied = torch.rand(samples, side, side, side, generator=generator) < share
    return SparseLayout(occupied.nonzero().to(torch.int32), samples)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.02, 0.3, 1.0]))
def test_convolution_equals_a_dense_one_on_the_active_voxels(seed, share):
    layout = _layout(seed, share=share)
    # Voxels are shuffled within a sample: the result must not depend on their order.
    order = torch.randperm(len(layout), generator=torch.Generator().manual_seed(seed))
    order = order[layout.coords[order, 0].argsort(stable=True)]
    layout = SparseLayout(layout.coords[order], 2)
    generator = torch.Generator().manual_seed(seed + 1)
    feats = torch.randn(len(layout), 5, generator=generator)
    weight, bias = torch.randn(4, 3, 3, 3, 5, generator=generator), torch.randn(4, generator=generator)
    grid = torch.zeros(2, 6, 6, 6, 5)
    sample, x, y, z = layout.coords.long().unbind(1)
    grid[sample, x, y, z] = feats
    dense = F.conv3d(grid.movedim(-1, 1), weight.movedim(-1, 1), bias, padding=1).movedim(1, -1)
    found = submanifold_conv(feats, weight.flatten(1, 3), bias, layout)
    torch.testing.assert_close(found, dense[sample, x, y, z], atol=1e-4, rtol=1e-4)


def test_convolution_gradients():
    layout = _layout(0, side=3, samples=1, share=0.6)
    generator = torch.Generator().manual_seed(0)
    shapes = ((len(layout), 2), (3, 27, 2), (3,))
    tensors = [torch.randn(s, generator=generator, dtype=torch.float64, requires_grad=True) for s in shapes]
    assert torch.autograd.gradcheck(lambda f, w, b: gather_conv(f, w, b, layout), tensors)


def test_half_types_are_accumulated_in_float32():
    layout = _layout(1, share=1.0)
    feats, weight = torch.ones(len(layout), 64, dtype=torch.bfloat16), torch.full((1, 27, 64), 0.01)
    out = gather_conv(feats, weight.bfloat16(), torch.zeros(1, dtype=torch.bfloat16), layout)
    inside = ((layout.coords[:, 1:] > 0) & (layout.coords[:, 1:] < 5)).all(1)
    expected = 27 * 64 * float(torch.tensor(0.01).bfloat16())
    torch.testing.assert_close(out[inside].float(), torch.full_like(out[inside].float(), expected), rtol=5e-3, atol=0)


def test_neighbor_map_is_its_own_mirror():
    layout = _layout(2)
    table = layout.neighbor_map
    for offset in range(27):
        dx, dy, dz = offset // 9 - 1, offset // 3 % 3 - 1, offset % 3 - 1
        found = table[offset] >= 0
        there = layout.coords[table[offset][found].long()]
        step = torch.tensor([0, dx, dy, dz], dtype=torch.int32)
        assert torch.equal(there, layout.coords[found] + step)
    assert int((table >= 0).sum()) == len(layout) + 2 * sum(len(pair.target) for pair in layout.pairs)


@pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 1.0])
def test_tiles_and_pairs_are_the_neighbor_map(share: float) -> None:
    layout = _layout(9, side=8, share=share)
    table, tiles, pairs = layout.neighbor_map, layout.gather_tiles, layout.offset_pairs
    found = torch.full_like(table, -1)
    for tile, (start, end) in enumerate(pairwise(tiles.first.tolist())):
        rows = tiles.targets[tile]
        for block in range(start, end):
            assert bool((tiles.sources[block] >= 0).any()), "no block without work"
            found[tiles.offsets[block], rows[rows >= 0].long()] = tiles.sources[block][rows >= 0]
    assert torch.equal(found, table)
    assert torch.equal(tiles.targets[tiles.targets >= 0].sort().values, torch.arange(len(layout), dtype=torch.int32))
    listed = torch.full_like(table, -1)
    for offset, (start, end) in enumerate(pairwise(pairs.starts.tolist())):
        listed[offset, pairs.writes[start:end].long()] = pairs.reads[start:end]
    assert torch.equal(listed, table)
    assert len(pairs.reads) == int((table >= 0).sum())


def test_tiles_leave_out_the_empty_sides_of_a_sheet() -> None:
    """On a flat sheet two voxels thick, each voxel lacks 9 neighbors: half of them those above, half those below."""
    sheet = torch.stack(torch.meshgrid(torch.arange(64), torch.arange(64), torch.arange(2), indexing="ij"), -1)
    layout = SparseLayout(torch.nn.functional.pad(sheet.flatten(0, 2), (1, 0)).to(torch.int32), 1)
    tiles = layout.gather_tiles
    assert len(tiles.offsets) / len(tiles.targets) < 19 < 27


def test_space_to_channel_and_back():
    layout = _layout(3)
    x = SparseTensor(torch.randn(len(layout), 3, generator=torch.Generator().manual_seed(0)), layout)
    folded = space_to_channel(x)
    _, parent, child = layout.coarse
    assert torch.equal(channel_to_space(folded.feats, parent, child), x.feats)
    assert folded.feats.count_nonzero() == x.feats.count_nonzero()  # missing children are zero
    back = folded.layout.children(parent, child)
    assert torch.equal(back.coords, layout.coords)


def test_caches_are_shared_by_tensors_of_one_layout():
    layout = _layout(4)
    x = SparseTensor(torch.zeros(len(layout), 1), layout)
    assert x.replace(torch.ones(len(layout), 7)).layout.pairs is layout.pairs


def test_encoder_and_decoder_accept_empty_inputs():
    encoder = SparseEncoder(SparseEncoderConfig(model_channels=(8, 16), latent_channels=4, num_blocks=(1, 1)))
    decoder = SparseDecoder(SparseDecoderConfig(model_channels=(16, 8), latent_channels=4, num_blocks=(1, 1)))
    for network in (encoder, decoder):
        initialize_vae(network, torch.Generator().manual_seed(0))
    empty = SparseLayout.from_coords(torch.zeros(0, 4, dtype=torch.int32), 3)
    mean, _ = encoder(SparseTensor(torch.zeros(0, 6), empty))
    assert mean.feats.shape == (0, 4)
    assert mean.layout.lengths == (0, 0, 0)
    assert decoder(SparseTensor(torch.zeros(0, 4), empty)).fields.feats.shape == (0, 7)


def test_samples_of_a_batch_are_independent():
    decoder = SparseDecoder(SparseDecoderConfig(model_channels=(16, 8), latent_channels=4, num_blocks=(1, 1)))
    initialize_vae(decoder, torch.Generator().manual_seed(0))
    layouts = [_layout(seed, samples=1) for seed in (5, 6)]
    generator = torch.Generator().manual_seed(0)
    alone = [SparseTensor(torch.randn(len(layout), 4, generator=generator), layout) for layout in layouts]
    with torch.no_grad():
        together = decoder(concatenate(alone)).fields
        apart = [decoder(z).fields for z in alone]
    for part, one in zip(together.split(), apart, strict=True):
        torch.testing.assert_close(part, one.feats, atol=1e-5, rtol=1e-5)


def test_a_texture_decoder_follows_the_shape():
    config = SparseDecoderConfig(
        out_channels=6, model_channels=(16, 8), latent_channels=4, num_blocks=(1, 1), pred_subdiv=False
    )
    decoder, layout = SparseDecoder(config), _layout(7)
    z = SparseTensor(torch.zeros(len(layout), 4), layout)
    with pytest.raises(ConfigError, match="predicts no subdivisions"):
        decoder(z)
    every = z.replace(torch.ones(len(layout), 8))
    assert len(decoder(z, [every]).fields.layout) == 8 * len(layout)
    shuffled = SparseTensor(every.feats, SparseLayout(layout.coords.flip(0), 2))
    with pytest.raises(ConfigError, match="differ from"):
        decoder(z, [shuffled])


@pytest.mark.parametrize(
    ("coords", "message"),
    [
        (torch.zeros(3, 3), r"expected \[N, 4\]"),
        (torch.tensor([[1, 0, 0, 0], [0, 0, 0, 0]]), "not grouped"),
        (torch.tensor([[0, -1, 0, 0]]), "minimum -1"),
        (torch.tensor([[0, 40000, 0, 0]]), "40000"),
        (torch.tensor([[5, 0, 0, 0]]), "batch size 2"),
    ],
)
def test_coordinates_are_checked(coords, message):
    with pytest.raises(ConfigError, match=message):
        SparseLayout.from_coords(coords, 2)


def test_invalid_widths_are_rejected():
    with pytest.raises(ConfigError, match="down block from 16 to 24"):
        SparseEncoderConfig(model_channels=(16, 24), num_blocks=(1, 1))
    with pytest.raises(ConfigError, match="model_channels has 2 levels and num_blocks has 1"):
        SparseDecoderConfig(model_channels=(16, 8), num_blocks=(1,))


@pytest.mark.slow
@needs_triton
def test_kernels_equal_gathers_in_tritons_interpreter() -> None:
    """Results and gradients in float16, bfloat16 and float32 against float64, without a GPU."""
    run_interpreted("tests.model.interpret_sparse_conv")


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("dtype", "bound"), [(torch.float16, 1e-3), (torch.bfloat16, 8e-3), (torch.float32, 2e-6)], ids=str
)
@pytest.mark.parametrize(("inner", "outer"), [(40, 24), (64, 64), (128, 256)])
def test_kernels_equal_gathers_on_a_gpu(dtype: torch.dtype, bound: float, inner: int, outer: int) -> None:
    """Against float64, gradients too; the same bits when repeated."""
    layout = _layout(8, side=24, samples=1, share=0.1)
    on_gpu = SparseLayout(layout.coords.cuda(), 1)
    generator = torch.Generator().manual_seed(0)
    shapes = ((len(layout), inner), (outer, 27, inner), (outer,), (len(layout), outer))
    *leaves, up = [torch.randn(shape, generator=generator).to("cuda", dtype) for shape in shapes]
    exact = [leaf.double().requires_grad_() for leaf in leaves]
    leaves = [leaf.requires_grad_() for leaf in leaves]
    expected, found, again = (
        gather_conv(*exact, on_gpu), submanifold_conv(*leaves, on_gpu), submanifold_conv(*leaves, on_gpu)
    )  # fmt: skip
    for ours, repeated, truth in zip(
        (found, *torch.autograd.grad(found, leaves, up)),
        (again, *torch.autograd.grad(again, leaves, up)),
        (expected, *torch.autograd.grad(expected, exact, up.double())),
        strict=True,
    ):
        assert torch.equal(ours, repeated)
        assert float((ours.double() - truth).detach().abs().max() / truth.detach().abs().max()) < bound
