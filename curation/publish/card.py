"""Writes `README.md`, whose YAML header lets `datasets.load_dataset` and the hub's viewer read every sample.

The features are declared, because inference from the first samples fails if later ones differ: metadata has no fixed
schema, and static samples have fewer members. The type `json` keeps such metadata unchanged. The card contains neither
paths of the machine nor the source of the run.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence

from helix4d.curation.filters.licenses import parse_license
from helix4d.curation.publish.facts import Facts
from helix4d.curation.report.words import counted, size_of
from helix4d.curation.shards.clip_schema import CLIP_SCHEMA_FILE
from helix4d.curation.shards.layout import INDEX_FOLDER

CREDITS_FILE = "CREDITS.md"
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
_TAGS = ("webdataset", "3d", "4d", "animation", "o-voxel", "pbr", "helix4d")
_TRACKS = """  struct:
  - name: positions
    list:
      list:
        list: float32
  - name: normals
    list:
      list:
        list: float16
  - name: present
    list:
      list: bool
  - name: frame
    dtype: int64"""


def readme(facts: Facts) -> str:
    """Return the card: YAML, then Markdown. Equal facts give equal text."""
    return "\n".join([*_yaml(facts), "", *_text(facts)]) + "\n"


def _yaml(facts: Facts) -> list[str]:
    count = sum(facts.samples.values())
    size = next((name for most, name in _SIZES if count < most), "1M<n<10M")
    return [
        "---",
        *_license(facts.licenses),
        "task_categories:",
        "- image-to-3d",
        "size_categories:",
        f"- {size}",
        "tags:",
        *(f"- {json.dumps(tag)}" for tag in _TAGS),
        "configs:",
        # All configurations share one format, so the table is not among them.
        "- config_name: default",
        "  data_files:",
        *(f"  - split: {split}\n    path: {split}/*.tar" for split in facts.samples),
        "dataset_info:",
        "- config_name: default",
        "  features:",
        *(f"  {line}" for line in _features(facts.members)),
        "---",
    ]


def _license(licenses: Mapping[str, int]) -> list[str]:
    """Return the license as the hub names it: one for all samples, or `other` and the file with the details."""
    known = [parse_license(name) if name else None for name in licenses]
    if known and all(one is not None for one in known):
        return ["license: cc0-1.0" if set(licenses) == {"cc0"} else "license: cc"]
    return ["license: other", "license_name: see-credits", f"license_link: {CREDITS_FILE}"]


def _features(members: Iterable[str]) -> list[str]:
    lines = []
    for name in [*members, "__key__", "__url__"]:
        lines.append(f"- name: {json.dumps(name)}")
        lines += _TRACKS.split("\n") if name.endswith(".npz") else [f"  dtype: {_dtype(name)}"]
    return lines


def _dtype(name: str) -> str:
    if name.startswith("__"):
        return "string"
    return {"json": "json", "webp": "image", "png": "image"}.get(name.rpartition(".")[2], "binary")


def _text(facts: Facts) -> list[str]:
    splits = ", ".join(f"{count:,} in {split}" for split, count in facts.samples.items())
    first = next(iter(facts.samples), "train")
    return [
        "# Animated 3D objects",
        "",
        f"{counted(sum(facts.samples.values()), 'sample')} ({splits or 'none'}), {size_of(facts.bytes)} of WebDataset "
        "shards, made by [Helix4D](https://arxiv.org/abs/2605.26109)'s toolkit. A sample is one animation of one "
        "asset: an O-Voxel per frame (`frame_FF.vxz`), images from several cameras (`view_VV_frame_FF.webp`, with "
        "camera and lights in `view_VV.json`), and metadata in `clip.json`, whose schema is "
        f"[{CLIP_SCHEMA_FILE}]({CLIP_SCHEMA_FILE}). The JSON file next to each tar lists its members, so that single "
        "members can be read with range requests.",
        "",
        "## Loading",
        "",
        "With datasets 4.7 or newer, which has the type `json`:",
        "",
        *_code(
            "import datasets",
            "",
            f'samples = datasets.load_dataset("OWNER/NAME", split="{first}", streaming=True)',
            'print(next(iter(samples))["clip.json"])',
        ),
        "",
        f"Select samples without opening a shard, with the table in `{INDEX_FOLDER}/` (also "
        f'`datasets.load_dataset("parquet", data_files="{INDEX_FOLDER}/*.parquet")`):',
        "",
        *_code(
            "import duckdb",
            "",
            "duckdb.sql(\"SELECT key, shard, author FROM 'index/*.parquet' WHERE license = 'by' AND frames > 1\")",
        ),
        "",
        "Decode O-Voxels, depth and tracks as well, with the package `helix4d`:",
        "",
        *_code(
            "import webdataset",
            "from helix4d.shards import decoders",
            "",
            f'samples = webdataset.WebDataset("{first}/helix4d-000000.tar", shardshuffle=False).decode(*decoders())',
        ),
        "",
        "## Licenses",
        "",
        f"[{CREDITS_FILE}]({CREDITS_FILE}) and the columns of the index name author, source and license of every "
        "sample, as `by` licenses require. Licenses are as stated by files and sources and were not verified.",
        "",
        "| license | samples |",
        "|---|---|",
        *(f"| {name or 'unknown'} | {count:,} |" for name, count in facts.licenses.items()),
    ]


def _code(*lines: str) -> Sequence[str]:
    return ["```python", *lines, "```"]
