"""Assets become content hashes before any work: by reading them, or by what is published of them."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from helix4d.assets import content_hash
from helix4d.core import AssetError, ReasonCode, StorageError, sha256_file
from helix4d.curation.remote.cache import Cache
from helix4d.curation.sources.listing import Exclusion, SourceAsset

log = logging.getLogger("helix4d.curation")

_THREADS = 8
_TELL_EVERY_S = 30.0


def hash_sources(sources: list[SourceAsset], cache: Cache) -> tuple[dict[SourceAsset, str], Mapping[str, Exclusion]]:
    """Content hashes of assets, and why there is none of the others (name -> why).

    Remote assets whose hash nobody publishes are fetched for it, through the cache.

    Raises:
        StorageError: if a disk is full, or a file system away: that says nothing of an asset.
    """
    hashes: dict[SourceAsset, str] = {}
    failed: dict[str, Exclusion] = {}
    told = time.monotonic()
    with ThreadPoolExecutor(_THREADS) as pool:
        for source, digest in zip(sources, pool.map(lambda one: _hash(one, cache), sources), strict=True):
            if isinstance(digest, Exclusion):
                log.warning("%s: %s [%s]", source.name, digest.message, digest.reason)
                failed[source.name] = digest
            else:
                hashes[source] = digest
            if time.monotonic() - told > _TELL_EVERY_S:
                told = time.monotonic()
                log.info("%d of %d assets hashed", len(hashes) + len(failed), len(sources))
    return hashes, failed


def _hash(source: SourceAsset, cache: Cache) -> str | Exclusion:
    try:
        if source.remote is not None:
            return cache.content_hash(source.remote)
        if source.sha256 and (found := sha256_file(source.path)) != source.sha256:
            return Exclusion(ReasonCode.CHECKSUM_MISMATCH, f"sha256 {found}, expected {source.sha256}")
        return content_hash(source.path)
    except AssetError as error:
        return Exclusion(error.code, error.message)
    except (FileNotFoundError, PermissionError) as error:
        return Exclusion(ReasonCode.DOWNLOAD_FAILED, f"cannot be read: {error}")
    except OSError as error:
        raise StorageError(f"{source.name}: cannot be hashed ({error}): run it again when that is cured") from error
