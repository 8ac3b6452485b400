"""How the stages of one video run: where networks are, the noise they start from, progress and time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from helix4d.core import ConfigError
from helix4d.model.networks.sparse import SparseLayout
from helix4d.model.sampling.loading import Samplers
from helix4d.model.sampling.sampler import SamplerConfig, Spread, packed_spread, sample_steps
from helix4d.model.sampling.stages import named_noise
from helix4d.model.sampling.velocities import PassVelocity

Progress = Callable[[str, int, int], None]
"""Called with the name of a stage, the number of completed steps and the total number of steps."""


@dataclass(frozen=True)
class Placement:
    """Where networks run.

    Attributes:
        device: device on which networks run.
        low_vram: whether to keep networks in main memory except while they are in use.
        batched_guidance: whether to run both guidance passes as one batch.
        cuda_graphs: whether to replay the passes of each stage from CUDA graphs.
    """

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    low_vram: bool = False
    batched_guidance: bool = False
    cuda_graphs: bool = False

    @contextmanager
    def holding(self, stage: str, *networks: nn.Module) -> Iterator[None]:
        """Keep networks on the device.

        Raises:
            ConfigError: if the device runs out of memory.
        """
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


@dataclass(frozen=True)
class StageRun:
    """Settings of one call of the pipeline."""

    placement: Placement
    samplers: Samplers
    seed: int
    progress: Progress
    timings: dict[str, float]

    @property
    def device(self) -> torch.device:
        """Device on which networks run."""
        return self.placement.device

    @property
    def batched(self) -> bool:
        """Whether both guidance passes run as one batch."""
        return self.placement.batched_guidance

    @contextmanager
    def using(self, stage: str, *networks: nn.Module) -> Iterator[None]:
        """Keep networks on the device during a stage and add its duration to the timings.

        Raises:
            ConfigError: if the device runs out of memory.
        """
        with self.timed(stage), self.placement.holding(stage, *networks):
            yield

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add the duration of a block to the timings of a stage."""
        start = time.perf_counter()
        try:
            yield
        finally:
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
            self.timings[stage] = self.timings.get(stage, 0.0) + time.perf_counter() - start

    def sample(
        self, stage: str, velocity: PassVelocity, noise: Tensor, config: SamplerConfig, spread: Spread
    ) -> Tensor:
        """Integrate from noise to the latent; without tokens there is nothing to do."""
        x = noise
        if len(x):
            if self.placement.cuda_graphs:
                velocity = velocity.graphed()
            for number, step in enumerate(sample_steps(velocity, noise, config, spread), 1):
                x = step.x
                self.progress(stage, number, config.steps)
        return x

    def sample_packed(
        self,
        stage: str,
        velocity: PassVelocity,
        layout: SparseLayout,
        channels: int,
        config: SamplerConfig,
        first: int = 1,
    ) -> Tensor:
        """Integrate on the tokens of several frames, of which `first` is the first one's number: [L, channels]."""
        noise = torch.cat(self.noise(stage.removeprefix("anchor "), [(n, channels) for n in layout.lengths], first))
        return self.sample(stage, velocity, noise, config, packed_spread(layout.lengths))

    def noise(self, stage: str, shapes: Sequence[Sequence[int]], first: int = 1) -> list[Tensor]:
        """Draw the noise of each frame. It depends only on seed, stage and frame number, not on other frames."""
        return [named_noise(s, self.seed, stage, f, device=self.device) for f, s in enumerate(shapes, first)]
