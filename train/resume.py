"""Checks that a run resumes with the same settings, clips and other inputs."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from helix4d.core import ConfigError, sha256_json
from helix4d.core.typed import build
from helix4d.model.conditioning.images import ImageEncoder
from helix4d.train.checkpoint import TrainState
from helix4d.train.config import TrainConfig
from helix4d.train.data.dataset import ClipReader

CHANGEABLE = (
    "condition_dropout",
    "optimizer.betas",
    "optimizer.clip_percentile",
    "optimizer.ema",
    "optimizer.ema_warmup",
    "optimizer.lr",
    "optimizer.max_norm",
    "optimizer.weight_decay",
)
"""Settings that `--change` may change when a run resumes."""
_FREE = {
    "steps",
    "tokens_per_microbatch",
    "data.latents",
    "data.images",
    "data.workers",
    "data.ahead",
    "data.max_broken",
    "data.max_tokens",  # a change shows in the clips, as for `allow_partial`
    "data.allow_partial",
    "network.checkpoint",
    "network.image_encoder",
    "network.checkpointing",
    "network.compile",
    "network.shard",
    "network.offline",
}
_FREE_SECTION = "run."
_INPUTS = {
    "image_encoder": "network.image_encoder has different weights",
    "base": "network.checkpoint has different frozen weights",
    "latent_encoders": "data.latents were encoded with different encoders",
    "statistics": "the latents are normalized with different statistics",
}


def check_changes(names: Collection[str]) -> None:
    """Check the names of the settings given to `--change`.

    Raises:
        ConfigError: if one of them may not be changed.
    """
    if refused := sorted(set(names) - set(CHANGEABLE)):
        raise ConfigError(f"--change {refused[0]}: only these may be changed on resume: {', '.join(CHANGEABLE)}")


def check_same_run(before: Mapping[str, Any], config: TrainConfig, names: Collection[str] = ()) -> list[dict[str, Any]]:
    """Check that a run resumes with the settings it was started with, except those that may change.

    Args:
        before: settings in the checkpoint.
        config: settings now.
        names: settings that are changed on purpose.

    Returns:
        Setting, previous value and new value of those that were changed on purpose.

    Raises:
        ConfigError: if other settings differ; the message lists them.
    """
    old = _flat(build(TrainConfig, before, f"{config.place}: the settings in its checkpoint").to_json())
    new = _flat(config.to_json())
    different = {
        name: (old.get(name), new.get(name))
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name) and name not in _FREE and not name.startswith(_FREE_SECTION)
    }
    if unexpected := {name: values for name, values in different.items() if name not in names}:
        found = "; ".join(f"{name} was {a}, is {b}" for name, (a, b) in unexpected.items())
        hints = (f", or pass --change {name}={unexpected[name][1]}" for name in CHANGEABLE if name in unexpected)
        raise ConfigError(
            f"{config.place}: this run was started with different settings ({found}): restore them, or use another name"
            + next(hints, "")
        )
    return [{"setting": name, "before": a, "after": b} for name, (a, b) in different.items()]


def check_same_inputs(state: TrainState, clips: str, inputs: Mapping[str, str], config: TrainConfig) -> None:
    """Check that a run resumes with the clips, encoders, frozen weights and statistics it was started with.

    Raises:
        ConfigError: if they differ; the message lists them.
    """
    if state.clips not in ("", clips):
        raise ConfigError(
            f"{config.place}: this run was started with different clips than those in {config.data.latents}, and "
            "resuming would repeat or skip some: use the same latents or another name"
        )
    different = [name for name in _INPUTS if state.inputs.get(name, inputs[name]) != inputs[name]]
    if different:
        found = "; ".join(f"{_INPUTS[n]} (SHA-256 {state.inputs[n][:12]}, now {inputs[n][:12]})" for n in different)
        raise ConfigError(
            f"{config.place}: this run was started with different inputs: {found}: restore them, or use another name"
        )


def input_hashes(reader: ClipReader, network: nn.Module, encoder: ImageEncoder) -> dict[str, str]:
    """Return hashes of what a run reads besides settings and clips, by the names that checkpoints use for them.

    Weights are hashed as they are used, so the folders that they come from may move.
    """
    frozen = (tensor for _, tensor in sorted(network.named_parameters()) if not tensor.requires_grad)
    statistics = {kind: [list(s.mean), list(s.std)] for kind, s in sorted(reader.statistics.items())}
    return {
        "image_encoder": _weights_sha256(tensor for _, tensor in sorted(encoder.named_parameters())),
        "base": _weights_sha256(frozen),
        "latent_encoders": sha256_json(reader.encoders),
        "statistics": sha256_json(statistics),
    }


def _weights_sha256(tensors: Iterable[Tensor]) -> str:
    digest = hashlib.sha256()
    for tensor in tensors:
        data = tensor.detach().cpu().contiguous()
        digest.update(f"{tuple(data.shape)} {data.dtype}".encode())
        digest.update(data.view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested settings: `{"optimizer": {"lr": 1}}` becomes `{"optimizer.lr": 1}`. Tuples become lists."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = list(value) if isinstance(value, tuple) else value
    return flat
