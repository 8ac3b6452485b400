"""Every Triton kernel compiles for sm_80 and sm_90 without a GPU, within the limits of the architecture."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("triton", reason="triton is not installed (extra 'dev', on Linux)")

from tests.kernels.compiled import ARCHITECTURES, SHARED_LIMIT, Case, compile_case
from tests.kernels.table import all_cases, all_kernels

CASES = all_cases()


@pytest.fixture(autouse=True)
def _no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))


def test_no_kernel_is_missing() -> None:
    for architecture in ARCHITECTURES:
        assert {case.kernel.__name__ for case in CASES if architecture in case.architectures} == all_kernels()


@pytest.mark.parametrize(
    ("case", "architecture"),
    [(case, architecture) for case in CASES for architecture in case.architectures],
    ids=lambda value: f"{value.kernel.__name__} {value.name}" if isinstance(value, Case) else str(value),
)
def test_kernels_fit(case: Case, architecture: int, tmp_path: Path) -> None:
    """No spilled registers; matrix products on the tensor cores, with loads that overlap them."""
    usage = compile_case(case, architecture)
    assert list(tmp_path.iterdir()), "compiled, not taken from a cache"
    assert usage.spilled_bytes == 0, usage
    assert usage.shared_bytes <= SHARED_LIMIT[architecture], usage
    if case.multiplies:
        assert usage.tensor_core > 0, usage
        assert usage.async_copies > 0, usage
