"""Copies of a finished output, each broken in one way: exactly that problem is found and located."""

from __future__ import annotations

import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helix4d.cli.main import main
from helix4d.core import ConfigError, sha256_file, write_json
from helix4d.core.locks import locked
from helix4d.curation.shards.ledger import LEDGER
from helix4d.curation.shards.problems import Problem, repair
from helix4d.curation.shards.reader import ShardReader
from helix4d.curation.shards.sidecar import read_sidecar
from helix4d.curation.verify.output import verify
from tests.curation.broken import (
    edit_bytes,
    edit_json,
    first_shard,
    ledger_lines,
    name_of,
    only,
    problems,
    rewrite,
    run_commands,
    write_ledger,
)
from tests.curation.runs import hashes

pytestmark = pytest.mark.slow


@pytest.fixture
def output(reference_output: Path, tmp_path: Path) -> Path:
    """A copy that a test may break."""
    return Path(shutil.copytree(reference_output, tmp_path / "out"))


def test_a_finished_output_has_no_problems(reference_output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in reference_output.rglob("*")}
    assert main(["verify", str(reference_output), "--workers", "2"]) == 0
    assert "5 samples, 7 assets: no problems" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in reference_output.rglob("*")} == before


def test_the_repair_commands_restore_the_bytes(
    output: Path, reference_output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tar = first_shard(output)
    edit_bytes(tar, ShardReader(tar).sample(ShardReader(tar).keys()[0])["members"]["frame_01.vxz"][0] + 5)
    write_ledger(output, [line for line in ledger_lines(output) if line["reason"] != "duplicate"])
    (output / ".plan.json.abc.tmp").write_bytes(b"half")
    assert hashes(output) != hashes(reference_output)
    assert main(["verify", str(output), "--workers", "1"]) == 1
    printed = capsys.readouterr().out
    commands = [
        line.strip() for line in printed.split("Repair commands (they rebuild only what is broken):\n")[1].splitlines()
    ]
    name = name_of(output, tar).removesuffix(".tar")
    assert commands[0] == f"rm -f {output}/{name}.tar {output}/{name}.json"
    assert commands[1] == f"rm -f {output}/.plan.json.abc.tmp"
    assert commands[2].startswith("helix4d curate --source ")
    assert len(commands) == 3
    others = {path: path.stat().st_mtime_ns for path in output.glob("t*/*") if path.stem != tar.stem}
    assert others
    run_commands(commands, output.parent)
    assert problems(output) == []
    assert hashes(output) == hashes(reference_output)
    assert {path: path.stat().st_mtime_ns for path in others} == others


def test_a_flipped_byte_is_located_by_its_member(output: Path) -> None:
    tar = first_shard(output)
    key = ShardReader(tar).keys()[0]
    offset, size = ShardReader(tar).sample(key)["members"]["frame_02.vxz"]
    edit_bytes(tar, offset + size - 3)
    found = problems(output)
    assert {problem.path for problem in found} == {name_of(output, tar)}
    assert found[0].key == ""
    assert "sha256" in found[0].what
    assert [problem.key for problem in found[1:]] == [key]
    assert found[1].what.startswith("frame_02.vxz: ")


def test_a_flipped_byte_of_a_header_does_not_hide_what_follows(output: Path) -> None:
    tar = first_shard(output)
    key = ShardReader(tar).keys()[0]
    edit_bytes(tar, ShardReader(tar).sample(key)["members"]["frame_01.vxz"][0] - 512 + 3)
    hashed, broken, absent = problems(output)
    assert "sha256" in hashed.what
    assert "invalid tar header" in broken.what
    assert f"after {key}.frame_00.vxz" in broken.what
    assert (absent.key, "1 of 15 members in the index are not in the tar: frame_01.vxz") == (key, absent.what)


def test_a_truncated_tar(output: Path) -> None:
    tar = first_shard(output)
    key = ShardReader(tar).keys()[-1]
    offset, size = ShardReader(tar).sample(key)["members"]["view_01_frame_03.webp"]
    with open(tar, "r+b") as stream:
        stream.truncate(offset + size // 2)
    length, end = problems(output)
    assert "the tar is truncated" in length.what
    assert end.what == f"ends at byte {offset + size // 2}, inside {key}.view_01_frame_03.webp"


@pytest.mark.parametrize(("suffix", "what"), [(".json", "without it, the shard"), (".tar", "although its sidecar")])
def test_a_missing_file(output: Path, suffix: str, what: str) -> None:
    path = first_shard(output).with_suffix(suffix)
    path.unlink()
    found = only(output)
    assert found.path == name_of(output, path)
    assert what in found.what
    assert len(found.remedy) == (1 if suffix == ".json" else 2)


def test_edited_numbers_in_the_index(output: Path) -> None:
    tar = first_shard(output)
    key = ShardReader(tar).keys()[0]
    path = tar.with_suffix(".json")
    whole = path.read_bytes()

    def edited(edit: Callable[[dict[str, Any]], object]) -> Problem:
        path.write_bytes(whole)
        edit_json(path, lambda sidecar: edit(sidecar["samples"][0]))
        found = only(output)
        assert (found.path, found.key) == (name_of(output, path), key)
        return found

    assert "voxels is [7, " in edited(lambda s: s["voxels"].__setitem__(0, 7)).what
    assert "up_axis is 'Z'" in edited(lambda s: s.update(up_axis="Z")).what
    assert "tokens is [" in edited(lambda s: s["tokens"].append(1)).what
    assert (
        "frame_00.vxz: the index records 3 bytes at "
        in edited(lambda s: s["members"]["frame_00.vxz"].__setitem__(1, 3)).what
    )
    assert "the index records 1 bytes at " in edited(lambda s: s.update(bytes=1)).what


def test_headers_of_another_writer(output: Path) -> None:
    tar = first_shard(output)
    sidecar = read_sidecar(tar)
    assert sidecar is not None
    data = bytearray(tar.read_bytes())
    header = tarfile.TarInfo.frombuf(bytes(data[:512]), "utf-8", "strict")
    header.mtime, header.uid = 1700000000, 1000
    data[:512] = header.tobuf(tarfile.USTAR_FORMAT)
    tar.write_bytes(data)
    edit_json(tar.with_suffix(".json"), lambda content: content.update(sha256=sha256_file(tar)))
    found = only(output)
    assert (found.path, found.key) == (name_of(output, tar), sidecar["samples"][0]["key"])
    assert found.what == "clip.json: tar header: mtime is 1700000000, expected 0, uid is 1000, expected 0"


def _camera(members: dict[str, bytes], edit: Callable[[dict[str, Any]], object]) -> None:
    view = json.loads(members["view_00.json"])
    edit(view["camera"])
    members["view_00.json"] = json.dumps(view).encode()


def _recount(members: dict[str, bytes]) -> None:
    clip = json.loads(members["clip.json"])
    clip["voxels"][1] += 1
    members["clip.json"] = json.dumps(clip).encode()


SAMPLES: dict[str, tuple[Callable[[dict[str, bytes]], object], str]] = {
    "a missing member": (lambda m: m.pop("view_01_frame_02.webp"), "view_01_frame_02.webp: missing"),
    "an extra member": (lambda m: m.update({"notes.txt": b"x"}), "notes.txt: does not belong to a sample"),
    "a wrong count": (_recount, "frame_01.vxz: contains "),
    "half an O-Voxel": (lambda m: m.update({"frame_03.vxz": m["frame_03.vxz"][:-9]}), "frame_03.vxz: does not decode"),
    "half an image": (
        lambda m: m.update({"view_00_frame_00.webp": m["view_00_frame_00.webp"][:-50]}),
        "view_00_frame_00.webp: ",
    ),
    "no image": (lambda m: m.update({"view_00_frame_00.webp": b"RIFF"}), "view_00_frame_00.webp: does not decode"),
    "a scaled rotation": (
        lambda m: _camera(m, lambda c: c["extrinsics"][0].__setitem__(0, 2.0)),
        "view_00.json: not a valid camera with lights (ConfigError: extrinsics",
    ),
    "a negative focal length": (
        lambda m: _camera(m, lambda c: c["intrinsics"][0].__setitem__(0, -5.0)),
        "view_00.json: not a valid camera with lights (ConfigError: intrinsics",
    ),
    "a camera that looks away": (
        lambda m: _camera(m, lambda c: c["extrinsics"][0].__setitem__(3, 0.5)),
        "view_00.json: the camera does not look at the origin",
    ),
}


@pytest.mark.parametrize("case", SAMPLES)
def test_an_invalid_sample(output: Path, case: str) -> None:
    edit, what = SAMPLES[case]
    tar = first_shard(output)
    key = ShardReader(tar).keys()[0]
    rewrite(tar, lambda _, members: edit(members))
    found = [problem for problem in problems(output) if problem.path != "summary.json"]
    assert [(problem.path, problem.key) for problem in found] == [(name_of(output, tar), key)]
    assert found[0].what.startswith(what)
    assert found[0].remedy[0].startswith("rm -f ")


def test_a_removed_ledger_line(output: Path) -> None:
    lines = ledger_lines(output)
    done = next(line["asset"] for line in lines if line["state"] == "done")
    write_ledger(output, [line for line in lines if line["asset"] != done])
    found = only(output)
    assert (found.path, found.key) == ("ledger.jsonl", done)
    assert found.what.startswith("no line, but train/helix4d-00000")
    assert found.remedy[0].startswith("rm -f ")


def test_a_removed_line_of_a_duplicate_needs_only_a_run(output: Path) -> None:
    write_ledger(output, [line for line in ledger_lines(output) if line["reason"] != "duplicate"])
    found = only(output)
    assert found.what == "no line, but the plan leaves it out as duplicate (same content as again/copy.glb)"
    assert len(found.remedy) == 1


def test_a_state_that_contradicts_the_shard_is_forgotten(output: Path) -> None:
    lines = ledger_lines(output)
    done = next(line for line in lines if line["state"] == "done")
    write_ledger(output, [*lines, {**done, "state": "failed", "reason": "timeout", "keys": []}])
    found = only(output)
    assert (found.path, found.key) == ("ledger.jsonl", done["asset"])
    assert found.what.startswith(f"failed: timeout, but the shard contains ['{done['keys'][0]}']")
    forget, remove, curate = found.remedy
    assert (remove[:6], curate[:15]) == ("rm -f ", "helix4d curate ")
    run_commands([forget], output)
    left = [line["asset"] for line in ledger_lines(output)]
    assert left == [line["asset"] for line in lines if line["asset"] != done["asset"]]


def test_repeated_and_unfinished_lines_are_normal(output: Path) -> None:
    lines = ledger_lines(output)
    write_ledger(output, [{**lines[-1], "attempts": 9}, *lines])
    with open(output / "ledger.jsonl", "ab") as stream:
        stream.write(b'{"asset": "bro')
    assert problems(output) == []


def test_unreadable_lines_are_listed_by_number(output: Path) -> None:
    lines = ledger_lines(output)
    write_ledger(output, [{"asset": "x"}, *lines, {"asset": "y"}])
    found = only(output)
    assert found.what.startswith("line 1: not a ledger entry")
    assert f"; line {len(lines) + 2}: not a ledger entry" in found.what
    run_commands([found.remedy[0]], output)
    assert ledger_lines(output) == lines
    assert problems(output) == []


def test_an_asset_that_is_not_in_the_plan(output: Path) -> None:
    lines = ledger_lines(output)
    write_ledger(output, [*lines, {**lines[0], "asset": "other.glb"}])
    found = only(output)
    assert (found.key, found.what) == ("other.glb", "has a line, but is not in the plan")
    run_commands(list(found.remedy), output)
    assert problems(output) == []


def test_temporary_files_and_unplanned_shards(output: Path) -> None:
    tar = first_shard(output)
    (tar.parent / f".{tar.name}.x1.tmp").write_bytes(b"half")
    shutil.copy(tar, tar.with_name("helix4d-000099.tar"))
    tar.with_name("helix4d-000000.sheet.webp").write_bytes(b"written by inspect beside the shard")
    extra, stray = problems(output)
    assert (extra.path, extra.what) == ("train/helix4d-000099.tar", "not in the plan")
    assert stray.path == f"train/.{tar.name}.x1.tmp"
    run_commands([*extra.remedy, *stray.remedy], output)
    assert problems(output) == []


def test_a_summary_with_wrong_numbers(output: Path) -> None:
    edit_json(output / "summary.json", lambda summary: summary.update(samples=6))
    assert only(output).what == "samples is 6, expected 5 from ledger and shards"
    (output / "summary.json").unlink()
    assert "the last run did not finish" in only(output).what


def test_a_plan_whose_settings_differ_from_the_shards(output: Path) -> None:
    edit_json(output / "plan.json", lambda plan: plan["sample"].update(views=3))
    found = only(output)
    assert found.path == "plan.json"
    assert found.what == "its settings differ from those of the shards: views is 3 in the plan and 2 in all shards"
    assert "--views 2 " in found.remedy[1]


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"sample": {}, "sources": {"a.glb": {}}}'])
def test_a_damaged_plan(output: Path, content: bytes) -> None:
    (output / "plan.json").write_bytes(content)
    found = only(output)
    assert found.path == "plan.json"
    assert "--source SOURCE " in found.remedy[1]
    assert "--resolution 64 " in found.remedy[1]


def test_a_plan_of_version_0_is_read_without_a_source(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit_json(output / "plan.json", lambda plan: [plan.pop(name) for name in ("version", "source", "limit")])
    lines = ledger_lines(output)
    for line in lines:
        assert line.pop("version") == LEDGER.version
    write_ledger(output, lines)
    assert problems(output) == []
    first_shard(output).unlink()
    assert main(["verify", str(output), "--workers", "1"]) == 1
    printed = capsys.readouterr().out
    assert "helix4d curate --source SOURCE --output " in printed
    assert "Replace SOURCE by the --source of the first run" in printed


def _newer_clip(members: dict[str, bytes]) -> None:
    members["clip.json"] = json.dumps({**json.loads(members["clip.json"]), "version": 99}).encode()


NEWER: dict[str, tuple[Callable[[Path], object], str]] = {
    "plan": (lambda out: edit_json(out / "plan.json", lambda plan: plan.update(version=99)), "plan.json"),
    "sidecar": (
        lambda out: edit_json(first_shard(out).with_suffix(".json"), lambda sidecar: sidecar.update(version=99)),
        ".json",
    ),
    "clip.json": (lambda out: rewrite(first_shard(out), lambda _, members: _newer_clip(members)), ".tar"),
    "ledger entry": (
        lambda out: write_ledger(out, [{**line, "version": 99, "more": 1} for line in ledger_lines(out)]),
        "ledger.jsonl",
    ),
}


@pytest.mark.parametrize("kind", NEWER)
def test_newer_files_are_explained_and_not_repaired(output: Path, kind: str) -> None:
    edit, path = NEWER[kind]
    edit(output)
    found = only(output)
    assert found.path.endswith(path)
    assert f"{kind} version 99, " in found.what.replace("shard sidecar", "sidecar")
    assert "it was written by a newer helix4d; to read it, " in found.what
    assert repair([found]) == ["# nothing to repair: verify with the newer helix4d version that wrote the output"]


def test_folders_that_cannot_be_verified(output: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(tmp_path / "none")]) == 2
    assert "none: no such folder" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="neither a plan nor shards"):
        verify(tmp_path / "empty")
    with locked(output), pytest.raises(ConfigError, match="a run is writing to it"):
        verify(output)
    write_json(output / "plan.json", {"latents": {}, "encoders": "0" * 64, "shards": {}})
    with pytest.raises(ConfigError, match="latent shards of `helix4d encode`"):
        verify(output)


def test_an_unfinished_run_has_only_missing_shards(output: Path) -> None:
    tar = first_shard(output)
    tar.unlink()
    tar.with_suffix(".json").unlink()
    (output / "work").mkdir()
    found = only(output)
    assert found.what == "missing, and so is its sidecar"
    assert len(found.remedy) == 1
