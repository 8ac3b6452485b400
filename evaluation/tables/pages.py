"""Write one page per item: the input video next to the prediction, frame by frame, and the values of the metrics.

Plain HTML and animated WebP files that need no server; the entry point is `pages/index.html`.
"""

from __future__ import annotations

import html
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from helix4d.core import Helix4DError, write_bytes
from helix4d.evaluation.metrics.metric import FAULTS, Item, Measure, NotAvailable, View
from helix4d.evaluation.results import ItemResult, Outcome
from helix4d.render.pages.turntable import animation

log = logging.getLogger("helix4d.evaluation")

PAGES = "pages"
PICTURE = View(0.0, 0.0, "color", 256, draft=True)
_FPS = 8.0
_STYLE = (
    "body{font:16px/1.4 system-ui,sans-serif;margin:2rem;max-width:70rem}"
    "img{width:256px;height:256px;object-fit:contain;background:#fff;border:1px solid #ccc}"
    "figure{display:inline-block;margin:0 1rem 1rem 0}"
    "td,th{padding:.2rem .8rem;text-align:left;border-bottom:1px solid #ddd}"
)


def write_page(
    output: Path, title: str, result: ItemResult, metrics: Sequence[Measure], read: Callable[[], Item]
) -> None:
    """Write `pages/KEY.html`; existing images are reused.

    Args:
        output: output folder of the run.
        title: bench and method.
        result: result of the item.
        metrics: rows of the table.
        read: function that reads the item, called only if images must be rendered.
    """
    names = {kind: f"{result.key}.{kind}.{(result.prediction or 'none')[:12]}.webp" for kind in ("video", "prediction")}
    folder = output / PAGES
    if result.state == "done" and not all((folder / name).is_file() for name in names.values()):
        try:
            item = read()
            _write_pictures(folder, item, names["video"], names["prediction"])
        except FAULTS as error:
            log.warning("%s: rendering failed: %s", result.key, error, exc_info=not isinstance(error, Helix4DError))
    shown = [
        f'<figure><img src="{html.escape(name)}" alt="{kind}"><figcaption>{kind}</figcaption></figure>'
        for kind, name in names.items()
        if (folder / name).is_file()
    ]
    reason = f"<p>failed: {html.escape(result.reason)}</p>" if result.reason else ""
    rows = "".join(
        f"<tr><th>{html.escape(metric.label)}</th><td>{html.escape(_text(result.outcomes.get(metric.name)))}</td></tr>"
        for metric in metrics
    )
    body = f'<p><a href="index.html">all items</a></p>{reason}{"".join(shown)}<table>{rows}</table>'
    write_bytes(folder / f"{result.key}.html", _page(f"{title}: {result.key}", body))


def write_index(output: Path, title: str, results: Sequence[ItemResult], metrics: Sequence[Measure]) -> None:
    """Write `pages/index.html`: all items with their values and links to their pages."""
    head = "".join(f"<th>{html.escape(metric.label)}</th>" for metric in metrics)
    rows = []
    for result in results:
        cells = "".join(f"<td>{html.escape(_text(result.outcomes.get(metric.name)))}</td>" for metric in metrics)
        key = html.escape(result.key)
        rows.append(f'<tr><td><a href="{key}.html">{key}</a></td><td>{result.state}</td>{cells}</tr>')
    body = f"<table><tr><th>item</th><th>state</th>{head}</tr>{''.join(rows)}</table>"
    write_bytes(output / PAGES / "index.html", _page(title, body))


def _write_pictures(folder: Path, item: Item, video: str, prediction: str) -> None:
    if not isinstance(item.video, NotAvailable):
        write_bytes(folder / video, _on_white(item.video))
    write_bytes(folder / prediction, _on_white(item.pictures(PICTURE)))


def _on_white(frames: np.ndarray) -> bytes:
    """Encode (T, H, W, 4) as an animation on white, at most as large as `PICTURE`."""
    pictures = []
    for frame in frames:
        image = Image.fromarray(frame, "RGBA")
        white = Image.new("RGBA", image.size, "white")
        white.alpha_composite(image)
        white.thumbnail((PICTURE.image_size, PICTURE.image_size))
        pictures.append(white.convert("RGB"))
    return animation(pictures, _FPS)


def _text(outcome: Outcome | None) -> str:
    if outcome is None:
        return ""
    if outcome.value is not None:
        return f"{outcome.value:.6g}"
    return "counted in the set's value" if outcome.features is not None else f"n/a: {outcome.reason}"


def _page(title: str, body: str) -> bytes:
    head = f'<meta charset="utf-8"><title>{html.escape(title)}</title><style>{_STYLE}</style>'
    return (
        f"<!doctype html>\n<html><head>{head}</head><body><h1>{html.escape(title)}</h1>{body}</body></html>\n".encode()
    )
