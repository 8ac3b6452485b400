"""`index.html` in a run's folder: its metrics as plots and its previews, without scripts or a network connection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from helix4d.train.metrics import read_metrics

PAGE_FILE = "index.html"
PREVIEWS = "previews"
_WIDTH, _HEIGHT, _MARGIN = 640, 240, 56
_MOST_POINTS = 500
_SHARES = {"busy_share": "busy share", "data_wait": "data wait", "mfu": "MFU"}
_COLORS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#17becf", "#8c564b", "#e377c2", "#7f7f7f", "#bcbd22")
_STYLE = (
    "body{font:15px sans-serif;margin:2em;max-width:1400px}svg{border:1px solid #ddd}text{font-size:11px}"
    "figure{display:inline-block;margin:0 1em 1.5em 0}figcaption{margin-bottom:.3em}img{border:1px solid #ddd}"
)


@dataclass(frozen=True)
class _Curve:
    """Values of a metric by step, in one color of a plot."""

    label: str
    points: list[tuple[float, float]]


def run_page(run: Path, title: str) -> bytes:
    """Return the page of a run.

    Args:
        run: folder of the run, with `metrics.jsonl` and `previews/`.
        title: name of the run.
    """
    lines = read_metrics(run)
    bins = range(max((len(line.get("loss_by_time", ())) for line in lines), default=0))
    by_time = [_curve(lines, f"t {i / 10:.1f} to {(i + 1) / 10:.1f}", "loss_by_time", i) for i in bins]
    plots = [
        _plot("Loss", [_curve(lines, "training", "loss"), _curve(lines, "validation", "validation_loss")]),
        _plot("Loss by time (0: data, 1: noise)", by_time),
        _plot("Gradient norm", [_curve(lines, "norm", "grad_norm"), _curve(lines, "clipped at", "clip")]),
        _plot("Learning rate", [_curve(lines, "learning rate", "lr")]),
        _plot("Tokens per second", [_curve(lines, "tokens/s", "tokens_per_s")]),
        _plot("Shares", [_curve(lines, label, name) for name, label in _SHARES.items()]),
    ]
    last = f"step {lines[-1]['step']:,}, loss {lines[-1]['loss']:.4f}" if lines else "no steps yet"
    body = "\n".join([f"<h1>{escape(title)}</h1>", f"<p>{last}</p>", *plots, *_previews(run)])
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><meta http-equiv="refresh" content="60">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>\n<body>{body}</body></html>\n"
    ).encode()


def _curve(lines: Sequence[Mapping[str, Any]], label: str, name: str, index: int | None = None) -> _Curve:
    values = [(line["step"], line.get(name)) for line in lines]
    if index is not None:
        values = [(step, several[index] if several else None) for step, several in values]
    points = [(float(step), float(value)) for step, value in values if value is not None]
    return _Curve(label, _thinned(points))


def _thinned(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Average neighboring points until there are at most 500."""
    size = -(-len(points) // _MOST_POINTS) or 1
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    return [(sum(x for x, _ in group) / len(group), sum(y for _, y in group) / len(group)) for group in groups]


def _plot(title: str, curves: Sequence[_Curve]) -> str:
    """Return a figure with the curves that have points, and a legend if there are several."""
    curves = [curve for curve in curves if curve.points]
    if not curves:
        return ""
    xs, ys = zip(*(point for curve in curves for point in curve.points), strict=True)
    left, right, low, high = min(xs), max(xs), min(ys), max(ys)
    width, height = _WIDTH - 2 * _MARGIN, _HEIGHT - _MARGIN

    def place(x: float, y: float) -> str:
        across = (x - left) / (right - left) if right > left else 0.5
        up = (y - low) / (high - low) if high > low else 0.5
        return f"{_MARGIN + across * width:.1f},{_HEIGHT - 30 - up * height:.1f}"

    parts = []
    for number, curve in enumerate(curves):
        color, points = _COLORS[number % len(_COLORS)], " ".join(place(*point) for point in curve.points)
        parts.append(f'<polyline fill="none" stroke="{color}" points="{points}"/>')
        if len(curves) > 1:
            parts.append(f'<text x="{_WIDTH - _MARGIN + 4}" y="{20 + 14 * number}" fill="{color}">{curve.label}</text>')
    for text, x, y in ((f"{high:.4g}", 4, 26), (f"{low:.4g}", 4, _HEIGHT - 30), (f"{left:,.0f}", _MARGIN, _HEIGHT - 8)):
        parts.append(f'<text x="{x}" y="{y}">{text}</text>')
    parts.append(f'<text x="{_WIDTH - _MARGIN}" y="{_HEIGHT - 8}" text-anchor="end">step {right:,.0f}</text>')
    image = f'<svg width="{_WIDTH + 70}" height="{_HEIGHT}">{"".join(parts)}</svg>'
    return f"<figure><figcaption>{title}</figcaption>{image}</figure>"


def _previews(run: Path) -> list[str]:
    """Return the previews of the last step that has some."""
    steps = sorted(path for path in (run / PREVIEWS).glob("step_*") if any(path.glob("*.webp")))
    if not steps:
        return []
    images = [
        f'<figure><figcaption>{escape(path.stem)}</figcaption><img src="{escape(path.relative_to(run).as_posix())}">'
        "</figure>"
        for path in sorted(steps[-1].glob("*.webp"))
    ]
    return [f"<h2>Previews of {escape(steps[-1].name)}: ground truth left, sample right</h2>", *images]
