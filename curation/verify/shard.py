"""Checks a shard against its sidecar and the settings: hash, layout, index, and every sample.

Findings go from the whole tar to positions in it to samples: a flipped byte is detected by the hash, then located by
the member that no longer decodes. If tar and index disagree, the hash of the tar decides which of them is wrong.
"""

from __future__ import annotations

import itertools
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from helix4d.core import FormatError, NewerError, sha256_json
from helix4d.core.documents import parse_document
from helix4d.curation.places.folder import Place, folder_at
from helix4d.curation.shards.members import SAMPLE
from helix4d.curation.shards.sidecar import index_of, parse_sidecar
from helix4d.curation.shards.writer import member_header
from helix4d.curation.verify.sample import check_sample
from helix4d.curation.verify.tar import BLOCK, Member, TarWindow, Walk

TAR, SIDECAR = ".tar", ".json"
COPIED = ("asset", "content_sha256", "clip", "voxels", "tokens", "clipped", "skeleton", "up_axis", "engine")
"""Fields of `clip.json` that the index repeats."""
_FIXED = ("mtime", "uid", "gid", "mode", "uname", "gname", "type", "linkname")


@dataclass(frozen=True)
class ShardCheck:
    """A shard to check.

    Attributes:
        output: folder or URL of the output.
        name: name of the shard, `train/helix4d-000000`.
        settings: settings of the samples; None if unknown, in which case samples are not checked.
    """

    output: Place
    name: str
    settings: Mapping[str, Any] | None


class Finding(NamedTuple):
    """Something that is wrong with a shard.

    Attributes:
        file: suffix of the file, `TAR` or `SIDECAR`.
        key: key of the sample; "" for the whole shard.
        what: description.
        newer: whether the file is intact, but was written by a newer version.
    """

    file: str
    key: str
    what: str
    newer: bool = False


def check_shard(check: ShardCheck) -> Iterator[Finding]:
    """Find everything that is wrong with a committed shard. Its tar is read once.

    Raises:
        StoreError: if a URL cannot be read.
    """
    folder = folder_at(check.output)
    where = folder.address(f"{check.name}{SIDECAR}")
    try:
        sidecar = parse_sidecar(folder.read(f"{check.name}{SIDECAR}"), where)
        entries = _entries(sidecar, where)
    except FileNotFoundError:
        yield Finding(SIDECAR, "", f"cannot be read: {where}: no such file")
        return
    except NewerError as error:
        yield Finding(SIDECAR, "", str(error), newer=True)
        return
    except FormatError as error:
        yield Finding(SIDECAR, "", f"cannot be read: {error}")
        return
    yield from (Finding(SIDECAR, "", what) for what in _check_sidecar(check, sidecar))
    tar = TarWindow(folder, f"{check.name}.tar")
    walk = Walk(tar, sorted(extent[0] - BLOCK for entry in entries.values() for extent in entry["members"].values()))
    members: list[Member] = []
    in_tar: dict[str, dict[str, Member]] = {}
    findings: dict[str, list[Finding]] = {}
    check_one = _SampleChecks(check.settings, tar)
    for key, group in itertools.groupby(walk, lambda member: _split(member.name)[0]):
        of_sample = in_tar.setdefault(key, {})
        for member in group:
            members.append(member)
            of_sample[_split(member.name)[1]] = member
        if key in entries:  # now, while its bytes are in memory
            findings[key] = list(check_one(key, entries[key], of_sample))
        tar.forget(members[-1].end)
    for key in entries.keys() - findings.keys():
        findings[key] = list(check_one(key, entries[key], {}))
    breaks = [*walk.breaks, *walk.check_end()]
    changed = list(_check_bytes(tar, sidecar))
    yield from (Finding(TAR, "", what) for what in [*changed, *breaks])
    yield from (Finding(TAR, *one) for one in _check_layout(members))
    yield from (Finding(TAR if changed else SIDECAR, *one) for one in _check_index(entries, in_tar))
    yield from itertools.chain.from_iterable(findings[key] for key in entries)


def is_whole(sidecar: Mapping[str, Any]) -> bool:
    """Return whether the index and the gaps of a sidecar are well formed."""
    try:
        _entries(sidecar)
    except FormatError:
        return False
    return True


def _entries(sidecar: Mapping[str, Any], where: object = "sidecar") -> dict[str, Mapping[str, Any]]:
    """Return the index: key -> entry. Only structure and names are checked here; the numbers are checked later.

    Raises:
        FormatError: if the index or the gaps are malformed.
    """
    entries = index_of(sidecar, where)
    if not all(isinstance(gap.get("asset"), str) for gap in sidecar["gaps"]):
        raise FormatError(f"{where}: gaps contains an entry without an asset")
    return entries


def _check_sidecar(check: ShardCheck, sidecar: Mapping[str, Any]) -> Iterator[str]:
    split, _, file = check.name.rpartition("/")
    for name, expected in (("shard", f"{file}.tar"), ("split", split)):
        if sidecar.get(name) != expected:
            yield f"{name} is {sidecar.get(name)!r}, expected {expected!r}"
    if not isinstance(sidecar.get("tools"), Mapping) or not sidecar["tools"]:
        yield "tools lists no package versions"
    if check.settings is None:
        return
    config, digest = sidecar.get("config"), sidecar.get("config_sha256")
    if config != check.settings:
        stored = config if isinstance(config, Mapping) else {}
        names = sorted(stored.keys() | check.settings.keys())
        different = ", ".join(name for name in names if stored.get(name) != check.settings.get(name))
        yield f"config differs from the settings of the output in {different}"
    if digest != (expected := sha256_json(check.settings)):
        yield f"config_sha256 is {digest}, expected {expected}"


def _check_bytes(tar: TarWindow, sidecar: Mapping[str, Any]) -> Iterator[str]:
    recorded = sidecar.get("bytes")
    if tar.size != recorded:
        how = "data was appended"
        if not isinstance(recorded, int) or isinstance(recorded, bool):
            how = "the sidecar is damaged"
        elif tar.size < recorded:
            how = "the tar is truncated"
        yield f"has {tar.size} bytes, but its sidecar records {recorded}: {how}"
    elif (digest := tar.sha256()) != sidecar.get("sha256"):
        yield f"its sha256 is {digest}, but its sidecar records {sidecar.get('sha256')}"


def _check_layout(members: list[Member]) -> Iterator[tuple[str, str]]:
    """Check that headers contain only name and size, nothing of the machine, and that members are in order."""
    for member in members:
        expected = member_header(member.name, member.size)
        if member.header != expected:
            actual, canonical = (
                tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape") for block in (member.header, expected)
            )
            different = [
                f"{name} is {getattr(actual, name)!r}, expected {getattr(canonical, name)!r}"
                for name in _FIXED
                if getattr(actual, name) != getattr(canonical, name)
            ]
            key, suffix = _split(member.name)
            yield key, f"{suffix}: tar header: {', '.join(different) or 'contains unexpected bytes'}"
    order = [_split(member.name) for member in members]
    for before, after in itertools.pairwise(order):
        if not before < after:
            yield after[0], f"{after[1]}: follows {'.'.join(before)} in the tar: members must be unique and sorted"


def _check_index(
    entries: Mapping[str, Mapping[str, Any]], in_tar: Mapping[str, Mapping[str, Member]]
) -> Iterator[tuple[str, str]]:
    """Check the index against the headers in the tar."""
    for key in sorted(in_tar.keys() - entries.keys()):
        yield key, "in the tar, but not in the index"
    for key, entry in entries.items():
        stored = in_tar.get(key, {})
        indexed = entry["members"]
        absent = sorted(indexed.keys() - stored.keys())
        if absent:
            yield key, f"{len(absent)} of {len(indexed)} members in the index are not in the tar: {_some(absent)}"
        if extra := sorted(stored.keys() - indexed.keys()):
            yield key, f"members in the tar that are not in the index: {_some(extra)}"
        for suffix in sorted(indexed.keys() & stored.keys()):
            member = stored[suffix]
            if indexed[suffix] != [member.offset, member.size]:
                offset, size = indexed[suffix]
                what = f"the index records {size} bytes at {offset}, the tar has {member.size} at {member.offset}"
                yield key, f"{suffix}: {what}"
        if indexed and not absent:
            first = min(member.offset for member in stored.values()) - BLOCK
            last = max(member.end for member in stored.values())
            if [entry.get("offset"), entry.get("bytes")] != [first, last - first]:
                recorded = f"{entry.get('bytes')} bytes at {entry.get('offset')}"
                yield key, f"the index records {recorded}, the tar has {last - first} at {first}"


class _SampleChecks:
    """Checks the samples of a shard, one by one."""

    def __init__(self, settings: Mapping[str, Any] | None, tar: TarWindow) -> None:
        self._settings, self._tar = settings, tar
        self._digest = sha256_json(settings)

    def __call__(self, key: str, entry: Mapping[str, Any], stored: Mapping[str, Member]) -> Iterator[Finding]:
        """Check a sample, given its index entry and its members according to the tar's headers."""
        if self._settings is None:
            return
        # Prefer the tar's own headers, so that a wrong number in the index causes no further findings.
        extents = {
            **entry["members"],
            **{suffix: [member.offset, member.size] for suffix, member in stored.items()},
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
        clip = parse_document(data, SAMPLE, "clip.json")
    except (FormatError, UnicodeDecodeError):
        return  # reported by `check_sample`
    for name in COPIED:
        if entry.get(name) != clip.get(name):
            what = f"{name} is {_short(entry.get(name))} in the index, but {_short(clip.get(name))} in clip.json"
            yield Finding(SIDECAR, key, what)


def _split(name: str) -> tuple[str, str]:
    key, _, suffix = name.partition(".")
    return key, suffix


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
