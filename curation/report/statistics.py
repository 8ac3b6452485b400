"""Collects the content of a report from plan, ledger, sidecars and summary: totals, and an entry for every asset.

Sidecars are read one by one, and only a few numbers are kept per sample, so an output of a hundred thousand assets fits
in memory.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from helix4d.assets.skeleton import Skeleton
from helix4d.core import AssetState, ConfigError, FormatError
from helix4d.core.documents import parse_json
from helix4d.core.redaction import redact_url
from helix4d.curation.filters.thresholds import FILTERS, MeasuredClip, missing_measures
from helix4d.curation.places.folder import Folder, Place, file_in, folder_at, is_far, read_each
from helix4d.curation.plan.plan import Plan
from helix4d.curation.plan.plan_file import StoredPlan, read_plan
from helix4d.curation.report.pictures import picture_stem
from helix4d.curation.report.summary import in_order
from helix4d.curation.shards.layout import SUMMARY_FILE
from helix4d.curation.shards.ledger import Outcome, read_outcomes
from helix4d.curation.shards.reader import ShardReader
from helix4d.curation.shards.sidecar import check_form, parse_sidecar

_BINS = 24
_QUANTILES = (0, 5, 25, 50, 75, 95, 100)
_NAMES = ("min", *(f"{percent} %" for percent in _QUANTILES[1:-1]), "max")
_WIDE = 100
"""Positive numbers that span more than this factor are shown on a logarithmic axis."""
_CLIPPED = "share of a view's visible pixels that are brighter than white"
_LONGEST = 4000
"""Maximum number of characters of a text from a file. The end is kept, which is where errors are."""


@dataclass(frozen=True)
class SampleFacts:
    """The facts about a sample that a report shows.

    Attributes:
        key, asset, clip: as in the shard's index.
        shard: name of the shard, `train/helix4d-000000`.
        bytes: size in the shard.
        voxels, tokens: counts per frame.
        clipped: share of clipped pixels, one value per view; empty without views, or before version 0.4.
        joints: number of joints in the file; None if unknown.
        skinned: whether a mesh follows joints; None if unknown.
        up_axis: axis of the file that points up; "" if the file does not state it.
        engine: engine that --engine auto chose; "" with a fixed engine.
        measures: name of a measure -> value.
        license: `cc0`, `by`, ...; "" if unknown.
        license_text: license as stated by the file and its source.
        stem: path of the pictures, relative to the report, without suffixes.
    """

    key: str
    asset: str
    clip: str
    shard: str
    bytes: int
    voxels: tuple[int, ...]
    tokens: tuple[int, ...]
    clipped: tuple[float, ...]
    joints: int | None
    skinned: bool | None
    up_axis: str
    engine: str
    measures: Mapping[str, float]
    license: str
    license_text: str
    stem: str


@dataclass(frozen=True)
class Histogram:
    """Distribution of a number.

    Attributes:
        name: name of the number.
        what: description.
        edges: edges of the bins, one more than there are bins.
        kept, dropped: counts per bin, of samples and of filtered clips.
        logarithmic: whether the bins are equally wide on a logarithmic axis.
        quantiles: name of a quantile -> value, over the samples only.
    """

    name: str
    what: str
    edges: tuple[float, ...]
    kept: tuple[int, ...]
    dropped: tuple[int, ...]
    logarithmic: bool
    quantiles: Mapping[str, float]


@dataclass(frozen=True)
class StageTime:
    """Seconds spent in a stage: total, and per asset that reached it (mean, median, 95 %), with their number."""

    stage: str
    total_s: float
    assets: int
    mean_s: float
    median_s: float
    p95_s: float


@dataclass(frozen=True)
class Collected:
    """The content of a report.

    Attributes:
        title: name of the output folder.
        url: URL of the output, "" for a local folder.
        stored: the plan as written.
        assets: number of assets in the plan, left-out ones included.
        states: done, filtered, failed, pending -> assets; the sum is `assets`.
        reasons: reason code -> assets.
        samples: samples of all committed shards, sorted by key.
        outcomes: outcomes of all planned assets that ended, sorted by name.
        shards: split -> number of committed and of planned shards.
        bytes: size of the committed shards.
        licenses: name, "" if unknown -> samples.
        license_texts: statement behind an unknown license -> samples.
        engines: engine -> samples for which --engine auto chose it; empty with a fixed engine.
        histograms: distributions of all numbers that occur.
        unmeasured: measure -> samples without it, which an older version measured.
        stages: times, in the order of the stages.
        summary: summary of the last run; empty if no run finished.
        tools: package -> version -> number of shards made with it.
    """

    title: str
    url: str
    stored: StoredPlan
    assets: int
    states: Mapping[str, int]
    reasons: Mapping[str, int]
    samples: Sequence[SampleFacts]
    outcomes: Sequence[Outcome]
    shards: Mapping[str, tuple[int, int]]
    bytes: int
    licenses: Mapping[str, int]
    license_texts: Mapping[str, int]
    engines: Mapping[str, int]
    histograms: Sequence[Histogram]
    unmeasured: Mapping[str, int]
    stages: Sequence[StageTime]
    summary: Mapping[str, Any] = field(default_factory=dict)
    tools: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    @property
    def worker_s(self) -> float:
        """Total seconds over all stages."""
        return sum(stage.total_s for stage in self.stages)

    @property
    def timed_assets(self) -> int:
        """Number of assets that a worker processed, whatever the outcome."""
        return sum(bool(outcome.timings_s) for outcome in self.outcomes)


def collect(output: Place) -> Collected:
    """Read an output of `helix4d curate`, in a folder or at a URL, finished or not.

    Raises:
        ConfigError: if there is no such output.
        FormatError: if its plan, ledger or a sidecar is damaged.
        StoreError: if a URL cannot be read.
    """
    far = is_far(output)
    if not far and not Path(output).is_dir():
        raise ConfigError(f"{output}: no such folder")
    stored = read_plan(output)
    if stored is None:
        raise ConfigError(f"{output}: contains no plan.json: pass an output of `helix4d curate`")
    plan = stored.plan()
    folder = folder_at(output)
    ended = read_outcomes(folder)
    names = [asset.source.name for _, asset in plan.assets()] + list(plan.left_out)
    outcomes = [ended[name] for name in sorted(names) if name in ended]
    states = Counter({state.value: 0 for state in AssetState})
    states.update(outcome.state.value for outcome in outcomes)
    states["pending"] = len(names) - len(outcomes)
    measured = {clip.key: clip for outcome in outcomes for clip in outcome.clips}
    samples: list[SampleFacts] = []
    shards = {shard.split: (0, 0) for shard in plan.shards}
    tools: dict[str, Counter[str]] = {}
    size = 0
    for name, sidecar in _sidecars(plan, folder, shards):
        size += sidecar["bytes"]
        for tool, version in sidecar["tools"].items():
            tools.setdefault(tool, Counter())[version] += 1
        reader = ShardReader(file_in(output, f"{name}.tar"), sidecar)
        samples += [_sample(reader, name, key, measured.get(key)) for key in reader.keys()]  # noqa: SIM118
    samples.sort(key=lambda sample: sample.key)
    unknown = Counter(sample.license_text for sample in samples if not sample.license)
    return Collected(
        title=PurePosixPath(str(output)).name if far else Path(output).resolve().name,
        url=redact_url(str(output)) if far else "",
        stored=stored,
        assets=len(names),
        states=dict(states),
        reasons=dict(sorted(Counter(o.reason.value for o in outcomes if o.reason is not None).items())),
        samples=samples,
        outcomes=outcomes,
        shards=shards,
        bytes=size,
        licenses=_by_count(Counter(sample.license for sample in samples)),
        license_texts=_by_count(unknown),
        engines=_by_count(Counter(sample.engine for sample in samples if sample.engine)),
        histograms=_histograms(samples, [c for o in outcomes for c in o.clips if c.reason is not None]),
        unmeasured=missing_measures(sample.measures for sample in samples),
        stages=_stages(outcomes),
        summary=_summary(folder),
        tools={tool: _by_count(versions) for tool, versions in sorted(tools.items())},
    )


def sample_entry(sample: SampleFacts, outcome: Outcome | None) -> dict[str, Any]:
    """Return a sample as JSON for the page. Names are short because there may be a hundred thousand samples."""
    return {
        "id": sample.key,
        "name": sample.asset,
        "clip": sample.clip,
        "state": AssetState.DONE.value,
        "shard": sample.shard,
        "license": sample.license,
        "license_text": shortened(sample.license_text),
        "bytes": sample.bytes,
        "voxels": list(sample.voxels),
        "tokens": list(sample.tokens),
        "joints": sample.joints,
        "skinned": sample.skinned,
        "up_axis": sample.up_axis,
        "measures": _finite(sample.measures),
        **(_processing(outcome) if outcome else {}),
    }


def asset_entry(outcome: Outcome) -> dict[str, Any]:
    """Return an asset without a sample as JSON for the page."""
    clips = [clip for clip in outcome.clips if clip.reason is not None]
    return {
        "id": f"asset:{outcome.asset}",
        "name": outcome.asset,
        "state": outcome.state.value,
        "reason": "" if outcome.reason is None else outcome.reason.value,
        "license": clips[0].license if clips else "",
        "license_text": shortened(clips[0].license_text) if clips else "",
        "measures": _finite(clips[0].measures) if clips else {},
        **_processing(outcome),
    }


def shortened(text: str) -> str:
    """Return the last `_LONGEST` characters of a text."""
    return text if len(text) <= _LONGEST else f"…{text[-_LONGEST:]}"


def _finite(measures: Mapping[str, float]) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in measures.items()}


def _processing(outcome: Outcome) -> dict[str, Any]:
    """Return how an asset was processed, without empty values."""
    facts = {
        "stage": outcome.stage,
        "message": shortened(outcome.message),
        "log": shortened(outcome.log),
        "warnings": [shortened(warning) for warning in outcome.warnings],
        "timings_s": outcome.timings_s,
        "attempts": outcome.attempts if outcome.attempts > 1 else 0,
        "peak_bytes": outcome.peak_bytes,
    }
    return {name: value for name, value in facts.items() if value}


def _sidecars(plan: Plan, folder: Folder, shards: dict[str, tuple[int, int]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the sidecars of the committed shards, counting committed and planned ones in `shards`."""
    files = read_each(folder, (f"{shard.name}.json" for shard in plan.shards))
    for shard, (file, data) in zip(plan.shards, files, strict=True):
        committed, planned = shards[shard.split]
        shards[shard.split] = (committed + (data is not None), planned + 1)
        if data is not None:
            sidecar = parse_sidecar(data, folder.address(file))
            check_form(sidecar, folder.address(file))
            yield shard.name, sidecar


def _sample(reader: ShardReader, shard: str, key: str, measured: MeasuredClip | None) -> SampleFacts:
    index = reader.sample(key)
    skeleton = Skeleton.from_json(index.get("skeleton"))
    if measured is not None:
        measures, license_name, text = measured.measures, measured.license, measured.license_text
    else:  # a ledger written before version 2
        clip = reader.clip(key)
        measures, license_name, text = (
            clip.get("measures", {"motion": clip.get("motion", 0.0)}),
            clip.get("license", ""),
            "",
        )
    return SampleFacts(
        key=key,
        asset=index["asset"],
        clip=index["clip"]["name"] or str(index["clip"]["index"]),
        shard=shard,
        bytes=index["bytes"],
        voxels=tuple(index["voxels"]),
        tokens=tuple(index["tokens"]),
        clipped=tuple(index.get("clipped", {}).values()),
        joints=None if skeleton is None else skeleton.joints,
        skinned=None if skeleton is None else skeleton.skinned,
        up_axis=index.get("up_axis") or "",
        engine=index.get("engine", {}).get("name", ""),
        measures=measures,
        license=license_name,
        license_text=text,
        stem=picture_stem(key, index, reader.sidecar),
    )


def _by_count(counter: Counter[str]) -> dict[str, int]:
    return dict(sorted(counter.items(), key=lambda item: (-item[1], item[0])))


def _histograms(samples: Sequence[SampleFacts], dropped: Sequence[MeasuredClip]) -> list[Histogram]:
    found = [
        _histogram("voxels", "voxels per frame", [n for sample in samples for n in sample.voxels], []),
        _histogram("tokens", "tokens (blocks of 16³ voxels) per frame", [n for s in samples for n in s.tokens], []),
        _histogram("clipped", _CLIPPED, [share for sample in samples for share in sample.clipped], []),
        _histogram("megabytes", "size of a sample in MB", [sample.bytes / 1e6 for sample in samples], []),
    ]
    for one in sorted(FILTERS, key=lambda one: one.measure != "motion"):
        kept = [sample.measures[one.measure] for sample in samples if one.measure in sample.measures]
        out = [clip.measures[one.measure] for clip in dropped if one.measure in clip.measures]
        found.append(_histogram(one.measure, one.what, kept, out))
    return [histogram for histogram in found if histogram is not None]


def _histogram(name: str, what: str, kept: Sequence[float], dropped: Sequence[float]) -> Histogram | None:
    kept, dropped = ([value for value in some if math.isfinite(value)] for some in (kept, dropped))
    values = np.array([*kept, *dropped], np.float64)
    if not len(values):
        return None
    low, high = float(values.min()), float(values.max())
    wide = low > 0 and high / low > _WIDE
    if low == high:
        edges = np.array([low, low])
        counts = [np.array([len(kept)]), np.array([len(dropped)])]
    else:
        edges = np.geomspace(low, high, _BINS + 1) if wide else np.linspace(low, high, _BINS + 1)
        edges[0], edges[-1] = low, high
        counts = [np.histogram(np.array(some, np.float64), edges)[0] for some in (kept, dropped)]
    quantiles: Sequence[float] = np.percentile(np.array(kept, np.float64), _QUANTILES).tolist() if kept else []
    return Histogram(
        name,
        what,
        tuple(float(f"{edge:.6g}") for edge in edges),
        tuple(map(int, counts[0])),
        tuple(map(int, counts[1])),
        wide,
        {name: float(f"{value:.6g}") for name, value in zip(_NAMES, quantiles, strict=False)},
    )


def _stages(outcomes: Sequence[Outcome]) -> list[StageTime]:
    by_stage: dict[str, list[float]] = {}
    for outcome in outcomes:
        for stage, seconds in outcome.timings_s.items():
            by_stage.setdefault(stage, []).append(seconds)
    return [_stage_time(stage, by_stage[stage]) for stage in in_order(by_stage)]


def _stage_time(stage: str, seconds: Sequence[float]) -> StageTime:
    total = sum(seconds)
    median, high = np.percentile(seconds, (50, 95)).tolist()
    return StageTime(
        stage, round(total, 3), len(seconds), round(total / len(seconds), 3), round(median, 3), round(high, 3)
    )


def _summary(folder: Folder) -> dict[str, Any]:
    path = folder.address(SUMMARY_FILE)
    try:
        found = parse_json(folder.read(SUMMARY_FILE), path, "summary")
    except FileNotFoundError:
        return {}
    if not isinstance(found, Mapping):
        raise FormatError(f"{path}: not a summary (expected an object)")
    return dict(found)
