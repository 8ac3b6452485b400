"""Loads the networks that turn a video into meshes: TRELLIS.2's frozen ones and the three fine-tuned stages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from helix4d.core import ConfigError
from helix4d.model.latents.latents import LatentStatistics
from helix4d.model.networks.flow import DenseFlow, SparseFlow
from helix4d.model.sampling.sampler import SHAPE_SAMPLER, STRUCTURE_SAMPLER, TEXTURE_SAMPLER, SamplerConfig
from helix4d.model.sampling.stages import sampler_from_json

FLOWS = ("sparse_structure_flow_model", "shape_slat_flow_model_512", "tex_slat_flow_model_512")
CASCADE_FLOWS = ("shape_slat_flow_model_1024", "tex_slat_flow_model_1024")
DECODERS = ("sparse_structure_decoder", "shape_slat_decoder", "tex_slat_decoder")
SETTINGS_KEY = "helix4d"
"""Key in the args of `pipeline.json` under which a model records its base and its image size."""


@dataclass(frozen=True)
class Stages:
    """The flows of the three stages, either base or fine-tuned."""

    structure: DenseFlow
    geometry: SparseFlow
    material: SparseFlow

    @classmethod
    def of(cls, networks: Mapping[str, Any], origin: str) -> Stages:
        """Select the flows of a checkpoint.

        Raises:
            ConfigError: if a flow is of another kind.
        """
        return cls(*(_checked(networks, name, kind, origin) for name, kind in zip(FLOWS, _KINDS, strict=True)))


@dataclass(frozen=True)
class CascadeFlows:
    """The base's flows at 1024, which refine a shape that was generated at 512."""

    geometry: SparseFlow
    material: SparseFlow

    @classmethod
    def of(cls, networks: Mapping[str, Any], origin: str) -> CascadeFlows:
        """Select the flows of a checkpoint; errors as of `Stages.of`."""
        return cls(*(_checked(networks, name, SparseFlow, origin) for name in CASCADE_FLOWS))


@dataclass(frozen=True)
class Samplers:
    """Sampling settings of each stage."""

    structure: SamplerConfig = STRUCTURE_SAMPLER
    geometry: SamplerConfig = SHAPE_SAMPLER
    material: SamplerConfig = TEXTURE_SAMPLER

    @classmethod
    def from_json(cls, args: Mapping[str, Any]) -> Samplers:
        """Read the settings in the args of `pipeline.json`; TRELLIS.2's for those that are missing."""
        names = ("sparse_structure_sampler", "shape_slat_sampler", "tex_slat_sampler")
        defaults = (STRUCTURE_SAMPLER, SHAPE_SAMPLER, TEXTURE_SAMPLER)
        return cls(*(sampler_from_json(args[n]) if n in args else d for n, d in zip(names, defaults, strict=True)))

    def changed(self, **values: Any) -> Samplers:
        """Return a copy with fields of `SamplerConfig` changed in all stages; None leaves a field unchanged."""
        changes = {name: value for name, value in values.items() if value is not None}
        return Samplers(*(replace(s, **changes) for s in (self.structure, self.geometry, self.material)))


def shared_statistics(
    name: str, tuned: Mapping[str, Any], frozen: Mapping[str, Any], default: LatentStatistics
) -> LatentStatistics:
    """Return the statistics of both checkpoints, which must agree: the anchor's latent is passed between them.

    Args:
        name: key in the args of `pipeline.json`.
        tuned, frozen: these args of the fine-tuned model and of its base.
        default: statistics of a checkpoint that does not record any.

    Raises:
        ConfigError: if they differ.
    """
    statistics = [LatentStatistics.from_json(args[name]) if name in args else default for args in (frozen, tuned)]
    base, own = (torch.tensor([s.mean, s.std], dtype=torch.float64) for s in statistics)
    if base.shape != own.shape or not torch.allclose(base, own, rtol=1e-4, atol=1e-4):
        raise ConfigError(f"{name} differs between the base and the fine-tuned model: use the base it was tuned from")
    return statistics[1]


_KINDS = (DenseFlow, SparseFlow, SparseFlow)


def _checked(networks: Mapping[str, Any], name: str, kind: type, origin: str) -> Any:
    network = networks[name]
    if not isinstance(network, kind):
        raise ConfigError(f"{origin}: {name} is a {type(network).__name__}, expected a {kind.__name__}")
    return network.requires_grad_(False)  # type: ignore[attr-defined]
