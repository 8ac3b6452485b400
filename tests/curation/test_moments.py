"""Windows, static samples, and the limits that are known late: from the file to a verified output."""

from __future__ import annotations

import json
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helix4d.assets import bake, bake_clips, normalize
from helix4d.assets.samples import SAMPLES
from helix4d.assets.sampling import Sampling
from helix4d.cli.filter import run as run_filter
from helix4d.cli.main import main
from helix4d.core import AssetState, ConfigError, ReasonCode
from helix4d.core.names import check_key
from helix4d.curation.config import SampleConfig
from helix4d.curation.filters.thresholds import FilterConfig
from helix4d.curation.shards.ledger import Ledger, Outcome
from helix4d.curation.shards.reader import ShardReader
from helix4d.curation.work.jobs import AssetJob
from helix4d.curation.work.stages import Clock, process_asset
from helix4d.voxelize import encode_vxz, voxelize_clip
from tests.assets.glb import tetrahedron
from tests.conftest import ASSETS, NO_ASSETS, files
from tests.curation.runs import curate, hashes, start

_REAL = files(ASSETS / "animated", "*.glb")


def _outcome(folder: Path, asset: Path, metadata: dict[str, Any] | None = None, **settings: Any) -> Outcome:
    folder.mkdir(exist_ok=True)
    config = SampleConfig(**{"resolution": 32, "frames": 4, "views": 0, **settings})
    from helix4d.assets import content_hash

    job = AssetJob(
        asset.name, asset, content_hash(asset), folder / "part", config, metadata=metadata or {}, device="cpu"
    )
    return process_asset(job, Clock(lambda event: None))


def _walk(folder: Path, seconds: float) -> Path:
    """A tetrahedron that moves back and forth once a second, farther from second to second."""
    times = np.linspace(0.0, seconds, max(int(8 * seconds), 2) + 1)
    moves = np.stack([0 * times, np.sin(2 * np.pi * times) * (1 + times / max(seconds, 1)), 0 * times], axis=1)
    return _moving(folder, times, moves)


def _moving(folder: Path, times: np.ndarray, moves: np.ndarray) -> Path:
    folder.mkdir(exist_ok=True, parents=True)
    builder = tetrahedron()
    builder.channel(0, "translation", times, moves)
    return builder.write(folder)


def _still(folder: Path) -> Path:
    folder.mkdir(exist_ok=True, parents=True)
    return tetrahedron().write(folder)


@pytest.mark.parametrize("seconds", [30.0, 0.3])
def test_every_sampling_of_a_long_and_a_short_clip(tmp_path: Path, seconds: float) -> None:
    asset = _walk(tmp_path / "a", seconds)
    (still,) = bake_clips(asset, Sampling(16, static="only"), "most-moving")
    assert still.times.tolist() == [0.0]
    whole = bake(asset, 16)
    np.testing.assert_allclose(whole.times[[0, -1]], [0.0, seconds], atol=1e-6)
    assert whole.window is None
    windows = bake_clips(asset, Sampling(16, 12.0, 3), "most-moving")
    if seconds < 1.25:
        (short,) = windows
        assert short.window == 0
        np.testing.assert_array_equal(short.times, whole.times)
        return
    assert len(windows) == 3
    assert [one.window for one in windows] == sorted({one.window for one in windows if one.window is not None})
    assert min(one.window or 0 for one in windows) > 10, "it moves farther towards the end"
    for one in windows:
        np.testing.assert_allclose(np.diff(one.times), 1 / 12, atol=1e-9)
    times = np.concatenate([one.times for one in windows])
    assert len(np.unique(times.round(6))) == 48, "they share no frame"
    overlapping = bake_clips(asset, Sampling(16, 12.0, 3, stride=4), "most-moving")
    times = np.concatenate([one.times for one in overlapping])
    assert len(np.unique(times.round(6))) < 48, "they may share frames if asked"


def test_static_samples_of_files_without_and_with_an_animation(tmp_path: Path) -> None:
    still = _still(tmp_path / "still")
    moving = _walk(tmp_path / "moving", 1.0)
    assert len(bake_clips(still, Sampling(static="also"), "first")[0].frames) == 1
    assert len(bake_clips(moving, Sampling(static="also"), "first")[0].frames) == 16
    (first,) = bake_clips(moving, Sampling(static="only"), "first")
    np.testing.assert_array_equal(first.frames[0].vertices, bake(moving, 16).frames[0].vertices)


@pytest.mark.parametrize("name", ["ladybug", "sprout", "treasure_chest"])
def test_the_static_sample_of_an_animated_asset_is_frame_0_of_its_clip(name: str, tmp_path: Path) -> None:
    asset = tmp_path / f"{name}.glb"
    asset.write_bytes(SAMPLES[name]())
    check_frame_0(asset, 32)


@pytest.mark.acceptance
@pytest.mark.skipif(not _REAL, reason=NO_ASSETS)
@pytest.mark.parametrize("asset", _REAL, ids=lambda path: path.stem)
def test_the_static_samples_of_real_assets(asset: Path) -> None:
    check_frame_0(asset, 256)


def check_frame_0(asset: Path, resolution: int) -> None:
    """Check that a static sample is frame 0 of the clip, and its O-Voxel that of frame 0 in the same box."""
    clip = bake(asset, 16)
    (static,) = bake_clips(asset, Sampling(static="only"), "most-moving")
    np.testing.assert_array_equal(static.frames[0].vertices, clip.frames[0].vertices)
    np.testing.assert_array_equal(static.frames[0].faces, clip.frames[0].faces)
    first = replace(clip, frames=clip.frames[:1], times=clip.times[:1])
    (found,), (expected,) = (voxelize_clip(normalize(one)[0], resolution) for one in (static, first))
    assert encode_vxz(found) == encode_vxz(expected)


def test_still_files_end_as_static_samples_and_moving_ones_as_clips(tmp_path: Path) -> None:
    still, moving = _still(tmp_path / "still"), _walk(tmp_path / "moving", 1.0)
    frozen = _moving(tmp_path / "frozen", np.array([0.0, 1.0]), np.zeros((2, 3)))
    for number, (asset, static, frames) in enumerate(
        [(still, "also", 1), (frozen, "also", 1), (moving, "also", 4), (moving, "only", 1), (still, "only", 1)]
    ):
        outcome = _outcome(tmp_path / f"o{number}", asset, static=static)
        assert outcome.state is AssetState.DONE, outcome
        (clip,) = outcome.clips
        assert ("motion" in clip.measures) == (frames > 1)
        assert ("duration_s" in clip.measures) == (frames > 1)
    for asset, code in ((frozen, ReasonCode.NO_MOTION),):
        assert _outcome(tmp_path / "never", asset).reason is code


def test_a_frame_of_too_many_tokens_drops_the_clip_after_voxelizing(tmp_path: Path) -> None:
    asset = _walk(tmp_path / "a", 1.0)
    done = _outcome(tmp_path / "done", asset)
    tokens = int(done.clips[0].measures["tokens"])
    assert 4 <= tokens <= 8  # a grid of 2³ blocks
    outcome = _outcome(tmp_path / "few", asset, filters=FilterConfig(max_tokens=tokens - 1))
    assert (outcome.state, outcome.reason) == (AssetState.FILTERED, ReasonCode.TOKEN_LIMIT)
    assert f"tokens {tokens} is above the maximum of {tokens - 1}" in outcome.message
    assert outcome.clips[0].reason is ReasonCode.TOKEN_LIMIT
    assert not (tmp_path / "few" / "part").exists()
    assert FilterConfig().max_tokens == 8192
    with pytest.raises(ConfigError, match="None for no limit"):
        FilterConfig(max_tokens=0)


def test_frames_that_are_far_apart_in_time_drop_the_clip(tmp_path: Path) -> None:
    asset = _walk(tmp_path / "a", 30.0)
    outcome = _outcome(tmp_path / "o", asset, filters=FilterConfig(max_frame_gap_s=1.0))
    assert outcome.reason is ReasonCode.FRAME_GAP
    assert outcome.clips[0].measures["frame_gap_s"] == 10.0
    windows = _outcome(
        tmp_path / "w", asset, sampling="window", windows=2, filters=FilterConfig(max_frame_gap_s=0.1, min_motion=0.0)
    )
    assert windows.state is AssetState.DONE
    assert [key.rpartition("_")[2] for key in windows.keys] == sorted(key.rpartition("_")[2] for key in windows.keys)
    assert all(check_key(key, "") and "w" in key for key in windows.keys)


def test_metadata_decide_before_anything_is_read(tmp_path: Path) -> None:
    asset = _walk(tmp_path / "a", 1.0)
    filters = FilterConfig(where="score >= 4.5 and tags contains 'animal'")
    kept = _outcome(tmp_path / "kept", asset, {"score": "4.7", "tags": ["Animal"]}, filters=filters)
    assert kept.state is AssetState.DONE
    asset.write_bytes(b"nobody reads this")
    outcome = _outcome(tmp_path / "out", asset, {"score": 4.7}, filters=filters)
    assert (outcome.state, outcome.reason) == (AssetState.FILTERED, ReasonCode.NOT_SELECTED)
    assert outcome.clips == ()
    with pytest.raises(ConfigError, match="--where"):
        FilterConfig(where="score >")
    with pytest.raises(ConfigError, match="pass it to curate"):
        run_filter([str(tmp_path), "--dry-run", "--where", "score > 1"])


def test_settings_of_0_3_have_none_of_this() -> None:
    earlier = SampleConfig(cameras="even", lights="even", filters=FilterConfig(max_tokens=None))
    stored = json.loads(json.dumps(earlier.to_json()))
    assert not {"sampling", "fps", "windows", "stride", "static"} & set(stored)
    assert not {"max_tokens", "where", "max_frame_gap_s"} & set(stored["filters"])
    assert SampleConfig.from_json(stored) == earlier
    changed = SampleConfig(sampling="window", windows=3, stride=8, static="also", filters=FilterConfig(where="a = 1"))
    assert SampleConfig.from_json(json.loads(json.dumps(changed.to_json()))) == changed


@pytest.mark.slow
def test_windows_and_static_samples_for_any_number_of_workers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Equal bytes with two workers, and with one in a run that is killed and resumed; `verify` accepts them."""
    source = tmp_path / "source"
    _walk(source / "long", 8.0)
    _still(source / "still")
    (source / "ladybug.glb").write_bytes(SAMPLES["ladybug"]())
    options: dict[str, object] = {"sampling": "window", "windows": 3, "static": "also", "views": 1, "engine": "raster"}
    options |= {"tracks": 64, "fixed_views": "front", "resolution": "64,32"}
    curate(source, tmp_path / "first", workers=2, **options)
    killed = start(source, tmp_path / "second", workers=1, **options)
    ledger = tmp_path / "second" / "ledger.jsonl"
    while not (ledger.exists() and ledger.read_bytes().count(b"\n") > 1):  # the first asset has ended
        assert killed.poll() is None, killed.communicate()[0]
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert hashes(tmp_path / "second") != hashes(tmp_path / "first"), "it is not finished"
    curate(source, tmp_path / "second", workers=1, **options)
    assert hashes(tmp_path / "first") == hashes(tmp_path / "second") != {}
    assert main(["verify", str(tmp_path / "first")]) == 0, capsys.readouterr()
    found = {}
    for tar in (tmp_path / "first").glob("*/*.tar"):
        reader = ShardReader(tar)
        for key in reader.keys():  # noqa: SIM118
            clip = reader.clip(key)
            found.setdefault(clip["asset"], []).append((clip["frames"], clip.get("window")))
    assert sorted(map(len, found.values())) == [1, 3, 3]
    assert sorted(value for value in found.values() if len(value) == 1) == [[(1, None)]]
    outcomes = Ledger(tmp_path / "first" / "ledger.jsonl").outcomes
    assert sum(len(outcome.keys) for outcome in outcomes.values()) == 7
    assert replace(Sampling(), frames=4) != Sampling()
