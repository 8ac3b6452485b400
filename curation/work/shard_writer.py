"""Finished parts become shards, written by Ray workers beside the jobs that still run."""

from __future__ import annotations

from typing import Any

from helix4d.curation.work.cluster import Cluster
from helix4d.curation.work.jobs import ShardJob
from helix4d.curation.work.make_shard import make_shard


class ShardWriter:
    """Writes shards in the cluster, each as soon as it is complete.

    A shard waits for no place: it is short work, and it frees the disk space of the shard's parts.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._handles: list[Any] = []

    def start(self, job: ShardJob) -> None:
        """Begin to write a shard."""
        self._handles.append(self._cluster.submit(make_shard, job))

    def check(self) -> None:
        """Raise the error of a shard that could not be written so far.

        Raises:
            StorageError: if the output refuses writes for longer than the job's patience.
        """
        ended, self._handles = self._cluster.ended(self._handles)
        self._cluster.check(ended)

    def finish(self) -> None:
        """Wait until all shards are written.

        Raises:
            StorageError: as `check`.
        """
        self._cluster.check(self._handles)
        self._handles = []
