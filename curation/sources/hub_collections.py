"""Collections on the model hub become lists of assets: a folder of a repository, TexVerse, Objaverse.

A repository is pinned to the current commit of its branch, which every asset's URL names. The hub publishes the sha256
of large files, so they can be planned without a download.
"""

from __future__ import annotations

import gzip
import io
import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any, cast

from helix4d.core import AssetError, ConfigError, ReasonCode
from helix4d.core.redaction import redact_values
from helix4d.curation.places.names import is_url
from helix4d.curation.remote.files import RemoteFile
from helix4d.curation.remote.hub import HubRepository, parse_hub_url
from helix4d.curation.remote.network import UnreachableError
from helix4d.curation.sources.annotations import read_caption, read_column, read_tags
from helix4d.curation.sources.listing import SUFFIXES, Exclusion, Listing, SourceAsset

if TYPE_CHECKING:
    from helix4d.curation.remote.cache import Cache
    from helix4d.curation.remote.hub_api import Hub

log = logging.getLogger("helix4d.curation")

TEXVERSE_IDS = "https://raw.githubusercontent.com/yiboz2001/TexVerse/main/metadata/TexVerse-Animation_id_list.txt"
"""Uids of the animated subset, one per line."""
TEXVERSE_FILES = HubRepository("dataset", "YiboZhang2001/TexVerse-1K")
TEXVERSE_METADATA = (HubRepository("dataset", "YiboZhang2001/TexVerse"), TEXVERSE_FILES)
"""Repositories that may hold metadata.json, in order of preference."""
OBJAVERSE = HubRepository("dataset", "allenai/objaverse")
REPOSITORIES = {"texverse": TEXVERSE_METADATA, "objaverse": (OBJAVERSE,)}
"""Collection -> the repositories that an operator names by it."""
_TEXVERSE_FOLDER = "glbs/glbs_1k"
_TEXVERSE_COLUMNS = ("license", "name", "pbrType", "faceCount")
_TEXVERSE_CAPTIONS = "caption.json"
_OBJAVERSE_PATHS = "object-paths.json.gz"
_OBJAVERSE_COLUMNS = ("license", "name")
_AFTER_VALUE = tuple(" \t\r\n,:}")
_READ_CHARACTERS = 1 << 20
_ENTRY_CHARACTERS = 64 << 20


class MalformedError(UnreachableError):
    """A file of a repository can be read, but is not a JSON object."""


def list_hub_folder(source: str, limit: int | None, cache: Cache) -> Listing:
    """Every asset below a folder of a repository, `hf://datasets/OWNER/NAME@REVISION/FOLDER`.

    Raises:
        ConfigError: if it cannot be listed, or holds no asset.
    """
    repository, folder = parse_hub_url(source)
    hub = _hub(cache)
    try:
        repository = hub.pin(repository)
        files = dict(hub.tree(repository, folder))
    except UnreachableError as error:
        raise ConfigError(f"{source}: {error}") from error
    base = f"{folder.strip('/')}/" if folder.strip("/") else ""
    assets = []
    for path, file in files.items():
        name = path.removeprefix(base)
        parts = PurePosixPath(name).parts
        if PurePosixPath(name).suffix.lower() in SUFFIXES and not any(part.startswith(".") for part in parts):
            assets.append(_asset(name, file, {}))
    if not assets:
        raise ConfigError(f"{source}: no assets found (looked for {', '.join(sorted(SUFFIXES))})")
    return Listing(sorted(assets)[:limit], revisions={repository.label: repository.revision})


def list_texverse(ids: str, limit: int | None, cache: Cache) -> Listing:
    """TexVerse's animated subset with 1K textures.

    Paths, licenses and tags come from metadata.json and captions from caption.json, in whichever repository has them;
    assets without a path are searched for in the tree.

    Args:
        ids: path or URL of a list of uids; "" lists the whole subset.
        limit: maximum number of assets.
        cache: fetches lists and metadata.

    Raises:
        ConfigError: if a list or tree cannot be read.
    """
    uids = read_ids(ids or TEXVERSE_IDS, cache)[:limit]
    hub = _hub(cache)
    try:
        pins = {TEXVERSE_FILES: hub.pin(TEXVERSE_FILES)}
        for repository in TEXVERSE_METADATA:
            if repository not in pins and (pin := _pin_if_available(hub, repository)):
                pins[repository] = pin
        repositories = [pins[repository] for repository in TEXVERSE_METADATA if repository in pins]
        metadata = _texverse_metadata(repositories, set(uids), cache)
        captions = _texverse_captions(repositories, set(uids), cache)
        paths = {uid: path for uid in uids if (path := _texverse_path(uid, metadata.get(uid, {})))}
        files = _look_up(hub, pins[TEXVERSE_FILES], paths)
        if missing := set(uids) - files.keys():
            log.info("%d assets have no valid path in TexVerse's metadata: searching the tree", len(missing))
            for path, file in hub.tree(pins[TEXVERSE_FILES], _TEXVERSE_FOLDER):
                uid = PurePosixPath(path).stem.removesuffix("_1024")
                if uid in missing and PurePosixPath(path).name == f"{uid}_1024.glb":
                    files[uid] = file
    except UnreachableError as error:
        raise ConfigError(f"texverse: {error}") from error
    columns = {uid: _columns(metadata.get(uid, {}), _TEXVERSE_COLUMNS) for uid in uids}
    stated = {uid: entry["tags"] for uid, entry in metadata.items() if entry.get("tags") is not None}
    for name, found in (
        ("tags", read_column("tags", stated, len(uids), read_tags)),
        ("caption", read_column("caption", captions, len(uids), read_caption)),
    ):
        for uid, value in found.items():
            columns[uid][name] = value
    revisions = {pin.label: pin.revision for pin in pins.values()}
    return _listing(uids, pins[TEXVERSE_FILES], files, columns, revisions)


def list_objaverse(ids: str, limit: int | None, cache: Cache) -> Listing:
    """Assets of Objaverse 1.0, with licenses from its annotations.

    Args:
        ids: path or URL of a list of uids.
        limit: maximum number of assets.
        cache: fetches lists and annotations.

    Raises:
        ConfigError: if a list or tree cannot be read.
    """
    if not ids:
        raise ConfigError("objaverse: name a list of ids: objaverse:FILE (text with one id per line, or JSON)")
    uids = read_ids(ids, cache)[:limit]
    hub = _hub(cache)
    try:
        pin = hub.pin(OBJAVERSE)
        known = _read_hub_json(pin, _OBJAVERSE_PATHS, set(uids), cache)
        if known is None:
            raise ConfigError(f"objaverse: {OBJAVERSE.name} has no {_OBJAVERSE_PATHS}")
        paths = {uid: path for uid, path in known.items() if isinstance(path, str)}
        files = _look_up(hub, pin, paths)
        columns: dict[str, dict[str, Any]] = {uid: {} for uid in uids}
        for folder in sorted({PurePosixPath(path).parent.name for path in paths.values()}):
            annotations = _read_hub_json(pin, f"metadata/{folder}.json.gz", set(uids), cache) or {}
            columns.update({uid: _columns(entry, _OBJAVERSE_COLUMNS) for uid, entry in annotations.items()})
    except UnreachableError as error:
        raise ConfigError(f"objaverse: {error}") from error
    return _listing(uids, pin, files, columns, {pin.label: pin.revision})


def read_ids(place: str, cache: Cache) -> list[str]:
    """Read a list of ids: text with one id per line, a JSON array, or the keys of a JSON object.

    Returns:
        The ids, sorted and unique.

    Raises:
        ConfigError: if the list cannot be read, or is empty.
    """
    try:
        if is_url(place):
            with cache.lease(RemoteFile(place)) as path:
                text = path.read_text(encoding="utf-8-sig")
        else:
            text = Path(place).read_text(encoding="utf-8-sig")
        values = json.loads(text) if text.lstrip()[:1] in ("[", "{") else text.split("\n")
    except (AssetError, OSError, ValueError) as error:
        raise ConfigError(f"{place}: not a list of ids ({error})") from error
    ids = {str(value).strip() for value in values} - {""}
    if not ids:
        raise ConfigError(f"{place}: the list of ids is empty")
    if invalid := [uid for uid in sorted(ids) if not uid.isprintable() or "/" in uid or len(uid) > 255]:
        message = f"{len(invalid)} of {len(ids)} entries are not ids (printable, without '/', at most 255 characters)"
        raise ConfigError(f"{place}: not a list of ids: {message}")
    return sorted(ids)


def iterate_object(stream: IO[str]) -> Iterator[tuple[str, Any]]:
    """Iterate over the keys and values of a JSON object of any length, with one pair in memory at a time.

    Raises:
        ValueError: if the stream holds no JSON object, or a truncated one.
    """
    decoder, text, at, end = json.JSONDecoder(), "", 0, False

    def more() -> None:
        nonlocal text, at, end
        block = stream.read(_READ_CHARACTERS)
        end = not block
        text, at = text[at:] + block, 0
        if len(text) > _ENTRY_CHARACTERS:
            raise ValueError(f"an entry exceeds {_ENTRY_CHARACTERS:,} characters")

    def skip(characters: str) -> None:
        nonlocal at
        while True:
            while at < len(text) and text[at] in characters:
                at += 1
            if at < len(text) or end:
                return
            more()

    def value() -> Any:
        nonlocal at
        while True:
            try:
                decoded, after = decoder.raw_decode(text, at)
                # A number may continue in the next block: it is complete only if something else follows.
                if end or text[after : after + 1] in _AFTER_VALUE:
                    at = after
                    return decoded
            except ValueError:
                if end:
                    raise
            more()

    skip(" \t\r\n\ufeff")
    if text[at : at + 1] != "{":
        raise ValueError("not a JSON object")
    at += 1
    while True:
        skip(" \t\r\n,")
        if text[at : at + 1] == "}":
            return
        key = value()
        skip(" \t\r\n")
        if not isinstance(key, str) or text[at : at + 1] != ":":
            raise ValueError("not a JSON object: a key without a value")
        at += 1
        skip(" \t\r\n")
        yield key, value()


def _hub(cache: Cache) -> Hub:
    from helix4d.curation.remote.hub_api import Hub

    return Hub(cache.web)


def _pin_if_available(hub: Hub, repository: HubRepository) -> HubRepository | None:
    """`Hub.pin`, or None if the hub (perhaps a mirror) does not have the repository."""
    try:
        return hub.pin(repository)
    except UnreachableError as error:
        if error.status not in (401, 403, 404):
            raise
        return None


def _texverse_metadata(
    repositories: Iterable[HubRepository], uids: set[str], cache: Cache
) -> dict[str, Mapping[str, Any]]:
    for repository in repositories:
        entries = _read_hub_json(repository, "metadata.json", uids, cache)
        if entries is not None:
            return {uid: entry for uid, entry in entries.items() if isinstance(entry, Mapping)}
    log.warning("TexVerse's repositories have no metadata.json: the licenses of its assets are unknown")
    return {}


def _texverse_captions(repositories: Iterable[HubRepository], uids: set[str], cache: Cache) -> dict[str, Any]:
    """Return the entries of caption.json. Its format is undocumented: if it is not an object by uid, it is ignored."""
    for repository in repositories:
        try:
            entries = _read_hub_json(repository, _TEXVERSE_CAPTIONS, uids, cache)
        except MalformedError as error:
            log.warning("ignoring captions: %s", error)
            return {}
        if entries is not None:
            return {uid: entry for uid, entry in entries.items() if entry is not None}
    log.warning("TexVerse's repositories contain no %s: the assets have no captions", _TEXVERSE_CAPTIONS)
    return {}


def _texverse_path(uid: str, entry: Mapping[str, Any]) -> str | None:
    """Path of the asset with 1K textures, among all paths in its entry."""
    name = f"{uid}_1024.glb"
    return next((path for path in _strings(entry.get("glb_paths")) if PurePosixPath(path).name == name), None)


def _read_hub_json(repository: HubRepository, path: str, wanted: set[str], cache: Cache) -> dict[str, Any] | None:
    """Wanted entries of a large JSON object, plain or `.gz`; None if the repository has no such file."""
    file = RemoteFile(repository.url(path), version=repository.revision)
    try:
        with cache.lease(file) as local, gzip.open(local) if path.endswith(".gz") else open(local, "rb") as stream:
            text = io.TextIOWrapper(cast("IO[bytes]", stream), encoding="utf-8")
            return {key: value for key, value in iterate_object(text) if key in wanted}
    except AssetError as error:
        cause = error.__cause__
        if isinstance(cause, UnreachableError) and cause.status == 404:
            return None
        raise UnreachableError(error.message) from error
    except (ValueError, EOFError, gzip.BadGzipFile) as error:
        raise MalformedError(f"{file.url}: {error}") from error


def _look_up(hub: Hub, repository: HubRepository, paths: Mapping[str, str]) -> dict[str, RemoteFile]:
    """Uid -> its file, for those paths that exist in the repository."""
    files = hub.files(repository, sorted(set(paths.values())))
    return {uid: files[path] for uid, path in paths.items() if path in files}


def _listing(
    uids: list[str],
    repository: HubRepository,
    files: Mapping[str, RemoteFile],
    columns: Mapping[str, Mapping[str, Any]],
    revisions: Mapping[str, str],
) -> Listing:
    missing = f"not in {repository.name} at {repository.revision}"
    return Listing(
        [_asset(uid, files[uid], columns.get(uid, {})) for uid in uids if uid in files],
        {uid: Exclusion(ReasonCode.DOWNLOAD_FAILED, missing) for uid in uids if uid not in files},
        revisions,
    )


def _asset(name: str, file: RemoteFile, metadata: Mapping[str, Any]) -> SourceAsset:
    return SourceAsset(name, Path(file.name), file.size, 0, file, metadata=redact_values(dict(metadata)))


def _columns(entry: Any, names: Iterable[str]) -> dict[str, Any]:
    values = entry if isinstance(entry, Mapping) else {}
    return {
        name: values[name] for name in names if isinstance(values.get(name), str | int | bool) and values[name] != ""
    }


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for entry in value.values():
            yield from _strings(entry)
    elif isinstance(value, list):
        for entry in value:
            yield from _strings(entry)
