"""Judges the measured clips of a ledger by new thresholds: decisions, a table, and the assets to exclude."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from helix4d.core import ReasonCode
from helix4d.curation.filters.near_duplicates import near_duplicates
from helix4d.curation.filters.thresholds import (
    FILTERS,
    FilterConfig,
    MeasuredClip,
    judge,
    judge_license,
    missing_measures,
)
from helix4d.curation.plan.exclusions import ExcludedAsset
from helix4d.curation.report.words import counted, without_measures
from helix4d.curation.shards.ledger import Outcome, count
from helix4d.curation.sources.listing import Exclusion

_QUANTILES = (0, 5, 25, 50, 75, 95, 100)
_BINS = 12
_BARS = "▁▂▃▄▅▆▇█"
_WIDE = 100
"""Positive measures that span more than this factor are shown on a logarithmic axis."""


@dataclass(frozen=True)
class Decision:
    """Decision about a clip; `why` is None if the clip is kept."""

    asset: str
    clip: MeasuredClip
    why: Exclusion | None


@dataclass(frozen=True)
class FilterReport:
    """Decisions about all measured clips.

    Attributes:
        decisions: decisions in the order of the keys, which is that of the plan.
        near_duplicate_least: similarity from which clips are near-duplicates; None to keep near-duplicates.
        unmeasured: outcome, such as `failed: timeout` -> number of assets without measures.
        config: thresholds.
    """

    decisions: tuple[Decision, ...]
    near_duplicate_least: float | None
    unmeasured: Counter[str]
    config: FilterConfig

    def excluded(self) -> list[ExcludedAsset]:
        """List the assets of which no clip is kept, each with the reason of its first clip."""
        by_asset: dict[str, list[Decision]] = {}
        for decision in self.decisions:
            by_asset.setdefault(decision.asset, []).append(decision)
        return [
            ExcludedAsset(asset, prefix_of(own[0].clip), own[0].why)
            for asset, own in by_asset.items()
            if own[0].why is not None and all(decision.why for decision in own)
        ]


def decide(outcomes: Iterable[Outcome], config: FilterConfig, near_duplicate_least: float | None) -> FilterReport:
    """Judge every measured clip.

    Raises:
        ConfigError: if `near_duplicate_least` is out of range.
    """
    outcomes = list(outcomes)
    measured = sorted(
        ((outcome.asset, clip) for outcome in outcomes for clip in outcome.clips), key=lambda pair: pair[1].key
    )
    reasons: dict[int, Exclusion] = {}
    for number, (_, clip) in enumerate(measured):
        if refusal := judge(clip, config):
            reasons[number] = Exclusion(refusal.code, refusal.message)
    if near_duplicate_least is not None:
        # Compare only clips that the other filters keep.
        rest = [n for n, (_, clip) in enumerate(measured) if n not in reasons and clip.geometry_hash]
        hashes = [measured[n][1].geometry_hash for n in rest]
        for index, repetition in near_duplicates(hashes, near_duplicate_least).items():
            asset, clip = measured[rest[repetition.earlier]]
            message = f"near-duplicate of {asset} ({clip.key}), similarity {repetition.similarity:.2f}"
            reasons[rest[index]] = Exclusion(ReasonCode.NEAR_DUPLICATE, message)
    return FilterReport(
        decisions=tuple(Decision(asset, clip, reasons.get(n)) for n, (asset, clip) in enumerate(measured)),
        near_duplicate_least=near_duplicate_least,
        unmeasured=count(outcome for outcome in outcomes if not outcome.clips),
        config=config,
    )


def prefix_of(clip: MeasuredClip) -> str:
    """Return the first half of a clip's key, which identifies the content of its asset."""
    return clip.key.rpartition("_")[0]


def report_lines(report: FilterReport, shown: int) -> list[str]:
    """Format the report for a terminal.

    Args:
        report: decisions.
        shown: maximum number of dropped clips to list.
    """
    clips = [decision.clip for decision in report.decisions]
    assets = {decision.asset for decision in report.decisions}
    lines = [f"measured: {counted(len(clips), 'clip')} of {counted(len(assets), 'asset')}"]
    if report.unmeasured:
        outcomes = ", ".join(f"{number:,} {what}" for what, number in sorted(report.unmeasured.items()))
        lines.append(f"without measures: {counted(report.unmeasured.total(), 'asset')} ({outcomes})")
    for text in without_measures(missing_measures(clip.measures for clip in clips), "clip"):
        lines.append(f"{text}: thresholds keep them; to measure them, pass the assets and a new --measures folder")
    lines += ["", *_table(report, clips)]
    lines += ["keep and drop count each filter on its own, first the clips that no filter above it drops", ""]
    dropped = [decision for decision in report.decisions if decision.why]
    kept_clips, kept_assets = len(clips) - len(dropped), len(assets) - len(report.excluded())
    lines.append(f"kept: {kept_clips:,} of {counted(len(clips), 'clip')}, {kept_assets:,} of {len(assets):,} assets")
    lines += _licenses(clips)
    if dropped and shown:
        lines += ["", "dropped:"]
        lines += [f"  {one.asset}: {one.why.message} [{one.why.reason}]" for one in dropped[:shown] if one.why]
        if len(dropped) > shown:
            lines.append(f"  ... and {len(dropped) - shown:,} more (--show N lists more)")
    return lines


def _table(report: FilterReport, clips: Sequence[MeasuredClip]) -> list[str]:
    """Format one row per filter: `keep` and `drop` count it alone, `first` the clips that no filter above dropped."""
    first = Counter(decision.why.reason for decision in report.decisions if decision.why)
    quantiles = "".join(f"{name:>9}" for name in ("min", *(f"{q} %" for q in _QUANTILES[1:-1]), "max"))
    lines = [f"{'measure':19}{'threshold':>22}{'keep':>7}{'drop':>7}{'first':>7}{quantiles}   histogram"]
    for one in FILTERS:
        values = [clip.measures[one.measure] for clip in clips if one.measure in clip.measures]
        judged = [value for clip in clips if (value := one.judged(clip.measures)) is not None]
        dropped = sum(bool(one.objection(value, report.config)) for value in judged)
        threshold = _threshold(*one.bounds(report.config), one.above)
        lines.append(_row(one.measure, threshold, len(clips), dropped, first[one.code]) + _distribution(values))
    refusals = Counter(refusal.code for clip in clips if (refusal := judge_license(clip, report.config)))
    allowed = report.config.licenses or "-"
    for code in (ReasonCode.LICENSE, ReasonCode.LICENSE_UNKNOWN):
        lines.append(
            _row(
                code.value,
                allowed if len(allowed) <= 20 else f"{allowed[:19]}…",
                len(clips),
                refusals[code],
                first[code],
            )
        )
    least = report.near_duplicate_least
    number = first[ReasonCode.NEAR_DUPLICATE]
    lines.append(_row("near_duplicate", "-" if least is None else f"< {least:g}", len(clips), number, number))
    return [line.rstrip() for line in lines]


def _row(name: str, threshold: str, clips: int, dropped: int, first: int) -> str:
    return f"{name:19}{threshold:>22}{clips - dropped:>7}{dropped:>7}{first:>7}"


def _threshold(least: float | None, most: float | None, above: float | None) -> str:
    bounds = [f"> {above:g}" if above is not None else ""]
    bounds += [f"≥ {least:,g}" if least is not None else "", f"≤ {most:,g}" if most is not None else ""]
    return ", ".join(filter(None, bounds)) or "-"


def _distribution(values: Sequence[float]) -> str:
    if not values:
        return ""
    return "".join(f"{_short(value):>9}" for value in np.percentile(values, _QUANTILES)) + f"   {_histogram(values)}"


def _short(value: float) -> str:
    """Format with three digits: k from 10,000, M from a million, 0 below a millionth."""
    if abs(value) < 1e-6:
        return "0"
    if abs(value) < 1e3:
        return f"{value:.3g}"
    if abs(value) < 1e4:
        return f"{value:.0f}"
    return f"{value / 1e3:.0f}k" if abs(value) < 1e6 else f"{value / 1e6:.3g}M"


def _histogram(values: Sequence[float]) -> str:
    """Draw a bar for each of 12 bins from the smallest to the largest value; empty bins are blank."""
    scaled = np.asarray(values, np.float64)
    if scaled.min() > 0 and scaled.max() / scaled.min() > _WIDE:
        scaled = np.log(scaled)
    if scaled.min() == scaled.max():
        return _BARS[-1]
    counts, _ = np.histogram(scaled, bins=_BINS)
    heights = np.ceil(counts / counts.max() * len(_BARS)).astype(int)
    return "".join(_BARS[height - 1] if height else " " for height in heights)


def _licenses(clips: Sequence[MeasuredClip]) -> list[str]:
    known = Counter(clip.license for clip in clips if clip.license)
    unknown = Counter(clip.license_text for clip in clips if not clip.license)
    totals = [f"{number:,} {name}" for name, number in known.most_common()]
    if unknown:
        statements = ", ".join(
            f"{number:,} {repr(text[:40]) if text else 'without a statement'}"
            for text, number in unknown.most_common(3)
        )
        totals.append(f"{unknown.total():,} unknown ({statements})")
    return [f"licenses: {', '.join(totals)}"] if totals else []
