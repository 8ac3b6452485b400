"""Generate one mesh per frame of a video: the frozen base generates the first, three fine-tuned stages the others.

    pipeline = Helix4DPipeline.from_pretrained("my_model")
    for frame in pipeline(read_video(Path("clip.mp4"))): ...

Stage 1 generates the tokens of each frame, stage 2 their geometry, stage 3 their material. All three attend to the
base's latents of frame 0 as a clean anchor, whose keys and values are computed once per stage. Frames are decoded one
by one.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from helix4d.core import ConfigError
from helix4d.model.checkpoint.checkpoint import CheckpointSource, Pipeline, image_encoder_name
from helix4d.model.conditioning.images import ImageEncoder, prepare_frames
from helix4d.model.conditioning.video_input import Video
from helix4d.model.device import choose_device, torso_types
from helix4d.model.latents.decode import GeneratedFrame, decode_frame
from helix4d.model.latents.encode import Encoders, encode_clip
from helix4d.model.latents.latents import SHAPE_STATISTICS, TEXTURE_STATISTICS, LatentStatistics
from helix4d.model.networks.flow import DenseFlow, SparseFlow
from helix4d.model.networks.sparse import SparseLayout, SparseTensor
from helix4d.model.sampling.anchor_fit import fit_ratio, shrink_frame
from helix4d.model.sampling.sampler import (
    SHAPE_SAMPLER,
    STRUCTURE_SAMPLER,
    TEXTURE_SAMPLER,
    SamplerConfig,
    Spread,
    dense_spread,
    packed_spread,
    sample_steps,
)
from helix4d.model.sampling.stages import decode_structure, named_noise, sampler_from_json
from helix4d.model.sampling.velocities import (
    PassVelocity,
    SparseAnchor,
    anchored_dense_velocity,
    anchored_sparse_velocity,
    dense_velocity,
    sparse_velocity,
)
from helix4d.model.vae.dense_vae import DenseDecoder
from helix4d.model.vae.sc_vae import SparseDecoder

log = logging.getLogger("helix4d.model")

FLOWS = ("sparse_structure_flow_model", "shape_slat_flow_model_512", "tex_slat_flow_model_512")
DECODERS = ("sparse_structure_decoder", "shape_slat_decoder", "tex_slat_decoder")
SETTINGS_KEY = "helix4d"
"""Key in the args of `pipeline.json` under which a model records its base and its image size."""

Progress = Callable[[str, int, int], None]
"""Called with the name of a stage, the number of completed steps and the total number of steps."""


@dataclass(frozen=True)
class Stages:
    """The flows of the three stages, either base or fine-tuned."""

    structure: DenseFlow
    geometry: SparseFlow
    material: SparseFlow


@dataclass(frozen=True)
class Samplers:
    """Sampling settings of each stage."""

    structure: SamplerConfig = STRUCTURE_SAMPLER
    geometry: SamplerConfig = SHAPE_SAMPLER
    material: SamplerConfig = TEXTURE_SAMPLER

    def changed(self, **values: Any) -> Samplers:
        """Return a copy with fields of `SamplerConfig` changed in all stages; None leaves a field unchanged."""
        changes = {name: value for name, value in values.items() if value is not None}
        return Samplers(*(replace(s, **changes) for s in (self.structure, self.geometry, self.material)))


@dataclass
class Helix4DPipeline:
    """Pipeline that turns a video into meshes.

    Attributes:
        base: TRELLIS.2's frozen flows, which generate the first frame.
        video: fine-tuned flows, which generate the other frames.
        structure_decoder, shape_decoder, texture_decoder: decoders of the base.
        encoder: image encoder that produces the image tokens.
        samplers: sampling settings of the base.
        shape_statistics, texture_statistics: statistics of the latents that the flows were trained on.
        image_size: pixels per side of the image encoder's input.
        encoders: O-Voxel encoders; if present, the anchor is shrunk to make room for the clip.
        device: device on which networks run.
        low_vram: whether to keep networks in main memory except while they are in use.
        batched_guidance: whether to run both guidance passes as one batch.
        cuda_graphs: whether to replay the passes of each stage from CUDA graphs.
        timings: seconds per stage of the latest call.
    """

    base: Stages
    video: Stages
    structure_decoder: DenseDecoder
    shape_decoder: SparseDecoder
    texture_decoder: SparseDecoder
    encoder: ImageEncoder
    samplers: Samplers = field(default_factory=Samplers)
    shape_statistics: LatentStatistics = SHAPE_STATISTICS
    texture_statistics: LatentStatistics = TEXTURE_STATISTICS
    image_size: int = 512
    encoders: Encoders | None = None
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    low_vram: bool = False
    batched_guidance: bool = False
    cuda_graphs: bool = False
    timings: dict[str, float] = field(default_factory=dict)

    @classmethod
    def from_pretrained(
        cls,
        path: str,
        base: str | None = None,
        *,
        device: str = "auto",
        low_vram: bool = False,
        compile_blocks: bool = False,
        cuda_graphs: bool = False,
        anchor_fit: bool = False,
        offline: bool = False,
    ) -> Helix4DPipeline:
        """Load a model written by `helix4d export` and the base that it was fine-tuned from.

        Args:
            path: folder or hub repository with the three fine-tuned flows.
            base: folder or hub repository with TRELLIS.2's flows and decoders; by default the one recorded in `path`.
            device: cuda, cpu, or auto (cuda if available). `torso_types` determines the activation types.
            low_vram: whether to keep networks in main memory except while they are in use.
            compile_blocks: whether to compile each block with torch.compile.
            cuda_graphs: whether to replay the passes of each stage from CUDA graphs.
            anchor_fit: whether to load the base's encoders and shrink the anchor to make room for the clip.
            offline: whether to read only the local hub cache.

        Raises:
            ConfigError: if networks or settings are missing, model and base do not match, or CUDA graphs are requested
                without a GPU.
            FormatError: if a file is missing or damaged.
        """
        place = choose_device(device)
        on_gpu = place.type == "cuda"
        if cuda_graphs and not on_gpu:
            raise ConfigError(f"cuda_graphs is set, but the device is {place}: remove it, or use a GPU")
        compute, vae = torso_types(place)
        dtype = None if on_gpu else torch.float32
        tuned = Pipeline.from_pretrained(CheckpointSource(path, offline=offline), FLOWS, dtype, compute)
        settings: Mapping[str, Any] = tuned.args.get(SETTINGS_KEY, {})
        base = base or settings.get("base")
        if base is None:
            raise ConfigError(
                f"{path}: records no base checkpoint (trained from scratch?): pass the TRELLIS.2 checkpoint with --base"
            )
        source = CheckpointSource(base, offline=offline)
        frozen = Pipeline.from_pretrained(source, [*FLOWS, *DECODERS], dtype, compute, vae)
        encoder = image_encoder_name(tuned.args, path) or image_encoder_name(frozen.args, base)
        if encoder is None:
            raise ConfigError(
                f"neither {path} nor {base} specifies image_cond_model, the image encoder, in pipeline.json"
            )
        base_stages, video_stages = _stages(frozen.networks, base), _stages(tuned.networks, path)
        if compile_blocks:
            for flow in (video_stages.structure, video_stages.geometry, video_stages.material):
                flow.compile_blocks()
        decoders: dict[str, Any] = frozen.networks
        return cls(
            base=base_stages,
            video=video_stages,
            structure_decoder=decoders["sparse_structure_decoder"],
            shape_decoder=decoders["shape_slat_decoder"],
            texture_decoder=decoders["tex_slat_decoder"],
            encoder=ImageEncoder.from_pretrained(encoder, local_files_only=offline),
            samplers=_samplers(frozen.args),
            shape_statistics=_statistics("shape_slat_normalization", tuned.args, frozen.args, SHAPE_STATISTICS),
            texture_statistics=_statistics("tex_slat_normalization", tuned.args, frozen.args, TEXTURE_STATISTICS),
            image_size=settings.get("image_size", 512),
            encoders=Encoders.load(source, torch.device("cpu"), vae) if anchor_fit else None,
            device=place,
            low_vram=low_vram,
            # Batching the passes saves no time on a CPU.
            batched_guidance=on_gpu and not low_vram,
            cuda_graphs=cuda_graphs,
        )

    @torch.no_grad()
    def __call__(
        self, video: Video, seed: int = 0, samplers: Samplers | None = None, progress: Progress | None = None
    ) -> Iterator[GeneratedFrame]:
        """Yield the frames of a video, decoded lazily; all stages run before the first frame is yielded.

        Args:
            video: at least two frames; longer videos than in training are covered by the sliding attention window.
            seed: seed of the noise of all frames.
            samplers: sampling settings; by default the base's.
            progress: function called after every step.

        Raises:
            ConfigError: if the base finds no object in frame 0, or the device runs out of memory.
        """
        self.timings = {}
        run = _Run(self, samplers or self.samplers, seed, progress or _silent)
        shape, texture, layout = run.latents(video)
        grid = self.base.geometry.config.resolution
        with self.using("decode", self.shape_decoder, self.texture_decoder):
            pieces = zip(
                self.shape_statistics.denormalize(shape).split(list(layout.lengths)),
                self.texture_statistics.denormalize(texture).split(list(layout.lengths)),
                layout.coords[:, 1:].split(list(layout.lengths)),
                strict=True,
            )
            for number, piece in enumerate(pieces, 1):
                frame = decode_frame(self.shape_decoder, self.texture_decoder, *piece, grid)
                run.progress("decode", number, len(layout.lengths))
                yield frame

    @contextmanager
    def using(self, stage: str, *networks: nn.Module) -> Iterator[None]:
        """Keep networks on the device during a stage and add its duration to `timings`.

        Raises:
            ConfigError: if the device runs out of memory.
        """
        start = time.perf_counter()
        try:
            for network in networks:
                network.to(self.device)
            yield
        except torch.OutOfMemoryError as error:
            hint = "fewer frames" if self.low_vram else "low_vram or fewer frames"
            raise ConfigError(f"{stage}: out of memory on {self.device} ({error}); try {hint}") from error
        finally:
            if self.low_vram:
                for network in networks:
                    network.to("cpu")
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
            self.timings[stage] = self.timings.get(stage, 0.0) + time.perf_counter() - start


@dataclass(frozen=True)
class _Run:
    """Settings of one call."""

    pipeline: Helix4DPipeline
    samplers: Samplers
    seed: int
    progress: Progress

    def latents(self, video: Video) -> tuple[Tensor, Tensor, SparseLayout]:
        """Sample the normalized shape and texture latents [L, C] of all frames, and their tokens."""
        p = self.pipeline
        if len(video.frames) < 2:
            raise ConfigError(
                f"the video has {len(video.frames)} frames: at least two are needed. For a still, use TRELLIS.2 itself"
            )
        # Frame 0 twice: in its own tight box, as TRELLIS.2 was trained, and in the union's, as the video stages were.
        groups = (video.frames[:1], video.frames)
        images = torch.cat([prepare_frames(group, p.image_size, video.alpha_threshold) for group in groups])
        with p.using("images", p.encoder):
            tight, cond = p.encoder(images.to(p.device)).tensor_split([1])
        self.progress("images", len(images), len(images))
        structure, first, shape, texture = self._anchor(tight)
        if p.encoders is not None and (ratio := fit_ratio(video.frames, video.alpha_threshold)) < 1:
            log.info("anchor scaled by %.3f", ratio)
            structure, first, shape, texture = self._shrunk(p.encoders, structure, first, shape, texture, ratio)

        # Stage 1: tokens of the other frames.
        frames = len(cond) - 1
        with p.using("structure", p.video.structure):
            velocity = anchored_dense_velocity(p.video.structure, structure[0], cond, batched=p.batched_guidance)
            noise = self._noise("structure", [structure.shape[1:]] * frames, stack=True)
            grids = self._sample("structure", velocity, noise, self.samplers.structure, dense_spread)
        with p.using("occupancy", p.structure_decoder):
            rest = decode_structure(p.structure_decoder, grids, p.base.geometry.config.resolution)
        log.info("tokens per frame: %s", (len(first), *rest.lengths))

        # Stages 2 and 3: geometry and material on these tokens.
        with p.using("geometry", p.video.geometry):
            anchor = SparseAnchor(SparseTensor(shape, first))
            velocity = anchored_sparse_velocity(p.video.geometry, anchor, rest, cond, batched=p.batched_guidance)
            moved = self._packed("geometry", velocity, rest, shape.shape[1], self.samplers.geometry)
        with p.using("material", p.video.material):
            anchor = SparseAnchor(SparseTensor(texture, first), shape)
            velocity = anchored_sparse_velocity(p.video.material, anchor, rest, cond, moved, batched=p.batched_guidance)
            painted = self._packed("material", velocity, rest, texture.shape[1], self.samplers.material)

        shift = torch.tensor([1, 0, 0, 0], dtype=torch.int32, device=rest.coords.device)
        layout = SparseLayout(torch.cat([first.coords, rest.coords + shift]), frames + 1)
        return torch.cat([shape, moved]), torch.cat([texture, painted]), layout

    def _anchor(self, cond: Tensor) -> tuple[Tensor, SparseLayout, Tensor, Tensor]:
        """Generate frame 0: structure latent [1, C, r, r, r], tokens, normalized shape and texture latents [L, C]."""
        p = self.pipeline
        base = p.base
        with p.using("anchor", base.structure, base.geometry, base.material, p.structure_decoder):
            size = base.structure.config.resolution
            noise = self._noise("structure", [(base.structure.config.out_channels, size, size, size)], 0, stack=True)
            velocity = dense_velocity(base.structure, cond, batched=p.batched_guidance)
            structure = self._sample("anchor structure", velocity, noise, self.samplers.structure, dense_spread)
            layout = decode_structure(p.structure_decoder, structure, base.geometry.config.resolution)
            if not len(layout):
                raise ConfigError(
                    "the base found no object in frame 0: check that it is visible and its alpha is correct"
                )
            channels = base.geometry.config.out_channels
            velocity = sparse_velocity(base.geometry, layout, cond, batched=p.batched_guidance)
            shape = self._packed("anchor geometry", velocity, layout, channels, self.samplers.geometry, 0)
            channels = base.material.config.out_channels
            velocity = sparse_velocity(base.material, layout, cond, side=shape, batched=p.batched_guidance)
            texture = self._packed("anchor material", velocity, layout, channels, self.samplers.material, 0)
        return structure, layout, shape, texture

    def _shrunk(
        self, encoders: Encoders, structure: Tensor, layout: SparseLayout, shape: Tensor, texture: Tensor, ratio: float
    ) -> tuple[Tensor, SparseLayout, Tensor, Tensor]:
        """Decode the anchor, scale it by `ratio` and encode it again; arguments and results as in `_anchor`."""
        p = self.pipeline
        grid = p.base.geometry.config.resolution
        decoders = (p.shape_decoder, p.texture_decoder)
        with p.using("anchor fit", *decoders, encoders.structure, encoders.shape, encoders.texture):
            decoded = decode_frame(
                *decoders,
                p.shape_statistics.denormalize(shape),
                p.texture_statistics.denormalize(texture),
                layout.coords[:, 1:],
                grid,
            )
            scale = 2 ** (len(p.structure_decoder.config.channels) - 1)
            latents = encode_clip([shrink_frame(decoded, ratio)], encoders, structure.shape[-1] * scale)
        coords = torch.nn.functional.pad(latents.coords, (1, 0)).to(p.device)
        return (
            latents.structure.to(p.device),
            SparseLayout.from_coords(coords, 1),
            p.shape_statistics.normalize(latents.shape.to(p.device)),
            p.texture_statistics.normalize(latents.texture.to(p.device)),
        )

    def _packed(
        self,
        stage: str,
        velocity: PassVelocity,
        layout: SparseLayout,
        channels: int,
        config: SamplerConfig,
        first: int = 1,
    ) -> Tensor:
        noise = self._noise(stage.removeprefix("anchor "), [(n, channels) for n in layout.lengths], first)
        return self._sample(stage, velocity, noise, config, packed_spread(layout.lengths))

    def _sample(
        self, stage: str, velocity: PassVelocity, noise: Tensor, config: SamplerConfig, spread: Spread
    ) -> Tensor:
        x = noise
        if len(x):
            if self.pipeline.cuda_graphs:
                velocity = velocity.graphed()
            for number, step in enumerate(sample_steps(velocity, noise, config, spread), 1):
                x = step.x
                self.progress(stage, number, config.steps)
        return x

    def _noise(self, stage: str, shapes: Sequence[Sequence[int]], first: int = 1, stack: bool = False) -> Tensor:
        """Draw the noise of each frame. It depends only on seed, stage and frame number, not on other frames."""
        device = self.pipeline.device
        parts = [named_noise(s, self.seed, stage, f, device=device) for f, s in enumerate(shapes, first)]
        return torch.stack(parts) if stack else torch.cat(parts)


def _silent(stage: str, done: int, steps: int) -> None:
    """Default `Progress`: report nothing."""


def _stages(networks: Mapping[str, Any], where: str) -> Stages:
    kinds = (DenseFlow, SparseFlow, SparseFlow)
    for name, kind in zip(FLOWS, kinds, strict=True):
        if not isinstance(networks[name], kind):
            raise ConfigError(f"{where}: {name} is a {type(networks[name]).__name__}, expected a {kind.__name__}")
    return Stages(*(networks[name].requires_grad_(False) for name in FLOWS))


def _samplers(args: Mapping[str, Any]) -> Samplers:
    names = ("sparse_structure_sampler", "shape_slat_sampler", "tex_slat_sampler")
    defaults = (STRUCTURE_SAMPLER, SHAPE_SAMPLER, TEXTURE_SAMPLER)
    return Samplers(*(sampler_from_json(args[n]) if n in args else d for n, d in zip(names, defaults, strict=True)))


def _statistics(
    name: str, tuned: Mapping[str, Any], frozen: Mapping[str, Any], default: LatentStatistics
) -> LatentStatistics:
    """Return the statistics of both checkpoints, which must agree: the anchor's latent is passed between them."""
    statistics = [LatentStatistics.from_json(args[name]) if name in args else default for args in (frozen, tuned)]
    base, own = (torch.tensor([s.mean, s.std], dtype=torch.float64) for s in statistics)
    if base.shape != own.shape or not torch.allclose(base, own, rtol=1e-4, atol=1e-4):
        raise ConfigError(f"{name} differs between the base and the fine-tuned model: use the base it was tuned from")
    return statistics[1]
