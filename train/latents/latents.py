"""Latents of a clip as members of a latent shard, and statistics of latents over many clips."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from safetensors.torch import load, save
from torch import Tensor

from helix4d.core import ConfigError, FormatError
from helix4d.core.documents import parse_json
from helix4d.model.latents.encode import ClipLatents
from helix4d.model.latents.latents import LatentStatistics

STRUCTURE, SHAPE, TEXTURE = "structure", "shape", "texture"
KINDS = (STRUCTURE, SHAPE, TEXTURE)
DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}


def to_members(latents: ClipLatents, dtype: torch.dtype) -> dict[str, bytes]:
    """Encode latents as members of a latent shard, one per kind: a stage reads all frames of one or two kinds."""
    for kind in KINDS:
        if not bool(torch.isfinite(getattr(latents, kind).to(dtype)).all()):
            raise FormatError(f"{kind} latents contain values that are not finite as {dtype}")
    lengths = torch.tensor(latents.lengths, dtype=torch.int32)
    return {
        f"{STRUCTURE}.safetensors": save({"latent": latents.structure.to(dtype).contiguous()}),
        f"{SHAPE}.safetensors": save(
            {"latent": latents.shape.to(dtype), "coords": latents.coords.to(torch.uint8), "lengths": lengths}
        ),
        f"{TEXTURE}.safetensors": save({"latent": latents.texture.to(dtype)}),
    }


def read_member(data: bytes, name: str) -> dict[str, Tensor]:
    """Return the tensors of a member, by name: `latent` as float32, and for the shape `coords` int32 and `lengths`.

    Raises:
        FormatError: if the member is damaged, lacks a tensor, or contains values that are not finite.
    """
    try:
        tensors = load(data)
    except Exception as error:  # safetensors raises errors of many types for damaged data
        raise FormatError(f"{name}: not a safetensors file, or a truncated one ({error})") from error
    if "latent" not in tensors or not tensors["latent"].is_floating_point():
        raise FormatError(f"{name}: has no tensor 'latent' of floats, only {sorted(tensors)}")
    if not bool(torch.isfinite(tensors["latent"]).all()):
        raise FormatError(f"{name}: contains values that are not finite")
    return {k: v.float() if v.is_floating_point() else v.int() for k, v in tensors.items()}


def moments(latents: ClipLatents) -> dict[str, Any]:
    """Count, sums and sums of squares per channel (float64), which add up over clips."""
    result = {}
    for kind in KINDS:
        z: Tensor = getattr(latents, kind).double()
        z = z.transpose(0, 1).flatten(1).T if kind == STRUCTURE else z
        result[kind] = {"count": len(z), "sum": z.sum(0).tolist(), "squares": z.square().sum(0).tolist()}
    return result


def check_moments(values: object, where: str) -> dict[str, Any]:
    """Validate the result of `moments` after it was read from a `clip.json`, and return it.

    Raises:
        FormatError: if it lacks a kind, or its values are not a count and finite sums per channel.
    """
    for kind in KINDS:
        entry = values.get(kind) if isinstance(values, Mapping) else None
        lists = [entry.get("sum"), entry.get("squares")] if isinstance(entry, Mapping) else [None]
        count = entry.get("count") if isinstance(entry, Mapping) else None
        if type(count) is not int or not 0 <= count < 1 << 50 or not all(map(_are_finite, lists)):
            raise FormatError(f"{where}: the moments of {kind} are malformed: run `helix4d verify`")
    return dict(values)  # type: ignore[call-overload]


def _are_finite(values: object) -> bool:
    return isinstance(values, list) and all(type(v) in (int, float) and abs(v) < 1e300 for v in values)


def statistics_from_moments(clips: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return mean, standard deviation and number of tokens of each kind of latent over the moments of clips.

    Raises:
        FormatError: if the numbers of channels differ.
    """
    result = {}
    for kind in KINDS:
        channels = {len(m[kind][name]) for m in clips for name in ("sum", "squares")}
        if len(channels) > 1:
            raise FormatError(f"the moments of {kind} have {sorted(channels)} channels in different clips")
        count = sum(m[kind]["count"] for m in clips)
        if not count:
            continue
        mean = np.sum(np.array([m[kind]["sum"] for m in clips], np.float64), axis=0) / count
        variance = np.sum(np.array([m[kind]["squares"] for m in clips], np.float64), axis=0) / count - mean**2
        std = np.sqrt(np.maximum(variance, 1e-12))
        result[kind] = {"mean": mean.round(6).tolist(), "std": np.maximum(std, 1e-6).round(6).tolist(), "count": count}
    return result


def statistics_from_json(data: bytes, kind: str) -> LatentStatistics:
    """Statistics of one kind, from the content of an encoded folder's `statistics.json`.

    Raises:
        FormatError: if the file is damaged or has no statistics of this kind.
    """
    content = parse_json(data, "statistics.json", "statistics")
    values = content.get(kind) if isinstance(content, Mapping) else None
    if not isinstance(values, Mapping):
        raise FormatError(f"statistics.json: has no statistics of {kind}")
    try:
        return LatentStatistics.from_json(values)
    except ConfigError as error:
        raise FormatError(f"statistics.json: {kind}: {error}") from error
