from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from helix4d.bench_builder.build import build
from helix4d.bench_builder.entry import read_entry, read_frames
from helix4d.bench_builder.verify import verify
from helix4d.cli.main import main
from helix4d.core import ConfigError, ReasonCode
from helix4d.curation.shards.ledger import Ledger
from tests.bench_builder.world import World, build_here, hashes, write_manifest, write_stills

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_output_is_identical_for_any_number_of_workers(
    world: World, built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for output, workers in ((tmp_path / "one", "1"), (tmp_path / "two", "2")):
        assert main([*world.arguments(output), "--workers", workers]) == 0
        assert "3 done" in capsys.readouterr().out
        # `built` was made without Ray, in one process.
        assert hashes(output) == hashes(built)
        assert main(["bench", "verify", str(output), "--stills", str(world.stills)]) == 0
        assert "3 built, 0 failed, 1 not attempted; 0 problems" in capsys.readouterr().out


@pytest.mark.slow
def test_output_is_identical_after_a_kill(world: World, built: Path, tmp_path: Path) -> None:
    output = tmp_path / "bench"
    command = [sys.executable, "-m", "helix4d", *world.arguments(output), "--workers", "1"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True, cwd=REPOSITORY)
    while not list(output.glob("work/*.npz")) and process.poll() is None:
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert process.returncode == -signal.SIGKILL, "it ended before it could be killed"
    assert not (output / "contact_sheet.webp").exists()
    assert main([*world.arguments(output), "--workers", "1"]) == 0
    assert hashes(output) == hashes(built)
    assert {o.state for o in Ledger(output / "ledger.jsonl").outcomes.values()} == {"done"}


def test_entry_has_16_square_frames_previews_and_metadata(world: World, built: Path) -> None:
    folder = built / "videos" / "round"
    names = [f"frame_{number:02d}.png" for number in range(16)]
    assert sorted(p.name for p in folder.iterdir()) == ["entry.json", *names, "preview.mp4", "preview.webp"]
    frames = read_frames(folder, 16)
    assert frames.shape == (16, 32, 32, 4)
    assert 0 < (frames[..., 3] > 0).mean() < 1
    assert (frames[frames[..., 3] == 0] == 0).all(), "transparent pixels must be black"
    entry = read_entry(folder)
    assert entry is not None
    assert entry["prompt"].startswith("A round thing turns into a square. The camera is locked off")
    assert (entry["seed"], entry["frames"], entry["source_frames"]) == (0, 16, list(range(16)))
    assert entry["settings"]["generator"]["flow_shift"] == 5.0
    assert entry["settings"]["matting"] == "u2net_custom"
    assert str(world.model.parent) not in json.dumps(entry), "paths must not be recorded"
    assert sorted(entry["files"]) == [*names, "preview.mp4", "preview.webp"]
    with Image.open(folder / "preview.webp") as preview:
        assert (preview.n_frames, preview.mode) == (16, "RGBA")
    with av.open(str(folder / "preview.mp4")) as film:
        assert len(list(film.decode(video=0))) == 16
        assert film.streams.video[0].average_rate == 16


def test_videos_differ(built: Path) -> None:
    first = [read_frames(built / "videos" / name, 16) for name in ("round", "tall", "wide")]
    assert not np.array_equal(first[0], first[1])
    assert not np.array_equal(first[1], first[2])


def test_finished_videos_are_kept_and_a_larger_limit_adds_the_rest(
    world: World, built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = shutil.copytree(built, tmp_path / "bench")
    assert build_here(world.config(output), monkeypatch) == ({"done": 3}, [])
    assert hashes(output) == hashes(built)
    assert build_here(world.config(output, limit=None), monkeypatch) == ({"done": 4}, ["ring"])
    assert hashes(output).items() >= {k: v for k, v in hashes(built).items() if k.startswith("videos/")}.items()


def test_damaged_videos_are_rebuilt_identically(
    world: World, built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = shutil.copytree(built, tmp_path / "bench")
    frame = output / "videos" / "round" / "frame_03.png"
    frame.write_bytes(frame.read_bytes()[:-1])
    (output / "videos" / "wide" / "entry.json").unlink()
    assert build_here(world.config(output), monkeypatch) == ({"done": 3}, ["round", "wide"])
    assert hashes(output) == hashes(built)
    entry = output / "videos" / "tall" / "entry.json"
    entry.write_text(entry.read_text().replace('"drift": 0.', '"drift": 1.'))
    assert build_here(world.config(output), monkeypatch)[1] == ["tall"]
    assert hashes(output) == hashes(built)


def test_a_damaged_video_beyond_the_limit_does_not_stop_a_run(
    world: World, built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    output = shutil.copytree(built, tmp_path / "bench")
    (output / "videos" / "wide" / "entry.json").write_text("{")
    assert build_here(world.config(output, limit=1), monkeypatch) == ({"done": 1}, [])
    assert "left out of the contact sheet" in caplog.text


def test_hidden_files_of_file_managers_are_ignored(
    world: World, built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = shutil.copytree(built, tmp_path / "bench")
    (output / "videos" / "wide" / ".DS_Store").write_bytes(b"where windows stood")
    assert build_here(world.config(output), monkeypatch) == ({"done": 3}, [])
    assert (output / "videos" / "wide" / ".DS_Store").exists()
    assert verify(output, world.stills).problems == ()


def test_a_video_missing_from_the_ledger_is_not_rebuilt(
    world: World, built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = shutil.copytree(built, tmp_path / "bench")
    (output / "ledger.jsonl").unlink()
    assert build_here(world.config(output), monkeypatch) == ({"done": 3}, [])


def test_other_settings_are_refused(world: World, built: Path, tmp_path: Path, ti2v_5b: Path) -> None:
    output = shutil.copytree(built, tmp_path / "bench")
    for changes, message in [
        ({"steps": 3}, "was started with different settings .generator.steps was 2, is 3.:"),
        ({"matting": "color"}, "matting was 'u2net_custom', is 'color'"),
        ({"dtype": "float32"}, "dtype was 'bfloat16', is 'float32'"),
        ({"model": str(ti2v_5b)}, "model_sha256 was "),
    ]:
        with pytest.raises(ConfigError, match=message):
            build(world.config(output, **changes))
    other = write_manifest(tmp_path / "other.yaml", world.stills, ("round", "tall"))
    with pytest.raises(ConfigError, match="started with another manifest"):
        build(world.config(output, manifest=other))
    assert hashes(output) == hashes(built)


def test_a_video_of_another_build_is_refused(
    world: World, built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "bench"
    build_here(world.config(output, limit=1, steps=3), monkeypatch)
    shutil.rmtree(output / "videos" / "round")
    shutil.copytree(built / "videos" / "round", output / "videos" / "round")
    with pytest.raises(ConfigError, match=r"round: built with different settings: remove it or use a new --output"):
        build(world.config(output, limit=1, steps=3))


def test_an_empty_video_fails_with_a_reason_and_can_be_retried(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "bench"
    with monkeypatch.context() as patch:
        patch.setattr("helix4d.bench_builder.jobs.make_masks", lambda frames, _: np.zeros(frames.shape[:3], np.uint8))
        counts, _ = build_here(world.config(output, limit=1), monkeypatch)
    assert counts == {"failed: unusable_video": 1}
    outcome = Ledger(output / "ledger.jsonl").outcomes["round"]
    assert (outcome.reason, outcome.stage) == (ReasonCode.UNUSABLE_VIDEO, "matte")
    assert "try another --matting" in outcome.message
    assert build_here(world.config(output, limit=1), monkeypatch) == ({"failed: unusable_video": 1}, [])
    assert build_here(world.config(output, limit=1, retry_failed=True), monkeypatch) == ({"done": 1}, ["round"])


def test_stills_are_checked_before_anything_is_generated(world: World, tmp_path: Path) -> None:
    stills = write_stills(tmp_path / "stills")
    (stills / "tall.png").unlink()
    (stills / "wide.png").write_bytes(b"another")
    with pytest.raises(
        ConfigError, match=r"2 of 3 stills are missing or different:\ntall: .* is missing: .*\nwide: .* has sha256"
    ):
        build(world.config(tmp_path / "bench", stills=stills))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"matting": "u2nt"}, "matting model 'u2nt' is unknown to rembg"),
        ({"matting": "dis_custom:nowhere.onnx"}, "nowhere.onnx does not exist"),
        ({"settings": "a14"}, r"settings 'a14': must be one of the manifest's models \(a14b, ti2v_5b\)"),
        ({"settings": "ti2v_5b", "size": 64}, r"2 expert\(s\), but the settings are for 1"),
        ({"num_frames": 13}, "num_frames is 13: must be at least the manifest's 16"),
        ({"size": 40}, "size is 40: must be a multiple of 16"),
        ({"limit": 0}, "limit is 0"),
        ({"gpus_per_worker": -1.0}, "gpus_per_worker is -1"),
    ],
)
def test_impossible_settings_are_refused(
    changes: dict[str, object], message: str, world: World, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        build(world.config(tmp_path / "bench", **changes))


def test_settings_are_chosen_by_the_number_of_experts(
    world: World, ti2v_5b: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = world.config(tmp_path / "bench", model=str(ti2v_5b), limit=1, matting="color", num_frames=33)
    assert build_here(config, monkeypatch)[0] == {"done": 1}
    entry = read_entry(tmp_path / "bench" / "videos" / "round")
    assert entry is not None
    assert entry["settings"]["generator"]["guidance"] == [5.0]
    assert entry["source_frames"] == list(range(0, 32, 2))
    assert entry["fps"] == 12


def test_the_command_reports_errors(world: World, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main([*world.arguments(tmp_path / "bench"), "--settings", "none"]) == 2
    assert "helix4d bench: settings 'none': must be one of the manifest's models" in capfd.readouterr().err
    assert main(["bench"]) == 2
    assert "usage: helix4d bench {build,verify}" in capfd.readouterr().err
