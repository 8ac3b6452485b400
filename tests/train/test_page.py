from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path

from helix4d.train.page import run_page


class Elements(HTMLParser):
    """Attributes of all elements of a page by tag, and its text."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


def test_the_page_plots_metrics_and_shows_the_last_previews(tmp_path: Path) -> None:
    lines = [
        {"step": step, "loss": 1 / step, "loss_by_time": [0.5 * step, None], "lr": 1e-3}
        | ({"validation_loss": 2.0} if step % 2 == 0 else {})
        for step in range(1, 2001)
    ]
    (tmp_path / "metrics.jsonl").write_bytes(b"".join(json.dumps(line).encode() + b"\n" for line in lines))
    for step in (100, 200):
        folder = tmp_path / f"previews/step_{step:08d}"
        folder.mkdir(parents=True)
        (folder / "00ff_0.webp").write_bytes(b"")
    page = Elements(run_page(tmp_path, "a <b> run"))
    assert "a <b> run" in page.text
    assert "step 2,000, loss 0.0005" in page.text
    curves = [str(curve["points"]).split() for curve in page.all("polyline")]
    assert [len(points) for points in curves] == [500, 500, 500, 500]  # loss, validation, one time bin, learning rate
    heights = [float(point.split(",")[1]) for point in curves[0]]
    assert heights == sorted(heights)  # the loss falls, and y points down
    assert [image["src"] for image in page.all("img")] == ["previews/step_00000200/00ff_0.webp"]
    outside = [value for _, attributes in page.found for value in attributes.values() if value and "://" in value]
    assert not outside
    assert not page.all("script")


def test_a_run_without_lines_has_a_page(tmp_path: Path) -> None:
    assert "no steps yet" in Elements(run_page(tmp_path, "new")).text
