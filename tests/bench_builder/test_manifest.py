from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from helix4d.bench_builder import (
    HELIX4DBENCH,
    Category,
    Manifest,
    full_negative_prompt,
    full_prompt,
    read_manifest,
    still_url,
)
from helix4d.core import ConfigError

_FUNCTION_WORDS = """
    a about above after against all an and another around as at away be before behind below beside between by down each
    for from had has have her him his in inside into is it its itself like more of off on one onto open or out over so
    that the their them then there they through to together two under until up upon when where while with
"""


@pytest.fixture(scope="module")
def manifest() -> Manifest:
    return read_manifest()


@pytest.fixture
def values() -> dict[str, Any]:
    """The benchmark's file as plain values, to be spoiled."""
    loaded: dict[str, Any] = yaml.safe_load(HELIX4DBENCH.read_text(encoding="utf-8"))
    return loaded


def _content_words(text: str) -> set[str]:
    return set(re.findall("[a-z]+", text.lower())) - set(_FUNCTION_WORDS.split())


def test_there_are_52_videos_in_all_five_categories(manifest: Manifest) -> None:
    assert len(manifest.entries) == manifest.count == 52
    counts = {category: sum(e.category is category for e in manifest.entries) for category in Category}
    assert min(counts.values()) >= 9, counts


@pytest.mark.parametrize("name", ["id", "still", "sha256", "seed", "prompt", "negative_prompt"])
def test_no_two_entries_share(manifest: Manifest, name: str) -> None:
    assert len({getattr(entry, name) for entry in manifest.entries}) == 52


def test_seeds_follow_the_stated_rule(manifest: Manifest) -> None:
    assert manifest.seed_rule == "int(sha256[:8], 16)"
    for entry in manifest.entries:
        assert entry.seed == int(entry.sha256[:8], 16), entry.id


def test_every_prompt_is_one_to_three_sentences_of_its_own(manifest: Manifest) -> None:
    for entry in manifest.entries:
        assert len(entry.prompt.split()) >= 12, entry.id
        assert 1 <= len(re.findall(r"[.!?](?:\s|$)", entry.prompt)) <= 3, entry.id
        assert len(entry.negative_prompt.split(",")) >= 4, entry.id


def test_no_two_prompts_are_alike(manifest: Manifest) -> None:
    for one, other in itertools.combinations(manifest.entries, 2):
        a, b = _content_words(one.prompt), _content_words(other.prompt)
        assert len(a & b) / len(a | b) <= 0.6, (one.id, other.id)


def test_the_models_are_wans_with_its_published_settings(manifest: Manifest) -> None:
    a14b, ti2v = manifest.models["a14b"], manifest.models["ti2v_5b"]
    assert manifest.models[manifest.default_model] is a14b
    assert a14b.checkpoint == "Wan-AI/Wan2.2-I2V-A14B-Diffusers"
    assert (a14b.steps, a14b.guidance, a14b.boundary_ratio, a14b.flow_shift) == (40, (3.5, 3.5), 0.9, 5.0)
    assert ti2v.checkpoint == "Wan-AI/Wan2.2-TI2V-5B-Diffusers"
    assert (ti2v.steps, ti2v.guidance, ti2v.boundary_ratio, ti2v.flow_shift) == (50, (5.0,), None, 5.0)
    for model, width, height in [(a14b, 832, 480), (ti2v, 1280, 704)]:
        # The largest square of whole patches within the area that Wan publishes.
        assert model.size**2 <= width * height < (model.size + model.multiple) ** 2
        assert "size" not in model.published
        assert "num_frames" not in model.published


def test_prompts_and_addresses_are_completed_from_the_top_level(manifest: Manifest) -> None:
    entry = manifest.entries[0]
    assert full_prompt(manifest, entry) == f"{entry.prompt} {manifest.common_prompt}"
    assert full_negative_prompt(manifest, entry) == f"{entry.negative_prompt}, {manifest.common_negative_prompt}"
    assert still_url(manifest, entry) == (
        "https://raw.githubusercontent.com/microsoft/TRELLIS.2/5565d240c4a494caaf9ece7a554542b76ffa36d3"
        f"/assets/example_image/{entry.still}"
    )


def _set(values: dict[str, Any], path: str, value: Any) -> None:
    *parents, last = path.split(".")
    inner: Any = values
    for name in parents:
        inner = inner[int(name) if isinstance(inner, list) else name]
    inner[last] = value


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("mood", "calm", r"unknown settings \['mood'\]"),
        ("entries.4.sead", 1, r"entries\[4\]: unknown settings \['sead'\]"),
        ("models.a14b.step", 1, r"models\.a14b: unknown settings \['step'\]"),
        ("count", 51, "count is 51, but there are 52 entries"),
        ("entries.3.category", "exploding", "'exploding' is not one of"),
        ("entries.3.sha256", "0" * 63, "sha256 is .*64 lowercase"),
        ("entries.3.sha256", "G" * 64, "sha256 is .*64 lowercase"),
        ("entries.3.still", "../secret.webp", "must be the bare name of an image file"),
        ("entries.3.id", "Not A Slug", "must be lowercase letters and digits"),
        ("entries.3.prompt", " ", "must not be empty"),
        ("entries.3.seed", -1, "seed is -1"),
        ("entries.3.seed", "many", r"entries\[3\]: seed: expected int"),
        ("source.commit", "main", "a full commit hash of 40 hexadecimal digits"),
        ("source.url", "https://example.org/{still}", "source.url"),
        ("framing.background", [0, 0, 256], "must be three numbers from 0 to 255"),
        ("framing.fill", 0.0, "framing.fill is 0.0"),
        ("framing.frames", 18, r"num_frames is 17: must be at least framing\.frames \(18\)"),
        ("default_model", "sora", "default_model is 'sora'"),
        ("models", [], "models: expected a mapping"),
        ("models.a14b.size", 630, "must be a multiple of 16"),
        ("models.a14b.num_frames", 16, "4k [+] 1"),
        ("models.a14b.guidance", [3.5], "1 guidance values"),
        ("models.ti2v_5b.boundary_ratio", 0.9, "two experts need two values"),
        ("models.a14b.boundary_ratio", 1.5, "between 0 and 1"),
        ("models.a14b.published", ["speed"], r"published lists \['speed'\]"),
    ],
)
def test_an_invalid_manifest_is_refused(
    values: dict[str, Any], tmp_path: Path, path: str, value: Any, message: str
) -> None:
    _set(values, path, value)
    file = tmp_path / "bench.yaml"
    file.write_text(yaml.safe_dump(values), encoding="utf-8")
    with pytest.raises(ConfigError, match=message) as caught:
        read_manifest(file)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize("name", ["id", "still", "sha256", "seed"])
def test_repeated_values_are_refused(values: dict[str, Any], tmp_path: Path, name: str) -> None:
    values["entries"][7][name] = values["entries"][2][name]
    file = tmp_path / "bench.yaml"
    file.write_text(yaml.safe_dump(values), encoding="utf-8")
    with pytest.raises(ConfigError, match=f"several entries share the same {name}: .*{values['entries'][2][name]}"):
        read_manifest(file)


def test_a_missing_setting_is_named(values: dict[str, Any], tmp_path: Path) -> None:
    del values["entries"][5]["negative_prompt"]
    file = tmp_path / "bench.yaml"
    file.write_text(yaml.safe_dump(values), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"entries\[5\]: .*negative_prompt"):
        read_manifest(file)


@pytest.mark.parametrize("text", ["- a list", "name: [unclosed"])
def test_a_file_without_a_manifest_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "bench.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"bench\.yaml"):
        read_manifest(file)
