from __future__ import annotations

import numpy as np
import pytest

from helix4d.render import contact_sheet
from helix4d.render.pages.contact_sheet import _CHECKS
from helix4d.render.scene.images import to_rgba
from helix4d.render.scene.view_transforms import ViewTransform, linear_to_srgb


def test_color_comes_from_the_paths_and_alpha_from_the_coverage() -> None:
    seen = np.array([[0.5, 0.0, 0.0], [1.0, 0.0, 0.0]])
    channels = {"R": 0.25 * seen, "G": 0.0 * seen, "B": 1.0 * seen, "A": seen}
    coverage = np.array([[0.25, 0.1, 0.0], [1.0, 0.0, 0.0]])
    rgba, _ = to_rgba(channels, coverage)
    quarter = round(255 * float(linear_to_srgb(np.array(0.25))))
    assert rgba[0, 0].tolist() == [quarter, 0, 255, 64]
    assert rgba[0, 1].tolist() == [quarter, 0, 255, 26]  # no path met it: its neighbors' color
    assert rgba[0, 2].tolist() == [0, 0, 0, 0]
    assert to_rgba(channels)[0][0, 0].tolist() == [quarter, 0, 255, 128]


@pytest.mark.parametrize(("transform", "share"), [("standard", 0.5), ("filmic", 0.25)])
def test_visible_pixels_beyond_white_are_counted(transform: ViewTransform, share: float) -> None:
    light = np.array([[0.2, 1.0, 1.5, 20.0, 99.0]])  # the last pixel is not visible; 1.0 is white, but not beyond
    alpha = np.array([[1.0, 1.0, 1.0, 1.0, 0.0]])
    channels = {"R": light * alpha, "G": 0.1 * alpha, "B": 0.0 * alpha, "A": alpha}
    assert to_rgba(channels, alpha, transform)[1] == share
    assert to_rgba(dict.fromkeys("RGBA", 0.0 * alpha), 0.0 * alpha, transform)[1] == 0.0


def test_a_contact_sheet_has_a_cell_for_every_image() -> None:
    red = np.tile(np.uint8([255, 0, 0, 255]), (20, 30, 1))
    clear = np.zeros((10, 10, 4), np.uint8)
    plain = contact_sheet([[red, clear], [red]])
    assert plain.shape == (4 + 2 * 24, 4 + 2 * 34, 3)
    assert plain[4, 4].tolist() == plain[28, 33].tolist() == [255, 0, 0]
    assert plain[4, 38].tolist() in ([gray] * 3 for gray in _CHECKS)
    labelled = contact_sheet([[red, clear], [red]], [["view 0", "view 1"], ["view 2"]])
    assert labelled.shape[0] > plain.shape[0]
    assert (labelled[4:18, 4:38] < 128).all(axis=-1).any()


def test_empty_sheets_and_mismatched_labels_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        contact_sheet([])
    with pytest.raises(ValueError, match="one label per image"):
        contact_sheet([[np.zeros((2, 2, 4), np.uint8)]], [["a", "b"]])
