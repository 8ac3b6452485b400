"""The execution engines of `helix4d encode`: this process, or Ray, whose modules are imported only when used."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from helix4d.core import ConfigError
from helix4d.core.extras import missing_package
from helix4d.curation.config import RunConfig
from helix4d.curation.work.events import Ended, Tick
from helix4d.curation.work.jobs import Job, ShardJob
from helix4d.curation.work.make_shard import make_shard
from helix4d.curation.work.serial_loop import run_serially
from helix4d.train.latents.jobs import encode_sample


@dataclass(frozen=True)
class Engine:
    """Encodes clips and writes shards.

    Attributes:
        run: encodes clips, as `helix4d.curation.work.ray_loop.run_tasks` does.
        write_shard: writes a shard, or begins to.
        check: raises the error of a shard that could not be written so far.
        finish: waits until all shards are written, and raises as `check`.
    """

    run: Callable[[Iterable[Job]], Iterator[Ended | Tick]]
    write_shard: Callable[[ShardJob], None]
    check: Callable[[], None] = lambda: None
    finish: Callable[[], None] = lambda: None


def serial_engine(run: RunConfig) -> Engine:
    """Return the engine that encodes one clip after another in this process."""
    return Engine(partial(_encode_serially, run.limits.patience_s), make_shard)


@contextmanager
def ray_engine(run: RunConfig) -> Iterator[Engine]:
    """Connect to Ray, and yield the engine that encodes several clips at the same time.

    Raises:
        ConfigError: if Ray is not installed, or as `Cluster`.
    """
    try:
        import ray  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name != "ray":
            raise
        raise ConfigError(
            f"{missing_package('encoding several clips at the same time', 'ray')}. Or encode one clip after another "
            "on this machine: --serial"
        ) from error
    from helix4d.curation.work.cluster import Cluster
    from helix4d.curation.work.ray_loop import run_tasks
    from helix4d.curation.work.shard_writer import ShardWriter
    from helix4d.train.latents.encode_task import encode_task

    with Cluster(run) as cluster:
        writer = ShardWriter(cluster)
        yield Engine(partial(run_tasks, cluster, [encode_task(run)]), writer.start, writer.check, writer.finish)


def _encode_serially(patience_s: float, jobs: Iterable[Job]) -> Iterator[Ended | Tick]:
    return run_serially(encode_sample, jobs, "encode", patience_s)
