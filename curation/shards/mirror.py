"""An output behind a URL: its shards, plan and ledger are published there, and a run goes on from what is there.

The run works in a local folder and knows nothing of the URL, but for a few calls here. A shard's tar is put first and
its sidecar last, so the sidecar is the commit mark there as here; the local tar is then removed. Object stores cannot
append: the ledger goes up in numbered pieces, each before the shard that it tells of, and as one file at the end.
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
    """The published side of a working folder. Without a URL, every call does nothing.

    Args:
        folder: where the run works.
        url: where the output goes; None for an output that is a local folder.
        patience: how often and with which pauses a refused write is tried again.
    """

    def __init__(self, folder: Path, url: str | None, patience: DownloadConfig) -> None:
        self._folder = folder
        self._store = None if url is None else Store(url, patience)

    def pull(self) -> None:
        """Make the working folder agree with what is published; what it has beyond that and can prove is put there.

        Raises:
            StoreError: if the store does not answer.
            ConfigError: if other files than a run's lie in the working folder, which would have to go.
        """
        store = self._store
        if store is None:
            return
        names = store.entries()
        for name in sorted(filter(is_half, names)):  # of a killed run; a half ledger piece must not be read
            store.remove(name)
            del names[name]
        plan = store.read(PLAN_FILE) if PLAN_FILE in names else b""
        if not self._is_ours(plan, names):
            # Another machine went on there, or nothing was begun: what lies here belongs to something else.
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
        """Put files of the working folder there, those that exist.

        Raises:
            StoreError: if the store refuses one.
        """
        for name in names:
            if self._store is not None and (self._folder / name).exists():
                self._store.upload(name, self._folder / name)

    def push_ledger(self) -> None:
        """Put there what the ledger has gained. To be called before a shard is written.

        Raises:
            StoreError: if the store refuses it.
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
        """Put the whole ledger there in place of its pieces, and further files.

        Raises:
            StoreError: if the store refuses one.
        """
        if self._store is None:
            return
        size = (self._folder / LEDGER_FILE).stat().st_size
        if self._state() != {"bytes": size, "pieces": 0, "whole": True}:
            self.push(LEDGER_FILE)
            # Pieces that stay behind after a crash repeat its last lines, which says the same.
            for name in self._store.names(LEDGER_PIECES):
                self._store.remove(name)
            self._remember(size, 0, whole=True)
        self.push(*names)

    def push_report(self) -> None:
        """Put the report there in place of an earlier one. Pictures that are there stay: names tell their content.

        Raises:
            StoreError: if the store refuses a file.
        """
        if self._store is None:
            return
        here = {
            path.relative_to(self._folder).as_posix()
            for path in (self._folder / REPORT_FOLDER).rglob("*")
            if path.is_file()
        }
        there = set(self._store.names(REPORT_FOLDER))
        pictures = f"{REPORT_FOLDER}/{PICTURES_FOLDER}/"
        # The page last: it names the others.
        self.push(*sorted(name for name in here - there if name.startswith(pictures)))
        self.push(*sorted(name for name in here if not name.startswith(pictures)))
        for name in sorted(there - here):
            self._store.remove(name)

    def take_back(self, tar: Path) -> None:
        """Fetch a published shard into the working folder and unpublish it: it will be written anew.

        Raises:
            StoreError: if the store does not give it whole, or refuses.
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
                raise StoreError(f"{self._store.url}: {name} is not what its sidecar says: see `helix4d verify`")
        self._store.remove(name.removesuffix(".tar") + ".json")

    def _is_ours(self, plan: bytes, names: Mapping[str, Mapping[str, Any]]) -> bool:
        """Whether this folder wrote what is published, so that it holds all of it and perhaps more.

        Args:
            plan: the published one.
            names: of all published files, with their sizes.
        """
        state, path = self._state(), self._folder / PLAN_FILE
        if state is None or not plan or not path.exists() or path.read_bytes() != plan:
            return False
        files = ledger_files(names)
        # Another size: `helix4d discard` took lines out.
        published = {
            "bytes": sum(names[name]["size"] for name in files),
            "pieces": len(files) - (LEDGER_FILE in names),
            "whole": LEDGER_FILE in names,
        }
        ledger = self._folder / LEDGER_FILE
        size = ledger.stat().st_size if ledger.exists() else 0
        return state == published and size >= published["bytes"]

    def _state(self) -> dict[str, Any] | None:
        """Bytes of the ledger that are published, in how many pieces, and whether its beginning is one file."""
        try:
            state: dict[str, Any] = json.loads((self._folder / _STATE).read_bytes())
        except (FileNotFoundError, ValueError):
            return None
        return state

    def _remember(self, size: int, pieces: int, whole: bool) -> None:
        write_json(self._folder / _STATE, {"bytes": size, "pieces": pieces, "whole": whole})

    def _clear(self) -> None:
        found = [path for path in sorted(self._folder.glob("*")) if path.name not in (LOCK_FILE, _STATE)]
        if found and not (self._folder / _STATE).exists():
            raise ConfigError(
                f"--work {self._folder}: holds files that no run with an output at a URL put there ({found[0].name}, "
                "...): name an empty folder"
            )
        # Before anything goes: what a crash leaves must still be known as a run's, and agree with no store.
        self._remember(0, -1, whole=False)
        for path in found:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()


def publish_shard(store: Store, folder: Path, tar: Path) -> None:
    """Put a shard there, its sidecar last, and remove the local tar; without a tar, that was done before.

    Raises:
        StoreError: if the store refuses it.
    """
    if not tar.exists():
        return
    name = tar.relative_to(folder).as_posix()
    store.upload(name, tar)
    store.upload(name.removesuffix(".tar") + ".json", tar.with_suffix(".json"))
    tar.unlink()
