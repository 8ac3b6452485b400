"""The stills of a manifest on this machine: taken from a folder, or downloaded and checked against their hashes.

A download that was cut off goes on where it stopped. Nothing takes its final name before its hash is right.
"""

from __future__ import annotations

import http.client
import logging
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from helix4d.bench_builder.manifest import Entry, Manifest, still_url, verify_stills
from helix4d.core import ConfigError, fsync_folder, sha256_file

log = logging.getLogger("helix4d.bench")

MAX_BYTES = 1 << 26
"""Of one still; the largest of the benchmark's has 2 MB."""

_ATTEMPTS = 4
_TIMEOUT_S = 60.0
_BLOCK_BYTES = 1 << 16


def gather_stills(manifest: Manifest, entries: Sequence[Entry], given: Path | None, downloads: Path) -> Path:
    """The folder that holds the stills of these entries, all with the right hashes.

    Args:
        manifest: where they are published.
        entries: whose stills are needed.
        given: a folder that has them; None downloads them.
        downloads: where downloads go. What is there already is kept if its hash is right.

    Raises:
        ConfigError: naming every still that is missing from `given` or is another file, or the first that cannot be
            downloaded.
    """
    if given is not None:
        if problems := verify_stills(manifest, given, entries):
            raise ConfigError(f"{given}: {len(problems)} of {len(entries)} stills are wrong:\n" + "\n".join(problems))
        return given
    for entry in entries:
        path = downloads / entry.still
        if not path.is_file() or sha256_file(path) != entry.sha256:
            download(still_url(manifest, entry), path, entry.sha256)
            log.info("%s: downloaded for %s", path, entry.id)
    return downloads


def download(url: str, path: Path, sha256: str, pause_s: float = 1.0) -> None:
    """Fetch a file; `path` appears only with the right content.

    Args:
        url: http or https.
        path: where it goes; `.part` beside it holds what has arrived so far, also after a failure.
        sha256: of the whole file, hex.
        pause_s: before the second attempt; it doubles each time.

    Raises:
        ConfigError: if it cannot be fetched, or what came is another file.
    """
    part = path.with_name(f"{path.name}.part")
    path.parent.mkdir(parents=True, exist_ok=True)
    for attempt in range(_ATTEMPTS):
        try:
            _fetch_rest(url, part)
        except (OSError, http.client.HTTPException) as error:
            if _is_final(error) or attempt == _ATTEMPTS - 1:
                raise ConfigError(
                    f"{url} cannot be downloaded ({error}): run again to go on, or give the stills with --stills"
                ) from error
            log.warning("%s: %s; trying again", url, error)
            time.sleep(pause_s * 2**attempt)
            continue
        found = sha256_file(part)
        if found == sha256:
            part.replace(path)
            fsync_folder(path.parent)
            return
        # What was left of an earlier attempt may be the culprit: once more from the beginning.
        part.unlink()
    raise ConfigError(f"{url} has sha256 {found}, listed is {sha256}: another or damaged file")


def _fetch_rest(url: str, part: Path) -> None:
    """Append to `part` what it lacks."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        response = urllib.request.urlopen(request, timeout=_TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return  # nothing is missing
        raise
    with response, open(part, "ab" if response.status == http.HTTPStatus.PARTIAL_CONTENT else "wb") as stream:
        length = response.headers.get("Content-Length")
        while block := response.read(_BLOCK_BYTES):
            stream.write(block)
            if stream.tell() > MAX_BYTES:
                raise ConfigError(f"{url}: more than {MAX_BYTES} bytes")
        if length is not None and response.length:
            raise http.client.IncompleteRead(b"", response.length)


def _is_final(error: Exception) -> bool:
    """Whether asking again cannot help."""
    return isinstance(error, urllib.error.HTTPError) and 400 <= error.code < 500 and error.code not in (408, 429)
