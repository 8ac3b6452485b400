"""Writes `report/index.html`, an offline page with an animated contact sheet, and the data card beside it.

The page contains all numbers; pictures are separate files, loaded when they scroll into view. Names, licenses and logs
are untrusted: the page's script inserts them as text only, and its content security policy allows no other script and
no resources but pictures.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
from collections.abc import Sequence
from dataclasses import asdict
from importlib import resources
from pathlib import Path
from typing import Any

from helix4d import __version__
from helix4d.core import ConfigError, ReasonCode, write_bytes
from helix4d.curation.config import flat_settings
from helix4d.curation.places.folder import Place, file_in, is_far
from helix4d.curation.report.datacard import data_card
from helix4d.curation.report.pictures import CELL, COLUMNS, PictureJob, make_pictures, read_facts, remove_others
from helix4d.curation.report.statistics import Collected, SampleFacts, asset_entry, collect, sample_entry, shortened
from helix4d.curation.report.words import without_measures
from helix4d.curation.shards.layout import REPORT_FOLDER
from helix4d.curation.shards.reader import ShardReader

PAGE_FILE, CARD_FILE = "index.html", "datacard.md"
PICTURED = 1000
"""Default number of samples with pictures."""
PICTURED_BY_CURATE = 64
"""Number of samples with pictures at the end of a run, and the default for a URL: takes minutes at most."""
_SUMMARIZED = ("wall_s", "ended", "peak_bytes")
_DATA, _POLICY = "/*DATA*/", "<!--POLICY-->"


def write_report(
    output: Place, pictured: int | None = None, workers: int | None = None, folder: Path | None = None
) -> Path:
    """Write the report of an output of `helix4d curate`, in a folder or at a URL, finished or not.

    From a URL, only plan, ledger, summary, sidecars and the pictured parts of samples are downloaded.

    Args:
        output: folder or URL.
        pictured: maximum number of samples with pictures, chosen by their keys alone. None: `PICTURED`, or
            `PICTURED_BY_CURATE` for a URL.
        workers: number of processes that render pictures. None: one per CPU.
        folder: folder for the report. None: `report` in the output, which must then be a local folder.

    Returns:
        Path of the page.

    Raises:
        ConfigError: if there is no such output, a number is out of range, or `folder` is missing.
        FormatError: if the output is damaged.
        StoreError: if the URL cannot be read.
    """
    far = is_far(output)
    if pictured is None:
        pictured = PICTURED_BY_CURATE if far else PICTURED
    if pictured < 0:
        raise ConfigError(f"--assets {pictured}: must be at least 0")
    if workers is not None and workers < 1:
        raise ConfigError(f"--workers {workers}: must be at least 1")
    if folder is None:
        if far:
            raise ConfigError(f"{output}: the report of a URL is written to a local folder: choose one with --folder")
        folder = Path(output) / REPORT_FOLDER
    collected = collect(output)
    chosen = collected.samples[:pictured]  # keys are hashes, so the first ones are a random sample
    jobs = [
        PictureJob(file_in(output, f"{sample.shard}.tar"), sample.key, sum(sample.voxels), folder / sample.stem)
        for sample in chosen
    ]
    make_pictures(jobs, workers or os.cpu_count() or 1)
    remove_others(folder, {sample.key: sample.stem for sample in collected.samples})
    write_bytes(folder / CARD_FILE, data_card(collected).encode())
    path = folder / PAGE_FILE
    write_bytes(path, _page(_page_data(output, folder, collected, chosen)))
    return path


def _page_data(output: Place, folder: Path, collected: Collected, chosen: Sequence[SampleFacts]) -> dict[str, Any]:
    outcomes = {outcome.asset: outcome for outcome in collected.outcomes}
    extras = _extras(output, chosen)
    entries = []
    for sample in collected.samples:
        entry = sample_entry(sample, outcomes.get(sample.asset))
        if sample.key in extras:
            entry["stem"] = sample.stem
            entry["pictures"] = read_facts(folder / sample.stem)
            entry["extras"] = extras[sample.key]
        entries.append({name: value for name, value in entry.items() if value not in ("", [], {}, None)})
    with_sample = {sample.asset for sample in collected.samples}
    entries += [asset_entry(outcome) for outcome in collected.outcomes if outcome.asset not in with_sample]
    return {
        "title": collected.title,
        "url": collected.url,
        "made_by": f"helix4d {__version__}",
        "cell": CELL,
        "columns": COLUMNS,
        "assets": collected.assets,
        "states": collected.states,
        "reasons": [
            {"reason": reason, "count": count, "state": ReasonCode(reason).state.value}
            for reason, count in sorted(collected.reasons.items(), key=lambda item: (-item[1], item[0]))
        ],
        "samples": len(collected.samples),
        "pictured": len(chosen),
        "shards": collected.shards,
        "bytes": collected.bytes,
        "licenses": collected.licenses,
        "license_texts": {shortened(text): count for text, count in list(collected.license_texts.items())[:20]},
        "engines": collected.engines,
        "histograms": [asdict(histogram) for histogram in collected.histograms],
        "unmeasured": without_measures(collected.unmeasured, "sample"),
        "stages": [asdict(stage) for stage in collected.stages],
        "worker_s": collected.worker_s,
        "timed_assets": collected.timed_assets,
        "summary": {name: collected.summary[name] for name in _SUMMARIZED if name in collected.summary},
        "settings": {
            name: value for name, value in flat_settings(collected.stored.sample).items() if value not in (None, "")
        },
        "tools": collected.tools,
        "entries": entries,
    }


def _extras(output: Place, chosen: Sequence[SampleFacts]) -> dict[str, dict[str, str]]:
    """Return key -> metadata of the file (`extras`). Works shard by shard, to read each sidecar once."""
    by_shard: dict[str, list[str]] = {}
    for sample in chosen:
        by_shard.setdefault(sample.shard, []).append(sample.key)
    found = {}
    for shard, keys in by_shard.items():
        reader = ShardReader(file_in(output, f"{shard}.tar"))
        for key in keys:
            found[key] = {
                str(name): shortened(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
                for name, value in reader.clip(key).get("extras", {}).items()
            }
    return found


def _page(data: dict[str, Any]) -> bytes:
    template = resources.files("helix4d.curation.report").joinpath("report.html").read_text(encoding="utf-8")
    # Inside a script element, only "<" can end the element or start a comment.
    text = json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    policy = "; ".join(
        [
            "default-src 'none'",
            "img-src 'self' file: data:",
            f"script-src {_hashes(template, 'script')}",
            f"style-src {_hashes(template, 'style')}",
            "base-uri 'none'",
            "form-action 'none'",
        ]
    )
    return template.replace(_POLICY, policy).replace(_DATA, text).encode("utf-8")


def _hashes(template: str, element: str) -> str:
    """Return the hashes of the template's own inline elements, the only ones that the browser accepts."""
    bodies = re.findall(rf"<{element}>(.*?)</{element}>", template, re.DOTALL)
    digests = (base64.b64encode(hashlib.sha256(body.encode()).digest()).decode() for body in bodies)
    return " ".join(f"'sha256-{digest}'" for digest in digests)
