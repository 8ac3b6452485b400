"""Report, listing and sample page of an output at a URL: the same as from its folder, with few bytes downloaded."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from helix4d.cli.main import main
from helix4d.core import FormatError
from helix4d.curation.report.page import write_report
from helix4d.curation.shards.reader import ShardReader
from tests.curation.outputs import FRAMES, failure, output_of
from tests.curation.report.test_report import page_data
from tests.curation.s3_server import S3Server

URL = "s3://bucket/sets/out"


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    names = [f"{letter}.glb" for letter in "abcde"]
    return output_of(tmp_path_factory.mktemp("far") / "out", names, [failure("torn.glb")], views=4)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def read_bytes(s3: S3Server, suffix: str = "") -> int:
    return sum(size for path, size in s3.reads if path.endswith(suffix))


def test_a_report_of_a_url_equals_that_of_the_folder(
    s3: S3Server, output: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    near = Path(shutil.copytree(output, tmp_path / "out"))
    expected = write_report(near, 2, workers=1)
    s3.put_folder(output, "/bucket/sets/out")
    far = tmp_path / "far"
    assert main(["report", f"{URL}/", "--folder", str(far), "--assets", "2", "--workers", "1"]) == 0
    assert capsys.readouterr().out.strip() == str(far / "index.html")
    there, here = contents(far), contents(expected.parent)
    pages = [page_data(folder / "index.html") for folder in (far, expected.parent)]
    assert (pages[0].pop("url"), pages[1].pop("url")) == (URL, "")
    assert pages[0] == pages[1]
    assert {name: data for name, data in there.items() if name != "index.html"} == {
        name: data for name, data in here.items() if name != "index.html"
    }
    # Of the shards: of two samples the cameras, one view, one frame of all views, and the O-Voxels; clip.json twice.
    wanted = 0
    pictured = [entry for entry in pages[0]["entries"] if "stem" in entry]
    assert len(pictured) == 2
    for entry in pictured:
        members = ShardReader(output / f"{entry['shard']}.tar").sample(entry["id"])["members"]
        view, frame = entry["pictures"]["view"], entry["pictures"]["views_frame"]
        shown = {f"frame_{f:02d}.vxz" for f in range(FRAMES)} | {f"view_{v:02d}.json" for v in range(4)}
        shown |= {f"view_{view:02d}_frame_{f:02d}.webp" for f in range(FRAMES)}
        shown |= {f"view_{v:02d}_frame_{frame:02d}.webp" for v in range(4)}
        wanted += 2 * members["clip.json"][1] + sum(members[suffix][1] for suffix in shown)
    assert read_bytes(s3, ".tar") == wanted
    whole = sum(len(data) for path, data in s3.objects.items() if path.endswith(".tar"))
    assert wanted < whole / 3
    assert not any(method == "PUT" for method, _ in s3.log), "nothing is written there"
    # Pictures are kept: of the shards, only what files say of themselves is asked for again.
    s3.reads.clear()
    write_report(URL, 2, 1, far)
    assert contents(far) == there
    assert read_bytes(s3, ".tar") < wanted / 10


def test_an_unfinished_run_at_a_url_has_a_report(s3: S3Server, tmp_path: Path) -> None:
    folder = output_of(tmp_path / "out", ["a.glb", "b.glb"], [failure("c.glb")], pending=["d.glb"])
    s3.put_folder(folder, "/bucket/sets/out")
    s3.objects["/bucket/sets/out/ledger/000000.jsonl"] = s3.objects.pop("/bucket/sets/out/ledger.jsonl")
    data = page_data(write_report(URL, 0, 1, tmp_path / "far"))
    assert data["states"] == {"done": 2, "filtered": 0, "failed": 1, "pending": 1}


def test_urls_without_a_report(s3: S3Server, output: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["report", URL]) == 2
    assert "choose one with --folder" in capfd.readouterr().err
    assert main(["report", URL, "--folder", str(tmp_path / "far")]) == 2
    assert f"{URL}: contains no plan.json" in capfd.readouterr().err
    s3.put_folder(output, "/bucket/sets/out")
    for path in s3.objects:
        if path.endswith(".tar"):
            s3.objects[path] = s3.objects[path][:3000]
    with pytest.raises(FormatError, match=r"s3://bucket/sets/out/\w+/\S+.tar: .*cannot draw .*helix4d verify"):
        write_report(URL, workers=1, folder=tmp_path / "far")


def test_a_sample_at_a_url_is_read_by_ranges(
    s3: S3Server, output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    s3.put_folder(output, "/bucket/sets/out")
    tar = next(tar for tar in sorted(output.glob("*/*.tar")) if len(ShardReader(tar).keys()) > 1)
    key = ShardReader(tar).keys()[1]
    url = f"{URL}/{tar.relative_to(output).as_posix()}"
    size = ShardReader(tar).sample(key)["bytes"]
    (tmp_path / "near").mkdir()
    (tmp_path / "far").mkdir()
    sheets = [["--sheet", str(tmp_path / "near" / f"{key}.sheet.webp")], []]
    pages = [["--page", str(tmp_path / "near" / f"{key}.html")], []]
    monkeypatch.chdir(tmp_path / "far")
    for place, sheet, page in zip((str(tar), url), sheets, pages, strict=True):
        s3.reads.clear()
        assert main(["inspect", place, key, *sheet]) == 0
        inspected = read_bytes(s3, ".tar")
        assert main(["view", place, key, "--no-open", *page]) == 0
        viewed = read_bytes(s3, ".tar") - inspected
    printed = capsys.readouterr().out
    assert printed.count(f"key: {key}") == 2
    assert contents(tmp_path / "far") == contents(tmp_path / "near")
    assert size / 2 < viewed <= size
    assert size / 5 < inspected <= size
    members = ShardReader(url).sample(key)["members"]
    views = [members[f"view_{view:02d}_frame_{frame:02d}.webp"][1] for view in range(4) for frame in range(FRAMES)]
    assert inspected == sum(views) + members["frame_00.vxz"][1] + members["clip.json"][1]
    assert main(["view", url, "nosuchkey", "--no-open"]) == 2
    assert main(["inspect", f"{URL}/train/none.tar"]) == 2
    assert "not committed" in capsys.readouterr().err
