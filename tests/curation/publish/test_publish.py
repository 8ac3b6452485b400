"""Outputs are described and published so that other tools can read every sample."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from helix4d.cli.main import main
from helix4d.core import ConfigError, write_json
from helix4d.curation.publish.describe import DESCRIPTION_FILES, write_description
from helix4d.curation.publish.upload import PublishError, publish
from helix4d.curation.shards.clip_schema import clip_schema
from helix4d.curation.shards.reader import ShardReader
from tests.curation import outputs
from tests.curation.outputs import failure, output_of
from tests.curation.publish.upload_hub import UploadHub
from tests.curation.servers import serving

URL = "hf://datasets/ann/clips"
RAGGED: list[dict[str, Any]] = [
    {"license": "CC BY 4.0", "author": "Ann | <b>", "tags": ["a", 1], "source": "https://example.org/1"},
    {"license": 3, "author": {"name": "Bob"}},
    {"tags": "x", "n": None},
    {},
    {"n": {"deep": [1, "a"]}},
]


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An output whose samples have `extras` and warnings of different forms; the first five have no warnings."""
    number = 0
    encode = outputs.canonical_json

    def described(value: dict[str, Any]) -> bytes:
        nonlocal number
        if "extras" in value and "tracks" in value:
            warnings = [] if number < 5 else ["repaired"]
            terms = ("by", "cc0", "")[number % 3]
            value = {**value, "extras": RAGGED[number % len(RAGGED)], "warnings": warnings, "license": terms}
            number += 1
        return encode(value)

    folder = tmp_path_factory.mktemp("published") / "clips"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(outputs, "canonical_json", described)
        output_of(
            folder, [f"{name}.glb" for name in "abcdefghi"], [failure("x.glb")], views=1, passes=True, tracks=True
        )
    write_description(folder)
    return folder


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[UploadHub]:
    with serving(UploadHub(large=1 << 40)) as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        monkeypatch.setenv("HF_TOKEN", "hf_secretsecretsecret")
        monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
        monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        yield running


def _front_matter(folder: Path) -> dict[str, Any]:
    return yaml.safe_load((folder / "README.md").read_text().split("---\n")[1])


def test_the_card_declares_every_member(output: Path) -> None:
    card = _front_matter(output)
    reader = ShardReader(output / "train/helix4d-000000.tar")
    types = {one["name"]: one.get("dtype") for one in card["dataset_info"][0]["features"]}
    assert types.keys() == {*reader.members(reader.keys()[0]), "__key__", "__url__"}
    assert (types["clip.json"], types["frame_00.vxz"], types["view_00_frame_00.webp"]) == ("json", "binary", "image")
    assert card["configs"][0]["data_files"] == [{"split": "train", "path": "train/*.tar"}]
    assert (card["license"], card["license_link"], card["size_categories"]) == ("other", "CREDITS.md", ["n<1K"])


@pytest.mark.parametrize(
    ("licenses", "expected"), [(["CC0"], "cc0-1.0"), (["CC BY 4.0", "CC0"], "cc"), (["CC0", "?"], "other")]
)
def test_the_license_of_the_card(licenses: list[str], expected: str) -> None:
    from helix4d.curation.filters.licenses import parse_license
    from helix4d.curation.publish.card import readme
    from helix4d.curation.publish.facts import Facts

    names = [found.name if (found := parse_license(text)) else "" for text in licenses]
    card = readme(Facts({"train": 2}, 1, dict.fromkeys(names, 1), ("clip.json",)))
    assert yaml.safe_load(card.split("---\n")[1])["license"] == expected


def test_every_sample_is_credited_without_markup(output: Path) -> None:
    lines = (output / "CREDITS.md").read_text().splitlines()
    keys = {key for tar in output.glob("train/*.tar") for key in ShardReader(tar).keys()}  # noqa: SIM118
    rows = [line for line in lines if line.startswith("| `")]
    assert {line.split("`")[1] for line in rows} == keys
    (first, *_) = [line for line in rows if "Ann" in line]
    assert r"Ann \| \<b\>" in first
    assert "| <https://example.org/1> |" in first
    assert first.endswith(("(by) |", "(cc0) |", "(unknown) |"))
    assert any("| Bob |" in line for line in rows)


def test_clip_json_satisfies_its_published_schema(output: Path) -> None:
    schema = json.loads((output / "clip.schema.json").read_bytes())
    assert schema == clip_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    clips = [clip for tar in output.glob("train/*.tar") for clip in ShardReader(tar).clips().values()]
    assert len(clips) == 9
    for clip in clips:
        jsonschema.validate({**clip, "a_later_field": 1}, schema)
        for name, value in {"frames": 0, "tokens": "8", "license": None, "warnings": [1], "key": "../x"}.items():
            with pytest.raises(jsonschema.ValidationError):
                jsonschema.validate({**clip, name: value}, schema)


def test_publish_uploads_what_users_need_and_nothing_of_this_machine(
    output: Path, hub: UploadHub, capsys: pytest.CaptureFixture[str]
) -> None:
    (output / "contact_sheet.webp").write_bytes(b"x")
    (output / "report").mkdir(exist_ok=True)
    (output / "report" / "index.html").write_text("x")
    (output / "train" / "helix4d-000000.json").chmod(0o644)
    assert main(["publish", str(output), URL]) == 0
    assert capsys.readouterr().out.strip() == f"{hub.url}/datasets/ann/clips"
    assert hub.private == {"datasets/ann/clips": True}
    files = hub.repositories["datasets/ann/clips"]
    shards = {path.relative_to(output).as_posix() for path in (output / "train").iterdir()}
    assert files.keys() == shards | {"index/train-000000.parquet", *DESCRIPTION_FILES}
    for name, data in files.items():
        assert data == (output / name).read_bytes()
        assert str(output).encode() not in data, name
        assert b"/assets" not in data, name  # the source of the run
        assert b"hf_secret" not in data, name
    commits = len(hub.committed)
    publish(output, URL)
    assert len(hub.committed) == commits  # nothing has changed


def test_a_refused_upload_resumes(output: Path, hub: UploadHub, capsys: pytest.CaptureFixture[str]) -> None:
    hub.refuses = 1
    assert main(["publish", str(output), URL]) == 2
    assert f"{URL}: cannot publish" in capsys.readouterr().err
    publish(output, URL)
    assert "README.md" in hub.repositories["datasets/ann/clips"]


def test_what_cannot_be_published(output: Path, tmp_path: Path, hub: UploadHub) -> None:
    for url in ("hf://datasets/ann/clips@dev", "hf://ann/model", "hf://datasets/ann/clips/train"):
        with pytest.raises(ConfigError, match="expected hf://datasets/OWNER/NAME"):
            publish(output, url)
    with pytest.raises(ConfigError, match="no such folder"):
        publish(tmp_path / "none", URL)
    with pytest.raises(ConfigError, match="not committed"):
        publish(output_of(tmp_path / "pending", ["a.glb"], pending=["b.glb", "c.glb"]), URL)
    with pytest.raises(ConfigError, match="is a path of this machine"):
        publish(output_of(tmp_path / "paths", ["/home/ann/a.glb"]), URL)
    stray = output_of(tmp_path / "stray", ["a.glb"])
    write_json(stray / "train" / "private.json", {})
    with pytest.raises(ConfigError, match=r"train/private\.json is not in the plan"):
        publish(stray, URL)
    assert hub.repositories == {}


LOAD = """
import json, sys
import datasets
datasets.disable_progress_bars()
place, cache = sys.argv[1:]
found = {}
for streaming in (True, False):
    options = {} if streaming else {"cache_dir": cache}
    rows = list(datasets.load_dataset(place, split="train", streaming=streaming, **options))
    for row in rows:
        image = row["view_00_frame_00.webp"]
        assert (image.mode, image.size) == ("RGBA", (64, 64))
        assert isinstance(row["frame_00.vxz"], bytes)
        assert isinstance(row["clip.json"]["tokens"][0], int)
        assert len(row["tracks.npz"]["positions"]) == 4
    found[str(streaming)] = {row["__key__"]: [row["clip.json"], row["view_00.json"]] for row in rows}
assert found["True"].keys() == found["False"].keys()
print(json.dumps(found["False"]))
assert found["True"] == found["False"]
"""


@pytest.mark.slow
@pytest.mark.parametrize("published", [False, True])
def test_load_dataset_shows_every_sample(output: Path, hub: UploadHub, tmp_path: Path, published: bool) -> None:
    if importlib.util.find_spec("datasets") is None:
        pytest.skip("the package datasets is not installed")
    place = str(output)
    if published:
        publish(output, URL)
        place = "ann/clips"
    command = [sys.executable, "-c", LOAD, place, str(tmp_path / "cache")]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ, timeout=300, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    expected = {}
    for tar in output.glob("train/*.tar"):
        reader = ShardReader(tar)
        for key, clip in reader.clips().items():
            expected[key.split(".")[0]] = [clip, json.loads(reader.read(key, "view_00.json"))]
    # datasets writes numbers of JSON with ten digits.
    assert _rounded({key.rpartition("/")[2]: value for key, value in found.items()}) == _rounded(expected)


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _rounded(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return [_rounded(entry) for entry in value]
    return round(value, 8) if isinstance(value, float) else value


def test_croissant_names_columns_of_the_index(output: Path) -> None:
    import pyarrow.parquet

    content = json.loads((output / "croissant.json").read_bytes())
    columns = pyarrow.parquet.read_schema(output / "index/train-000000.parquet").names
    fields = {field["source"]["extract"]["column"] for field in content["recordSet"][0]["field"]}
    assert fields <= set(columns)
    assert {"author", "source", "license"} <= fields


def test_a_hub_that_does_not_answer(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_TOKEN", "hf_secretsecretsecret")
    with pytest.raises(PublishError, match=f"{URL}: cannot publish"):
        publish(output, URL)
