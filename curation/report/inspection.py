"""Describes a shard or one of its samples: text for a terminal, and a contact sheet."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from helix4d.core import FormatError, write_bytes
from helix4d.core.terminal import printable_line
from helix4d.curation.report.summary import first_view_rows, sheet_bytes, thumbnail
from helix4d.curation.report.words import counted, size_of
from helix4d.curation.shards.reader import ShardReader
from helix4d.curation.shards.sidecar import gap_name
from helix4d.render import contact_sheet
from helix4d.voxelize import decode_vxz

_SHEET_PIXELS = 128


@dataclass(frozen=True)
class Inspection:
    """Description of a shard or sample.

    Attributes:
        text: text for a terminal, several lines.
        sheet: contact sheet, (H, W, 3) uint8; None if nothing was rendered.
    """

    text: str
    sheet: np.ndarray | None

    def write_sheet(self, path: Path) -> bool:
        """Write the contact sheet as WebP. Returns False if there is none."""
        if self.sheet is None:
            return False
        write_bytes(path, sheet_bytes(self.sheet))
        return True


def inspect_shard(tar_path: Path | str) -> Inspection:
    """List a shard's samples and gaps.

    Raises:
        FormatError: if it is not a committed shard.
    """
    reader = ShardReader(tar_path)
    sidecar = reader.sidecar
    samples = counted(len(reader.keys()), "sample")
    lines = [
        f"{reader.path.name}: {sidecar['split']} split, {samples}, {size_of(sidecar['bytes'])}",
        f"sha256 {sidecar['sha256']}, config {sidecar['config_sha256'][:12]}",
        "",
        f"{'key':20} {'MB':>7} {'voxels/frame':>15} {'tokens/frame':>13}  asset, clip",
    ]
    for key in reader.keys():  # noqa: SIM118 (not a dict)
        sample = reader.sample(key)
        voxels, tokens = (f"{min(counts)}-{max(counts)}" for counts in (sample["voxels"], sample["tokens"]))
        name = f"{sample['asset']}, {sample['clip']['name'] or sample['clip']['index']}"
        lines.append(f"{key:20} {sample['bytes'] / 1e6:7.2f} {voxels:>15} {tokens:>13}  {name}")
    lines += [f"no sample: {gap_name(gap)} ({gap['state']}: {gap['reason']})" for gap in sidecar["gaps"]]
    rows, labels = first_view_rows([reader])
    return Inspection("\n".join(map(printable_line, lines)), contact_sheet(rows, labels) if rows else None)


def inspect_sample(tar_path: Path | str, key: str) -> Inspection:
    """Describe one sample. Its contact sheet has one row per view and one column per frame.

    Raises:
        FormatError: if it is not a committed shard, or has no such sample.
    """
    reader = ShardReader(tar_path)
    if key not in reader.keys():  # noqa: SIM118 (not a dict)
        raise FormatError(f"{tar_path}: no sample {key!r}; its samples are {', '.join(reader.keys()) or '(none)'}")
    clip = reader.clip(key)
    lines = [f"{name}: {_short(clip[name])}" for name in sorted(clip)]
    lines += ["", f"{'member':28} {'bytes':>9}"]
    lines += [f"{suffix:28} {reader.sample(key)['members'][suffix][1]:>9}" for suffix in reader.members(key)]
    try:
        first = decode_vxz(reader.read(key, "frame_00.vxz"))
        sheet = _views_by_frames(reader, key, clip["views"], clip["frames"])
    except KeyError as error:
        raise FormatError(f"{tar_path}: {key} has no member {error}: run `helix4d verify`") from error
    lines += ["", f"frame 0: {len(first.coords)} voxels of {first.resolution}³, base color {_mean(first.base_color)}"]
    return Inspection("\n".join(map(printable_line, lines)), sheet)


def _views_by_frames(reader: ShardReader, key: str, views: int, frames: int) -> np.ndarray | None:
    if not views:
        return None
    rows = []
    for view in range(views):
        found = reader.read_members(key, [f"view_{view:02d}_frame_{f:02d}.webp" for f in range(frames)])
        rows.append([thumbnail(webp, _SHEET_PIXELS) for webp in found.values()])
    return contact_sheet(rows, [[f"view {v}, frame {f}" for f in range(frames)] for v in range(views)])


def _short(value: Any) -> str:
    if isinstance(value, list) and len(value) > 4:
        return f"[{value[0]}, {value[1]}, ... {value[-1]}] ({len(value)})"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, Mapping | list) else str(value)


def _mean(color: np.ndarray) -> str:
    return "-" if not len(color) else "(" + ", ".join(f"{channel:.0f}" for channel in color.mean(axis=0)) + ")"
