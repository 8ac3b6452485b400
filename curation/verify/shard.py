"""One shard against its sidecar, the settings and itself: hash, layout, index, and every sample.

Sums come first, then where in the tar, then which sample, so that a flipped byte is found by the hash and named by the
member that no longer decodes. Where tar and index differ, the tar's hash tells which of them is wrong.
"""

from __future__ import annotations

import itertools
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from helix4d.core import FormatError, NewerError, sha256_json
from helix4d.curation.places.folder import Place, file_in, folder_at
from helix4d.curation.shards.shard import member_header, parse_clip, read_sidecar
from helix4d.curation.verify.sample import check_sample
from helix4d.curation.verify.tar import BLOCK, Member, TarWindow, Walk

TAR, SIDECAR = ".tar", ".json"
COPIED = ("asset", "content_sha256", "clip", "voxels", "tokens")
"""What the index repeats of `clip.json`."""
_FIXED = ("mtime", "uid", "gid", "mode", "uname", "gname", "type", "linkname")


@dataclass(frozen=True)
class ShardCheck:
    """A shard to be looked at.

    Attributes:
        output: the folder or URL that it is in.
        name: `train/helix4d-000000`.
        settings: of the output's samples; None where they are not known, then samples are not looked into.
    """

    output: Place
    name: str
    settings: Mapping[str, Any] | None


class Finding(NamedTuple):
    """What is wrong: in the tar or the sidecar, with which sample ("" for the shard as a whole).

    `newer` where nothing is, but this program is too old to tell.
    """

    file: str
    key: str
    what: str
    newer: bool = False


def check_shard(check: ShardCheck) -> Iterator[Finding]:
    """Everything that is wrong with a committed shard; its tar is read once.

    Raises:
        StoreError: if a far one cannot be had.
    """
    folder = folder_at(check.output)
    try:
        sidecar = read_sidecar(file_in(check.output, f"{check.name}.tar"))
        if sidecar is None:
            raise FormatError(f"{folder.address(check.name)}.json: not there")
        entries = _entries(sidecar)
    except NewerError as error:
        yield Finding(SIDECAR, "", str(error), newer=True)
        return
    except FormatError as error:
        yield Finding(SIDECAR, "", f"cannot be read: {error}")
        return
    yield from (Finding(SIDECAR, "", what) for what in _check_facts(check, sidecar))
    tar = TarWindow(folder, f"{check.name}.tar")
    walk = Walk(tar, sorted(extent[0] - BLOCK for entry in entries.values() for extent in entry["members"].values()))
    members: list[Member] = []
    in_tar: dict[str, dict[str, Member]] = {}
    found: dict[str, list[Finding]] = {}
    look_into = _SampleChecks(check.settings, tar)
    for key, group in itertools.groupby(walk, lambda member: _split(member.name)[0]):
        there = in_tar.setdefault(key, {})
        for member in group:
            members.append(member)
            there[_split(member.name)[1]] = member
        if key in entries:  # now, while it is held
            found[key] = list(look_into(key, entries[key], there))
        tar.forget(members[-1].end)
    for key in entries.keys() - found.keys():
        found[key] = list(look_into(key, entries[key], {}))
    breaks = [*walk.breaks, *walk.check_end()]
    changed = list(_check_bytes(tar, sidecar))
    yield from (Finding(TAR, "", what) for what in [*changed, *breaks])
    yield from (Finding(TAR, *one) for one in _check_layout(members))
    yield from (Finding(TAR if changed else SIDECAR, *one) for one in _check_index(entries, in_tar))
    yield from itertools.chain.from_iterable(found[key] for key in entries)


def is_whole(sidecar: Mapping[str, Any]) -> bool:
    """Whether its index and its gaps have the shape that they should."""
    try:
        _entries(sidecar)
    except FormatError:
        return False
    return True


def _entries(sidecar: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Key -> index entry. Only shapes are checked here, numbers are later.

    Raises:
        FormatError: if the index has another shape than ours.
    """
    samples = sidecar.get("samples")
    if not isinstance(samples, list):
        raise FormatError("no list of samples in it")
    for place, sample in enumerate(samples):
        members = sample.get("members") if isinstance(sample, Mapping) else None
        if not isinstance(members, Mapping) or not isinstance(sample.get("key"), str):
            raise FormatError(f"sample {place} of the index has no key or no members")
        for suffix, extent in members.items():
            if not (isinstance(extent, list) and len(extent) == 2 and all(type(n) is int and n >= 0 for n in extent)):
                raise FormatError(f"{sample['key']}.{suffix} of the index is {extent!r}, expected [offset, size]")
    keys = [sample["key"] for sample in samples]
    if keys != sorted(set(keys)):
        raise FormatError("the keys of the index are not unique and sorted")
    gaps = sidecar.get("gaps")
    if not isinstance(gaps, list) or not all(isinstance(gap, Mapping) and "asset" in gap for gap in gaps):
        raise FormatError("no list of gaps in it")
    return dict(zip(keys, samples, strict=True))


def _check_facts(check: ShardCheck, sidecar: Mapping[str, Any]) -> Iterator[str]:
    split, _, file = check.name.rpartition("/")
    for name, expected in (("shard", f"{file}.tar"), ("split", split)):
        if sidecar.get(name) != expected:
            yield f"its {name} is {sidecar.get(name)!r}, expected {expected!r}"
    if not isinstance(sidecar.get("tools"), Mapping) or not sidecar["tools"]:
        yield "it names no tools"
    if check.settings is None:
        return
    config, digest = sidecar.get("config"), sidecar.get("config_sha256")
    if config != check.settings:
        stored = config if isinstance(config, Mapping) else {}
        names = sorted(stored.keys() | check.settings.keys())
        different = ", ".join(name for name in names if stored.get(name) != check.settings.get(name))
        yield f"its config is not that of the output (different: {different})"
    if digest != (expected := sha256_json(check.settings)):
        yield f"its config_sha256 is {digest}, the output's settings have {expected}"


def _check_bytes(tar: TarWindow, sidecar: Mapping[str, Any]) -> Iterator[str]:
    if tar.size != sidecar.get("bytes"):
        how = "truncated?" if tar.size < (sidecar.get("bytes") or 0) else "something was appended?"
        yield f"the tar holds {tar.size} bytes, its sidecar says {sidecar.get('bytes')}: {how}"
    elif (found := tar.sha256()) != sidecar.get("sha256"):
        yield f"the tar's sha256 is {found}, its sidecar says {sidecar.get('sha256')}"


def _check_layout(members: list[Member]) -> Iterator[tuple[str, str]]:
    """Headers hold name and size and nothing of the machine; members are in order."""
    for member in members:
        expected = member_header(member.name, member.size)
        if member.header != expected:
            found, wanted = (
                tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape") for block in (member.header, expected)
            )
            told = [
                f"{name} is {getattr(found, name)!r}, not {getattr(wanted, name)!r}"
                for name in _FIXED
                if getattr(found, name) != getattr(wanted, name)
            ]
            key, suffix = _split(member.name)
            yield key, f"{suffix}: in the tar's header {', '.join(told) or 'are bytes that we do not write'}"
    order = [_split(member.name) for member in members]
    for before, after in itertools.pairwise(order):
        if not before < after:
            yield after[0], f"{after[1]}: comes after {'.'.join(before)} in the tar: members must be unique and sorted"


def _check_index(
    entries: Mapping[str, Mapping[str, Any]], in_tar: Mapping[str, Mapping[str, Member]]
) -> Iterator[tuple[str, str]]:
    """The tar's headers against the index."""
    for key in sorted(in_tar.keys() - entries.keys()):
        yield key, "is in the tar, not in the index"
    for key, entry in entries.items():
        there = in_tar.get(key, {})
        indexed = entry["members"]
        absent = sorted(indexed.keys() - there.keys())
        if absent:
            yield key, f"{len(absent)} of the index's {len(indexed)} members are not in the tar: {_some(absent)}"
        if extra := sorted(there.keys() - indexed.keys()):
            yield key, f"members of the tar that are not in the index: {_some(extra)}"
        for suffix in sorted(indexed.keys() & there.keys()):
            member = there[suffix]
            if indexed[suffix] != [member.offset, member.size]:
                found = f"{member.size} bytes at {member.offset}"
                yield (
                    key,
                    f"{suffix}: the index says {indexed[suffix][1]} bytes at {indexed[suffix][0]}, it has {found}",
                )
        if indexed and not absent:
            first = min(member.offset for member in there.values()) - BLOCK
            last = max(member.end for member in there.values())
            if [entry.get("offset"), entry.get("bytes")] != [first, last - first]:
                found = f"{entry.get('bytes')} bytes at {entry.get('offset')}"
                yield key, f"the index says {found}, the sample has {last - first} bytes at {first}"


class _SampleChecks:
    """Looks into the samples of a shard, one by one."""

    def __init__(self, settings: Mapping[str, Any] | None, tar: TarWindow) -> None:
        self._settings, self._tar = settings, tar
        self._digest = sha256_json(settings)

    def __call__(self, key: str, entry: Mapping[str, Any], there: Mapping[str, Member]) -> Iterator[Finding]:
        """What is wrong with a sample, given its index entry and its members by the tar's headers."""
        if self._settings is None:
            return
        # Where the tar's own headers say, so that a wrong number in the index is told once, as that.
        extents = {
            **entry["members"],
            **{suffix: [member.offset, member.size] for suffix, member in there.items()},
        }
        members = list(entry["members"])
        extents = {suffix: extents[suffix] for suffix in members if sum(extents[suffix]) <= self._tar.size}

        def read(suffix: str) -> bytes:
            return self._tar.peek(*extents[suffix])

        lost = entry["members"].keys() - extents.keys()
        try:
            for suffix, what in check_sample(key, members, read, lost, self._settings, self._digest):
                yield Finding(TAR, key, f"{suffix}: {what}")
            if "clip.json" in extents:
                yield from _check_copies(key, entry, read("clip.json"))
        except NewerError as error:
            yield Finding(TAR, key, str(error), newer=True)


def _check_copies(key: str, entry: Mapping[str, Any], data: bytes) -> Iterator[Finding]:
    try:
        clip = parse_clip(data, "clip.json")
    except (FormatError, UnicodeDecodeError):
        return  # told already
    for name in COPIED:
        if entry.get(name) != clip.get(name):
            yield Finding(
                SIDECAR,
                key,
                f"{name} is {_short(entry.get(name))} in the index and {_short(clip.get(name))} in clip.json",
            )


def _split(name: str) -> tuple[str, str]:
    key, _, suffix = name.partition(".")
    return key, suffix


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
