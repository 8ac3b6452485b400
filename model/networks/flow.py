"""The three flow transformers, for single frames as in TRELLIS.2 and for videos as in Helix4D.

A shared trunk processes packed tokens with per-frame timesteps and per-frame image tokens; the dense stage feeds it
grids, the sparse stages voxel lists. With `BASE` and one frame per clip it is identical to TRELLIS.2.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache, partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

from helix4d.core import ConfigError
from helix4d.model.device import own_compile_cache
from helix4d.model.networks.attention.choice import Workload, resolve
from helix4d.model.networks.attention.plan import (
    AttentionBackend,
    AttentionPlan,
    plan_cross_attention,
    plan_self_attention,
)
from helix4d.model.networks.blocks import Block, KeyValue, TokenContext
from helix4d.model.networks.config import BASE, FlowConfig, VideoConfig
from helix4d.model.networks.frames import FrameLayout
from helix4d.model.networks.layers import Linear, TimestepEmbedder, upcast
from helix4d.model.networks.pointwise.functions import TokenFrames
from helix4d.model.networks.rope import dense_coordinates, require_pairs_for_time, rotary_angles
from helix4d.model.networks.sparse import SparseLayout, SparseTensor


class Checkpointing(StrEnum):
    """Which activations are kept for the backward pass; the rest is recomputed."""

    NONE = "none"
    """Keep all activations."""
    BLOCKS = "blocks"
    """Keep only the input of each block."""
    KEEP_ATTENTION = "keep_attention"
    """Also keep the output of self-attention, 80% of a block's arithmetic at 8192 tokens per frame."""


@dataclass(frozen=True)
class AnchorCache:
    """Cached keys and values of frame 0 of each clip: one `KeyValue` per block, and the number of tokens per clip."""

    layers: tuple[KeyValue, ...]
    lengths: tuple[int, ...]

    def clip(self, index: int) -> AnchorCache:
        """Return the part of one clip, as views."""
        start, end = sum(self.lengths[:index]), sum(self.lengths[: index + 1])
        layers = tuple(KeyValue(layer.key[start:end], layer.value[start:end]) for layer in self.layers)
        return AnchorCache(layers, (end - start,))


class FlowTransformer(nn.Module):
    """The trunk shared by the three stages.

    Attributes:
        compute_dtype: activation type inside the blocks; independent of the parameters' type.
        checkpointing: which activations are recomputed in the backward pass.
        attention_backend: how attention is computed.
    """

    def __init__(self, config: FlowConfig, video: VideoConfig = BASE) -> None:
        super().__init__()
        self.config = config
        self.video = video
        self.compute_dtype = torch.float32
        self.checkpointing = Checkpointing.NONE
        self.attention_backend = AttentionBackend.AUTO
        width = config.model_channels
        self.t_embedder = TimestepEmbedder(width)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), Linear(width, 6 * width))
        self.input_layer = Linear(config.in_channels, width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.num_blocks))
        self.out_layer = Linear(width, config.out_channels)

    def self_attention_parameters(self) -> list[tuple[str, nn.Parameter]]:
        """Return the parameters that Helix4D fine-tunes, by name: `blocks.*.self_attn.*`, 283 M at full size."""
        return [(name, p) for name, p in self.named_parameters() if ".self_attn." in name]

    def compile_blocks(self, **options: Any) -> None:
        """Compile each block with dynamic shapes; `options` are passed to `torch.compile`.

        Shapes are declared dynamic because torch would otherwise recompile eight times and then fall back to eager.
        """
        own_compile_cache()
        for block in self.blocks:
            block.compile(dynamic=True, **options)

    def workload(self, device: torch.device) -> Workload:
        """What the choice of an attention backend depends on."""
        return Workload(device, self.compute_dtype, self.config.num_heads, self.config.head_channels, self.video)

    def forward_tokens(
        self,
        tokens: Tensor,
        context: TokenContext,
        timesteps: Tensor,
        cond: Tensor,
        anchor: AnchorCache | None = None,
        collect: list[KeyValue] | None = None,
    ) -> Tensor:
        """Run the network on packed tokens.

        Args:
            tokens: [L, in].
            context: from `context`: the voxels of these tokens and their assignment to frames and clips.
            timesteps: [F], 1000 t of each frame.
            cond: [F, M, cond], image tokens of each frame.
            anchor: cached frame 0; the layout then starts at frame 1.
            collect: list to which each block's keys and values are appended.

        Returns:
            Velocity [L, out] in the type of `tokens`.
        """
        self._check(tokens, context.self_plan.queries, timesteps, cond, anchor)
        shared = self.adaLN_modulation(self.t_embedder(upcast(timesteps)))  # bfloat16 cannot hold 871
        cond = cond.flatten(0, 1).to(self.compute_dtype)
        h = self.input_layer(tokens).to(self.compute_dtype)
        for i, block in enumerate(self.blocks):
            cached = None if anchor is None else anchor.layers[i]
            h, own = self._run(block, context, h, shared, cond, context, cached)
            if collect is not None:
                # `value` is a view of the fused qkv output: copy it, so that the queries and keys can be freed.
                collect.append(KeyValue(own.key, own.value.contiguous()))
        h = F.layer_norm(h.to(tokens.dtype), h.shape[-1:], eps=1e-5)
        velocity: Tensor = self.out_layer(h)
        return velocity

    def _run(self, block: nn.Module, context: TokenContext, *inputs: Any) -> tuple[Tensor, KeyValue]:
        if self.checkpointing is Checkpointing.NONE or not torch.is_grad_enabled():
            return block(*inputs)
        if self.checkpointing is Checkpointing.BLOCKS:
            return checkpoint(block, *inputs, use_reentrant=False)
        contexts = partial(create_selective_checkpoint_contexts, partial(_keep_attention, context.self_plan))
        return checkpoint(block, *inputs, use_reentrant=False, context_fn=contexts)

    def _context(
        self, coords: Tensor, layout: FrameLayout, cond_tokens: int, anchor: AnchorCache | None
    ) -> TokenContext:
        if any(len(clip) > 1 for clip in layout.lengths):
            require_pairs_for_time(self.config.head_channels, self.video)
        frames = TokenFrames.from_layout(layout, coords.device)
        numbers = layout.frame_numbers(coords.device)[frames.rows]
        angles = rotary_angles(coords, numbers, self.config.head_channels, self.config.resolution, self.video)
        keys, splits = layout, None
        if anchor is not None:
            pairs = zip(anchor.lengths, layout.lengths, strict=True)
            keys = FrameLayout(tuple((length, *clip) for length, clip in pairs))
            splits = ([sum(clip) for clip in layout.lengths], list(anchor.lengths))
        own, cross = resolve(self.attention_backend, self.workload(coords.device), layout, torch.is_grad_enabled())
        return TokenContext(
            frames=frames,
            cos=angles.cos(),
            sin=angles.sin(),
            self_plan=plan_self_attention(layout, keys, self.video, own),
            cross_plan=plan_cross_attention(layout, cond_tokens, cross),
            anchor_splits=splits,
        )

    def _check(
        self, tokens: Tensor, layout: FrameLayout, timesteps: Tensor, cond: Tensor, anchor: AnchorCache | None
    ) -> None:
        if tokens.shape != (layout.tokens, self.config.in_channels):
            raise ConfigError(
                f"tokens have shape {tuple(tokens.shape)}: expected [{layout.tokens}, {self.config.in_channels}] for "
                "this layout and network"
            )
        if timesteps.shape != (layout.frames,):
            raise ConfigError(
                f"timesteps have shape {tuple(timesteps.shape)}: expected [{layout.frames}], one per frame"
            )
        if cond.ndim != 3 or cond.shape[0] != layout.frames or cond.shape[2] != self.config.cond_channels:
            raise ConfigError(
                f"cond has shape {tuple(cond.shape)}: expected [{layout.frames}, M, {self.config.cond_channels}]"
            )
        if (anchor is None) != (layout.first_frame == 0):
            raise ConfigError(
                f"the layout starts at frame {layout.first_frame} and {'no' if anchor is None else 'an'} anchor cache "
                "was passed: frame 0 must be in exactly one of them"
            )
        if anchor is not None and not self.video.anchor_sees_only_itself:
            raise ConfigError(
                f"the anchor cannot be cached: in pattern {self.video.pattern} it attends to noisy frames"
            )


class DenseFlow(FlowTransformer):
    """`SparseStructureFlowModel` of TRELLIS.2: the velocity of an 8 x 16^3 latent grid."""

    def __init__(self, config: FlowConfig, video: VideoConfig = BASE) -> None:
        super().__init__(config, video)
        # TRELLIS.2's checkpoints contain this derived table: it is written for compatibility and ignored on load.
        self.register_state_dict_post_hook(_add_rope_phases)
        self.register_load_state_dict_pre_hook(_drop_rope_phases)

    def forward(
        self,
        x: Tensor,
        timesteps: Tensor,
        cond: Tensor,
        clips: Sequence[int] | None = None,
        anchor: AnchorCache | None = None,
        collect: list[KeyValue] | None = None,
        context: TokenContext | None = None,
    ) -> Tensor:
        """Map grids [F, in, R, R, R] to velocities [F, out, R, R, R].

        Args:
            x: one grid per frame, clip by clip.
            timesteps: [F], 1000 t of each frame.
            cond: [F, M, cond], image tokens of each frame.
            clips: number of frames of each clip; by default each frame is its own clip.
            anchor: cached frame 0 of each clip; x then starts at frame 1.
            collect: list to which each block's keys and values are appended.
            context: from `context` with the same frames, clips and anchor; by default it is made anew.
        """
        side = self.config.resolution
        if x.shape[1:] != (self.config.in_channels, side, side, side):
            raise ConfigError(
                f"grids have shape {tuple(x.shape)}: expected [F, {self.config.in_channels}, {side}, {side}, {side}]"
            )
        tokens = x.flatten(2).transpose(1, 2).flatten(0, 1)
        context = context or self.context(len(x), cond.shape[1], x.device, clips, anchor)
        v = self.forward_tokens(tokens, context, timesteps, cond, anchor, collect)
        return v.unflatten(0, (len(x), -1)).transpose(1, 2).unflatten(2, (side, side, side))

    def context(
        self,
        frames: int,
        cond_tokens: int,
        device: torch.device,
        clips: Sequence[int] | None = None,
        anchor: AnchorCache | None = None,
    ) -> TokenContext:
        """Prepare for passes over this number of frames, with `cond_tokens` image tokens per frame.

        Passes that reuse it create no tensors on the host and copy none from it, so they neither wait for the device
        nor prevent capture in a CUDA graph.
        """
        side = self.config.resolution
        layout = FrameLayout.from_frames([side**3] * frames, clips or (1,) * frames, 0 if anchor is None else 1)
        return self._context(dense_coordinates(side, device).repeat(frames, 1), layout, cond_tokens, anchor)

    @torch.no_grad()
    def anchor_cache(self, clean: Tensor, cond: Tensor) -> AnchorCache:
        """Compute the cache from the clean frame 0 of each clip, [clips, in, R, R, R], and its image tokens."""
        layers: list[KeyValue] = []
        self(clean, clean.new_zeros(len(clean)), cond, collect=layers)
        return AnchorCache(tuple(layers), (self.config.resolution**3,) * len(clean))


class SparseFlow(FlowTransformer):
    """`SLatFlowModel` of TRELLIS.2: the velocity of a sparse geometry or material latent."""

    def forward(
        self,
        x: SparseTensor,
        timesteps: Tensor,
        cond: Tensor,
        clips: Sequence[int] | None = None,
        side: Tensor | None = None,
        anchor: AnchorCache | None = None,
        collect: list[KeyValue] | None = None,
        context: TokenContext | None = None,
    ) -> SparseTensor:
        """Map latents [L, C] of F frames to velocities [L, out].

        Args:
            x: one sample of the batch per frame, clip by clip.
            timesteps: [F], 1000 t of each frame.
            cond: [F, M, cond], image tokens of each frame.
            clips: number of frames of each clip; by default each frame is its own clip.
            side: [L, C'], extra input channels: the normalized shape latent in the material stage.
            anchor: cached frame 0 of each clip; x then starts at frame 1.
            collect: list to which each block's keys and values are appended.
            context: from `context` with the same layout, clips and anchor; by default it is made anew.
        """
        tokens = x.feats if side is None else torch.cat([x.feats, side], dim=1)
        context = context or self.context(x.layout, cond.shape[1], clips, anchor)
        return x.replace(self.forward_tokens(tokens, context, timesteps, cond, anchor, collect))

    def context(
        self,
        layout: SparseLayout,
        cond_tokens: int,
        clips: Sequence[int] | None = None,
        anchor: AnchorCache | None = None,
    ) -> TokenContext:
        """Prepare for passes over these voxels, as `DenseFlow.context` does."""
        lengths = layout.lengths
        frames = FrameLayout.from_frames(lengths, clips or (1,) * len(lengths), 0 if anchor is None else 1)
        return self._context(layout.coords[:, 1:], frames, cond_tokens, anchor)

    @torch.no_grad()
    def anchor_cache(self, clean: SparseTensor, cond: Tensor, side: Tensor | None = None) -> AnchorCache:
        """Compute the cache from the clean frame 0 of each clip (one sample per clip) and its image tokens."""
        layers: list[KeyValue] = []
        self(clean, clean.feats.new_zeros(clean.layout.batch_size), cond, side=side, collect=layers)
        return AnchorCache(tuple(layers), clean.layout.lengths)


def _keep_attention(plan: AttentionPlan, _context: Any, call: Any, *_inputs: Any, **_settings: Any) -> CheckpointPolicy:
    """Keep the output of self-attention. Recomputing cross-attention, whose output is as large, costs 40 times less."""
    save = plan.running and call in _attention_calls()
    return CheckpointPolicy.MUST_SAVE if save else CheckpointPolicy.PREFER_RECOMPUTE


@cache
def _attention_calls() -> frozenset[Any]:
    """Return the operators of scaled-dot-product attention, variable-length attention and FlexAttention."""
    importlib.import_module("torch.nn.attention.varlen")  # registers the operator
    names = ("flash_attention", "flash_attention_for_cpu", "efficient_attention", "cudnn_attention")
    calls = [getattr(torch.ops.aten, f"_scaled_dot_product_{name}").default for name in names]
    own = torch.ops.helix4d.window_attention.default
    return frozenset([*calls, own, torch.ops.torch_attn._varlen_attn.default, torch.ops.higher_order.flex_attention])


def _add_rope_phases(module: nn.Module, state: dict[str, Any], prefix: str, _metadata: Any) -> None:
    if not isinstance(module, DenseFlow):
        raise TypeError(f"rope_phases can only be added to a DenseFlow, not to a {type(module).__name__}")
    config, device = module.config, module.out_layer.weight.device
    coords = dense_coordinates(config.resolution, device)
    frame_zero = torch.zeros(len(coords), device=device)
    angles = rotary_angles(coords, frame_zero, config.head_channels, config.resolution, BASE)
    state[prefix + "rope_phases"] = torch.polar(torch.ones_like(angles), angles)


def _drop_rope_phases(_module: nn.Module, state: dict[str, Any], prefix: str, *_rest: Any) -> None:
    state.pop(prefix + "rope_phases", None)
