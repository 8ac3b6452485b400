"""`datacard.md`: what a data set is, where it comes from, under which licenses, how it was made and what it lacks.

Everything that files say of themselves is escaped, so that no text becomes markup.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path

from helix4d import __version__
from helix4d.curation.config import flat_settings
from helix4d.curation.report.collect import Collected
from helix4d.curation.shards.problems import Remedies

_LONGEST = 200
_TEXTS = 20
_MARKUP = re.compile(r"([\\`*_{}\[\]<>()#|&~!$^=\"':])")


def data_card(collected: Collected) -> str:
    """The card as Markdown; the same for the same output."""
    sections = [
        _what(collected),
        _sources(collected),
        _licenses(collected),
        _numbers(collected),
        _made(collected),
        _limits(collected),
        _again(collected),
    ]
    return "\n\n".join([f"# {plain(collected.title)}", *sections]) + "\n"


def plain(text: str) -> str:
    """A text on one line in which Markdown and HTML mean nothing."""
    text = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    if len(text) > _LONGEST:
        text = f"{text[: _LONGEST - 1]}…"
    return _MARKUP.sub(r"\\\1", text)


def _what(collected: Collected) -> str:
    sample = collected.stored.sample
    clips = f"{len(collected.samples):,} samples of animated 3D assets, {collected.bytes / 1e9:.2f} GB"
    shards = ", ".join(
        f"{committed} {split}" if committed == planned else f"{committed} of {planned} {split}"
        for split, (committed, planned) in collected.shards.items()
    )
    lines = [
        "## What it is",
        "",
        f"{clips}, as WebDataset shards ({shards or 'none'}). Each sample has {sample.get('frames')} frames of one "
        f"animation clip: an O-Voxel of {sample.get('resolution')}³ a frame, and {sample.get('views')} rendered views "
        f"of {sample.get('image_size')}² pixels with their cameras and lights.",
        "",
        *_table(("assets", "count"), [(state, f"{count:,}") for state, count in collected.states.items()]),
        "",
        f"Together {collected.assets:,}: nothing was dropped silently. `ledger.jsonl` has a line for every asset.",
    ]
    if collected.reasons:
        reasons = sorted(collected.reasons.items(), key=lambda item: (-item[1], item[0]))
        lines += ["", *_table(("reason", "assets"), [(reason, f"{count:,}") for reason, count in reasons])]
    return "\n".join(lines)


def _sources(collected: Collected) -> str:
    stored = collected.stored
    suffixes: dict[str, int] = {}
    for name in stored.sources:
        suffix = name.rpartition(".")[2].lower() if "." in name else ""
        suffixes[suffix] = suffixes.get(suffix, 0) + 1
    formats = ", ".join(f"{count:,} {plain(suffix)}" for suffix, count in sorted(suffixes.items()))
    lines = [
        "## Sources",
        "",
        f"A folder of {len(stored.sources):,} files ({formats or 'none'}): {plain(stored.source or 'not recorded')}",
        "",
        "`plan.json` has name, size and SHA-256 of every file.",
    ]
    if stored.exclusions:
        lines += ["", f"{len(stored.exclusions):,} contents were excluded beforehand: {plain(stored.exclude or '')}"]
    return "\n".join(lines)


def _licenses(collected: Collected) -> str:
    known = [(plain(name) or "unknown", f"{count:,}") for name, count in collected.licenses.items()]
    lines = ["## Licenses", "", "As the files say of themselves; nobody checked them.", ""]
    lines += _table(("license", "samples"), known) if known else ["No samples."]
    if collected.license_texts:
        texts = list(collected.license_texts.items())
        lines += ["", "Of unknown license, by what the file says:", ""]
        lines += _table(("text", "samples"), [(plain(text) or "nothing", f"{n:,}") for text, n in texts[:_TEXTS]])
        if len(texts) > _TEXTS:
            lines += ["", f"And {len(texts) - _TEXTS:,} more texts."]
    lines += [
        "",
        "Authors stand in `extras` of each sample's `clip.json`: licenses with `by` demand that they are named.",
    ]
    return "\n".join(lines)


def _numbers(collected: Collected) -> str:
    rows = [
        (plain(one.name), one.what, *(_number(value) for value in one.quantiles.values()))
        for one in collected.histograms
        if one.quantiles
    ]
    if not rows:
        return "## Distributions\n\nNo samples."
    head = ("measure", "what", *next(one.quantiles for one in collected.histograms if one.quantiles))
    return "\n".join(["## Distributions", "", "Quantiles over the samples.", "", *_table(head, rows)])


def _made(collected: Collected) -> str:
    settings = [
        (plain(name), plain(str(value)))
        for name, value in flat_settings(collected.stored.sample).items()
        if value not in (None, "")
    ]
    versions = [(plain(tool), plain(", ".join(found))) for tool, found in collected.tools.items()]
    lines = ["## How it was made", "", *_table(("setting", "value"), settings)]
    lines += ["", *_table(("tool", "version"), versions or [("helix4d", plain(__version__))])]
    if collected.worker_s:
        hours = collected.worker_s / 3600
        lines += ["", f"{collected.timed_assets:,} assets took {hours:,.2f} worker hours."]
    return "\n".join(lines)


def _limits(collected: Collected) -> str:
    limits = [
        "Materials are those of the file, the same for all frames: animated materials are ignored.",
        "An O-Voxel holds base color, metallic, roughness and alpha; emission and transmission are in the images only.",
        "Surface thinner than a voxel may leave none: `vanished_area` in `clip.json` says how much.",
        "Near-duplicates are kept unless `--exclude` named them; the same content twice is one sample.",
        "What assets show was not reviewed.",
    ]
    warned = sum(bool(outcome.warnings) for outcome in collected.outcomes)
    limits.append(f"{warned:,} assets have warnings of what was ignored or repaired: `warnings` in `clip.json`.")
    if collected.states["pending"]:
        limits.append(f"The run has not ended: {collected.states['pending']:,} assets are still to do.")
    return "\n".join(["## Known limits", "", *(f"- {limit}" for limit in limits)])


def _again(collected: Collected) -> str:
    stored = collected.stored
    command = Remedies(Path("OUTPUT"), stored.sample, stored.source, stored.limit, stored.exclude).curate
    if stored.exclude:
        command += f" {shlex.join(['--exclude', stored.exclude])}"
    # Four spaces make it code in which nothing else is markup.
    return "\n".join(
        [
            "## How to make it again",
            "",
            f"    {_one_line(command)}",
            "",
            "The same files, settings, versions, CPU type and render device give the same bytes. "
            "`helix4d verify OUTPUT` checks them, `helix4d report OUTPUT` writes this card and `report/index.html`.",
        ]
    )


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _one_line(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [
        f"| {' | '.join(head)} |",
        f"|{'---|' * len(head)}",
        *(f"| {' | '.join(cells)} |" for cells in rows),
    ]
