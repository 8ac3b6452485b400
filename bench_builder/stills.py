"""The stills of a manifest on this machine: read from a folder, or downloaded and checked against their hashes."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from helix4d.bench_builder.manifest import Entry, Manifest, still_url, verify_stills
from helix4d.core import AssetError, ConfigError, sha256_file
from helix4d.curation.remote.config import DownloadConfig
from helix4d.curation.remote.files import RemoteFile
from helix4d.curation.remote.transfer import Transfer

log = logging.getLogger("helix4d.bench")

MAX_BYTES = 1 << 26
"""Size limit of a still; the benchmark's largest has 2 MB."""


def gather_stills(
    manifest: Manifest, entries: Sequence[Entry], given: Path | None, downloads: Path, allow_host: tuple[str, ...] = ()
) -> Path:
    """Return the folder that holds the stills of these entries, all with the expected hashes.

    Args:
        manifest: addresses and hashes of the stills.
        entries: entries whose stills are needed.
        given: folder that already has them; None downloads them.
        downloads: folder for downloads; stills in it with the expected hash are kept.
        allow_host: hosts that the manifest and redirects may lead to although they are not public.

    Raises:
        ConfigError: if stills in `given` are missing or different (the message lists them), or a download fails.
    """
    if given is not None:
        if problems := verify_stills(manifest, given, entries):
            raise ConfigError(
                f"{given}: {len(problems)} of {len(entries)} stills are missing or different:\n" + "\n".join(problems)
            )
        return given
    config = DownloadConfig(allow_host=allow_host)
    for entry in entries:
        path = downloads / entry.still
        if not path.is_file() or sha256_file(path) != entry.sha256:
            download(still_url(manifest, entry), path, entry.sha256, config)
            log.info("%s: downloaded for %s", path, entry.id)
    return downloads


def download(url: str, path: Path, sha256: str, config: DownloadConfig) -> None:
    """Download a still; an interrupted download resumes.

    Args:
        url: address of the still.
        path: file to write, which appears only with the expected content.
        sha256: expected hash.
        config: rate limit, attempts, pauses and permitted hosts.

    Raises:
        ConfigError: if the still cannot be downloaded, or has another hash.
    """
    try:
        Transfer(config, MAX_BYTES).fetch(RemoteFile(url, sha256=sha256), path)
    except (AssetError, OSError) as error:
        reason = error.message if isinstance(error, AssetError) else str(error)
        raise ConfigError(
            f"{path.name}: cannot be downloaded ({reason}): rerun to resume it, or pass the stills with --stills"
        ) from error
