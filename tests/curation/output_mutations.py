"""Damages outputs: JSON values and structure, bytes, and members of shards with a sidecar that agrees with them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from helix4d.core import canonical_json
from helix4d.curation.shards.writer import Sample, write_part, write_shard

HOSTILE: list[Any] = [
    *(None, True, -1, 0, 2**70, -(2**70), 1e308, float("nan"), float("inf"), "", "../../../config", "/etc/passwd"),
    *("a\x1b[2Jb\n\u202ec", "x" * 100_000, "NaN", [], {}, [[]], [None], {"a": None}, 10**9, [10**9] * 3, 1.5),
]


@dataclass(frozen=True)
class Damage:
    """What was done to an output: file, and in words."""

    file: str
    how: str


def damage(output: Path, seed: int, number: int) -> list[Damage]:
    """Damage an output in place, once or twice, determined by the seed and the number."""
    random = np.random.default_rng([seed, number])
    done = []
    for _ in range(int(random.integers(1, 3))):
        files = sorted(path for path in output.rglob("*") if path.is_file() and not path.name.startswith("."))
        if not files:
            break
        path = files[random.integers(len(files))]
        if path.suffix == ".tar" and random.random() < 0.7:
            how = _damage_member(path, random)
        elif path.suffix in (".json", ".jsonl") and random.random() < 0.8:
            how = _damage_json_file(path, random)
        else:
            path.write_bytes(_damage_bytes(path.read_bytes(), random))
            how = "bytes"
        done.append(Damage(path.relative_to(output).as_posix(), how))
    return done


def _damage_member(tar: Path, random: np.random.Generator) -> str:
    """Replace a member of a shard, and write the shard and its sidecar anew so that they agree."""
    try:
        sidecar = json.loads(tar.with_suffix(".json").read_bytes())
        data = tar.read_bytes()
        samples = {
            sample["key"]: {name: data[at : at + size] for name, (at, size) in sample["members"].items()}
            for sample in sidecar["samples"]
        }
        key = sorted(samples)[random.integers(len(samples))]
        name = sorted(samples[key])[random.integers(len(samples[key]))]
        if random.random() < 0.3:
            name = "clip.json"
        samples[key][name] = damaged = _damage_data(name, samples[key][name], random)
        part = tar.with_suffix(".part")
        write_part(part, [Sample(key, samples[key]) for key in sorted(samples)])
        facts = {name: sidecar[name] for name in sidecar.keys() - {"version", "shard", "bytes", "sha256", "samples"}}
        write_shard(tar, [part], facts)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        # An earlier damage keeps the shard from being written anew.
        tar.with_suffix(".part").unlink(missing_ok=True)
        return f"member left unchanged ({type(error).__name__})"
    part.unlink()
    return f"{name} of {len(damaged)} bytes"


def _damage_data(name: str, data: bytes, random: np.random.Generator) -> bytes:
    if name.endswith(".json") and random.random() < 0.8:
        return _damage_json(data, random)
    if name.endswith(".vxz") and random.random() < 0.6:
        length = int.from_bytes(data[4:8], "big")
        header = _damage_json(data[8:length], random)
        return data[:4] + (8 + len(header)).to_bytes(4, "big") + header + data[length:]
    if name.endswith(".safetensors") and random.random() < 0.6:
        length = int.from_bytes(data[:8], "little")
        header = _damage_json(data[8 : 8 + length], random)
        return len(header).to_bytes(8, "little") + header + data[8 + length :]
    return _damage_bytes(data, random)


def _damage_bytes(data: bytes, random: np.random.Generator) -> bytes:
    at = int(random.integers(max(len(data), 1)))
    kinds: list[Callable[[], bytes]] = [
        lambda: data[:at],
        lambda: data[:at] + bytes([int(random.integers(256))]) + data[at + 1 :],
        lambda: data[:at] + random.bytes(int(random.integers(1, 64))) + data[at:],
        lambda: data[:at] + bytes(min(512, len(data) - at)) + data[at + 512 :],
        lambda: b"",
        lambda: data + data,
        lambda: b"\xff" * min(len(data), 4096) + data[4096:],
    ]
    return kinds[random.integers(len(kinds))]()


def _damage_json_file(path: Path, random: np.random.Generator) -> str:
    lines = path.read_bytes().split(b"\n") if path.suffix == ".jsonl" else [path.read_bytes()]
    number = int(random.integers(len(lines)))
    lines[number] = _damage_json(lines[number], random)
    path.write_bytes(b"\n".join(lines))
    return "json"


def _damage_json(data: bytes, random: np.random.Generator) -> bytes:
    if random.random() < 0.05:
        return b"[" * 200_000
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return _damage_bytes(data, random)
    places = list(_places(value))
    if not places:
        return canonical_json_or_not(HOSTILE[random.integers(len(HOSTILE))])
    holder, name = places[random.integers(len(places))]
    kind = random.integers(4)
    if kind == 0 and isinstance(holder, dict):
        del holder[name]
    elif kind == 1 and isinstance(holder, dict):
        key = HOSTILE[random.integers(len(HOSTILE))]
        holder[key if isinstance(key, str) else str(key)] = holder.pop(name)
    elif kind == 2 and isinstance(holder, list):
        holder.append(holder[name])
    else:
        holder[name] = HOSTILE[random.integers(len(HOSTILE))]
    return canonical_json_or_not(value)


def canonical_json_or_not(value: Any) -> bytes:
    """Encode a value as JSON; NaN and infinite numbers as Python writes them."""
    try:
        return canonical_json(value)
    except ValueError:
        return json.dumps(value).encode()


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every place in a JSON value: the container, and the key or index in it."""
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, inner in list(entries):
        yield value, name
        yield from _places(inner)


def copy(source: Path, target: Path) -> Path:
    """Replace a folder by a copy of another one."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)
    return target
