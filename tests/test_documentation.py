"""What README and docs point to is there: files, anchors, and packages' files named in backticks."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
_OURS = "tests|docs|configs|core|assets|voxelize|render|curation|model|train|evaluation|bench_builder|cli|benchmarks"
_ELSEWHERE = {"assets/example_image"}  # a folder of TRELLIS.2's repository


def _prose(page: Path) -> str:
    return re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)


def _anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.*)$", _prose(page), re.MULTILINE)
    plain = [re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title).lower() for title in titles]
    return {re.sub(r"[^\w\- ]", "", title).replace(" ", "-") for title in plain}


def _links(page: Path) -> list[str]:
    return re.findall(r"\]\(([^)\s]+)\)", _prose(page))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in _links(page):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        assert not anchor or anchor in _anchors(target), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_are_named_exist(page: Path) -> None:
    named = set(re.findall(rf"`((?:{_OURS})/[\w./-]+)`", _prose(page))) - _ELSEWHERE
    assert [name for name in sorted(named) if not (REPOSITORY / name).exists()] == []


def test_the_readme_leads_to_every_page() -> None:
    found = {(REPOSITORY / link.partition("#")[0]).resolve() for link in _links(PAGES[0])}
    assert [page.name for page in PAGES[1:] if page not in found] == []
