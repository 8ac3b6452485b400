"""All tasks are completed, exceptions are passed on, and a dead worker is detected."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
import torch

from helix4d.core import ConfigError
from helix4d.evaluation.workers import WorkerError, work
from tests.packages import needs


def square(number: int) -> tuple[int, int, int]:
    return number * number, os.getpid(), torch.get_num_threads()


def refuse(number: int) -> int:
    if number == 2:
        raise ConfigError("two is refused")
    return number


def die(number: int) -> int:
    os._exit(9)


@pytest.mark.parametrize("workers", [1, 2])
def test_all_tasks_are_completed_with_one_thread_each(workers: int) -> None:
    before = torch.get_num_threads()
    found = list(work(square, range(5), workers))
    assert sorted(result for result, _, _ in found) == [0, 1, 4, 9, 16]
    assert {threads for _, _, threads in found} == {1}
    assert (os.getpid() in {process for _, process, _ in found}) == (workers == 1)
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("workers", [1, 2])
def test_exceptions_of_a_step_are_raised(workers: int) -> None:
    with pytest.raises(ConfigError, match="two is refused"):
        list(work(refuse, range(5), workers))


def load_blender(number: int) -> str:
    import bpy

    return f"{number} {bpy.app.version_string}"


def blender_folder(number: int) -> Path:
    import bpy

    return Path(bpy.app.tempdir)


@needs("bpy")
def test_workers_leave_no_temporary_files() -> None:
    own = Path(tempfile.gettempdir())
    for folder in work(blender_folder, [1, 2], 2):
        assert own in folder.parents
        assert folder.parent != own
    assert not folder.parent.exists()


@needs("bpy")
def test_workers_can_load_blender_after_the_driver_has() -> None:
    assert load_blender(1) in list(work(load_blender, [1, 2], 2))


def test_a_dead_worker_is_reported() -> None:
    with pytest.raises(WorkerError, match="exit code 9"):
        list(work(die, range(3), 2))
