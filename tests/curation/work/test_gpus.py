from __future__ import annotations

import logging

import pytest

from helix4d.core import ConfigError
from helix4d.curation.work.gpus import choose_gpus, find_usable_gpus, render_device

INFINITE = float("inf")


def asks(*names: str) -> tuple[list[float], object]:
    """A `usable` that finds these GPUs, and what it was called with."""
    calls: list[float] = []

    def usable(gpus: float) -> list[str]:
        calls.append(gpus)
        return list(names)

    return calls, usable


def test_one_worker_a_gpu_where_there_are_any() -> None:
    calls, usable = asks("OptiX")
    assert choose_gpus(None, "cycles", 4, 4, usable) == 1  # type: ignore[arg-type]
    assert choose_gpus(None, "blenderproc", 1, INFINITE, usable) == 1  # type: ignore[arg-type]
    assert calls == [1, 1]


def test_no_gpu_is_reserved_where_there_is_none_or_raster_draws() -> None:
    calls, usable = asks("OptiX")
    assert choose_gpus(None, "cycles", 0, 0, usable) == 0  # type: ignore[arg-type]
    assert choose_gpus(None, "raster", 4, 4, usable) == 0  # type: ignore[arg-type]
    assert choose_gpus(0, "cycles", 4, 4, usable) == 0  # type: ignore[arg-type]
    assert calls == [], "Blender is not started to be asked"


def test_what_was_asked_for_is_reserved_or_refused() -> None:
    _, usable = asks("OptiX")
    assert choose_gpus(0.5, "cycles", 1, 1, usable) == 0.5  # type: ignore[arg-type]
    assert choose_gpus(2, "cycles", 0, INFINITE, usable) == 2, "nodes may join"  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="gpus_per_worker 2: Ray finds 1 GPUs"):
        choose_gpus(2, "cycles", 1, 1, usable)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="gpus_per_worker -1"):
        choose_gpus(-1, "cycles", 1, 1, usable)  # type: ignore[arg-type]


def test_gpus_that_blender_cannot_use_are_an_error_if_asked_for_and_else_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    _, usable = asks()
    with pytest.raises(ConfigError, match="Blender finds none that it can render on"):
        choose_gpus(1, "cycles", 1, 1, usable)  # type: ignore[arg-type]
    with caplog.at_level(logging.WARNING):
        assert choose_gpus(None, "cycles", 1, 1, usable) == 0  # type: ignore[arg-type]
    assert "the CPUs render" in caplog.text


def test_workers_render_on_what_ray_reserved() -> None:
    assert render_device("cycles", 1) == render_device("blenderproc", 0.5) == "gpu"
    assert render_device("cycles", 0) == "cpu"
    assert render_device("raster", 0) == "auto"


def test_blender_is_asked_in_a_process_of_its_own() -> None:
    assert all(isinstance(name, str) for name in find_usable_gpus())
