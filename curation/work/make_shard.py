"""The finished parts of a shard become the shard. Independent of Ray."""

from __future__ import annotations

import errno

from helix4d.core import insist
from helix4d.curation.places.store import Store
from helix4d.curation.shards.mirror import publish_shard
from helix4d.curation.shards.sidecar import read_sidecar
from helix4d.curation.shards.writer import write_shard
from helix4d.curation.work.jobs import ShardJob


def make_shard(job: ShardJob) -> None:
    """Write a shard and publish it, then remove its parts. Safe to repeat.

    Raises:
        StorageError: if the output refuses writes for longer than the job's patience.
    """
    insist(lambda: _write_if_missing(job), job.tar, job.patience_s)
    if job.remote is not None:
        publish_shard(Store(job.remote, job.downloads), job.folder, job.tar)
    # Kept until the end of the run, they would double the disk space that an output takes.
    for part in job.parts:
        part.unlink(missing_ok=True)


def _write_if_missing(job: ShardJob) -> None:
    # A node that was lost may have written it before it could report back.
    if read_sidecar(job.tar) is not None:
        return
    try:
        write_shard(job.tar, list(job.parts), job.facts)
    except FileNotFoundError as error:
        # A network file system may show another node's files only after a minute.
        raise OSError(errno.ESTALE, f"{error.filename}: missing, or not visible on this node yet") from error
