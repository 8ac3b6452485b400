"""Options of `helix4d sample` that choose frames and the speed of the results."""

from __future__ import annotations

from pathlib import Path

import pytest

from helix4d.core import ConfigError
from helix4d.model.sampling import sample_run
from helix4d.model.sampling.sample_run import SampleRun


def test_start_and_fps_reach_the_reader_and_fps_the_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def read(path: Path, frames: int, matting: object, *, start_s: float, fps: float | None) -> None:
        seen.append((path, frames, start_s, fps))
        raise ConfigError("read")

    monkeypatch.setattr(sample_run, "read_video", read)
    common = {"video": tmp_path / "a.mp4", "output": tmp_path / "out", "model": "model", "device": "cpu"}
    runs = [SampleRun(**common), SampleRun(**common, start=2.0, fps=16.0, frames=8)]
    for run in runs:
        with pytest.raises(ConfigError, match="read"):
            sample_run.run_sample(run, lambda *_: None)
    assert seen == [(tmp_path / "a.mp4", 16, 0.0, None), (tmp_path / "a.mp4", 8, 2.0, 16.0)]
    assert [run.playback_fps for run in runs] == [8.0, 16.0]
    with pytest.raises(ConfigError, match=r"fps is 0\.0: must be positive"):
        SampleRun(**common, fps=0.0)
