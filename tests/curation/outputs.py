"""Writes outputs like those of `helix4d curate` in a second: small spheres, without Ray and Blender."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from helix4d.assets import Clip, Material
from helix4d.assets.skeleton import Skeleton
from helix4d.assets.tracks import track_points
from helix4d.core import AssetState, ReasonCode, canonical_json, write_json
from helix4d.curation.config import CurateConfig, RunConfig, SampleConfig
from helix4d.curation.filters.thresholds import MeasuredClip
from helix4d.curation.index.table import write_index
from helix4d.curation.plan.plan import PlannedAsset, make_plan, sources_to_json
from helix4d.curation.plan.plan_file import SourceRecord, write_plan
from helix4d.curation.report.summary import RunFigures, summarize
from helix4d.curation.shards.layout import LEDGER_FILE, SUMMARY_FILE
from helix4d.curation.shards.ledger import Ledger, Outcome
from helix4d.curation.shards.members import SAMPLE
from helix4d.curation.shards.tokens import count_tokens
from helix4d.curation.shards.track_files import TRACKS_MEMBER, encode_tracks
from helix4d.curation.shards.writer import Sample, write_part, write_shard
from helix4d.curation.sources.listing import SourceAsset
from helix4d.curation.work.stages import encode_webp
from helix4d.render import picture_ovoxel, sample_cameras
from helix4d.render.scene.lighting import sample_view_lights
from helix4d.render.scene.passes import encode_normal
from helix4d.voxelize import OVoxel, encode_vxz, prepare_surface, voxelize_frame
from tests.curation.clips import NOTHING, clip_of, moved, sphere

FRAMES, VIEWS, RESOLUTION, IMAGE_SIZE = 4, 2, 32, 64
COLORS = [(0.9, 0.2, 0.1), (0.2, 0.8, 0.3), (0.2, 0.3, 0.9), (0.9, 0.8, 0.2)]


def output_of(
    folder: Path,
    done: Sequence[str],
    ended: Sequence[Outcome] = (),
    pending: Sequence[str] = (),
    extras: dict[str, Any] | None = None,
    views: int = VIEWS,
    passes: bool = False,
    tracks: bool = False,
    measures: Mapping[str, float] | None = None,
) -> Path:
    """Write an output in which some assets are done, some ended differently, and some are pending.

    The sphere of an asset moves to the right, and its last frame is empty. The license is that of `extras`, else by.
    The ledger has `measures` besides motion and duration.
    """
    sample = SampleConfig(
        RESOLUTION,
        FRAMES,
        views,
        IMAGE_SIZE,
        cameras="even",
        lights="even",
        passes=passes,
        tracks=64 if tracks else 0,
        assets_per_shard=2,
    )
    config = CurateConfig("/assets", folder, sample, RunConfig())
    names = [*done, *(outcome.asset for outcome in ended), *pending]
    hashes = {
        SourceAsset(name, Path("/assets") / name, 1, 2): hashlib.sha256(os.fsencode(name)).hexdigest() for name in names
    }
    plan = make_plan(hashes, sample.assets_per_shard)
    write_plan(config, SourceRecord(sources_to_json(hashes), {}, {}), {})
    ledger = Ledger(folder / LEDGER_FILE)
    for outcome in ended:
        ledger.append(outcome)
    for shard in plan.shards:
        parts = []
        for asset in shard.assets:
            if asset.source.name in done:
                number = done.index(asset.source.name)
                made, outcome = _sample(asset, sample, number, extras or {"license": "CC BY 4.0", "author": "Ann"})
                own = [replace(clip, measures={**clip.measures, **(measures or {})}) for clip in outcome.clips]
                outcome = replace(outcome, clips=tuple(own))
                parts.append(folder / "work" / f"{asset.key_prefix}.part")
                write_part(parts[-1], [made])
                ledger.append(outcome)
        if all(asset.source.name in ledger.outcomes for asset in shard.assets):
            facts = {
                "split": shard.split,
                "config": sample.to_json(),
                "config_sha256": sample.sha256(),
                "tools": {"helix4d": "0"},
                "gaps": [
                    {"asset": outcome.asset, "state": outcome.state, "reason": outcome.reason}
                    for asset in shard.assets
                    if (outcome := ledger.outcomes[asset.source.name]).state is not AssetState.DONE
                ],
            }
            write_shard(folder / f"{shard.name}.tar", parts, facts)
    if not pending:
        shutil.rmtree(folder / "work", ignore_errors=True)
        write_json(
            folder / SUMMARY_FILE, summarize(plan, ledger, folder, RunFigures(ended=len(names), wall_s=20.0)).to_json()
        )
        write_index(folder, [shard.name for shard in plan.shards], folder)
    return folder


def failure(asset: str, message: str = "broken", log: str = "") -> Outcome:
    """Return the outcome of an asset that failed."""
    return Outcome(
        asset, AssetState.FAILED, ReasonCode.CORRUPT_FILE, "bake", message, 2, timings_s={"bake": 1.0}, log=log
    )


def motionless(asset: str) -> Outcome:
    """Return the outcome of a filtered asset, with its measures."""
    clip = MeasuredClip("0" * 16 + "_0", "still", {"motion": 0.001}, "cc0", "CC0", "", ReasonCode.NO_MOTION)
    return Outcome(asset, AssetState.FILTERED, ReasonCode.NO_MOTION, "filter", "does not move", clips=(clip,))


def ovoxels_of(number: int) -> list[OVoxel]:
    """Return the frames of the done asset `number`."""
    clip = _clip(number)
    surface = prepare_surface(clip)
    return [voxelize_frame(frame, surface, RESOLUTION) for frame in clip.frames]


def _clip(number: int) -> Clip:
    ball = sphere(0.2 + 0.02 * number)
    meshes = [moved(ball, (0.08 * frame - 0.1, 0, 0)) for frame in range(FRAMES - 1)] + [NOTHING]
    color = np.float32(COLORS[number % len(COLORS)])
    return clip_of(meshes, shared=False, materials=(Material(base_color=tuple(map(float, color))),))


def _sample(asset: PlannedAsset, config: SampleConfig, number: int, extras: dict[str, Any]) -> tuple[Sample, Outcome]:
    key = f"{asset.key_prefix}_0"
    ovoxels = ovoxels_of(number)
    measures = {"motion": 0.1 + 0.1 * number, "duration_s": 1.0}
    clip = {
        "version": SAMPLE.version,
        "key": key,
        "asset": asset.source.name,
        "content_sha256": asset.content_sha256,
        "clip": {"name": "roll", "index": 0},
        "times_s": [0.0, 1.0, 2.0, 3.0],
        "frames": config.frames,
        "views": config.views,
        "resolution": config.resolution,
        "image_size": config.image_size,
        "seed": config.seed,
        "config_sha256": config.sha256(),
        "normalization": {"scale": 1.0, "center": [0.0, 0.0, 0.0]},
        "triangles": [1] * config.frames,
        "vanished_area": [0.0] * config.frames,
        "motion": measures["motion"],
        "voxels": [len(ovoxel) for ovoxel in ovoxels],
        "tokens": [count_tokens(ovoxel) for ovoxel in ovoxels],
        # The first sample is like those of version 0.3.0.
        **({"skeleton": Skeleton(19, ("hip",), True).to_json(), "up_axis": "Y"} if number else {}),
        "extras": extras,
        "warnings": [],
    }
    members = {"clip.json": canonical_json(clip)}
    if config.tracks:
        members["clip.json"] = canonical_json({**clip, "tracks": config.tracks})
        drawn = track_points(_clip(number), config.tracks, np.random.default_rng(number))
        members[TRACKS_MEMBER] = encode_tracks(drawn)
    for frame, ovoxel in enumerate(ovoxels):
        members[f"frame_{frame:02d}.vxz"] = encode_vxz(ovoxel)
    for view, camera in enumerate(sample_cameras(config.seed, key, config.views, config.image_size, config.cameras)):
        members[f"view_{view:02d}.json"] = canonical_json(
            {
                "camera": camera.to_json(),
                "lights": sample_view_lights(config.seed, key, view, camera, config.lights).to_json(),
            }
        )
        for frame, ovoxel in enumerate(ovoxels):
            picture = picture_ovoxel(ovoxel, camera)
            members[f"view_{view:02d}_frame_{frame:02d}.webp"] = encode_webp(picture.rgba)
            if config.passes:
                # Differs from the value of the mesh, so that a test can tell the two apart.
                up = np.zeros_like(picture.normal)
                up[picture.rgba[..., 3] > 0] = (0, 0, 1)
                members[f"view_{view:02d}_frame_{frame:02d}.normal.exr"] = encode_normal(up)
    text = str(extras.get("license", ""))
    measured = MeasuredClip(key, "roll", measures, "by" if text.startswith("CC BY") else "", text)
    timings = {"bake": 1.0, "render": 3.0 + number}
    outcome = Outcome(asset.source.name, AssetState.DONE, keys=(key,), timings_s=timings, clips=(measured,))
    return Sample(key, members), outcome
