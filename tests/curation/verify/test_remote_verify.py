"""Outputs at a URL: same problems as in a folder, every byte downloaded once, and repair commands that work."""

from __future__ import annotations

import json
import shlex
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from helix4d.cli.main import main
from helix4d.core import ConfigError
from helix4d.curation.places.store import Store, StoreError
from helix4d.curation.shards.discard import discard
from helix4d.curation.shards.layout import LEDGER_FILE
from helix4d.curation.shards.ledger import Ledger
from helix4d.curation.shards.mirror import Mirror
from helix4d.curation.shards.problems import repair
from helix4d.curation.shards.reader import ShardReader
from helix4d.curation.verify import tar as verify_tar
from helix4d.curation.verify.output import verify
from tests.curation.broken import edit_bytes, edit_json, first_shard, ledger_lines, rewrite, run_commands, write_ledger
from tests.curation.outputs import failure, output_of
from tests.curation.places.test_store import PATIENCE
from tests.curation.s3_server import S3Server
from tests.curation.servers import sha256

URL = "s3://bucket/out"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return output_of(tmp_path_factory.mktemp("far") / "out", ["a.glb", "b.glb", "c.glb"], [failure("d.glb")])


def found(place: Path | str, workers: int = 1) -> list[tuple[str, str, str]]:
    return [(one.path, one.key, one.what.replace(f"{place}/", "")) for one in verify(place, workers).problems]


def _member(output: Path, suffix: str) -> tuple[Path, int, int]:
    tar = first_shard(output)
    offset, size = ShardReader(tar).sample(ShardReader(tar).keys()[0])["members"][suffix]
    return tar, offset, size


def _truncate(output: Path) -> None:
    tar, offset, _ = _member(output, "view_01.json")
    tar.write_bytes(tar.read_bytes()[: offset + 5])


def _flip(suffix: str, shift: int) -> Callable[[Path], None]:
    def flip(output: Path) -> None:
        tar, offset, _ = _member(output, suffix)
        edit_bytes(tar, offset + shift)

    return flip


def _unsorted(output: Path) -> None:
    """Reverse the members of all samples."""
    tar = first_shard(output)
    data, sidecar = tar.read_bytes(), json.loads(tar.with_suffix(".json").read_bytes())
    pieces = []
    for sample in sidecar["samples"]:
        for offset, size in sample["members"].values():
            pieces.append((offset, data[offset - 512 : offset + size + (-size % 512)]))
    end = data[max(offset + len(piece) - 512 for offset, piece in pieces) :]
    tar.write_bytes(b"".join(piece for _, piece in sorted(pieces, reverse=True)) + end)


def _appended(output: Path) -> None:
    tar = first_shard(output)
    tar.write_bytes(tar.read_bytes() + b"more")


def _far_away(output: Path) -> None:
    def edit(sidecar: dict[str, list[dict[str, dict[str, list[int]]]]]) -> None:
        sidecar["samples"][0]["members"]["frame_00.vxz"] = [10**12, 5]

    edit_json(first_shard(output).with_suffix(".json"), edit)


def _no_line(output: Path) -> None:
    write_ledger(output, ledger_lines(output)[1:])


BREAKS: dict[str, Callable[[Path], object]] = {
    "nothing": lambda output: None,
    "a byte of a member": _flip("frame_01.vxz", 40),
    "a byte of a header": _flip("frame_01.vxz", -500),
    "a byte of a sample's first header": _flip("clip.json", -500),
    "a byte of the sample's last header": _flip("view_01_frame_03.webp", -500),
    "truncated": _truncate,
    "appended": _appended,
    "an empty tar": lambda output: first_shard(output).write_bytes(b""),
    "members in another order": _unsorted,
    "an index that points far away": _far_away,
    "no tar": lambda output: first_shard(output).unlink(),
    "no sidecar": lambda output: first_shard(output).with_suffix(".json").unlink(),
    "half a sidecar": lambda output: edit_bytes(first_shard(output).with_suffix(".json"), 0),
    "a sidecar of no UTF-8": lambda output: first_shard(output).with_suffix(".json").write_bytes(b"\xff"),
    "a newer sidecar": lambda output: edit_json(
        first_shard(output).with_suffix(".json"), lambda sidecar: sidecar.update(version=99)
    ),
    "a sidecar without samples": lambda output: edit_json(
        first_shard(output).with_suffix(".json"), lambda sidecar: sidecar.pop("samples")
    ),
    "a sample less in the index": lambda output: edit_json(
        first_shard(output).with_suffix(".json"), lambda sidecar: sidecar["samples"].pop(0)
    ),
    "no camera": lambda output: rewrite(first_shard(output), lambda _, members: members.update({"view_00.json": b"{"})),
    "no ledger line": _no_line,
    "a damaged ledger line": lambda output: edit_bytes(output / LEDGER_FILE, 5),
    "no plan": lambda output: (output / "plan.json").unlink(),
    "other settings": lambda output: edit_json(output / "plan.json", lambda plan: plan["sample"].update(views=3)),
    "other sums": lambda output: edit_json(output / "summary.json", lambda summary: summary.update(samples=9)),
    "no summary": lambda output: (output / "summary.json").unlink(),
    "what killed runs leave": lambda output: [
        path.write_bytes(b"x") for path in (output / ".plan.json.1.tmp", output / "train" / ".a.tar.1.tmp")
    ],
    "a shard of no plan": lambda output: (output / "train" / "helix4d-000099.tar").write_bytes(b"x"),
}


def test_a_url_has_the_problems_of_its_folder(
    s3: S3Server, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    problems = {}
    for name, edit in BREAKS.items():
        output = Path(shutil.copytree(finished, tmp_path / "out"))
        edit(output)
        s3.put_folder(output, "/bucket/out")
        near = found(output)
        assert found(URL) == near, name
        with monkeypatch.context() as small:  # members arrive in many pieces, and released bytes are read again
            small.setattr(verify_tar, "READ_BYTES", 1000)
            assert found(output) == near, name
        problems[name] = near
        shutil.rmtree(output)
    assert [name for name, listed in problems.items() if not listed] == ["nothing"]


def test_other_protocols_and_several_workers(finished: Path, tmp_path: Path) -> None:
    output = Path(shutil.copytree(finished, tmp_path / "out"))
    _flip("frame_01.vxz", 40)(output)
    (output / "train" / ".a.tar.1.tmp").write_bytes(b"x")
    assert found(f"file://{output}", workers=2) == found(output)


def test_every_byte_is_read_once_and_one_sample_is_kept(
    s3: S3Server, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3.put_folder(finished, "/bucket/out")
    held = []
    read_on = verify_tar.TarWindow._read_on

    def watched(window: verify_tar.TarWindow) -> None:
        read_on(window)
        held.append(len(window._held))

    monkeypatch.setattr(verify_tar.TarWindow, "_read_on", watched)
    monkeypatch.setattr(verify_tar, "READ_BYTES", 4096)
    verify(URL, workers=1)
    moved: Counter[str] = Counter()
    for path, size in s3.reads:
        moved[path] += size
    tars = {path: data for path, data in s3.objects.items() if path.endswith(".tar")}
    again = {f"/bucket/out/{tar.relative_to(finished)}": _clip_bytes(tar) for tar in finished.glob("*/*.tar")}
    assert {path: moved[path] for path in tars} == {path: len(data) + again[path] for path, data in tars.items()}
    largest = max(sample["bytes"] for tar in finished.glob("*/*.tar") for sample in ShardReader(tar).sidecar["samples"])
    assert max(map(len, tars.values())) > 1.5 * largest, "there are bytes to release"
    assert max(held) <= largest + 2 * 4096
    assert sum(moved.values()) <= sum(map(len, s3.objects.values())) * 1.5, "sidecars twice"


def _clip_bytes(tar: Path) -> int:
    """Return the bytes of all `clip.json` members of a shard, which the check of the index reads again."""
    return sum(sample["members"]["clip.json"][1] for sample in ShardReader(tar).sidecar["samples"])


def test_an_unfinished_ledger_is_read_from_its_pieces(s3: S3Server, finished: Path, tmp_path: Path) -> None:
    output = Path(shutil.copytree(finished, tmp_path / "out"))
    (output / "summary.json").unlink()
    s3.put_folder(output, "/bucket/out")
    content = s3.objects.pop("/bucket/out/ledger.jsonl")
    lines = content.splitlines(keepends=True)
    for number, piece in enumerate((lines[:1], lines[1:3], lines[3:])):
        s3.objects[f"/bucket/out/ledger/{number:06d}.jsonl"] = b"".join(piece)
    assert found(URL) == found(output)
    s3.objects["/bucket/out/ledger/000001.jsonl"] = b'{"asset": "x"}\n' + b"".join(lines[1:3])
    damaged = next(one for one in verify(URL, 1).problems if one.path == LEDGER_FILE)
    assert damaged.what.startswith("line 2: not a ledger entry")
    assert damaged.remedy[0] == f"helix4d discard {URL} --lines 2"
    assert main(shlex.split(damaged.remedy[0])[1:]) == 0
    assert s3.objects["/bucket/out/ledger.jsonl"] == content
    assert not any("/ledger/" in path for path in s3.objects)
    assert found(URL) == found(output)


def test_urls_that_cannot_be_verified_or_changed(
    s3: S3Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", "s3://bucket/none"]) == 2
    assert "s3://bucket/none: contains neither a plan nor shards" in capsys.readouterr().err
    assert main(["verify", "nosuchprotocol://x/y"]) == 2
    assert "nosuchprotocol" in capsys.readouterr().err
    assert main(["discard", str(tmp_path), "a"]) == 2
    assert "not a URL" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="nothing to discard"):
        discard(URL, [], [], [])


def test_a_failing_store_is_an_error_and_not_a_problem(
    s3: S3Server, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3.put_folder(finished, "/bucket/out")
    read_ranges = Store.read_ranges

    def refuse(store: Store, name: str, ranges: list[tuple[int, int]]) -> list[bytes]:
        if ranges[0][0] > 0:
            raise StoreError(f"{store.url}: cannot read {name}")
        return read_ranges(store, name, ranges)

    monkeypatch.setattr(Store, "read_ranges", refuse)
    monkeypatch.setattr(verify_tar, "READ_BYTES", 4096)
    assert main(["verify", URL, "--workers", "1"]) == 2


def test_a_shard_that_disappears_is_an_error_and_not_a_problem(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output = Path(shutil.copytree(finished, tmp_path / "out"))
    tar = first_shard(output)
    read_on = verify_tar.TarWindow._read_on

    def remove_and_read_on(window: verify_tar.TarWindow) -> None:
        tar.unlink(missing_ok=True)
        read_on(window)

    monkeypatch.setattr(verify_tar.TarWindow, "_read_on", remove_and_read_on)
    assert main(["verify", str(output), "--workers", "1"]) == 2
    assert f"{tar.stem}.tar disappeared while it was read" in capsys.readouterr().err


def test_discarded_lines_also_leave_the_working_folder(s3: S3Server, tmp_path: Path) -> None:
    here = tmp_path / "here"
    here.mkdir()
    mirror = Mirror(here, URL, PATIENCE)
    mirror.pull()
    (here / "plan.json").write_text("{}")
    mirror.push("plan.json")
    ledger = Ledger(here / LEDGER_FILE)
    ledger.append(failure("good"), failure('so "called" /b.glb'), failure("good"), failure('so "called" /b.glb'))
    mirror.finish()
    discard(URL, ["none.tar"], ['so "called" /b.glb'], [3])
    Mirror(here, URL, PATIENCE).pull()
    assert list(Ledger(here / LEDGER_FILE).outcomes) == ["good"]
    assert len((here / LEDGER_FILE).read_bytes().splitlines()) == 1


@pytest.mark.slow
def test_the_repair_commands_restore_the_bytes(
    s3: S3Server,
    reference_output: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))  # for the run's working folder
    s3.put_folder(reference_output, "/bucket/out")
    assert main(["verify", URL, "--workers", "2"]) == 0
    assert f"{URL}: " in (printed := capsys.readouterr().out)
    assert "5 samples, 7 assets: no problems" in printed
    before = {path: sha256(data) for path, data in s3.objects.items()}
    output = Path(shutil.copytree(reference_output, tmp_path / "out"))
    tar, offset, _ = _member(output, "frame_01.vxz")
    edit_bytes(tar, offset + 5)
    lines = ledger_lines(output)
    elsewhere = next(line for line in lines if line["state"] == "failed")
    write_ledger(output, [{**lines[0], "version": 1, "keys": 7}, *lines, {**elsewhere, "asset": "-other's.glb"}])
    s3.put_folder(output, "/bucket/out")
    s3.objects["/bucket/out/train/.half.tmp"] = b"half"
    assert main(["verify", URL, "--workers", "1"]) == 1
    commands = capsys.readouterr().out.split("Repair commands (they rebuild only what is broken):\n")[1].splitlines()
    commands = [command.strip() for command in commands]
    assert commands == repair(verify(URL, 1).problems)
    assert [command.split()[1] for command in commands] == ["discard"] * 4 + ["curate"]
    assert "--lines 1" in commands[0]
    run_commands(commands, tmp_path)
    assert main(["verify", URL, "--workers", "1"]) == 0
    after = {path: sha256(data) for path, data in s3.objects.items()}
    shards = {path for path in before if path.count("/") == 4 and "/report/" not in path}
    assert shards
    assert {path: after[path] for path in shards} == {path: before[path] for path in shards}
    assert "/bucket/out/train/.half.tmp" not in after
