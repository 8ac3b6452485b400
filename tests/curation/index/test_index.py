"""The index of an output, and subsets selected by it."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet
import pytest

from helix4d.cli.main import main
from helix4d.core import ConfigError, FormatError
from helix4d.curation.index.credits import credit_of
from helix4d.curation.index.subset import read_subset, select
from helix4d.curation.index.table import index_file, write_index
from helix4d.curation.plan.plan_file import read_plan
from helix4d.curation.shards.reader import ShardReader
from helix4d.curation.verify.output import verify
from tests.curation.outputs import failure, output_of
from tests.curation.s3_server import S3Server

TRAIN = index_file("train")
EXTRAS = {
    "license": "CC BY-NC 4.0",
    "author": "Ann (https://example.org/ann)",
    "source": "https://example.org/1",
    "tags": ["a", 1, {"deep": None}],
}


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("output")
    names = ["a.glb", "b.glb", "c.glb", "bad-\udcff.glb"]
    return output_of(folder / "o", names, [failure("x.glb")], extras=EXTRAS)


def _names(output: Path) -> list[str]:
    stored = read_plan(output)
    assert stored
    return [shard.name for shard in stored.plan().shards]


def test_a_row_says_where_the_sample_is_and_what_it_demands(output: Path) -> None:
    rows = pyarrow.parquet.read_table(output / TRAIN).to_pylist()
    assert len(rows) == 4
    assert [row["key"] for row in rows] == sorted(row["key"] for row in rows)
    for row in rows:
        tar = output / row["shard"]
        reader = ShardReader(tar)
        data = tar.read_bytes()
        for member in row["members"]:
            part = data[member["offset"] : member["offset"] + member["bytes"]]
            assert part == reader.read(row["key"], member["name"])
        assert {member["name"] for member in row["members"]} == set(reader.members(row["key"]))
        clip = reader.clip(row["key"])
        assert (row["tokens"], row["voxels"], row["times_s"]) == (clip["tokens"], clip["voxels"], clip["times_s"])
        assert row["measures"]["motion"] == clip["motion"]
        assert (row["author"], row["source"]) == (EXTRAS["author"], EXTRAS["source"])
        assert row["license_text"] == "CC BY-NC 4.0"
        assert row["generation"] == 0
    assert {row["asset"] for row in rows} == {"a.glb", "b.glb", "c.glb", "bad-\\udcff.glb"}


def test_what_a_license_demands_and_captions_are_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.curation import outputs

    def described(value: object) -> bytes:
        if isinstance(value, dict) and "extras" in value:
            caption = {"short": "a ball", "long": ["it rolls", "to the right"], "score": 4}
            value = {**value, "license": "by-nc-sa", "metadata": {"caption": caption}, "up_axis": "Y"}
        return canonical_json(value)

    canonical_json = outputs.canonical_json
    monkeypatch.setattr(outputs, "canonical_json", described)
    folder = output_of(tmp_path / "o", ["a.glb"])
    (row,) = pyarrow.parquet.read_table(folder / TRAIN).to_pylist()
    demands = [row[name] for name in ("attribution", "share_alike", "non_commercial", "no_derivatives")]
    assert demands == [True, True, True, False]
    assert row["captions"] == ["it rolls", "to the right", "a ball"]  # by name
    assert row["other"] == '{"up_axis": "Y"}'  # a field that this version does not know
    for where in ("up_axis = 'Y'", "metadata.caption.score >= 4", "captions contains 'a ball'", "non_commercial"):
        assert len(select(folder, where)[0].keys) == 1, where
    assert verify(folder, 1).problems == ()


def test_the_index_is_deterministic_and_rewritten(output: Path, tmp_path: Path) -> None:
    write_index(output, _names(output), tmp_path)
    assert (tmp_path / TRAIN).read_bytes() == (output / TRAIN).read_bytes()
    stale = tmp_path / index_file("val")
    stale.write_bytes(b"of an earlier run")
    assert write_index(output, _names(output), tmp_path) == [TRAIN]
    assert not stale.exists()


def test_verify_finds_a_wrong_index(tmp_path: Path) -> None:
    output = output_of(tmp_path / "o", ["a.glb", "b.glb", "c.glb"])
    assert verify(output, 1).problems == ()
    table = pyarrow.parquet.read_table(output / TRAIN)
    rows = table.to_pylist()

    def problems(changed: list[dict]) -> list[str]:
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(changed, table.schema), output / TRAIN)
        return [str(problem) for problem in verify(output, 1).problems]

    assert problems(rows) == []  # other bytes, equal rows
    (found,) = problems([{**rows[0], "tokens": [1]}, *rows[1:]])
    assert found == f"{TRAIN}: {rows[0]['key']}: differs from the shards in tokens"
    (found,) = problems(rows[1:])
    assert found == f"{TRAIN}: {rows[0]['key']}: has no row, but is in the shards"
    other = "f" * 16 + "_0"
    (found,) = problems([*rows, {**rows[0], "key": other}])
    assert found == f"{TRAIN}: {other}: has a row, but is not in the shards"
    (output / TRAIN).write_bytes(b"PAR1 cut short")
    (broken,) = verify(output, 1).problems
    assert "not a valid Parquet file" in broken.what
    assert broken.remedy[0].startswith("helix4d curate ")
    (output / TRAIN).unlink()
    (missing,) = verify(output, 1).problems
    assert missing.what.startswith("missing")
    write_index(output, _names(output), output)
    (output / index_file("val")).write_bytes(b"")
    (stray,) = verify(output, 1).problems
    assert (stray.path, stray.what) == (index_file("val"), "no shard belongs to it")


def test_select_writes_a_subset(output: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "subset.json"
    assert main(["select", str(output), "--where", "measures.motion > 0.25", "--write", str(file)]) == 0
    assert "2 of 4 samples selected" in capsys.readouterr().out
    keys = read_subset(file)
    rows = pyarrow.parquet.read_table(output / TRAIN).to_pylist()
    assert keys == {row["key"] for row in rows if row["measures"]["motion"] > 0.25}
    for where in ("extras.tags contains 'a'", "asset in ('a.glb', 'b.glb', 'c.glb') or max_tokens = 8"):
        assert len(select(output, where)[0].keys) == 4, where
    assert main(["select", str(output), "--where", "motoin > 1"]) == 2
    assert "no column motoin" in capsys.readouterr().err
    assert main(["select", str(output), "--where", "measures.motion > 99", "--write", str(file)]) == 0
    with pytest.raises(ConfigError, match="selects no sample"):
        read_subset(file)


def test_the_index_works_at_a_url(output: Path, s3: S3Server, tmp_path: Path) -> None:
    s3.put_folder(output, "/bucket/o")
    write_index("s3://bucket/o", _names(output), tmp_path)
    assert (tmp_path / TRAIN).read_bytes() == (output / TRAIN).read_bytes()
    s3.reads.clear()
    assert select("s3://bucket/o", "max_tokens > 0")[0] == select(output, "max_tokens > 0")[0]
    assert {path for path, _ in s3.reads} == {f"/bucket/o/{TRAIN}"}
    assert verify("s3://bucket/o", 1).problems == ()
    del s3.objects[f"/bucket/o/{TRAIN}"]
    (missing,) = verify("s3://bucket/o", 1).problems
    assert missing.path == TRAIN
    with pytest.raises(ConfigError, match=r"has no index/\*\.parquet"):
        select("s3://bucket/o", "max_tokens > 0")


@pytest.mark.parametrize(
    ("extras", "metadata", "expected"),
    [
        ({"author": "Ann", "title": "Ball"}, {}, ("Ball", "Ann", "")),
        ({"author": "file"}, {"user": {"displayName": "Bob", "username": "b"}, "name": "B"}, ("B", "Bob", "")),
        ({"copyright": "2024 (c) Cy"}, {"viewerUrl": "https://e.org/m"}, ("", "2024 (c) Cy", "https://e.org/m")),
        ({}, {"artist": ["Di", "Ed"], "name": 7}, ("", "Di, Ed", "")),
    ],
)
def test_credits_are_found_under_their_usual_names(extras: dict, metadata: dict, expected: tuple) -> None:
    found = credit_of(extras, metadata)
    assert (found.title, found.author, found.source) == expected


def test_a_hostile_clip_is_an_error_and_not_a_crash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.curation import outputs

    canonical_json = outputs.canonical_json
    for number, field in enumerate([{"license": 3}, {"metadata": ["x"]}, {"times_s": "now"}, {"window": 1 << 70}]):

        def described(value: object, field: dict = field) -> bytes:
            return canonical_json({**value, **field} if isinstance(value, dict) and "extras" in value else value)

        monkeypatch.setattr(outputs, "canonical_json", described)
        monkeypatch.setattr(outputs, "write_index", lambda *_: None)
        folder = output_of(tmp_path / str(number), ["a.glb"])
        with pytest.raises(FormatError, match=r"a field (has|of) an unexpected type"):
            write_index(folder, _names(folder), folder)
