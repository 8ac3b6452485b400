"""`helix4d curate --resolution 64,32`: one pass writes the O-Voxels that separate runs write."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from helix4d.assets.samples import SAMPLES
from helix4d.cli.main import main
from helix4d.core import ConfigError, FormatError
from helix4d.curation.config import SampleConfig, parse_resolutions
from helix4d.curation.shards.members import at_resolution, parse_clip
from helix4d.curation.shards.problems import Remedies
from helix4d.curation.shards.reader import ShardReader
from tests.curation.runs import curate, hashes


def test_a_single_resolution_is_stored_as_before() -> None:
    assert SampleConfig(resolution=64).to_json()["resolution"] == 64
    assert SampleConfig(resolution="64") == SampleConfig(resolution=64)
    assert SampleConfig(resolution="64,32").resolutions == (64, 32)
    stored = json.loads(json.dumps(SampleConfig(resolution="64,32").to_json()))
    assert SampleConfig.from_json(stored) == SampleConfig(resolution="64,32")


@pytest.mark.parametrize("value", [0, 48, 2048, "", "64,", "64,64", "64 32", "a", None, -64])
def test_other_resolutions_are_refused(value: Any) -> None:
    with pytest.raises(ConfigError, match=r"powers? of two from 32 to 1024"):
        parse_resolutions(value)


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Resolutions -> output, of one asset."""
    folder = tmp_path_factory.mktemp("resolutions")
    (folder / "source").mkdir()
    (folder / "source" / "chest.glb").write_bytes(SAMPLES["treasure_chest"]())
    for value in ("64,32", "64", "32"):
        curate(folder / "source", folder / value, resolution=value, frames=2, views=0, workers=1)
    return {value: folder / value for value in ("64,32", "64", "32")}


def _reader(output: Path) -> tuple[ShardReader, str]:
    reader = ShardReader(next(output.glob("*/*.tar")))
    return reader, reader.keys()[0]


@pytest.mark.slow
def test_every_resolution_has_the_bytes_of_a_run_of_its_own(outputs: dict[str, Path]) -> None:
    both, key = _reader(outputs["64,32"])
    clip = both.clip(key)
    for side in (64, 32):
        alone, _ = _reader(outputs[str(side)])
        chosen, names = at_resolution(clip, side, key)
        for frame, name in enumerate(names):
            assert both.read(key, name) == alone.read(key, f"frame_{frame:02d}.vxz")
        own = {**alone.clip(key), "config_sha256": clip["config_sha256"]}
        # Filters judge the tokens of the first resolution.
        assert {**chosen, "measures": {**chosen["measures"], "tokens": own["measures"]["tokens"]}} == own
    assert at_resolution(clip, None, key) == at_resolution(clip, 64, key)
    with pytest.raises(FormatError, match="no O-Voxels of resolution 128, only of 64, 32"):
        at_resolution(clip, 128, key)


@pytest.mark.slow
def test_verify_checks_all_and_its_repair_command_repeats_the_settings(
    outputs: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    output = outputs["64,32"]
    assert main(["verify", str(output)]) == 0, capsys.readouterr()
    (tar,) = output.glob("*/*.tar")
    whole = tar.read_bytes()
    before = hashes(output)
    tar.unlink()
    assert main(["verify", str(output)]) == 1
    printed = capsys.readouterr().out
    assert "--resolution 64,32 " in printed
    assert "--cameras trellis2 --lights trellis2" in printed
    tar.write_bytes(whole)
    assert hashes(output) == before


def test_outputs_of_0_3_are_repaired_with_what_it_did(tmp_path: Path) -> None:
    stored = SampleConfig(cameras="even", lights="even").to_json()
    command = Remedies(tmp_path, stored, source="assets").curate
    assert "--cameras even --lights even --view-transform standard --tracks 0" in command
    assert "--fixed-views" not in command


def test_counts_of_other_resolutions_are_checked(outputs: dict[str, Path]) -> None:
    reader, key = _reader(outputs["64,32"])
    clip = json.loads(reader.read(key, "clip.json"))
    for wrong in (
        [],
        {"32": 5},
        {"32": {"voxels": [1], "tokens": [1]}},
        {"32": {"voxels": [1, "x"], "tokens": [1, 1]}},
    ):
        with pytest.raises(FormatError):
            parse_clip(json.dumps({**clip, "other_resolutions": wrong}).encode(), key)
