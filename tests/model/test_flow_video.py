"""Flow networks on videos: one frame equals the base network, frames interact only in attention, caching is exact."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch._dynamo.utils import counters, is_frozen_dataclass
from torch.utils._python_dispatch import TorchDispatchMode

from helix4d.core import ConfigError
from helix4d.model.networks.attention.plan import AttentionBackend
from helix4d.model.networks.blocks import KeyValue
from helix4d.model.networks.config import BASE, AnchorQueries, AttentionPattern, FlowConfig, TemporalRotary, VideoConfig
from helix4d.model.networks.flow import Checkpointing, DenseFlow, SparseFlow
from helix4d.model.networks.frames import FrameLayout, frame_timesteps
from helix4d.model.networks.initialize import initialize_flow
from helix4d.model.networks.sparse import SparseLayout, SparseTensor
from helix4d.model.sampling.sampler import SamplerConfig, dense_spread, packed_spread, sample
from helix4d.model.sampling.velocities import (
    SparseAnchor,
    anchored_dense_velocity,
    anchored_sparse_velocity,
    dense_velocity,
    sparse_velocity,
)

DENSE = FlowConfig(
    resolution=3, in_channels=4, out_channels=4, model_channels=48, cond_channels=12, num_blocks=2, num_heads=2
)
SPARSE = replace(DENSE, resolution=8)
TEXTURE = replace(SPARSE, in_channels=8)


def _randomize(network, seed=0):
    """Initialize as for training, then add noise, because some layers start at zero and the output would be zero."""
    generator = torch.Generator().manual_seed(seed)
    initialize_flow(network, generator)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return network.eval()


def _dense(video, seed=0):
    return _randomize(DenseFlow(DENSE, video), seed)


def _sparse(video, config=SPARSE, seed=0):
    return _randomize(SparseFlow(config, video), seed)


def _voxels(lengths, seed=0, channels=4):
    generator = torch.Generator().manual_seed(seed)
    coords = []
    for frame, count in enumerate(lengths):
        places = torch.randperm(512, generator=generator)[:count].sort().values
        xyz = torch.stack([places // 64, places // 8 % 8, places % 8], dim=1)
        coords.append(torch.cat([torch.full((count, 1), frame), xyz], dim=1))
    feats = torch.randn(sum(lengths), channels, generator=generator)
    return SparseTensor.from_coords(feats, torch.cat(coords), len(lengths))


def _rand(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
@pytest.mark.parametrize("temporal", list(TemporalRotary))
@pytest.mark.parametrize("pattern", list(AttentionPattern))
def test_one_frame_with_all_pairs_is_the_base_network_bit_for_bit(pattern, temporal):
    video = VideoConfig(pattern=pattern, temporal=temporal, kept=1.0)
    x, t, cond = _rand(2, 4, 3, 3, 3), torch.tensor([300.0, 900.0]), _rand(2, 5, 12)
    assert torch.equal(_dense(video)(x, t, cond, clips=(1, 1)), _dense(BASE)(x, t, cond))
    z = _voxels([9, 14])
    assert torch.equal(_sparse(video)(z, t, cond, clips=(1, 1)).feats, _sparse(BASE)(z, t, cond).feats)


@torch.no_grad()
def test_without_cross_frame_attention_an_image_affects_only_its_own_frame():
    network = _sparse(VideoConfig(pattern=AttentionPattern.SPATIAL))
    lengths = [9, 12, 7, 0, 10, 8, 11, 5]
    z, cond = _voxels(lengths), _rand(8, 5, 12)
    timesteps = torch.full((8,), 600.0)
    before = network(z, timesteps, cond, clips=(8,)).split()
    moved = cond.clone()
    moved[5] += 1
    after = network(z, timesteps, moved, clips=(8,)).split()
    for frame, (a, b) in enumerate(zip(before, after, strict=True)):
        assert torch.equal(a, b) == (frame != 5), frame


@torch.no_grad()
def test_with_a_window_an_image_affects_the_frames_that_attend_to_it():
    network = _sparse(VideoConfig(window=1))
    network.blocks = network.blocks[:1]  # one block is one hop: self-attention comes before the image is seen
    z, cond = _voxels([6] * 8), _rand(8, 5, 12)
    changed = z.feats.clone()
    changed[5 * 6 : 6 * 6] += 1  # move frame 5's latent
    times = torch.full((8,), 600.0)
    before = network(z, times, cond, clips=(8,)).split()
    after = network(z.replace(changed), times, cond, clips=(8,)).split()
    reached = [frame for frame in range(8) if not torch.equal(before[frame], after[frame])]
    assert reached == [4, 5, 6]
    changed = z.feats.clone()
    changed[:6] += 1  # the anchor reaches all frames
    after = network(z.replace(changed), times, cond, clips=(8,)).split()
    assert all(not torch.equal(before[frame], after[frame]) for frame in range(8))


@torch.no_grad()
def test_clips_of_a_batch_are_independent():
    network = _sparse(VideoConfig())
    z, cond, times = _voxels([6, 7, 8, 5, 9]), _rand(5, 5, 12), torch.full((5,), 600.0)
    together = network(z, times, cond, clips=(3, 2)).split()
    alone = _voxels([6, 7, 8])
    alone = SparseTensor(z.feats[:21], SparseLayout.from_coords(z.coords[:21], 3))
    for a, b in zip(together[:3], network(alone, times[:3], cond[:3], clips=(3,)).split(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_the_anchor_does_not_depend_on_noisy_frames():
    network = _sparse(VideoConfig())
    z, cond = _voxels([6] * 4), _rand(4, 5, 12)
    times = frame_timesteps(torch.tensor([700.0]), FrameLayout(((6,) * 4,)))
    noisier = z.feats.clone()
    noisier[6:] += 3
    a, b = network(z, times, cond, clips=(4,)), network(z.replace(noisier), times, cond, clips=(4,))
    assert torch.equal(a.feats[:6], b.feats[:6])
    literal = _sparse(VideoConfig(anchor_queries=AnchorQueries.PAPER_LITERAL))
    a, b = literal(z, times, cond, clips=(4,)), literal(z.replace(noisier), times, cond, clips=(4,))
    assert not torch.equal(a.feats[:6], b.feats[:6])


@torch.no_grad()
def test_each_frame_has_its_own_modulation():
    """Without cross-frame attention, frames with different timesteps equal the same frames run separately."""
    network = _dense(VideoConfig(pattern=AttentionPattern.SPATIAL, temporal=TemporalRotary.NONE, kept=1.0))
    x, cond, times = _rand(3, 4, 3, 3, 3), _rand(3, 5, 12), torch.tensor([0.0, 400.0, 800.0])
    together = network(x, times, cond, clips=(3,))
    for i in range(3):
        alone = network(x[i : i + 1], times[i : i + 1], cond[i : i + 1])
        torch.testing.assert_close(together[i : i + 1], alone, atol=1e-5, rtol=1e-5)


CACHEABLE = [
    VideoConfig(),
    VideoConfig(pattern=AttentionPattern.CAUSAL),
    VideoConfig(pattern=AttentionPattern.SPATIAL),
    VideoConfig(temporal=TemporalRotary.SS4D, kept=1.0),
]


@torch.no_grad()
@pytest.mark.parametrize("video", CACHEABLE, ids=lambda v: f"{v.pattern}-{v.temporal}")
def test_sampling_with_a_cached_anchor_equals_sampling_without(video):
    settings = SamplerConfig(steps=3, guidance=3.0, guidance_interval=(0.3, 1.0), rescale_t=2.0)
    # Sparse texture stage, with a frame without voxels.
    network = _sparse(video, TEXTURE)
    whole = _voxels([7, 6, 0, 9])
    anchor = SparseAnchor(
        SparseTensor(whole.feats[:7], SparseLayout.from_coords(whole.coords[:7], 1)), side=_rand(7, 4, seed=3)
    )
    moving = SparseLayout.from_coords(whole.coords[7:] - torch.tensor([1, 0, 0, 0], dtype=torch.int32), 3)
    cond, side, noise = _rand(4, 5, 12), _rand(15, 4, seed=4), _rand(15, 4, seed=5)
    results = []
    for use_cache in (True, False):
        velocity = anchored_sparse_velocity(network, anchor, moving, cond, side, use_cache)
        results.append(sample(velocity, noise, settings, packed_spread(moving.lengths)))
    torch.testing.assert_close(results[0], results[1], atol=2e-5, rtol=2e-5)

    dense = _dense(video)
    anchor_grid, noise = _rand(4, 3, 3, 3, seed=6), _rand(3, 4, 3, 3, 3, seed=7)
    velocities = [anchored_dense_velocity(dense, anchor_grid, cond, use_cache) for use_cache in (True, False)]
    for conditional in (True, False):
        a, b = (velocity(noise, 500.0, conditional) for velocity in velocities)
        torch.testing.assert_close(a, b, atol=2e-5, rtol=2e-5)


@torch.no_grad()
@pytest.mark.parametrize("video", [*CACHEABLE, VideoConfig(pattern=AttentionPattern.FULL)], ids=lambda v: v.pattern)
def test_batched_guidance_passes_equal_sequential_ones(video):
    network, dense = _sparse(video, TEXTURE), _dense(video)
    whole = _voxels([7, 6, 0, 9])
    first = SparseTensor(whole.feats[:7], SparseLayout.from_coords(whole.coords[:7], 1))
    anchor = SparseAnchor(first, side=_rand(7, 4, seed=3))
    moving = SparseLayout.from_coords(whole.coords[7:] - torch.tensor([1, 0, 0, 0], dtype=torch.int32), 3)
    cond, side = _rand(4, 5, 12), _rand(15, 4, seed=4)
    grid = _rand(4, 3, 3, 3, seed=6)
    cases = [
        (lambda b: anchored_sparse_velocity(network, anchor, moving, cond, side, batched=b), _rand(15, 4, seed=5)),
        (lambda b: anchored_dense_velocity(dense, grid, cond, batched=b), _rand(3, 4, 3, 3, 3, seed=7)),
        (lambda b: sparse_velocity(network, moving, cond[1:], side, batched=b), _rand(15, 4, seed=8)),
        (lambda b: dense_velocity(dense, cond[1:], batched=b), _rand(3, 4, 3, 3, 3, seed=9)),
    ]
    for build, x in cases:
        one_by_one, together = build(False).both(x, 500.0), build(True).both(x, 500.0)
        assert not torch.allclose(*together), "the condition matters"
        for a, b in zip(one_by_one, together, strict=True):
            torch.testing.assert_close(a, b, atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize(
    ("batched", "guidance", "expected"),
    [
        (True, 3.0, [(True, False)]),  # the conditional passes outside the interval read their part of the joint cache
        (False, 3.0, [(True,), (False,)]),
        (True, 1.0, [(True,)]),
        (False, 1.0, [(True,)]),
    ],
)
def test_anchors_and_contexts_are_computed_once(batched, guidance, expected, monkeypatch):
    network, cond, contexts, caches = _dense(VideoConfig()), _rand(3, 5, 12), [], []
    make_context, make_cache = network._context, network.anchor_cache

    def context(*inputs):
        contexts.append(inputs)
        return make_context(*inputs)

    def anchor_cache(clean, condition):
        caches.append(tuple(bool(one.any()) for one in condition))
        return make_cache(clean, condition)

    monkeypatch.setattr(network, "_context", context)
    monkeypatch.setattr(network, "anchor_cache", anchor_cache)
    velocity = anchored_dense_velocity(network, _rand(4, 3, 3, 3), cond, batched=batched)
    settings = SamplerConfig(steps=5, guidance=guidance, guidance_interval=(0.5, 1.0), rescale_t=1.0)
    sample(velocity, _rand(2, 4, 3, 3, 3, seed=2), settings, dense_spread)
    assert caches == expected
    kinds = 1 if guidance == 1 else 2  # of passes: conditional, and joint or unconditional
    assert len(contexts) == len(caches) + kinds


def test_the_sampler_requests_both_passes_only_inside_the_interval():
    asked = []

    class Told:
        def __call__(self, x, timestep, conditional):
            asked.append(conditional)
            return x

        def both(self, x, timestep):
            asked.append("both")
            return x, 0.5 * x

    settings = SamplerConfig(steps=4, guidance=3.0, guidance_interval=(0.5, 1.0), rescale_t=1.0)
    sample(Told(), _rand(2, 3), settings, packed_spread([2]))
    assert asked == ["both", "both", "both", True]


@torch.no_grad()
def test_cached_anchors_of_several_clips_are_interleaved():
    network = _sparse(VideoConfig(window=1))
    z, cond = _voxels([6, 7, 8, 5, 9, 4]), _rand(6, 5, 12)
    clips, times = (2, 4), torch.tensor([0.0, 600.0, 0.0, 300.0, 300.0, 300.0])
    whole = network(z, times, cond, clips=clips).split()
    parts, layouts = z.split(), z.coords.split(list(z.layout.lengths))

    def pick(frames):
        coords = [layouts[f] * torch.tensor([0, 1, 1, 1]) + torch.tensor([i, 0, 0, 0]) for i, f in enumerate(frames)]
        feats = torch.cat([parts[f] for f in frames])
        return SparseTensor.from_coords(feats, torch.cat(coords).int(), len(frames))

    anchors, others = [0, 2], [1, 3, 4, 5]
    cache = network.anchor_cache(pick(anchors), cond[anchors])
    found = network(pick(others), times[others], cond[others], clips=(1, 3), anchor=cache).split()
    for frame, one in zip(others, found, strict=True):
        torch.testing.assert_close(one, whole[frame], atol=2e-5, rtol=2e-5)


@torch.no_grad()
def test_the_anchor_is_clean_and_its_condition_follows_the_pass():
    """Inputs of the network without a cache: timestep 0 for frame 0, and its latent in both passes."""
    network = _dense(VideoConfig(anchor_queries=AnchorQueries.PAPER_LITERAL))
    anchor, x, cond = _rand(4, 3, 3, 3), _rand(2, 4, 3, 3, 3, seed=2), _rand(3, 5, 12)
    velocity = anchored_dense_velocity(network, anchor, cond)
    whole, times = torch.cat([anchor[None], x]), torch.tensor([0.0, 500.0, 500.0])
    assert torch.equal(velocity(x, 500.0, True), network(whole, times, cond, clips=(3,))[1:])
    assert torch.equal(velocity(x, 500.0, False), network(whole, times, 0 * cond, clips=(3,))[1:])


def test_an_anchor_cache_keeps_only_keys_and_values():
    network, z = _sparse(VideoConfig()), _voxels([50])
    cache = network.anchor_cache(z, _rand(1, 5, 12))
    held = {t.untyped_storage().data_ptr(): t.untyped_storage() for kv in cache.layers for t in (kv.key, kv.value)}
    wanted = SPARSE.num_blocks * 2 * 50 * SPARSE.model_channels * 4
    assert sum(storage.nbytes() for storage in held.values()) == wanted


def test_anchors_that_attend_to_noisy_frames_cannot_be_cached():
    for video in (
        VideoConfig(anchor_queries=AnchorQueries.PAPER_LITERAL),
        VideoConfig(pattern=AttentionPattern.FULL),
        VideoConfig(pattern=AttentionPattern.WINDOW),
    ):
        assert not video.anchor_sees_only_itself
        with pytest.raises(ConfigError, match="cannot be cached"):
            anchored_dense_velocity(_dense(video), _rand(4, 3, 3, 3), _rand(3, 5, 12), use_cache=True)


@torch.no_grad()
def test_single_frame_velocities_call_the_network():
    dense, x, cond = _dense(BASE), _rand(2, 4, 3, 3, 3), _rand(2, 5, 12)
    assert torch.equal(dense_velocity(dense, cond)(x, 10.0, True), dense(x, torch.full((2,), 10.0), cond))
    sparse, z = _sparse(BASE), _voxels([5, 6])
    expected = sparse(z, torch.full((2,), 10.0), 0 * cond).feats
    assert torch.equal(sparse_velocity(sparse, z.layout, cond)(z.feats, 10.0, False), expected)


class _AttentionCounter(TorchDispatchMode):
    """Counts forward calls of attention kernels."""

    calls = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = str(func)
        self.calls += "scaled_dot_product" in name and "backward" not in name
        return func(*args, **(kwargs or {}))


def test_checkpointing_preserves_gradients_and_can_avoid_recomputing_self_attention():
    z, cond, times = _voxels([6, 7, 8]), _rand(3, 5, 12), torch.tensor([0.0, 600.0, 600.0])
    gradients, calls = [], []
    for checkpointing in Checkpointing:
        network = _sparse(VideoConfig()).train()
        network.checkpointing = checkpointing
        with _AttentionCounter() as counter:
            network(z, times, cond, clips=(3,)).feats.square().sum().backward()
        calls.append(counter.calls)
        gradients.append([p.grad.clone() for _, p in network.self_attention_parameters()])
    for others in gradients[1:]:
        assert all(torch.equal(a, b) for a, b in zip(gradients[0], others, strict=True))
    none, blocks, keep_attention = calls
    assert blocks == 2 * none
    # Cross-attention, one call per frame and block, is recomputed: its output is as large but costs 40 times less.
    assert keep_attention == none + 3 * SPARSE.num_blocks


def test_bfloat16_activations_stay_close_with_float32_gradients():
    z, cond, times = _voxels([6, 7, 8]), _rand(3, 5, 12), torch.tensor([0.0, 600.0, 600.0])
    network = _sparse(VideoConfig())
    exact = network(z, times, cond, clips=(3,)).feats
    network.compute_dtype = torch.bfloat16
    half = network(z, times, cond, clips=(3,)).feats
    assert half.dtype == torch.float32
    assert float((half - exact).detach().abs().max() / exact.detach().abs().max()) < 0.1
    half.sum().backward()
    assert all(p.grad.dtype == torch.float32 for p in network.parameters() if p.grad is not None)


def test_frozen_parameters_may_be_half():
    z, cond, times = _voxels([6, 7, 8]), _rand(3, 5, 12), torch.tensor([0.0, 600.0, 600.0])
    network = _sparse(VideoConfig())
    trained = dict(network.self_attention_parameters())
    for name, parameter in network.named_parameters():
        if name not in trained:
            parameter.requires_grad_(False)
            parameter.data = parameter.data.bfloat16()
    network.compute_dtype = torch.bfloat16
    network(z, times, cond, clips=(3,)).feats.sum().backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in trained.values())


@pytest.mark.slow
def test_blocks_compile_once_for_all_batches():
    """For any number of frames, clips and tokens; a single frame alone is a second case for torch."""
    network = _sparse(VideoConfig(), replace(SPARSE, num_blocks=1)).train()
    network.checkpointing = Checkpointing.KEEP_ATTENTION
    trained = {name for name, _ in network.self_attention_parameters()}
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name in trained)
    compiled = copy.deepcopy(network)
    compiled.compile_blocks(backend="aot_eager")
    graphs = []
    for clips in ([[6, 7, 8, 9]], [[5] * 8], [[4] * 16], [[20, 0, 4, 8]], [[5, 5]], [[11, 12, 13], [14, 3]]):
        lengths = [count for clip in clips for count in clip]
        z, cond = _voxels(lengths), _rand(len(lengths), 5, 12)
        times = torch.tensor([t for clip in clips for t in (0.0, *[600.0] * (len(clip) - 1))])
        expected, found = (n(z, times, cond, clips=[len(clip) for clip in clips]).feats for n in (network, compiled))
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
        found.sum().backward()
        graphs.append(counters["stats"]["unique_graphs"])
    assert len(set(graphs)) == 1
    assert not counters["unimplemented"]


def test_no_guard_can_depend_on_the_layout():
    """torch 2.11 guards on every field of a frozen dataclass that it traces, and these hold the numbers of a batch."""
    assert is_frozen_dataclass(KeyValue(torch.zeros(1), torch.zeros(1)))
    layout = FrameLayout(((6, 7),))
    context = _sparse(VideoConfig())._context(torch.zeros(13, 3), layout, 5, None)
    assert not any(is_frozen_dataclass(value) for value in (context, context.self_plan, context.cross_plan))


def test_input_shapes_are_validated():
    network, cond = _dense(BASE), _rand(2, 5, 12)
    with pytest.raises(ConfigError, match=r"expected \[F, 4, 3, 3, 3\]"):
        network(_rand(2, 4, 4, 4, 4), torch.zeros(2), cond)
    with pytest.raises(ConfigError, match=r"expected \[2\], one per frame"):
        network(_rand(2, 4, 3, 3, 3), torch.zeros(3), cond)
    with pytest.raises(ConfigError, match=r"expected \[2, M, 12\]"):
        network(_rand(2, 4, 3, 3, 3), torch.zeros(2), _rand(2, 5, 11))
    with pytest.raises(ConfigError, match="num_heads, 8"):
        FlowConfig(resolution=3, in_channels=4, out_channels=4, model_channels=100, num_heads=8)
    with pytest.raises(ConfigError, match="pe_mode is 'ape'"):
        replace(DENSE, pe_mode="ape")
    with pytest.raises(ConfigError, match="between 0 and 1"):
        VideoConfig(kept=1.5)


def test_official_initialization():
    network = DenseFlow(replace(DENSE, model_channels=192, num_heads=2, num_blocks=3))
    initialize_flow(network, torch.Generator().manual_seed(0))
    block = network.blocks[0]
    assert float(block.self_attn.to_qkv.weight.detach().std()) == pytest.approx((2 / (5 * 192)) ** 0.5, rel=0.02)
    assert float(block.mlp.mlp[2].weight.detach().std()) == pytest.approx((1 / (5 * 3 * 192)) ** 0.5, rel=0.02)
    assert float(network.input_layer.weight.detach().std()) == pytest.approx(0.5, rel=0.1)
    assert float(network.t_embedder.mlp[0].weight.detach().std()) == pytest.approx(0.02, rel=0.02)
    assert not network.out_layer.weight.any()
    with torch.no_grad():
        assert not network(_rand(1, 4, 3, 3, 3), torch.zeros(1), _rand(1, 5, 12)).any()


@pytest.mark.gpu
def test_gpu_forward_and_backward_agree_with_the_cpu():
    z, cond, times = _voxels([60, 70, 0, 80]), _rand(4, 5, 12), torch.tensor([0.0, 600.0, 600.0, 600.0])
    network = _sparse(VideoConfig())
    expected = network(z, times, cond, clips=(4,)).feats
    network.cuda().compute_dtype = torch.bfloat16
    on_gpu = SparseTensor(z.feats.cuda(), SparseLayout(z.coords.cuda(), 4))
    for backend in (AttentionBackend.AUTO, AttentionBackend.PER_FRAME):
        network.attention_backend = backend
        found = network(on_gpu, times.cuda(), cond.cuda(), clips=(4,)).feats
        found.sum().backward()
        assert float((found.cpu() - expected).abs().max() / expected.abs().max()) < 0.1
