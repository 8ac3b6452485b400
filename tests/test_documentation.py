"""What README.md and docs/ point to exists: links, anchors, files in backticks, and dotted `helix4d` names."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from helix4d.cli.main import COMMANDS

REPOSITORY = Path(__file__).resolve().parent.parent
PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
_FOLDERS = "tests|docs|configs|core|assets|voxelize|render|curation|model|train|evaluation|bench_builder|cli"
_FOLDERS += "|benchmarks|examples"
_ELSEWHERE = {"assets/example_image"}  # a folder of TRELLIS.2's repository
_DOTTED = re.compile(r"\bhelix4d(?:\.[A-Za-z_]\w*)+")
_IMPORT = re.compile(r"^from (helix4d[\w.]*) import (.+?)(?:  #.*)?$", re.MULTILINE)
pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))


def _prose(page: Path) -> str:
    return re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)


def _anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.*)$", _prose(page), re.MULTILINE)
    plain = [re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title).lower() for title in titles]
    return {re.sub(r"[^\w\- ]", "", title).replace(" ", "-") for title in plain}


def _links(page: Path) -> list[str]:
    return re.findall(r"\]\(([^)\s]+)\)", _prose(page))


def _targets(page: Path) -> set[Path]:
    return {(page.parent / link.partition("#")[0]).resolve() for link in _links(page) if "://" not in link}


def _module(name: str) -> tuple[Path, list[str]]:
    """The file of the longest part of a dotted name that is a module, and the names that remain."""
    folder, parts = REPOSITORY, name.split(".")[1:]
    file = REPOSITORY / "helix4d" / "__init__.py"
    if parts and (own := file.with_name(f"{parts[0]}.py")).is_file():
        return own, parts[1:]
    for index, part in enumerate(parts):
        if (folder / part / "__init__.py").is_file():
            folder = folder / part
            file = folder / "__init__.py"
        elif (folder / f"{part}.py").is_file():
            return folder / f"{part}.py", parts[index + 1 :]
        else:
            return file, parts[index:]
    return file, []


def _names(body: list[ast.stmt]) -> dict[str, list[ast.stmt]]:
    """The names that statements define, each with the body of its class."""
    names: dict[str, list[ast.stmt]] = {}
    for node in body:
        match node:
            case ast.ClassDef(name=name, body=inner):
                names[name] = inner
            case ast.FunctionDef(name=name):
                names[name] = []
            case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
                names |= {alias.asname or alias.name: [] for alias in aliases}
            case ast.AnnAssign(target=ast.Name(id=name)):
                names[name] = []
            case ast.Assign(targets=targets):
                names |= {target.id: [] for target in targets if isinstance(target, ast.Name)}
    return names


def _defined(name: str) -> bool:
    file, rest = _module(name)
    names = _names(ast.parse(file.read_text(encoding="utf-8")).body)
    for part in rest:
        if part not in names:
            return False
        names = _names(names[part])
    return True


@pages
def test_links_lead_somewhere(page: Path) -> None:
    for link in _links(page):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        assert not anchor or anchor in _anchors(target), link


@pages
def test_named_files_exist(page: Path) -> None:
    named = set(re.findall(rf"`((?:{_FOLDERS})/[\w./-]+)`", _prose(page))) - _ELSEWHERE
    assert [name for name in sorted(named) if not (REPOSITORY / name).exists()] == []


@pages
def test_named_test_files_exist(page: Path) -> None:
    existing = {path.name for path in (REPOSITORY / "tests").rglob("*.py")}
    assert set(re.findall(r"`(test_\w+\.py)`", _prose(page))) <= existing


@pages
def test_scripts_in_commands_exist(page: Path) -> None:
    """`python benchmarks/render.py` and the like, in code blocks too."""
    scripts = set(re.findall(rf"\b((?:{_FOLDERS})/[\w/-]+\.(?:py|yaml))\b", page.read_text(encoding="utf-8")))
    assert [name for name in sorted(scripts) if not (REPOSITORY / name).exists()] == []


@pages
def test_dotted_names_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    names = set(_DOTTED.findall(text))
    names |= {f"{module}.{name.strip()}" for module, line in _IMPORT.findall(text) for name in line.split(",")}
    assert [name for name in sorted(names) if not _defined(name)] == []


@pytest.mark.parametrize("name", ["helix4d.curation.shard", "helix4d.voxelize.decode_ply", "helix4d.core.files.a.b.c"])
def test_a_wrong_name_is_noticed(name: str) -> None:
    assert not _defined(name)


def test_no_page_imports_a_folder_by_its_bare_name() -> None:
    folders = {folder.parent.name for folder in REPOSITORY.glob("*/__init__.py")} - {"helix4d", "tests"}
    bare = re.compile(rf"^(?:from|import) (?:{'|'.join(sorted(folders))})\b.*$", re.MULTILINE)
    assert {page.name: bare.findall(page.read_text(encoding="utf-8")) for page in PAGES} == {
        page.name: [] for page in PAGES
    }


def test_no_page_refers_to_files_outside_the_repository() -> None:
    assert [page.name for page in PAGES if "../shared" in page.read_text(encoding="utf-8")] == []


def test_the_readme_leads_to_every_page() -> None:
    """Pages of docs/evidence/ by way of its index."""
    index = REPOSITORY / "docs" / "evidence" / "README.md"
    reached = _targets(PAGES[0]) | _targets(index)
    assert [page.name for page in PAGES[1:] if page not in reached] == []


@pages
def test_commands_exist(page: Path) -> None:
    used = re.findall(r"^(?:\S*/)?helix4d ([a-z]\w*)", page.read_text(encoding="utf-8"), re.MULTILINE)
    used += re.findall(r"`helix4d ([a-z]\w*)", page.read_text(encoding="utf-8"))
    assert set(used) <= set(COMMANDS)
