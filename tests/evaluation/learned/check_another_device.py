"""The learned metrics away from the CPU."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.another_device import another_device
from tests.evaluation.learned.test_metrics import by_name, item_of, value


def test_scores_are_the_cpus(tiny: Path) -> None:
    names = ("clip", "ulip_2", "uni3d")
    expected = [value(by_name(tiny)[name], item_of(2)) for name in names]
    with another_device() as device:
        found = [value(by_name(tiny)[name], item_of(2, device=device)) for name in names]
    assert found == pytest.approx(expected, abs=1e-5)
