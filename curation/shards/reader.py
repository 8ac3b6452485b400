"""Random access to the samples of a shard."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from helix4d.core import FormatError
from helix4d.curation.places.folder import Place, folder_and_name, is_far
from helix4d.curation.shards.members import parse_clip
from helix4d.curation.shards.sidecar import check_form, read_sidecar, sidecar_path

_MOST_BYTES = 1 << 30
"""Largest member that is read into memory."""


class ShardReader:
    """Random access to a committed shard, at a path or URL: one seek and read, or one range request, per member.

    From a URL, only the sidecar (once) and the requested members are downloaded.

    Args:
        tar_path: path or URL (any protocol that fsspec supports) of the `.tar`; its sidecar must be beside it.
        sidecar: its sidecar, if already parsed.

    Raises:
        FormatError: if the shard is not committed, or its version is not supported.
        StoreError: if a URL cannot be read.
    """

    def __init__(self, tar_path: Place, sidecar: dict[str, Any] | None = None) -> None:
        self._where = str(tar_path)
        self._folder, self._name = folder_and_name(tar_path)
        self.path = Path(tar_path)
        if not is_far(tar_path) and not self.path.is_file():
            hint = "is a folder: pass one shard in it, such as train/helix4d-000000.tar"
            raise FormatError(f"{self._where}: {hint if self.path.is_dir() else 'no such file'}")
        if sidecar is not None:
            check_form(sidecar, sidecar_path(self.path))
        else:
            sidecar = read_sidecar(tar_path)
        if sidecar is None:
            raise FormatError(
                f"{self._where}: there is no {sidecar_path(self.path).name} beside it: either this is not a shard, or "
                "it is not committed because its run is still in progress or was interrupted"
            )
        self.sidecar = sidecar
        self._samples = {sample["key"]: sample for sample in sidecar["samples"]}

    def keys(self) -> list[str]:
        """Return the keys of the samples, sorted."""
        return sorted(self._samples)

    def sample(self, key: str) -> Mapping[str, Any]:
        """Return the index entry of a sample: offset, bytes, tokens, members.

        Raises:
            KeyError: if the shard has no such sample.
        """
        return self._samples[key]

    def members(self, key: str) -> list[str]:
        """Return the suffixes of a sample's members, sorted."""
        return sorted(self._samples[key]["members"])

    def read(self, key: str, suffix: str) -> bytes:
        """Read one member.

        Raises:
            KeyError: if there is no such sample or member.
            FormatError: if the tar is missing or truncated.
        """
        return self.read_members(key, [suffix])[suffix]

    def read_view(self, key: str, view: int) -> dict[str, bytes]:
        """Read one view: suffix (`view_03.json` with camera and lights, `view_03_frame_00.webp`, ...) -> bytes.

        Raises:
            KeyError: if there is no such sample or view.
            FormatError: as `read`.
        """
        wanted = [
            suffix for suffix in self.members(key) if suffix.startswith((f"view_{view:02d}.", f"view_{view:02d}_"))
        ]
        if not wanted:
            raise KeyError(f"{key}: has no view {view}")
        return self.read_members(key, wanted)

    def read_members(self, key: str, suffixes: Iterable[str]) -> dict[str, bytes]:
        """Read several members of a sample: suffix -> bytes. From a URL, they are requested concurrently.

        Raises:
            KeyError, FormatError: as `read`.
        """
        members = self._samples[key]["members"]
        names = list(dict.fromkeys(suffixes))
        return dict(zip(names, self._read({f"{key}.{name}": members[name] for name in names}), strict=True))

    def _read(self, extents: Mapping[str, tuple[int, int]]) -> list[bytes]:
        """Read members by name: `KEY.SUFFIX` -> (offset, size)."""
        for member, (_, size) in extents.items():
            if size > _MOST_BYTES:
                raise FormatError(f"{self._where}: {member} has {size:,} bytes: members are at most 1 GiB")
        try:
            found = self._folder.read_ranges(self._name, [(offset, size) for offset, size in extents.values()])
        except FileNotFoundError as error:
            raise FormatError(f"{self._where}: missing, although its sidecar exists") from error
        for (member, (_, size)), data in zip(extents.items(), found, strict=True):
            if len(data) > size:
                raise FormatError(
                    f"{self._where}: got {len(data):,} bytes for a range of {size:,}: the server ignores range requests"
                )
            if len(data) < size:
                raise FormatError(
                    f"{self._where}: {member} ends after {len(data):,} of {size:,} bytes: the shard is truncated"
                )
        return found

    def clip(self, key: str) -> dict[str, Any]:
        """Read a sample's `clip.json`.

        Raises:
            KeyError: if there is no such sample.
            FormatError: if it is missing or damaged, or its version is not supported.
        """
        return self._clips([key])[key]

    def clips(self) -> dict[str, dict[str, Any]]:
        """Read the `clip.json` of every sample: key -> content. From a URL, they are requested concurrently.

        Raises:
            FormatError: as `clip`.
        """
        return self._clips(self.keys())

    def _clips(self, keys: list[str]) -> dict[str, dict[str, Any]]:
        for key in keys:
            if "clip.json" not in self._samples[key]["members"]:
                raise FormatError(f"{self._where}: {key} has no clip.json: run `helix4d verify`")
        members = {f"{key}.clip.json": self._samples[key]["members"]["clip.json"] for key in keys}
        parts = zip(keys, members, self._read(members), strict=True)
        return {key: parse_clip(data, f"{self._where}: {name}") for key, name, data in parts}
