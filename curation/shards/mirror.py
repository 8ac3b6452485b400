"""Outputs at a URL: shards, plan and ledger are published there, and a run resumes from what is published.

A run works in a local folder, and everything about the URL is in this module. A shard's tar is uploaded first and its
sidecar last, so the sidecar commits the shard there too; the local tar is then removed. Object stores cannot append:
the ledger is uploaded in numbered pieces, each before the shard whose assets it records, and as one file at the end.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from helix4d.core import ConfigError, atomic_writer, sha256_file, write_bytes, write_json
from helix4d.core.locks import LOCK_FILE
from helix4d.curation.places.store import Store, StoreError, is_half
from helix4d.curation.remote.config import DownloadConfig
from helix4d.curation.shards.layout import LEDGER_FILE, LEDGER_PIECES, PICTURES_FOLDER, PLAN_FILE, REPORT_FOLDER, SPLITS
from helix4d.curation.shards.ledger import ledger_files

log = logging.getLogger("helix4d.curation")

_STATE = ".published.json"
_COPY_BYTES = 8 << 20


class Mirror:
    """The published copy of a working folder. Without a URL, every call does nothing.

    Args:
        folder: working folder of the run.
        url: URL of the output; None for a local folder.
        patience: number of attempts and pauses when a write is refused.
    """

    def __init__(self, folder: Path, url: str | None, patience: DownloadConfig) -> None:
        self._folder = folder
        self._store = None if url is None else Store(url, patience)

    def pull(self) -> None:
        """Synchronize the working folder with the published output, and publish its complete shards.

        Raises:
            StoreError: if the store does not respond.
            ConfigError: if the working folder holds files that are not a run's, and that would have to be deleted.
        """
        store = self._store
        if store is None:
            return
        names = store.entries()
        for name in sorted(filter(is_half, names)):  # uploads of a killed run; half a ledger piece must not be read
            store.remove(name)
            del names[name]
        plan = store.read(PLAN_FILE) if PLAN_FILE in names else b""
        if not self._matches(plan, names):
            # Another machine continued the run, or none was started: the working folder is out of date.
            self._clear()
            content = b"".join(store.read(name) for name in ledger_files(names))
            if content:
                write_bytes(self._folder / LEDGER_FILE, content)
            self._remember(len(content), len(ledger_files(names)) - (LEDGER_FILE in names), LEDGER_FILE in names)
        if plan:
            write_bytes(self._folder / PLAN_FILE, plan)
        published = {name for name in names if name.endswith(".json") and name.partition("/")[0] in SPLITS}
        for path in sorted(path for split in SPLITS for path in (self._folder / split).glob("*.json")):
            name = path.relative_to(self._folder).as_posix()
            if name not in published:
                tar = path.with_suffix(".tar")
                if tar.exists():
                    publish_shard(store, self._folder, tar)
                else:
                    path.unlink()
        for name in sorted(published):
            if not (self._folder / name).exists():
                write_bytes(self._folder / name, store.read(name))

    def push(self, *names: str) -> None:
        """Upload files of the working folder; missing ones are skipped.

        Raises:
            StoreError: if the store refuses a file.
        """
        for name in names:
            if self._store is not None and (self._folder / name).exists():
                self._store.upload(name, self._folder / name)

    def push_ledger(self) -> None:
        """Upload the lines that the ledger gained. Call this before writing a shard.

        Raises:
            StoreError: if the store refuses the file.
        """
        if self._store is None:
            return
        state, path = self._state(), self._folder / LEDGER_FILE
        if state is None or not path.exists():
            return
        with open(path, "rb") as stream:
            stream.seek(state["bytes"])
            gained = stream.read()
        if gained:
            self._store.write(f"{LEDGER_PIECES}/{state['pieces']:06d}.jsonl", gained)
            self._remember(state["bytes"] + len(gained), state["pieces"] + 1, state["whole"])

    def finish(self, *names: str) -> None:
        """Replace the pieces of the ledger by the whole, and upload further files.

        Raises:
            StoreError: if the store refuses a file.
        """
        if self._store is None:
            return
        size = (self._folder / LEDGER_FILE).stat().st_size
        if self._state() != {"bytes": size, "pieces": 0, "whole": True}:
            self.push(LEDGER_FILE)
            # Pieces left behind by a crash merely repeat lines of the whole.
            for name in self._store.names(LEDGER_PIECES):
                self._store.remove(name)
            self._remember(size, 0, whole=True)
        self.push(*names)

    def push_report(self) -> None:
        """Replace the published report. Existing pictures are kept: their names identify their content.

        Raises:
            StoreError: if the store refuses a file.
        """
        if self._store is None:
            return
        local = {
            path.relative_to(self._folder).as_posix()
            for path in (self._folder / REPORT_FOLDER).rglob("*")
            if path.is_file()
        }
        published = set(self._store.names(REPORT_FOLDER))
        pictures = f"{REPORT_FOLDER}/{PICTURES_FOLDER}/"
        # The page last, because it refers to the pictures.
        self.push(*sorted(name for name in local - published if name.startswith(pictures)))
        self.push(*sorted(name for name in local if not name.startswith(pictures)))
        for name in sorted(published - local):
            self._store.remove(name)

    def take_back(self, tar: Path) -> None:
        """Download a published shard into the working folder and unpublish it, so that it can be rebuilt.

        Raises:
            StoreError: if the shard cannot be downloaded intact, or its sidecar cannot be removed.
        """
        if self._store is None:
            return
        name = tar.relative_to(self._folder).as_posix()
        if not tar.exists():
            sidecar = json.loads(tar.with_suffix(".json").read_bytes())
            with atomic_writer(tar) as stream:
                for start in range(0, sidecar["bytes"], _COPY_BYTES):
                    size = min(_COPY_BYTES, sidecar["bytes"] - start)
                    stream.write(self._store.read_ranges(name, [(start, size)])[0])
            if sha256_file(tar) != sidecar["sha256"]:
                tar.unlink()
                raise StoreError(
                    f"{self._store.url}: {name} differs from the SHA-256 in its sidecar: run `helix4d verify`"
                )
        self._store.remove(name.removesuffix(".tar") + ".json")

    def _matches(self, plan: bytes, names: Mapping[str, Mapping[str, Any]]) -> bool:
        """Return whether this folder wrote what is published, and so holds all of it and perhaps more.

        Args:
            plan: published plan.
            names: name of every published file -> its properties, with the size.
        """
        state, path = self._state(), self._folder / PLAN_FILE
        if state is None or not plan or not path.exists() or path.read_bytes() != plan:
            return False
        files = ledger_files(names)
        # The size differs if `helix4d discard` removed lines.
        published = {
            "bytes": sum(names[name]["size"] for name in files),
            "pieces": len(files) - (LEDGER_FILE in names),
            "whole": LEDGER_FILE in names,
        }
        ledger = self._folder / LEDGER_FILE
        size = ledger.stat().st_size if ledger.exists() else 0
        return state == published and size >= published["bytes"]

    def _state(self) -> dict[str, Any] | None:
        """Read the published state of the ledger: bytes, number of pieces, and whether there is a whole file."""
        try:
            state: dict[str, Any] = json.loads((self._folder / _STATE).read_bytes())
        except (FileNotFoundError, ValueError):
            return None
        return state

    def _remember(self, size: int, pieces: int, whole: bool) -> None:
        write_json(self._folder / _STATE, {"bytes": size, "pieces": pieces, "whole": whole})

    def _clear(self) -> None:
        paths = [path for path in sorted(self._folder.glob("*")) if path.name not in (LOCK_FILE, _STATE)]
        if paths and not (self._folder / _STATE).exists():
            raise ConfigError(
                f"--work {self._folder}: contains files of another origin ({paths[0].name}, ...), and a run would "
                "delete them: choose an empty folder"
            )
        # First mark the folder as a run's, in a state that matches no output, in case of a crash while deleting.
        self._remember(0, -1, whole=False)
        for path in paths:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()


def publish_shard(store: Store, folder: Path, tar: Path) -> None:
    """Upload a shard, its sidecar last, and remove the local tar. Without a local tar, that has been done before.

    Raises:
        StoreError: if the store refuses a file.
    """
    if not tar.exists():
        return
    name = tar.relative_to(folder).as_posix()
    store.upload(name, tar)
    store.upload(name.removesuffix(".tar") + ".json", tar.with_suffix(".json"))
    tar.unlink()
