"""The files of a run: checkpoints written in the background, and copies of all files if the output is a URL.

Writes that the disk or the store refuses are retried, as in curation. A checkpoint is not visible until it is complete,
and its metrics and previews are published first.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from types import TracebackType

from torch import Tensor

from helix4d.core import insist, write_bytes, write_json
from helix4d.core.locks import locked
from helix4d.core.storage import StorageError
from helix4d.curation.places.store import Store, StoreError
from helix4d.train.checkpoint import Checkpoint, publish_checkpoint, save_checkpoint
from helix4d.train.config import CONFIG_FILE, TrainConfig
from helix4d.train.metrics import METRICS_FILE
from helix4d.train.page import PAGE_FILE, run_page

log = logging.getLogger("helix4d.train")

EVENTS = "events"
_PAUSE_S = 5.0


class RunOutput(AbstractContextManager["RunOutput"]):
    """The only writer of a run's folder, which it locks.

    Raises:
        ConfigError: if another process writes to the folder, or it cannot be written.
        StoreError: if the run's URL cannot be read.
    """

    def __init__(self, config: TrainConfig) -> None:
        self._config, self._folder = config, config.folder
        self._store = Store(str(config.place)) if config.is_remote else None
        self._lock = locked(self._folder)
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="output")
        self._pending: list[Future[None]] = []

    def __enter__(self) -> RunOutput:
        self._lock.__enter__()
        try:
            self._pull()
        except BaseException:
            self._lock.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.wait()
        except (StorageError, StoreError, OSError) as problem:
            if error is None:
                raise
            log.error("%s", problem)  # the run ends with the error that it already has
        finally:
            self._pool.shutdown()
            self._lock.__exit__(None, None, None)

    def save(self, checkpoint: Checkpoint) -> None:
        """Copy a checkpoint to the CPU and write it in the background, after waiting for the previous one.

        Raises:
            StorageError, StoreError: if an earlier write was refused for too long.
        """
        self.wait()
        parts = (_copied(part) for part in (checkpoint.model, checkpoint.ema, checkpoint.optimizer))
        self._pending.append(self._pool.submit(self._save, Checkpoint(checkpoint.state, *parts)))

    def write(self, name: str, data: bytes) -> None:
        """Write a file, and publish it in the background."""
        path = self._folder / name
        insist(lambda: write_bytes(path, data), path, self._config.run.patience_s)
        if self._store is not None:
            self._pending.append(self._pool.submit(self._publish, name))

    def write_settings(self) -> None:
        """Write `config.json`; it is published with each checkpoint."""
        path = self._folder / CONFIG_FILE
        insist(lambda: write_json(path, self._config.to_json()), path, self._config.run.patience_s)

    def check(self) -> None:
        """Raise the error of a failed write without waiting for those in progress.

        Raises:
            StorageError, StoreError: if a write was refused for too long.
        """
        while self._pending and self._pending[0].done():
            self._pending.pop(0).result()

    def wait(self) -> None:
        """Wait for all writes. Raises the same errors as `check`."""
        while self._pending:
            self._pending.pop(0).result()

    def _pull(self) -> None:
        """Replace the local metrics by the published ones, which belong to the last published checkpoint."""
        if self._store is None:
            return
        path = self._folder / METRICS_FILE
        try:
            write_bytes(path, self._store.read(METRICS_FILE))
        except FileNotFoundError:
            path.unlink(missing_ok=True)

    def _save(self, checkpoint: Checkpoint) -> None:
        run, folder = self._config.run, self._folder
        keep = (run.keep_last, run.keep_every)
        local = (1, 0) if self._store else keep
        path = insist(lambda: save_checkpoint(folder, checkpoint, *local), folder, run.patience_s)
        page = folder / PAGE_FILE
        insist(lambda: write_bytes(page, run_page(folder, self._config.name)), page, run.patience_s)
        if (store := self._store) is None:
            return
        events = [p.relative_to(folder).as_posix() for p in sorted((folder / EVENTS).glob("*"))]
        for name in (METRICS_FILE, CONFIG_FILE, PAGE_FILE, *events):
            self._publish(name)
        self._insist_on_store(lambda: publish_checkpoint(store, path, *keep))

    def _publish(self, name: str) -> None:
        path = self._folder / name
        if (store := self._store) is not None and path.exists():
            self._insist_on_store(lambda: store.write(name, path.read_bytes()))

    def _insist_on_store(self, upload: Callable[[], None]) -> None:
        deadline = time.monotonic() + self._config.run.patience_s
        while True:
            try:
                return upload()
            except StoreError as error:
                if time.monotonic() >= deadline:
                    raise
                log.warning("%s: retrying in %g s", error, _PAUSE_S)
            time.sleep(min(_PAUSE_S, max(deadline - time.monotonic(), 0)))


def _copied(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return copies on the CPU, which the next step does not change."""
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items()}
