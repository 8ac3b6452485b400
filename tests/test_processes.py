"""Distribution of the tests over two processes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest.importorskip("xdist", reason="pytest-xdist is not installed (extra 'dev')")

from tests.processes import RAY, WITH_RAY, scope_of

REPOSITORY = Path(__file__).resolve().parent.parent
_STARTS_RAY = re.compile(
    r"\bray\.init\(|\bCluster\(|\bray_engine\(|from helix4d\.bench_builder\.build import|pipeline import .*\bcurate\b|"
    r"from tests\.(?:curation\.runs|task_chains|bench_builder)"
)


def test_tests_with_ray_stay_in_one_process() -> None:
    assert scope_of("tests/curation/work/test_ray_loop.py::test_x[a::b]") == RAY
    assert scope_of("tests/curation/test_pipeline.py::test_y") == RAY
    assert scope_of("tests/render/test_raster.py::test_z[1]") == "tests/render/test_raster.py"


def test_every_file_that_starts_ray_is_listed() -> None:
    files = [path.relative_to(REPOSITORY).as_posix() for path in (REPOSITORY / "tests").rglob("test_*.py")]
    files.remove(Path(__file__).relative_to(REPOSITORY).as_posix())
    found = [name for name in files if _STARTS_RAY.search((REPOSITORY / name).read_text(encoding="utf-8"))]
    assert [name for name in found if scope_of(name) != RAY] == []
    assert [name for name in WITH_RAY if not any(file.startswith(name) for file in files)] == [], "no such files"
