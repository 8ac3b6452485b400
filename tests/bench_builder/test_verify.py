from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from helix4d.bench_builder.entry import write_entry
from helix4d.bench_builder.measures import Measures
from helix4d.bench_builder.verify import _doubts, verify
from helix4d.cli.main import main
from helix4d.core import ConfigError, sha256_json
from tests.bench_builder.world import World, build_here


@pytest.fixture
def output(built: Path, tmp_path: Path) -> Path:
    """A copy of the build that tests may damage."""
    return shutil.copytree(built, tmp_path / "bench")


def _edit(path: Path, **changes: Any) -> None:
    """Change the content of an entry.json and update its hash."""
    content = {**json.loads(path.read_bytes()), **changes}
    del content["sha256"]
    path.write_text(json.dumps({**content, "sha256": sha256_json(content)}))


def test_a_build_has_no_problems(world: World, built: Path) -> None:
    report = verify(built, world.stills)
    assert report.problems == ()
    assert (report.built, report.failed, report.missing, report.checked_stills) == (3, (), ("ring",), True)
    assert not verify(built).checked_stills
    assert verify(built).problems == ()


def test_videos_of_random_networks_raise_doubts(world: World, built: Path) -> None:
    doubts = verify(built, world.stills).doubts
    assert any(line.startswith("round: ") and "flickers" in line for line in doubts)


def _remove(path: Path) -> None:
    path.unlink()


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-20] ^= 1
    path.write_bytes(data)


def _write(text: str) -> Callable[[Path], Any]:
    return lambda path: path.write_text(text)


@pytest.mark.parametrize(
    ("file", "spoil", "problem"),
    [
        ("videos/round/frame_07.png", _remove, "videos/round/frame_07.png: missing"),
        ("videos/round/frame_07.png", _cut, r"videos/round/frame_07.png: \d+ bytes, but listed with \d+"),
        ("videos/round/preview.mp4", _flip, "videos/round/preview.mp4: sha256 .*, but listed with"),
        ("videos/round/notes.txt", _write("mine"), "videos/round/notes.txt: not listed"),
        ("videos/round/entry.json", _remove, "videos/round/entry.json: missing: the folder is incomplete"),
        ("videos/round/entry.json", _write("{"), "videos/round/entry.json: .*not JSON"),
        ("videos/round/entry.json", _write('{"version": 9}'), "it was written by a newer helix4d"),
        ("videos/round/entry.json", lambda p: _edit(p, seed=5), r"seed is 5, expected 0 from the manifest"),
        ("videos/round/entry.json", lambda p: _edit(p, prompt="x"), "prompt is 'x', expected 'A round"),
        ("videos/round/entry.json", lambda p: _edit(p, frames=15), "15 frames, expected 16"),
        ("videos/round/entry.json", lambda p: _edit(p, size=64), "size is 64, but the frames have 32 pixels per side"),
        ("videos/round/entry.json", lambda p: _edit(p, source_frames=[0]), r"source_frames is \[0\], expected \[0, 1"),
        ("videos/round/entry.json", lambda p: _edit(p, settings_sha256="0"), "settings_sha256 is '0', expected"),
        (
            "videos/round/entry.json",
            lambda p: _edit(p, measures={"drift": 0.0}),
            "measures are .*, but those of the frames",
        ),
        ("ledger.jsonl", _remove, "ledger.jsonl: does not list wide, which is built"),
        ("videos/stranger", Path.mkdir, "videos/stranger: not in the manifest"),
        ("work", Path.mkdir, "work: left behind by an interrupted run"),
    ],
)
def test_damage_is_reported(file: str, spoil: Callable[[Path], Any], problem: str, world: World, output: Path) -> None:
    spoil(output / file)
    problems = verify(output, world.stills).problems
    assert problems
    assert any(re.search(problem, line) for line in problems), problems
    assert main(["bench", "verify", str(output)]) == 1


def test_an_edited_entry_is_detected(output: Path) -> None:
    path = output / "videos" / "tall" / "entry.json"
    path.write_text(path.read_text().replace('"seed": 1', '"seed": 7'))
    (problem,) = verify(output).problems
    assert "was edited: records its sha256 as" in problem


def test_a_missing_video_is_reported(output: Path) -> None:
    shutil.rmtree(output / "videos" / "tall")
    assert verify(output).problems == ("videos/tall: missing, but done according to ledger.jsonl",)


@pytest.mark.parametrize(
    ("mode", "size", "what"),
    [("RGB", (32, 32), "RGB 32 × 32, expected square RGBA"), ("RGBA", (32, 16), "expected square RGBA")],
)
def test_frames_of_another_mode_or_size_are_reported(mode: str, size: tuple[int, int], what: str, output: Path) -> None:
    folder = output / "videos" / "tall"
    Image.new(mode, size).save(folder / "frame_00.png")
    entry = json.loads((folder / "entry.json").read_bytes())
    data = (folder / "frame_00.png").read_bytes()
    files = {**entry["files"], "frame_00.png": {"bytes": len(data), "sha256": _sha256(data)}}
    _edit(folder / "entry.json", files=files)
    (problem,) = verify(output).problems
    assert what in problem


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_failures_are_listed_apart_from_problems(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "bench"
    with monkeypatch.context() as patch:
        patch.setattr("helix4d.bench_builder.jobs.make_masks", lambda frames, _: np.zeros(frames.shape[:3], np.uint8))
        build_here(world.config(output, limit=1), monkeypatch)
    report = verify(output)
    assert (report.problems, report.built, len(report.missing)) == ((), 0, 3)
    assert report.failed[0].startswith("round: matting removed everything from the first frame")
    assert main(["bench", "verify", str(output)]) == 0
    assert "failed: round: " in capsys.readouterr().out
    assert main(["bench", "verify", str(output), "--strict"]) == 1


def test_a_folder_that_is_not_a_build_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigError, match=r"has no plan\.json: not an output of `helix4d bench build`"):
        verify(tmp_path)
    assert main(["bench", "verify", str(tmp_path)]) == 2
    assert "helix4d bench: " in capsys.readouterr().err


def _clip(alpha: int, count: int = 4) -> np.ndarray:
    frames = np.zeros((count, 20, 20, 4), np.uint8)
    frames[:, 5:15, 5:15] = (9, 9, 9, alpha)
    return frames


@pytest.mark.parametrize(
    ("alpha", "measures", "doubt"),
    [
        (255, Measures((0.25,) * 4, 0.0, 0.0), ""),
        (255, Measures((0.005, 0.2, 0.2, 0.2), 0.0, 0.0), r"covers 0\.5% of the first frame"),
        (255, Measures((0.25, 0.95, 0.25, 0.25), 0.0, 0.0), "a frame is 95% opaque"),
        (130, Measures((0.25,) * 4, 0.0, 0.0), "100% of the visible pixels are translucent"),
        (255, Measures((0.25,) * 4, 0.06, 0.0), r"area flickers by 0\.060"),
        (255, Measures((0.25,) * 4, 0.0, 0.2), r"differs from the still by 0\.200"),
    ],
)
def test_doubts_follow_the_documented_limits(alpha: int, measures: Measures, doubt: str) -> None:
    found = list(_doubts(_clip(alpha), measures))
    assert len(found) == bool(doubt)
    assert not doubt or re.search(doubt, found[0])


def test_an_entry_replaces_an_existing_folder_and_is_deterministic(tmp_path: Path) -> None:
    frames = np.random.default_rng(3).integers(0, 256, (4, 16, 16, 4), dtype=np.uint8)
    facts = {"id": "x", "settings_sha256": "0", "frames": 4, "square": [0, 0, 16], "measures": {}}
    contents = []
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "frame_99.png").write_bytes(b"of an earlier attempt")
        write_entry(folder, frames, 8.0, facts, tmp_path / "work")
        contents.append({path.name: path.read_bytes() for path in folder.iterdir()})
    assert contents[0] == contents[1]
    assert "frame_99.png" not in contents[0]
    assert not (tmp_path / "work").exists()
