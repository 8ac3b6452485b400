"""Assets become content hashes before any other work: by reading them, or from published hashes."""

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
_LOG_EVERY_S = 30.0


def hash_sources(sources: list[SourceAsset], cache: Cache) -> tuple[dict[SourceAsset, str], Mapping[str, Exclusion]]:
    """Hash the content of assets. Remote assets without a published hash are downloaded through the cache.

    Returns:
        Hash of each asset; name -> reason for each asset that could not be hashed.

    Raises:
        StorageError: if a disk is full or a file system is unavailable, which is not the asset's fault.
    """
    hashes: dict[SourceAsset, str] = {}
    failed: dict[str, Exclusion] = {}
    logged = time.monotonic()
    with ThreadPoolExecutor(_THREADS) as pool:
        for source, digest in zip(sources, pool.map(lambda one: _hash(one, cache), sources), strict=True):
            if isinstance(digest, Exclusion):
                log.warning("%s: %s [%s]", source.name, digest.message, digest.reason)
                failed[source.name] = digest
            else:
                hashes[source] = digest
            if time.monotonic() - logged > _LOG_EVERY_S:
                logged = time.monotonic()
                log.info("%d of %d assets hashed", len(hashes) + len(failed), len(sources))
    return hashes, failed


def _hash(source: SourceAsset, cache: Cache) -> str | Exclusion:
    try:
        if source.remote is not None:
            return cache.content_hash(source.remote)
        if source.sha256 and (digest := sha256_file(source.path)) != source.sha256:
            return Exclusion(ReasonCode.CHECKSUM_MISMATCH, f"sha256 is {digest}, expected {source.sha256}")
        return content_hash(source.path)
    except AssetError as error:
        return Exclusion(error.code, error.message)
    except (FileNotFoundError, PermissionError) as error:
        return Exclusion(ReasonCode.DOWNLOAD_FAILED, f"cannot be read ({error})")
    except OSError as error:
        raise StorageError(f"{source.name}: cannot be hashed ({error}): fix this and rerun") from error
