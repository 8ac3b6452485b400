"""Many small images on one page, over a checkerboard that shows transparency."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

_GAP = 4
_LABEL_HEIGHT = 14
_TILE = 8
_PAPER = 255
_CHECKS = (198, 208)
_INK = 40


def contact_sheet(rows: Sequence[Sequence[np.ndarray]], labels: Sequence[Sequence[str]] | None = None) -> np.ndarray:
    """Lay images out in rows.

    Args:
        rows: rows of (H, W, 4) uint8 images with straight alpha; sizes and lengths may differ, and all cells have the
            largest size.
        labels: one text per image, printed above it; None for no labels.

    Returns:
        (H', W', 3) uint8.

    Raises:
        ValueError: if there is no image, or labels and images do not match.
    """
    if labels is not None and [len(row) for row in labels] != [len(row) for row in rows]:
        raise ValueError("expected one label per image")
    shapes = [image.shape for row in rows for image in row]
    if not shapes:
        raise ValueError("a contact sheet needs at least one image")
    head = 0 if labels is None else _LABEL_HEIGHT
    cell_height, cell_width = max(shape[0] for shape in shapes) + head + _GAP, max(shape[1] for shape in shapes) + _GAP
    columns = max(len(row) for row in rows)
    sheet = np.full((_GAP + len(rows) * cell_height, _GAP + columns * cell_width, 3), _PAPER, np.uint8)
    for i, row in enumerate(rows):
        for j, image in enumerate(row):
            top, left = _GAP + i * cell_height + head, _GAP + j * cell_width
            sheet[top : top + image.shape[0], left : left + image.shape[1]] = over_checks(image)
    if labels is None:
        return sheet
    page = Image.fromarray(sheet)
    draw = ImageDraw.Draw(page)
    font = ImageFont.load_default(size=_LABEL_HEIGHT - 3)
    for i, texts in enumerate(labels):
        for j, text in enumerate(texts):
            draw.text((_GAP + j * cell_width, _GAP + i * cell_height), text, fill=(_INK,) * 3, font=font)
    return np.array(page)


def over_checks(image: np.ndarray) -> np.ndarray:
    """Composite an (H, W, 4) uint8 image with straight alpha over a checkerboard: (H, W, 3) uint8."""
    y, x = np.indices(image.shape[:2]) // _TILE
    checks = np.where((x + y) % 2 == 0, *_CHECKS)[..., None]
    alpha = image[..., 3:].astype(np.float32) / 255.0
    return np.asarray(np.rint(image[..., :3] * alpha + checks * (1.0 - alpha)), np.uint8)
