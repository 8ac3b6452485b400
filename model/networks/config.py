"""Network configurations, as frozen dataclasses that reject invalid combinations when constructed.

Field names are those of TRELLIS.2's `ckpts/NAME.json`, so released files can be read unchanged. `VideoConfig` holds
Helix4D's additions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from typing import Any, Self

from helix4d.core import ConfigError


class AttentionPattern(StrEnum):
    """Which frames a query frame attends to (Fig. 3 and Table 4 of the paper)."""

    WINDOW_ANCHOR = "window_anchor"
    FULL = "full"
    CAUSAL = "causal"
    WINDOW = "window"
    SPATIAL = "spatial"


class AnchorQueries(StrEnum):
    """Which frames the queries of frame 0 attend to under `window_anchor`."""

    ITSELF = "itself"
    """Only frame 0. Its keys and values do not depend on noisy frames, so sampling computes them once."""
    PAPER_LITERAL = "paper_literal"
    """The window around frame 0, as the paper's mask equation literally states."""


class TemporalRotary(StrEnum):
    """Where time enters the rotary embedding."""

    REPURPOSED = "repurposed"
    """Helix4D: on the freed low-frequency spatial pairs and the unused pairs."""
    SS4D = "ss4d"
    """SS4D: a second rotation of all pairs, on top of the spatial one (ablation)."""
    NONE = "none"
    """No temporal embedding (ablation, and the base network)."""


@dataclass(frozen=True, kw_only=True)
class _NetworkConfig:
    """Base class that reads and writes the `args` of a TRELLIS.2 configuration."""

    @classmethod
    def from_args(cls, args: Mapping[str, Any]) -> Self:
        """Build from the `args` of a checkpoint's JSON file, ignoring run-time settings (types, checkpointing)."""
        known = {field.name for field in fields(cls)}
        unknown = sorted(set(args) - known - _RUNTIME_ARGS)
        if unknown:
            raise ConfigError(f"{cls.__name__}: unknown settings {unknown}; known settings are {sorted(known)}")
        values = {name: tuple(v) if isinstance(v, list) else v for name, v in args.items() if name in known}
        return cls(**values)

    def to_args(self) -> dict[str, Any]:
        """Return the `args` that TRELLIS.2's own constructor accepts."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self).items()}


# Settings in released configurations that do not affect the architecture.
_RUNTIME_ARGS = frozenset(
    {
        "resolution",
        "dtype",
        "use_fp16",
        "use_checkpoint",
        "num_head_channels",
        "rope_freq",
        "resolution_multiplier",
        "voxel_margin",
    }
    | {"block_args", "block_type", "up_block_type", "down_block_type", "num_io_blocks"}
)


@dataclass(frozen=True, kw_only=True)
class FlowConfig(_NetworkConfig):
    """A flow transformer of the sparse-structure, geometry or material stage."""

    resolution: int
    in_channels: int
    out_channels: int
    model_channels: int = 1536
    cond_channels: int = 1024
    num_blocks: int = 30
    num_heads: int = 12
    mlp_ratio: float = 5.3334
    pe_mode: str = "rope"
    share_mod: bool = True
    initialization: str = "scaled"
    qk_rms_norm: bool = True
    qk_rms_norm_cross: bool = True

    def __post_init__(self) -> None:
        for name in ("resolution", "in_channels", "out_channels", "model_channels", "cond_channels", "num_heads"):
            _require_positive(self, name)
        if self.num_blocks < 0:
            raise ConfigError(f"num_blocks is {self.num_blocks}: must not be negative")
        if self.model_channels % self.num_heads:
            raise ConfigError(
                f"model_channels is {self.model_channels}: must be divisible by num_heads, {self.num_heads} "
                f"(remainder {self.model_channels % self.num_heads})"
            )
        if self.head_channels % 2 or self.head_channels < 6:
            raise ConfigError(
                f"heads have {self.head_channels} channels: must be even and at least 6 for three rotary axes"
            )
        for name, supported in _FLOW_ONLY.items():
            if getattr(self, name) != supported:
                raise ConfigError(
                    f"{name} is {getattr(self, name)!r}: only {supported!r} is supported, as in TRELLIS.2"
                )

    @property
    def head_channels(self) -> int:
        """Channels per head, d."""
        return self.model_channels // self.num_heads

    @property
    def mlp_channels(self) -> int:
        """Width of the feed-forward layer."""
        return int(self.model_channels * self.mlp_ratio)


_FLOW_ONLY = {
    "pe_mode": "rope",
    "share_mod": True,
    "initialization": "scaled",
    "qk_rms_norm": True,
    "qk_rms_norm_cross": True,
}


@dataclass(frozen=True, kw_only=True)
class VideoConfig:
    """Helix4D's three changes to a flow transformer. (t) marks values from a third party's transcript of the paper."""

    pattern: AttentionPattern = AttentionPattern.WINDOW_ANCHOR
    window: int = 2  # (t) half-width in frames
    anchor_queries: AnchorQueries = AnchorQueries.ITSELF  # ours: the paper's equation is PAPER_LITERAL
    temporal: TemporalRotary = TemporalRotary.REPURPOSED
    kept: float = 0.75  # (t) fraction of the spatial pairs kept per axis
    training_frames: int = 16
    time_scale: float | None = None  # None: N / training_frames, so that time covers the phase range of a spatial axis

    def __post_init__(self) -> None:
        if self.window < 0:
            raise ConfigError(f"window is {self.window}: must not be negative")
        if not 0.0 <= self.kept <= 1.0:
            raise ConfigError(f"kept is {self.kept}: must be between 0 and 1")
        if self.training_frames < 1:
            raise ConfigError(f"training_frames is {self.training_frames}: must be at least 1")
        # Values read from JSON arrive as plain strings.
        object.__setattr__(self, "pattern", AttentionPattern(self.pattern))
        object.__setattr__(self, "anchor_queries", AnchorQueries(self.anchor_queries))
        object.__setattr__(self, "temporal", TemporalRotary(self.temporal))

    @property
    def anchor_sees_only_itself(self) -> bool:
        """Whether frame 0's keys and values can be computed once and cached for a whole sampling run."""
        if self.pattern is AttentionPattern.WINDOW_ANCHOR:
            return self.anchor_queries is AnchorQueries.ITSELF or self.window == 0
        return self.pattern in (AttentionPattern.CAUSAL, AttentionPattern.SPATIAL)

    def scale(self, resolution: int) -> float:
        """Return the rotary positions per frame for a stage of `resolution` voxels per side."""
        return resolution / self.training_frames if self.time_scale is None else self.time_scale


BASE = VideoConfig(pattern=AttentionPattern.SPATIAL, temporal=TemporalRotary.NONE, kept=1.0)
"""Unmodified TRELLIS.2: frames are independent, all spatial pairs are kept, no temporal embedding."""


@dataclass(frozen=True, kw_only=True)
class DenseEncoderConfig(_NetworkConfig):
    """The sparse-structure encoder: a 64^3 occupancy to an 8 x 16^3 latent."""

    in_channels: int = 1
    latent_channels: int = 8
    num_res_blocks: int = 2
    channels: tuple[int, ...] = (32, 128, 512)
    num_res_blocks_middle: int = 2
    norm_type: str = "layer"

    def __post_init__(self) -> None:
        _check_dense_vae(self.channels, self.norm_type)


@dataclass(frozen=True, kw_only=True)
class DenseDecoderConfig(_NetworkConfig):
    """The sparse-structure decoder: an 8 x 16^3 latent to 64^3 occupancy logits."""

    out_channels: int = 1
    latent_channels: int = 8
    num_res_blocks: int = 2
    channels: tuple[int, ...] = (512, 128, 32)
    num_res_blocks_middle: int = 2
    norm_type: str = "layer"

    def __post_init__(self) -> None:
        _check_dense_vae(self.channels, self.norm_type)


@dataclass(frozen=True, kw_only=True)
class SparseEncoderConfig(_NetworkConfig):
    """A shape or texture SC-VAE encoder. The released shape encoder's configuration omits its six input channels."""

    in_channels: int = 6
    model_channels: tuple[int, ...] = (64, 128, 256, 512, 1024)
    latent_channels: int = 32
    num_blocks: tuple[int, ...] = (0, 4, 8, 16, 4)

    def __post_init__(self) -> None:
        _check_sparse_vae(self.model_channels, self.num_blocks)
        for fine, coarse in zip(self.model_channels, self.model_channels[1:], strict=False):
            if coarse % 8 or (8 * fine) % coarse:
                raise ConfigError(
                    f"invalid down block from {fine} to {coarse} channels: {coarse} must be a multiple of 8 and "
                    f"divide {8 * fine}"
                )


@dataclass(frozen=True, kw_only=True)
class SparseDecoderConfig(_NetworkConfig):
    """A shape or texture SC-VAE decoder. Texture decoders follow the shape's subdivisions (`pred_subdiv` is False)."""

    out_channels: int = 7
    model_channels: tuple[int, ...] = (1024, 512, 256, 128, 64)
    latent_channels: int = 32
    num_blocks: tuple[int, ...] = (4, 16, 8, 4, 0)
    pred_subdiv: bool = True

    def __post_init__(self) -> None:
        _check_sparse_vae(self.model_channels, self.num_blocks)
        for coarse, fine in zip(self.model_channels, self.model_channels[1:], strict=False):
            if coarse % 8 or (8 * fine) % coarse:
                raise ConfigError(
                    f"invalid up block from {coarse} to {fine} channels: {coarse} must be a multiple of 8 and "
                    f"divide {8 * fine}"
                )


def _require_positive(config: object, name: str) -> None:
    if getattr(config, name) < 1:
        raise ConfigError(f"{name} is {getattr(config, name)}: must be at least 1")


def _check_dense_vae(channels: tuple[int, ...], norm_type: str) -> None:
    if not channels:
        raise ConfigError("channels is empty: a dense VAE needs at least one level")
    if norm_type != "layer":
        raise ConfigError(f"norm_type is {norm_type!r}: only 'layer' is supported, as in TRELLIS.2")


def _check_sparse_vae(model_channels: tuple[int, ...], num_blocks: tuple[int, ...]) -> None:
    if len(model_channels) != len(num_blocks) or not model_channels:
        raise ConfigError(
            f"model_channels has {len(model_channels)} levels and num_blocks has {len(num_blocks)}: they must be equal "
            "and at least 1"
        )
