"""What a report says, from plan, ledger, sidecars and summary: counts over everything, and an entry for every asset.

Sidecars are read one after the other and only a few numbers of each sample are kept, so an output of a hundred thousand
assets fits in memory.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from helix4d.core import AssetState, ConfigError, FormatError
from helix4d.curation.filters.thresholds import FILTERS, MeasuredClip
from helix4d.curation.places.folder import Folder, Place, file_in, folder_at, is_far, read_each
from helix4d.curation.plan.plan import Plan
from helix4d.curation.plan.stored_plan import StoredPlan, read_plan
from helix4d.curation.report.pictures import picture_stem
from helix4d.curation.shards.layout import SUMMARY_FILE
from helix4d.curation.shards.ledger import Outcome, read_outcomes
from helix4d.curation.shards.shard import ShardReader, parse_sidecar

_BINS = 24
_QUANTILES = (0, 5, 25, 50, 75, 95, 100)
_NAMES = ("least", *(f"{percent} %" for percent in _QUANTILES[1:-1]), "most")
_WIDE = 100
"""Positive numbers that span more than this factor are shown on a logarithmic axis."""
_LONGEST = 4000
"""Characters of a text from a file that are shown; the end is kept, where errors stand."""


@dataclass(frozen=True)
class SampleFacts:
    """What is kept of a sample.

    Attributes:
        key, asset, clip: as in its index entry.
        shard: `train/helix4d-000000`.
        bytes: in the shard.
        voxels, tokens: per frame.
        measures: name -> number.
        license: name, "" where unknown.
        license_text: what the file says.
        stem: of its pictures.
    """

    key: str
    asset: str
    clip: str
    shard: str
    bytes: int
    voxels: tuple[int, ...]
    tokens: tuple[int, ...]
    measures: Mapping[str, float]
    license: str
    license_text: str
    stem: str


@dataclass(frozen=True)
class Histogram:
    """How a number is distributed.

    Attributes:
        name: of it.
        what: what it is.
        edges: one more than there are bins.
        kept, dropped: counts per bin, of samples and of clips that were filtered.
        logarithmic: the bins are equally wide on a logarithmic axis.
        quantiles: percent -> value, over the samples alone.
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
    """Seconds of a stage: in all, per asset that came to it (mean, median, 95 %), and how many did."""

    stage: str
    total_s: float
    assets: int
    mean_s: float
    median_s: float
    p95_s: float


@dataclass(frozen=True)
class Collected:
    """Everything that a report says.

    Attributes:
        title: name of the output folder.
        url: of an output that is far, else "".
        stored: the plan as it was written.
        assets: planned, those left out included.
        states: done, filtered, failed, pending -> assets; these add up to `assets`.
        reasons: reason code -> assets.
        samples: of all committed shards, sorted by key.
        outcomes: of all planned assets that have ended, sorted by name.
        shards: split -> committed, planned.
        bytes: of the committed shards.
        licenses: name, "" where unknown -> samples.
        license_texts: what files of unknown license say -> samples.
        histograms: of what there are numbers of.
        stages: in the order in which assets come to them.
        summary: of the last run; empty where none came to its end.
        tools: version of each -> shards made with it, by tool.
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
    histograms: Sequence[Histogram]
    stages: Sequence[StageTime]
    summary: Mapping[str, Any] = field(default_factory=dict)
    tools: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    @property
    def worker_s(self) -> float:
        """Seconds of all stages together."""
        return sum(stage.total_s for stage in self.stages)

    @property
    def timed_assets(self) -> int:
        """Assets that any worker touched."""
        return sum(bool(outcome.timings_s) for outcome in self.outcomes)


def collect(output: Place) -> Collected:
    """Read an output of `helix4d curate`, near or far, finished or not.

    Raises:
        ConfigError: if there is no such output.
        FormatError: if its plan, its ledger or a sidecar is damaged.
        StoreError: if a far one cannot be had.
    """
    far = is_far(output)
    if not far and not Path(output).is_dir():
        raise ConfigError(f"{output}: no such folder")
    stored = read_plan(output)
    if stored is None:
        raise ConfigError(f"{output}: no plan.json in it: give the --output of `helix4d curate`")
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
        url=str(output) if far else "",
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
        histograms=_histograms(samples, [c for o in outcomes for c in o.clips if c.reason is not None]),
        stages=_stages(outcomes),
        summary=_summary(folder),
        tools={tool: _by_count(versions) for tool, versions in sorted(tools.items())},
    )


def sample_entry(sample: SampleFacts, outcome: Outcome | None) -> dict[str, Any]:
    """A sample as the page's JSON; names are short because there may be a hundred thousand."""
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
        "measures": _finite(sample.measures),
        **(_told(outcome) if outcome else {}),
    }


def asset_entry(outcome: Outcome) -> dict[str, Any]:
    """An asset without a sample as the page's JSON."""
    clips = [clip for clip in outcome.clips if clip.reason is not None]
    return {
        "id": f"asset:{outcome.asset}",
        "name": outcome.asset,
        "state": outcome.state.value,
        "reason": "" if outcome.reason is None else outcome.reason.value,
        "license": clips[0].license if clips else "",
        "license_text": shortened(clips[0].license_text) if clips else "",
        "measures": _finite(clips[0].measures) if clips else {},
        **_told(outcome),
    }


def shortened(text: str) -> str:
    """At most `_LONGEST` characters, the last ones."""
    return text if len(text) <= _LONGEST else f"…{text[-_LONGEST:]}"


def _finite(measures: Mapping[str, float]) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in measures.items()}


def _told(outcome: Outcome) -> dict[str, Any]:
    told = {
        "stage": outcome.stage,
        "message": shortened(outcome.message),
        "log": shortened(outcome.log),
        "warnings": [shortened(warning) for warning in outcome.warnings],
        "timings_s": outcome.timings_s,
        "attempts": outcome.attempts if outcome.attempts > 1 else 0,
        "peak_bytes": outcome.peak_bytes,
    }
    return {name: value for name, value in told.items() if value}


def _sidecars(plan: Plan, folder: Folder, shards: dict[str, tuple[int, int]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Committed shards one by one; counts them."""
    files = read_each(folder, (f"{shard.name}.json" for shard in plan.shards))
    for shard, (file, data) in zip(plan.shards, files, strict=True):
        committed, planned = shards[shard.split]
        shards[shard.split] = (committed + (data is not None), planned + 1)
        if data is not None:
            yield shard.name, parse_sidecar(data, folder.address(file))


def _sample(reader: ShardReader, shard: str, key: str, measured: MeasuredClip | None) -> SampleFacts:
    index = reader.sample(key)
    if measured is not None:
        measures, of, text = measured.measures, measured.license, measured.license_text
    else:  # a ledger of before the filters
        clip = reader.clip(key)
        measures, of, text = clip.get("measures", {"motion": clip["motion"]}), clip.get("license", ""), ""
    return SampleFacts(
        key=key,
        asset=index["asset"],
        clip=index["clip"]["name"] or str(index["clip"]["index"]),
        shard=shard,
        bytes=index["bytes"],
        voxels=tuple(index["voxels"]),
        tokens=tuple(index["tokens"]),
        measures=measures,
        license=of,
        license_text=text,
        stem=picture_stem(key, index, reader.sidecar),
    )


def _by_count(counter: Counter[str]) -> dict[str, int]:
    return dict(sorted(counter.items(), key=lambda item: (-item[1], item[0])))


def _histograms(samples: Sequence[SampleFacts], dropped: Sequence[MeasuredClip]) -> list[Histogram]:
    found = [
        _histogram("voxels", "voxels of a frame", [n for sample in samples for n in sample.voxels], []),
        _histogram("tokens", "tokens of a frame (blocks of 16³ voxels)", [n for s in samples for n in s.tokens], []),
        _histogram("megabytes", "of a sample in its shard", [sample.bytes / 1e6 for sample in samples], []),
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
    # The ledger sorts the stages of an asset by name; people want the order of the work.
    order = {
        stage: n for n, stage in enumerate(("bake", "filter", "normalize", "voxelize", "render", "encode", "pack"))
    }
    return [
        StageTime(
            stage,
            round(sum(seconds), 3),
            len(seconds),
            round(sum(seconds) / len(seconds), 3),
            round(float(np.percentile(seconds, 50)), 3),
            round(float(np.percentile(seconds, 95)), 3),
        )
        for stage, seconds in sorted(by_stage.items(), key=lambda item: (order.get(item[0], len(order)), item[0]))
    ]


def _summary(folder: Folder) -> dict[str, Any]:
    path = folder.address(SUMMARY_FILE)
    try:
        found = json.loads(folder.read(SUMMARY_FILE))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise FormatError(f"{path}: not a summary ({error})") from error
    if not isinstance(found, Mapping):
        raise FormatError(f"{path}: not a summary (expected an object)")
    return dict(found)
