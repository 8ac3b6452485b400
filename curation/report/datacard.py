"""Writes `datacard.md`: what a dataset contains, where it comes from, its licenses, how it was made, and its limits.

Texts from files are escaped, so that none of them becomes markup.
"""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from helix4d import __version__
from helix4d.core import AssetState, ReasonCode
from helix4d.curation.config import flat_settings
from helix4d.curation.report.statistics import Collected, SampleFacts
from helix4d.curation.report.words import counted, duration, size_of, without_measures
from helix4d.curation.shards.problems import Remedies

_LONGEST = 200
_TEXTS = 20
_STATES = {
    AssetState.DONE: "done: became samples",
    AssetState.FILTERED: "filtered: well formed, but unwanted",
    AssetState.FAILED: "failed: broken, or beyond the limits",
    "pending": "pending: not processed yet",
}
_MARKUP = re.compile(r"([\\`*_{}\[\]<>()#|&~!$^=\"':])")


def data_card(collected: Collected) -> str:
    """Return the card as Markdown. The same output always produces the same card."""
    sections = [
        _summary(collected),
        *([_loading(collected)] if collected.samples else []),
        _assets(collected),
        _sources(collected),
        _licenses(collected),
        _statistics(collected),
        _settings(collected),
        _limitations(collected),
        _reproduction(collected),
    ]
    return "\n\n".join([f"# {plain(collected.title)}", *sections]) + "\n"


def plain(text: str) -> str:
    """Return a text on one line, with all Markdown and HTML markup escaped."""
    text = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    if len(text) > _LONGEST:
        text = f"{text[: _LONGEST - 1]}…"
    return _MARKUP.sub(r"\\\1", text)


def _summary(collected: Collected) -> str:
    sample = collected.stored.sample
    views, size, frames = sample.get("views"), sample.get("image_size"), sample.get("frames")
    shards = ", ".join(
        f"{counted(committed, 'shard')} in {split}"
        if committed == planned
        else f"{committed:,} of {counted(planned, 'planned shard')} in {split}"
        for split, (committed, planned) in collected.shards.items()
    )
    lines = [
        "## Summary",
        "",
        f"{counted(len(collected.samples), 'sample')} of animated 3D objects for training 4D generative models, "
        f"{size_of(collected.bytes)} of WebDataset shards ({shards or 'no shards'}).",
        "",
        "Each sample is one animation clip of one asset:",
        "",
        f"- {frames} O-Voxels, one per frame: sparse voxels on a {sample.get('resolution')}³ grid with the surface and "
        "its PBR material (`frame_NN.vxz`);",
    ]
    if views:
        cameras = "one random camera" if views == 1 else f"each of {views} random cameras"
        lines.append(
            f"- {frames} images of {size}×{size} pixels from {cameras} (`view_VV_frame_NN.webp`, RGBA), with camera "
            "and lights in `view_VV.json`;"
        )
    if collected.engines:
        counts = ", ".join(f"{engine} {count:,}" for engine, count in collected.engines.items())
        lines.append(f"- the engine that rendered the images, chosen for each sample (in `clip.json`): {counts};")
    lines += [
        "- `clip.json`: name and SHA-256 of the source file, its license and author, frame times, normalization, and "
        "the measures below.",
        "",
        "All frames of a sample share one normalization: the box around the whole animation is centered on the origin "
        "with its longest edge 1, Z up.",
    ]
    return "\n".join(lines)


def _loading(collected: Collected) -> str:
    lines = [
        "import webdataset",
        "from helix4d.shards import decoders",
        "",
        f'shards = webdataset.WebDataset("{collected.samples[0].shard}.tar", shardshuffle=False)',
        "for sample in shards.decode(*decoders()):",
        '    ovoxel = sample["frame_00.vxz"]  # coords (N, 3), base_color (N, 3), ...',
    ]
    if collected.stored.sample.get("views"):
        lines += [
            '    image = sample["view_00_frame_00.webp"]  # (H, W, 4) uint8',
            '    camera = sample["view_00.json"]["camera"]  # OpenCV: intrinsics in pixels, world-to-camera',
        ]
    return "\n".join(["## Loading", "", *(f"    {line}".rstrip() for line in lines)])


def _assets(collected: Collected) -> str:
    shown = {state: count for state, count in collected.states.items() if count or state != "pending"}
    states = [(_STATES[state], f"{count:,}") for state, count in shown.items()]
    lines = [
        "## Assets",
        "",
        f"{counted(collected.assets, 'asset')} went in, and each is accounted for: `ledger.jsonl` records how it ended "
        "and why.",
        "",
        *_table(("outcome", "assets"), states),
    ]
    if collected.reasons:
        reasons = sorted(collected.reasons.items(), key=lambda item: (-item[1], item[0]))
        rows = [(reason, str(ReasonCode(reason).state), f"{count:,}") for reason, count in reasons]
        lines += ["", "Reasons why assets were filtered or failed:", "", *_table(("reason", "outcome", "assets"), rows)]
    return "\n".join(lines)


def _sources(collected: Collected) -> str:
    stored = collected.stored
    suffixes: dict[str, int] = {}
    for name in stored.sources:
        suffix = name.rpartition(".")[2].lower() if "." in name else ""
        suffixes[suffix] = suffixes.get(suffix, 0) + 1
    formats = ", ".join(f"{count:,} {plain(suffix)}" for suffix, count in sorted(suffixes.items()))
    place = plain(stored.source) if stored.source else "a source that was not recorded"
    lines = [
        "## Sources",
        "",
        f"{counted(len(stored.sources), 'file')} ({formats or 'none'}) from {place}",
        "",
        "`plan.json` lists the name, size and SHA-256 of each.",
    ]
    if collected.samples:
        lines += ["", *_rigs(collected.samples)]
    if stored.exclusions:
        lines += [
            "",
            f"{counted(len(stored.exclusions), 'file')} excluded before curation, by the list "
            f"{plain(stored.exclude or 'in plan.json')}",
        ]
    return "\n".join(lines)


def _rigs(samples: Sequence[SampleFacts]) -> list[str]:
    """Return sentences about skeletons and up axes; older samples do not record them."""
    skinned = Counter(sample.skinned for sample in samples)
    axes = Counter(sample.up_axis or "not stated" for sample in samples)
    return [
        f"Skinned meshes: {counted(skinned[True], 'sample')}; without: {skinned[False]:,}; unknown: {skinned[None]:,}.",
        f"Up axis of the files: {', '.join(f'{name} {axes[name]:,}' for name in sorted(axes))}.",
    ]


def _licenses(collected: Collected) -> str:
    known = [(plain(name) or "unknown", f"{count:,}") for name, count in collected.licenses.items()]
    lines = [
        "## Licenses",
        "",
        "Licenses are as stated by the files and their sources; they were not verified. The names are Creative Commons "
        "codes: cc0 is public domain, by demands attribution, sa share-alike, nc non-commercial use, and nd forbids "
        "derivatives.",
        "",
    ]
    lines += _table(("license", "samples"), known) if known else ["No samples."]
    if collected.license_texts:
        texts = list(collected.license_texts.items())
        lines += ["", "Statements behind unknown licenses:", ""]
        rows = [(plain(text) or "(no statement)", f"{n:,}") for text, n in texts[:_TEXTS]]
        lines += _table(("statement", "samples"), rows)
        if len(texts) > _TEXTS:
            lines += ["", f"{len(texts) - _TEXTS:,} more statements are not shown."]
    lines += [
        "",
        "Licenses with `by` require attribution: the authors are listed under `extras` in each sample's `clip.json`.",
    ]
    return "\n".join(lines)


def _statistics(collected: Collected) -> str:
    rows = [
        (plain(one.name), one.what, *(_number(value) for value in one.quantiles.values()))
        for one in collected.histograms
        if one.quantiles
    ]
    if not rows:
        return "## Statistics\n\nNo samples."
    head = ("measure", "description", *next(one.quantiles for one in collected.histograms if one.quantiles))
    missing = [f"Not included: {plain(text)}." for text in without_measures(collected.unmeasured, "sample")]
    return "\n".join(
        ["## Statistics", "", " ".join(["Quantiles over the samples.", *missing]), "", *_table(head, rows)]
    )


def _settings(collected: Collected) -> str:
    settings = [
        (plain(name), plain(str(value)))
        for name, value in flat_settings(collected.stored.sample).items()
        if value not in (None, "")
    ]
    versions = [(plain(tool), plain(", ".join(found))) for tool, found in collected.tools.items()]
    lines = ["## Settings and versions", "", *_table(("setting", "value"), settings)]
    lines += ["", *_table(("package", "version"), versions or [("helix4d", plain(__version__))])]
    if collected.worker_s:
        assets = counted(collected.timed_assets, "asset")
        lines += ["", f"Processing {assets} took {duration(collected.worker_s)} of worker time."]
    return "\n".join(lines)


def _limitations(collected: Collected) -> str:
    limits = [
        "The content of the assets was not reviewed.",
        "Materials do not change over time: animated materials are ignored.",
        "O-Voxels store base color, metallic, roughness and alpha; emission and transmission are only in the images.",
        "Surfaces thinner than a voxel can be lost: `vanished_area` in `clip.json` gives their share per frame.",
        "Identical files were removed. Near-duplicates remain, except those on the exclusion list, if there is one.",
    ]
    if warned := sum(bool(outcome.warnings) for outcome in collected.outcomes):
        limits.append(
            f"{counted(warned, 'asset')} had features that were ignored or repaired: see `warnings` in `clip.json`."
        )
    if collected.states["pending"]:
        limits.append(f"The run is not finished; assets still to be processed: {collected.states['pending']:,}.")
    return "\n".join(["## Limitations", "", *(f"- {limit}" for limit in limits)])


def _reproduction(collected: Collected) -> str:
    stored = collected.stored
    command = Remedies(Path("OUTPUT"), stored.sample, stored.source, stored.limit, stored.exclude).curate
    if stored.exclude:
        command += f" {shlex.join(['--exclude', stored.exclude])}"
    # Indented by four spaces, the command is a code block, in which nothing is markup.
    return "\n".join(
        [
            "## Reproduction",
            "",
            f"    {_one_line(command)}",
            "",
            "The same files, settings, package versions, CPU type and render device produce identical bytes. "
            "`helix4d verify OUTPUT` checks every file, and `helix4d report OUTPUT` rewrites this card and "
            "`report/index.html`.",
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
