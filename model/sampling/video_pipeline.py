"""Generate one mesh per frame of a video: the frozen base generates the first, three fine-tuned stages the others.

    pipeline = Helix4DPipeline.from_pretrained("my_model")
    for frame in pipeline(read_video(Path("clip.mp4"))): ...

Stage 1 generates the tokens of each frame, stage 2 their geometry, stage 3 their material. All three attend to frame 0
(`helix4d.model.sampling.anchor`) as a clean anchor, whose keys and values are computed once per stage. Frames are
decoded one by one.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from helix4d.core import ConfigError, Helix4DError
from helix4d.model.checkpoint.checkpoint import CheckpointSource, Pipeline, image_encoder_name
from helix4d.model.conditioning.images import ImageEncoder, prepare_frames
from helix4d.model.conditioning.video_input import Video
from helix4d.model.device import choose_device, torso_types
from helix4d.model.latents.decode import GeneratedFrame
from helix4d.model.latents.encode import Encoders
from helix4d.model.latents.latents import LATENT_STRIDE, SHAPE_STATISTICS, TEXTURE_STATISTICS
from helix4d.model.networks.sparse import SparseLayout, SparseTensor
from helix4d.model.sampling.anchor import (
    Anchor,
    AnchorKind,
    Autoencoder,
    base_anchor,
    cascade_frame,
    encoded_anchor,
    mesh_frame,
)
from helix4d.model.sampling.anchor_fit import fit_ratio
from helix4d.model.sampling.loading import (
    CASCADE_FLOWS,
    DECODERS,
    FLOWS,
    SETTINGS_KEY,
    CascadeFlows,
    Samplers,
    Stages,
    shared_statistics,
)
from helix4d.model.sampling.sampler import dense_spread
from helix4d.model.sampling.stage_run import Placement, Progress, StageRun
from helix4d.model.sampling.stages import decode_structure
from helix4d.model.sampling.velocities import SparseAnchor, anchored_dense_velocity, anchored_sparse_velocity

log = logging.getLogger("helix4d.model")


@dataclass(frozen=True)
class AnchorOptions:
    """Where frame 0 comes from.

    Attributes:
        kind: how the base generates it.
        mesh: a textured mesh to use instead; None to generate it.
        fit: whether to shrink it to make room for the clip.
    """

    kind: AnchorKind = AnchorKind.BASE
    mesh: Path | None = None
    fit: bool = False

    def __post_init__(self) -> None:
        if self.mesh is not None and self.kind is not AnchorKind.BASE:
            raise ConfigError(
                f"the anchor is {self.kind} and also the mesh {self.mesh}: a given mesh is not generated, so give one"
            )

    @property
    def encoded(self) -> bool:
        """Whether its surface is encoded, for which the base's encoders are needed."""
        return self.fit or self.mesh is not None or self.kind is not AnchorKind.BASE


@dataclass(frozen=True, eq=False)
class VideoLatents:
    """All frames of a video before they are decoded.

    Attributes:
        shape, texture: [L, C], normalized latents, frame by frame.
        layout: their tokens.
        first: the surface of frame 0, where it is not that of its latents.
    """

    shape: Tensor
    texture: Tensor
    layout: SparseLayout
    first: GeneratedFrame | None

    def __len__(self) -> int:
        return self.layout.batch_size


@dataclass
class Helix4DPipeline:
    """Pipeline that turns a video into meshes.

    Attributes:
        base: TRELLIS.2's frozen flows, which generate the first frame.
        video: fine-tuned flows, which generate the other frames.
        vae: decoders of the base, its encoders if the anchor has to be encoded, and the statistics of the latents that
            the flows were trained on.
        encoder: image encoder that produces the image tokens.
        cascade: the base's flows at 1024, for an anchor that needs them.
        samplers: sampling settings of the base.
        image_size: pixels per side of the image encoder's input; twice as many for the cascade.
        anchor: where the first frame comes from.
        placement: where networks run.
        timings: seconds per stage of the latest call.
    """

    base: Stages
    video: Stages
    vae: Autoencoder
    encoder: ImageEncoder
    cascade: CascadeFlows | None = None
    samplers: Samplers = field(default_factory=Samplers)
    image_size: int = 512
    anchor: AnchorOptions = field(default_factory=AnchorOptions)
    placement: Placement = field(default_factory=Placement)
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
        anchor: AnchorOptions | None = None,
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
            anchor: where the first frame comes from; by default the base at 512.
            offline: whether to read only the local hub cache.

        Raises:
            ConfigError: if networks or settings are missing, model and base do not match, or CUDA graphs are requested
                without a GPU.
            FormatError: if a file is missing or damaged.
        """
        anchor = anchor or AnchorOptions()
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
        fine = () if anchor.kind is AnchorKind.BASE else CASCADE_FLOWS
        frozen = Pipeline.from_pretrained(source, [*FLOWS, *DECODERS, *fine], dtype, compute, vae)
        encoder = image_encoder_name(tuned.args, path) or image_encoder_name(frozen.args, base)
        if encoder is None:
            raise ConfigError(
                f"neither {path} nor {base} specifies image_cond_model, the image encoder, in pipeline.json"
            )
        base_stages, video_stages = Stages.of(frozen.networks, base), Stages.of(tuned.networks, path)
        if compile_blocks:
            for flow in (video_stages.structure, video_stages.geometry, video_stages.material):
                flow.compile_blocks()
        decoders: dict[str, Any] = frozen.networks
        return cls(
            base=base_stages,
            video=video_stages,
            vae=Autoencoder(
                structure=decoders[DECODERS[0]],
                shape=decoders[DECODERS[1]],
                texture=decoders[DECODERS[2]],
                encoders=Encoders.load(source, torch.device("cpu"), vae) if anchor.encoded else None,
                shape_statistics=shared_statistics(
                    "shape_slat_normalization", tuned.args, frozen.args, SHAPE_STATISTICS
                ),
                texture_statistics=shared_statistics(
                    "tex_slat_normalization", tuned.args, frozen.args, TEXTURE_STATISTICS
                ),
            ),
            encoder=ImageEncoder.from_pretrained(encoder, local_files_only=offline),
            cascade=CascadeFlows.of(frozen.networks, base) if fine else None,
            samplers=Samplers.from_json(frozen.args),
            image_size=settings.get("image_size", 512),
            anchor=anchor,
            # Batching the passes saves no time on a CPU.
            placement=Placement(place, low_vram, on_gpu and not low_vram, cuda_graphs),
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
        for frame in self.decode(self.latents(video, seed, samplers, progress), progress):
            if isinstance(frame, Helix4DError):
                raise frame
            yield frame

    @torch.no_grad()
    def latents(
        self, video: Video, seed: int = 0, samplers: Samplers | None = None, progress: Progress | None = None
    ) -> VideoLatents:
        """Run all stages; arguments and errors as in `__call__`."""
        if len(video.frames) < 2:
            raise ConfigError(
                f"the video has {len(video.frames)} frames: at least two are needed. For a still, use TRELLIS.2 itself"
            )
        self.timings = {}
        run = StageRun(self.placement, samplers or self.samplers, seed, progress or _silent, self.timings)
        # Frame 0 twice: in its own tight box, as TRELLIS.2 was trained, and in the union's, as the video stages were.
        groups = (video.frames[:1], video.frames)
        images = torch.cat([prepare_frames(group, self.image_size, video.alpha_threshold) for group in groups])
        with run.using("images", self.encoder):
            tight, cond = self.encoder(images.to(run.device)).tensor_split([1])
        run.progress("images", len(images), len(images))
        return self._video_stages(run, self._anchor(run, video, tight), cond)

    @torch.no_grad()
    def decode(
        self, latents: VideoLatents, progress: Progress | None = None
    ) -> Iterator[GeneratedFrame | Helix4DError]:
        """Yield each frame, or the error that kept it from being decoded, which costs no other frame."""
        run = StageRun(self.placement, self.samplers, 0, progress or _silent, self.timings)
        lengths = list(latents.layout.lengths)
        parts = (part.split(lengths) for part in (latents.shape, latents.texture, latents.layout.coords[:, 1:]))
        with self.placement.holding("decode", self.vae.shape, self.vae.texture):
            for number, piece in enumerate(zip(*parts, strict=True)):
                frame: GeneratedFrame | Helix4DError
                with run.timed("decode"):
                    if number == 0 and latents.first is not None:
                        frame = latents.first
                    else:
                        frame = self._decoded(number, *piece)
                run.progress("decode", number + 1, len(lengths))
                yield frame

    @property
    def _grid(self) -> int:
        """Tokens per side of stages 2 and 3."""
        return self.base.geometry.config.resolution

    def _decoded(self, number: int, shape: Tensor, texture: Tensor, coords: Tensor) -> GeneratedFrame | Helix4DError:
        try:
            return self.vae.decode(shape, texture, coords, self._grid)
        except Helix4DError as error:
            return error
        except (RuntimeError, ValueError, MemoryError) as error:  # includes running out of GPU memory
            return ConfigError(f"frame {number}: cannot be decoded ({error})")

    def _anchor(self, run: StageRun, video: Video, tight: Tensor) -> Anchor:
        """Return frame 0; `tight` [1, M, C] are its image tokens in its own box."""
        options, vae = self.anchor, self.vae
        ratio = fit_ratio(video.frames, video.alpha_threshold) if options.fit else 1.0
        if ratio < 1:
            log.info("anchor scaled by %.3f", ratio)
        if options.mesh is not None:
            with run.timed("anchor"):
                frame = mesh_frame(options.mesh, self._grid * LATENT_STRIDE)
        elif self.cascade is not None:
            image = prepare_frames(video.frames[:1], 2 * self.image_size, video.alpha_threshold)
            with run.using("images", self.encoder):
                fine = self.encoder(image.to(run.device))
            frame = cascade_frame(run, self.base, self.cascade, vae, tight, fine, options.kind.factor)
        else:
            anchor = base_anchor(run, self.base, vae.structure, tight)
            if ratio == 1:
                return anchor
            with run.using("anchor", vae.shape, vae.texture):
                frame = vae.decode(anchor.shape, anchor.texture, anchor.layout.coords[:, 1:], self._grid)
        return encoded_anchor(run, self.base, vae, frame, ratio)

    def _video_stages(self, run: StageRun, anchor: Anchor, cond: Tensor) -> VideoLatents:
        """Sample the frames after the first with the fine-tuned stages; cond [T, M, C] are all frames' image tokens."""
        video, first = self.video, anchor.layout
        # Stage 1: tokens of the other frames.
        frames = len(cond) - 1
        with run.using("structure", video.structure):
            velocity = anchored_dense_velocity(video.structure, anchor.structure[0], cond, batched=run.batched)
            noise = torch.stack(run.noise("structure", [anchor.structure.shape[1:]] * frames))
            grids = run.sample("structure", velocity, noise, run.samplers.structure, dense_spread)
        with run.using("occupancy", self.vae.structure):
            rest = decode_structure(self.vae.structure, grids, self._grid)
        log.info("tokens per frame: %s", (len(first), *rest.lengths))

        # Stages 2 and 3: geometry and material on these tokens.
        shape, texture = anchor.shape, anchor.texture
        with run.using("geometry", video.geometry):
            given = SparseAnchor(SparseTensor(shape, first))
            velocity = anchored_sparse_velocity(video.geometry, given, rest, cond, batched=run.batched)
            moved = run.sample_packed("geometry", velocity, rest, shape.shape[1], run.samplers.geometry)
        with run.using("material", video.material):
            given = SparseAnchor(SparseTensor(texture, first), shape)
            velocity = anchored_sparse_velocity(video.material, given, rest, cond, moved, batched=run.batched)
            painted = run.sample_packed("material", velocity, rest, texture.shape[1], run.samplers.material)

        shift = torch.tensor([1, 0, 0, 0], dtype=torch.int32, device=rest.coords.device)
        layout = SparseLayout(torch.cat([first.coords, rest.coords + shift]), frames + 1)
        return VideoLatents(torch.cat([shape, moved]), torch.cat([texture, painted]), layout, anchor.frame)


def _silent(stage: str, done: int, steps: int) -> None:
    """Default `Progress`: report nothing."""
