"""Damaged latents lose clips but never stop the run: 20 in every test run, 300 in `make acceptance`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.curation.fuzz_outputs import check, read_damaged


@pytest.mark.slow
def test_twenty_damaged_latents_are_read_without_a_traceback(
    latents: Path, shards: Path, models: Path, tmp_path: Path
) -> None:
    numbers = range(20)
    check(read_damaged(numbers, shards, models, tmp_path, latents), numbers)


@pytest.mark.acceptance
def test_three_hundred_damaged_latents_are_read_without_a_traceback(
    latents: Path, shards: Path, models: Path, tmp_path: Path
) -> None:
    numbers = range(300)
    check(read_damaged(numbers, shards, models, tmp_path, latents), numbers)
