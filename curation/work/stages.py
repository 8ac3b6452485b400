"""One asset, from its file to its part of a shard: bake, voxelize, render, pack. Independent of Ray and processes."""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from helix4d.assets import Clip, Normalization, bake_clips, content_hash, normalize
from helix4d.assets.limits import DEFAULT_LIMITS
from helix4d.assets.limits import Limits as AssetLimits
from helix4d.assets.tracks import track_points
from helix4d.core import AssetError, AssetState, ReasonCode, canonical_json, generator
from helix4d.core.redaction import redact_url
from helix4d.curation.filters.measures import measure
from helix4d.curation.filters.thresholds import MeasuredClip, Refusal, judge, judge_metadata
from helix4d.curation.plan.plan import KEY_DIGITS
from helix4d.curation.remote.cache import Cache, pinned
from helix4d.curation.shards.ledger import Outcome
from helix4d.curation.shards.members import DEPTH, SAMPLE, vxz_member
from helix4d.curation.shards.tokens import count_tokens
from helix4d.curation.shards.track_files import TRACKS_MEMBER, encode_tracks
from helix4d.curation.shards.writer import Sample, write_part
from helix4d.curation.work.jobs import AssetJob
from helix4d.render import (
    Camera,
    Lights,
    choose_engine,
    load_engine,
    preset,
    sample_cameras,
    sample_lights,
    sample_view_lights,
)
from helix4d.render.engine_choice import EngineChoice, for_engine
from helix4d.render.scene.environment import EnvironmentMap, sample_map_lights
from helix4d.render.scene.fixed_views import fixed_azimuths, fixed_cameras
from helix4d.render.scene.passes import encode_depth, encode_normal
from helix4d.voxelize import OVoxel, encode_vxz, prepare_surface, vanished_area_share, voxelize_clip

_STILL = frozenset({ReasonCode.NO_MOTION, ReasonCode.ZERO_DURATION})
"""Reasons for dropping a clip whose first frame may still be a static sample."""


class Clock:
    """Times the stages and reports progress events to `report`."""

    def __init__(self, report: Callable[[dict[str, Any]], None]) -> None:
        self.stage = ""
        self._report = report
        self._seconds: dict[str, float] = {}
        self._step, self._steps = 0, 1

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        """Count the block's time for `stage`. After an error, `self.stage` still names the stage that failed."""
        start = time.perf_counter()
        self.stage = stage
        try:
            yield
        finally:
            self._seconds[stage] = self._seconds.get(stage, 0.0) + time.perf_counter() - start

    def progress(self, step: int, steps: int) -> None:
        """Report the progress of the current stage."""
        self._step, self._steps = step, steps
        self.note("")

    def note(self, text: str) -> None:
        """Report what the current step waits for; "" when it continues."""
        event = {"event": "progress", "stage": self.stage, "step": self._step, "steps": self._steps}
        self._report({**event, "note": text} if text else event)

    def timings_s(self) -> dict[str, float]:
        """Seconds per stage."""
        return {stage: round(seconds, 3) for stage, seconds in self._seconds.items()}


def process_asset(job: AssetJob, clock: Clock) -> Outcome:
    """Make an asset's samples and write its part, or only measure its clips if the job says so.

    With `--clip all`, an asset is done when at least one of its clips became a sample; the outcome's warnings say why
    the others were dropped. If the filters drop every clip, the outcome says why they dropped the first one.

    Raises:
        AssetError: if the asset is broken or exceeds a limit, with the reason.
    """
    if not job.measure_only and (refusal := judge_metadata(job.metadata, job.config.filters)):
        return _filtered(job, refusal, (), clock)
    with _local_file(job, clock) as path, clock.measure("bake"):
        clock.progress(0, 1)
        # This is a child process that may crash already.
        limits = DEFAULT_LIMITS if job.memory_gb is None else AssetLimits.for_memory(int(job.memory_gb * 1e9))
        baked = bake_clips(path, job.config.moments, job.config.clip, limits, isolated=False)
    judged = [_judge(job, clip, clock) for clip in baked]
    if job.config.static == "also" and all(refusal and refusal.code in _STILL for _, refusal in judged):
        baked = [_first_frame(baked[0])]
        judged = [_judge(job, clip, clock) for clip in baked]
    measured = tuple(replace(clip, reason=refusal.code if refusal else None) for clip, refusal in judged)
    if job.measure_only:
        unjudged = tuple(clip for clip, _ in judged)
        return Outcome(job.asset, AssetState.DONE, timings_s=clock.timings_s(), clips=unjudged)
    refusals = [refusal for _, refusal in judged if refusal]
    kept = [(clip, measures) for clip, measures in zip(baked, measured, strict=True) if measures.reason is None]
    if not kept:
        return _filtered(job, refusals[0], measured, clock)
    kept.sort(key=lambda pair: pair[1].key)
    for leftover in job.part.parent.glob(f".{job.part.name}.*.tmp"):  # from an attempt that was killed
        leftover.unlink(missing_ok=True)
    clock.stage = "pack"  # opening the part counts as packing
    made: dict[str, MeasuredClip] = {}
    too_large: list[Refusal] = []
    write_part(job.part, _samples(job, kept, clock, made, too_large))
    measured = tuple(made.get(clip.key, clip) for clip in measured)
    kept = [(clip, made[measures.key]) for clip, measures in kept if made[measures.key].reason is None]
    if not kept:
        job.part.unlink()
        return _filtered(job, too_large[0], measured, clock)
    refusals += too_large
    left_out = [f"clip dropped: {refusal.message} [{refusal.code}]" for refusal in refusals]
    return Outcome(
        job.asset,
        AssetState.DONE,
        keys=tuple(measures.key for _, measures in kept),
        timings_s=clock.timings_s(),
        warnings=(*left_out, *dict.fromkeys(warning for clip, _ in kept for warning in clip.warnings)),
        clips=measured,
    )


def _filtered(job: AssetJob, refusal: Refusal, clips: tuple[MeasuredClip, ...], clock: Clock) -> Outcome:
    code, message = refusal.code, refusal.message
    return Outcome(
        job.asset, code.state, code, stage=clock.stage, message=message, timings_s=clock.timings_s(), clips=clips
    )


def _first_frame(clip: Clip) -> Clip:
    return replace(clip, times=clip.times[:1], frames=clip.frames[:1], motion_between=0.0, window=None)


@contextmanager
def _local_file(job: AssetJob, clock: Clock) -> Iterator[Path]:
    """Path of the asset's file during the block, downloaded if it is remote. Its content must be what was planned."""
    if job.remote is None:
        try:
            yield job.path
        finally:
            # Checked afterwards, because the file may change while it is read, and that change may cause an error.
            _check_content(job, job.path, str(job.path))
        return
    with ExitStack() as held:
        with clock.measure("download"):
            clock.progress(0, 1)
            cache = Cache(job.downloads)
            path = held.enter_context(cache.lease(pinned(job.remote, job.content_sha256), clock.progress))
            _check_content(job, path, redact_url(job.remote.url))
        yield path


def _check_content(job: AssetJob, path: Path, where: str) -> None:
    try:
        sha256 = content_hash(path)
    except FileNotFoundError as error:
        message = f"{where}: no longer exists, or is missing on this node"
        raise AssetError(ReasonCode.DOWNLOAD_FAILED, message, path) from error
    except PermissionError as error:
        if job.remote is not None:
            raise  # a file of the cache
        message = f"{where}: cannot be read ({error.strerror}): make it readable on this node"
        raise AssetError(ReasonCode.DOWNLOAD_FAILED, message, path) from error
    if sha256 != job.content_sha256:
        message = f"{where}: content hash is {sha256}, but was planned as {job.content_sha256}: the file has changed"
        raise AssetError(ReasonCode.CHECKSUM_MISMATCH, message, path)


def _judge(job: AssetJob, clip: Clip, clock: Clock) -> tuple[MeasuredClip, Refusal | None]:
    with clock.measure("filter"):
        clock.progress(0, 1)
        window = "" if clip.window is None else f"w{clip.window:02d}"
        measured = measure(clip, f"{job.content_sha256[:KEY_DIGITS]}_{clip.index}{window}", job.metadata)
        return measured, judge(measured, job.config.filters)


def _samples(
    job: AssetJob,
    kept: Iterable[tuple[Clip, MeasuredClip]],
    clock: Clock,
    made: dict[str, MeasuredClip],
    too_large: list[Refusal],
) -> Iterator[Sample]:
    """Samples one at a time: all clips of a file with all their images may not fit in memory.

    Args:
        job, kept, clock: as in `process_asset`.
        made: filled with the measures of each clip, by key, including those that only its O-Voxels have.
        too_large: filled with the refusals of clips with too many tokens.
    """
    for clip, measured in kept:
        sample, refusal, made[measured.key] = _make_sample(job, clip, measured, clock)
        if sample is None:
            too_large += [refusal] if refusal else []
            continue
        with clock.measure("pack"):  # the caller writes the sample before it asks for the next
            clock.progress(0, 1)
            yield sample
        del sample


def _make_sample(
    job: AssetJob, clip: Clip, measured: MeasuredClip, clock: Clock
) -> tuple[Sample | None, Refusal | None, MeasuredClip]:
    """Return the sample or why it is dropped, and its measures with those of its O-Voxels."""
    config, key = job.config, measured.key
    members: dict[str, bytes] = {}
    with clock.measure("normalize"):
        clip, normalization = normalize(clip)
    with clock.measure("voxelize"):
        clock.progress(0, len(clip.frames))
        device: Literal["cpu", "auto"] = "cpu" if job.device == "cpu" else "auto"
        surface = prepare_surface(clip, config.emissive)
        facts: list[dict[str, Any]] = []
        for side in config.resolutions:
            ovoxels = voxelize_clip(clip, side, threads=job.threads, surface=surface, device=device)
            facts.append(_count(clip, ovoxels))
            for frame, ovoxel in enumerate(ovoxels):
                name = vxz_member(frame, None if side == config.resolutions[0] else side)
                members[name] = encode_vxz(ovoxel, compression=config.vxz_compression)
            del ovoxels
    measured = replace(measured, measures={**measured.measures, "tokens": float(max(facts[0]["tokens"]))})
    if refusal := judge(measured, config.filters):
        return None, refusal, replace(measured, reason=refusal.code)
    if config.tracks:
        tracks = track_points(clip, config.tracks, generator(config.seed, key, "tracks"))
        members[TRACKS_MEMBER] = encode_tracks(tracks)
    views, facts_of_views = _render(job, key, clip, clock)
    description = {**_describe(job, clip, measured, normalization), **facts[0]}
    if len(facts) > 1:
        others = zip(config.resolutions[1:], facts[1:], strict=True)
        description["other_resolutions"] = {str(side): counts for side, counts in others}
    members["clip.json"] = canonical_json({**description, **facts_of_views})
    return Sample(key, {**members, **views}), None, measured


def _count(clip: Clip, ovoxels: list[OVoxel]) -> dict[str, Any]:
    """Return what `clip.json` says about the O-Voxels of one resolution, a list with one value per frame each."""
    vanished = [vanished_area_share(frame, ovoxel) for frame, ovoxel in zip(clip.frames, ovoxels, strict=True)]
    return {
        "voxels": [len(ovoxel.coords) for ovoxel in ovoxels],
        "tokens": [count_tokens(ovoxel) for ovoxel in ovoxels],
        "vanished_area": [round(share, 6) for share in vanished],
    }


def _describe(job: AssetJob, clip: Clip, measured: MeasuredClip, normalization: Normalization) -> dict[str, Any]:
    config = job.config
    metadata = {"metadata": dict(job.metadata)} if job.metadata else {}
    return {
        **metadata,
        "version": SAMPLE.version,
        "key": measured.key,
        "asset": job.asset,
        "content_sha256": job.content_sha256,
        "clip": {"name": clip.name, "index": clip.index},
        **({} if clip.window is None else {"window": clip.window}),
        "times_s": clip.times.tolist(),
        "frames": len(clip.frames),
        "views": config.views,
        "resolution": config.resolutions[0],
        "image_size": config.image_size,
        **({"tracks": config.tracks} if config.tracks else {}),
        **({"fixed_views": list(fixed_azimuths(config.fixed_views))} if config.fixed_views else {}),
        "seed": config.seed,
        "normalization": normalization.to_json(),
        "motion": measured.measures.get("motion", 0.0),
        "measures": dict(measured.measures),
        "license": measured.license,
        "geometry_hash": measured.geometry_hash,
        "triangles": [len(frame.faces) for frame in clip.frames],
        "skeleton": None if clip.skeleton is None else clip.skeleton.to_json(),
        "up_axis": clip.up_axis,
        "extras": dict(clip.extras),
        "warnings": list(clip.warnings),
        "config_sha256": config.sha256(),
    }


def _render(job: AssetJob, key: str, clip: Clip, clock: Clock) -> tuple[dict[str, bytes], dict[str, Any]]:
    """Return the members of all views, and what `clip.json` says about them."""
    config = job.config
    cameras, lights, maps = _views(job, key)
    names = [f"view_{view:02d}" for view in range(config.views)]
    names += [f"fixed_{view:02d}" for view in range(len(cameras) - config.views)]
    members = {
        f"{name}.json": canonical_json({"camera": camera.to_json(), "lights": light.to_json()})
        for name, camera, light in zip(names, cameras, lights, strict=True)
    }
    images = len(names) * len(clip.frames)
    if not images:
        return members, {}
    settings = preset(
        config.preset,
        image_size=config.image_size,
        threads=job.threads,
        passes=config.passes,
        device=job.device,
        view_transform=config.view_transform,
    )
    hdf5 = None if job.hdf5 is None else job.hdf5 / key
    engine, facts = config.engine, {}
    with clock.measure("render"):
        clock.progress(0, images)
        if engine != "raster" and "bpy" not in sys.modules:
            clock.note("loading Blender")
        if engine == "auto":
            choice = choose_engine(clip, cameras, lights, settings, config.seed, key, maps)
            engine, facts = choice.engine, {"engine": _describe_choice(choice, names)}
            settings = for_engine(settings, engine)
        rendered = load_engine(engine, hdf5)(clip, cameras, lights, settings, maps=maps)
    clipped = dict.fromkeys(names, 0.0)
    for number in range(images):
        with clock.measure("render"):
            clock.progress(number, images)
            image = next(rendered)
        with clock.measure("encode"):
            clipped[names[image.view]] += image.clipped / len(clip.frames)
            name = f"{names[image.view]}_frame_{image.frame:02d}"
            members[f"{name}.webp"] = encode_webp(image.rgba)
            if image.depth is not None and image.normal is not None:
                members[f"{name}.{DEPTH}"] = encode_depth(image.depth)
                members[f"{name}.normal.exr"] = encode_normal(image.normal)
    with clock.measure("render"):
        next(rendered, None)  # an engine that writes files renames them at its end
    return members, {**facts, "clipped": {name: round(share, 6) for name, share in clipped.items()}}


def _describe_choice(choice: EngineChoice, names: Sequence[str]) -> dict[str, Any]:
    probes = [{"view": names[probe.view], "frame": probe.frame, "psnr_db": probe.psnr_db} for probe in choice.probes]
    return {"name": choice.engine, "probes": probes}


def _views(job: AssetJob, key: str) -> tuple[list[Camera], list[Lights], dict[str, EnvironmentMap]]:
    """Return the cameras and lights of the random views and then of the fixed ones, and the maps that they use."""
    config = job.config
    cameras = sample_cameras(config.seed, key, config.views, config.image_size, config.cameras)
    fixed = fixed_cameras(config.fixed_views, config.image_size)
    maps: dict[str, EnvironmentMap] = {}
    if job.hdri is None or not config.environment_maps:
        lights = sample_lights(config.seed, key, cameras, config.lights)
    else:
        lights, maps = sample_map_lights(config.seed, key, cameras, job.hdri, config.environment_maps)
    names = [f"fixed_{view:02d}" for view in range(len(fixed))]
    even = [
        sample_view_lights(config.seed, key, name, camera, "even") for name, camera in zip(names, fixed, strict=True)
    ]
    return [*cameras, *fixed], [*lights, *even], maps


def encode_webp(rgba: np.ndarray) -> bytes:
    """Encode (H, W, 4) uint8 as lossless WebP, including the colors of transparent pixels."""
    stream = io.BytesIO()
    Image.fromarray(rgba, "RGBA").save(stream, "WEBP", lossless=True, exact=True, quality=50, method=2)
    return stream.getvalue()
