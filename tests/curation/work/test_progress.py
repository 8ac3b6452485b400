"""The progress display shows what a run waits for, and a realistic remaining time before the first asset has ended."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numba
import pytest

from helix4d.core import AssetState, ReasonCode
from helix4d.curation.shards.ledger import Outcome
from helix4d.curation.work import curate_task, ray_loop
from helix4d.curation.work.compilation import COMPILING, announced
from helix4d.curation.work.forecast import Forecast
from helix4d.curation.work.progress import Display
from helix4d.curation.work.stages import Clock
from helix4d.voxelize.kernels import compilation


class FakeTime:
    """A clock that a test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time() -> FakeTime:
    return FakeTime()


def done(name: str) -> Outcome:
    return Outcome(name, AssetState.DONE)


def test_the_time_left_is_known_before_the_first_asset_has_ended(time: FakeTime) -> None:
    """As in `make demo`: a minute of one-time preparation, then 13 assets of 64 images, 2 at a time."""
    display = Display(13, 0, stage="render", clock=time)
    for time.now, stages in (
        (10, {"a": "bake 0/1", "b": "bake 0/1"}),
        (30, {"a": "filter 0/1 (compiling kernels, once per machine)", "b": "render 0/64 (loading Blender)"}),
        (60, {"a": "render 0/64", "b": "render 0/64"}),
    ):
        display.show(stages)
        assert display._line() == "0/13 assets (none finished yet), time left not known yet"
    for step in range(1, 33):  # two images a second, one of each asset
        time.now = 60 + step
        display.show({"a": f"render {step}/64", "b": f"render {step}/64"})
    # 1 of 13 assets is done after 32 s; the minute before it does not count 13 times.
    assert display._line() == "0/13 assets (none finished yet), 112 assets/h, 0:06:24 left"


def test_assets_that_end_do_not_disturb_the_estimate(time: FakeTime) -> None:
    forecast = Forecast("render", 0.0)
    for number in range(4):
        for step in range(65):
            time.now += 1
            forecast.update({str(number): f"render {step}/64"}, time.now)
        forecast.end(str(number))
    # The first image ends after 2 s.
    assert forecast.per_second(time.now) == pytest.approx((4 - 1 / 64) / (time.now - 2))
    assert forecast.left_s(6, time.now) == pytest.approx(6 * 65, rel=0.01)


def test_the_next_clip_of_an_asset_takes_nothing_back(time: FakeTime) -> None:
    forecast = Forecast("render", 0.0)
    forecast.update({"a": "render 1/64"}, 1.0)
    forecast.update({"a": "render 48/64"}, 48.0)
    before = forecast.left_s(2, 48.0)
    forecast.update({"a": "render 2/64"}, 50.0)
    after = forecast.left_s(2, 50.0)
    assert before is not None
    assert after is not None
    assert after < 1.1 * before


def test_without_images_the_ended_assets_count(time: FakeTime) -> None:
    """As with --views 0, `filter`, `encode` and `build`."""
    display = Display(10, 0, "clips", clock=time)
    time.now = 50
    display.show({"a": "encoding"})
    assert "time left not known yet" in display._line()
    display.advance(done("a"))
    assert display._line() == "1/10 clips (1 done), 72 clips/h, 0:07:30 left"


def test_assets_of_earlier_runs_are_not_part_of_the_pace(time: FakeTime) -> None:
    display = Display(10, 5, clock=time)
    time.now = 50
    display.advance(done("a"))
    assert display._line() == "6/10 assets (1 done), 72 assets/h, 0:03:20 left"


def test_an_asset_that_fails_at_once_promises_nothing(time: FakeTime) -> None:
    display = Display(10, 0, stage="render", clock=time)
    time.now = 20
    display.advance(Outcome("broken", AssetState.FAILED, ReasonCode.CORRUPT_FILE, message="no"))
    assert display._line() == "1/10 assets (1 failed), time left not known yet"


def test_a_run_that_drops_everything_has_an_estimate_too(time: FakeTime) -> None:
    display = Display(100, 0, stage="render", clock=time)
    time.now = 20
    for number in range(10):
        display.advance(Outcome(str(number), AssetState.FILTERED, ReasonCode.NO_MOTION, message="still"))
    assert display._line() == "10/100 assets (10 filtered), 1800 assets/h, 0:03:00 left"


def test_the_log_says_what_is_waited_for(time: FakeTime, caplog: pytest.LogCaptureFixture) -> None:
    display = Display(1, 0, stage="render", clock=time)
    time.now = 20
    with caplog.at_level(logging.INFO):
        display.show({"fox.glb": f"filter 0/1 ({COMPILING})"})
    assert "fox.glb: filter 0/1 (compiling kernels, once per machine)" in caplog.text


def test_compiling_is_announced_once_for_a_kernel_and_what_it_calls() -> None:
    @numba.njit
    def inner(x: float) -> float:
        return x + 1

    @numba.njit
    def outer(x: float) -> float:
        return inner(x) * 2

    notes: list[str] = []
    with announced(notes.append):
        assert outer(1.0) == 4.0
        assert outer(2.0) == 6.0
    assert notes == [COMPILING, ""]
    with announced(notes.append):
        outer(3.0)
    outer(3)
    assert notes == [COMPILING, ""], "announced what was compiled already, or what was compiled after the block"


def test_a_kernel_from_the_cache_on_disk_is_not_announced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    notes: list[str] = []
    for _ in range(2):

        @numba.njit(cache=True)
        def kernel(x: float) -> float:
            return x - 1

        with announced(notes.append):
            kernel(1.0)
    assert notes == [COMPILING, ""]


def test_waiting_for_another_process_that_compiles_is_announced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes: list[str] = []
    seen: list[list[str]] = []

    def load() -> int:
        seen.append(list(notes))
        return 0

    monkeypatch.setattr(compilation, "_cache_folder", lambda: tmp_path)
    monkeypatch.setattr(compilation, "_load", load)
    for _ in range(2):
        monkeypatch.setitem(compilation._STATE, "ready", False)
        with announced(notes.append):
            compilation.warm_up()
    assert seen == [[COMPILING], [COMPILING, ""]], "the second time, everything is in the cache"
    assert notes == [COMPILING, ""]


def test_a_note_is_sent_with_the_current_step_and_ends_with_the_next() -> None:
    events: list[dict[str, Any]] = []
    clock = Clock(events.append)
    with clock.measure("render"):
        clock.progress(0, 64)
        clock.note("loading Blender")
        clock.progress(1, 64)
    step = {"event": "progress", "stage": "render", "steps": 64}
    assert events == [{**step, "step": 0}, {**step, "step": 0, "note": "loading Blender"}, {**step, "step": 1}]


def test_a_note_reaches_the_display(monkeypatch: pytest.MonkeyPatch) -> None:
    class FakeSandbox:
        def run(self, job: Any, watch: Any) -> tuple[dict[str, Any], int]:
            watch({"event": "progress", "stage": "filter", "step": 0, "steps": 1})
            watch({"event": "progress", "stage": "filter", "step": 0, "steps": 1, "note": COMPILING})
            return {"event": "end", "outcome": done("a").to_json()}, 0

    class FakeJob:
        asset, threads = "a", 1

        def to_json(self) -> dict[str, Any]:
            return {}

    monkeypatch.setattr(curate_task, "_sandbox", lambda limits, threads: FakeSandbox())
    monkeypatch.setattr(curate_task, "replace", lambda value, **changes: value)
    shown: list[str] = []
    curate_task.curate_asset(FakeJob(), shown.append, curate_task.Limits(), "cpu")  # type: ignore[arg-type]
    assert shown == ["filter 0/1", "filter 0/1 (compiling kernels, once per machine)"]


def test_a_new_stage_is_shown_at_once_and_counts_now_and_then(monkeypatch: pytest.MonkeyPatch, time: FakeTime) -> None:
    """A stage that takes half a minute is reported once, right after the previous one."""
    shown: list[str] = []

    class Write:
        def remote(self, name: str, text: str) -> None:
            shown.append(text)

    class Board:
        write = Write()

    time.now = 100
    monkeypatch.setattr(ray_loop.time, "monotonic", time)
    report = ray_loop._Reporter(Board(), "a")
    for text in ("bake 0/1", "filter 0/1", "filter 0/1 (compiling)", "render 0/64", "render 1/64"):
        report(text)
        time.now += 0.01
    assert shown == ["bake 0/1", "filter 0/1", "filter 0/1 (compiling)", "render 0/64"]
    time.now += 1
    report("render 2/64")
    assert shown[-1] == "render 2/64"
