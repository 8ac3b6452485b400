"""Functions that all layouts share: iterate over the samples of a split, write files once, write images as PNG."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from helix4d.core import ConfigError, FormatError, write_bytes
from helix4d.core.documents import parse_json
from helix4d.curation.places.folder import Place, file_in, folder_at
from helix4d.curation.shards.layout import SPLITS
from helix4d.curation.shards.members import decode_image
from helix4d.curation.shards.reader import ShardReader
from helix4d.render import Camera


@dataclass(frozen=True)
class Exported:
    """Result of exporting a sample.

    Attributes:
        key: key of the sample.
        left_out: why it was omitted; "" if it was written, now or by an earlier run.
    """

    key: str
    left_out: str = ""


def split_readers(output: Place, split: str) -> list[ShardReader]:
    """Return the shards of a split.

    Raises:
        ConfigError: if there is no such split, or it has no shards.
        FormatError: if a shard is not committed or its sidecar is damaged.
        StoreError: if a URL cannot be read.
    """
    if split not in SPLITS:
        raise ConfigError(f"split {split!r}: expected one of {', '.join(SPLITS)}")
    names = [name for name in folder_at(output).names(split) if name.endswith(".tar")]
    if not names:
        raise ConfigError(
            f"{output}: no {split}/*.tar: this is not an output of `helix4d curate`, or the split is empty"
        )
    return [ShardReader(file_in(output, name)) for name in names]


def require_views(reader: ShardReader, layout: str) -> None:
    """Check that a shard has views.

    Raises:
        ConfigError: if it has none.
    """
    config = reader.sidecar["config"]
    if not config.get("views") and not config.get("fixed_views"):
        raise ConfigError(f"{reader.path}: has no views, which the layout {layout} requires: curate with --views 16")


def view_names(reader: ShardReader, key: str, fixed: bool = True) -> list[str]:
    """Return the names of a sample's views: view_00, view_01, ..., then fixed_00, ... if wanted."""
    kinds = ("view_", "fixed_") if fixed else ("view_",)
    names = [suffix.removesuffix(".json") for suffix in reader.members(key) if suffix.endswith(".json")]
    return sorted((name for name in names if name.startswith(kinds)), key=lambda name: (name[0] == "f", name))


def read_camera(reader: ShardReader, key: str, view: str) -> Camera:
    """Read the camera of a view.

    Raises:
        FormatError: if it is damaged.
    """
    where = f"{reader.path}: {key}.{view}.json"
    content = parse_json(reader.read(key, f"{view}.json"), where, "view")
    try:
        return Camera.from_json(content["camera"])
    except (KeyError, TypeError, ValueError, ConfigError) as error:
        raise FormatError(f"{where}: not a camera ({error}): run `helix4d verify`") from error


def write_image(path: Path, reader: ShardReader, key: str, name: str, image_size: int) -> None:
    """Write an image of a sample as PNG, RGBA with straight alpha, unless the file exists.

    Args:
        path: the file.
        reader: the shard.
        key: key of the sample.
        name: view and frame, `view_00_frame_00`.
        image_size: pixels per side that `clip.json` states.
    """

    def encoded() -> bytes:
        suffix = f"{name}.webp"
        picture = io.BytesIO()
        decode_image(reader.read(key, suffix), f"{reader.path}: {key}.{suffix}", image_size).save(picture, "PNG")
        return picture.getvalue()

    write_once(path, encoded)


def write_once(path: Path, make: Callable[[], bytes]) -> None:
    """Write a file atomically, unless it exists: an export that was interrupted continues where it stopped."""
    if not path.exists():
        write_bytes(path, make())


def each_sample(output: Place, split: str) -> Iterator[tuple[ShardReader, str]]:
    """Yield every sample of a split with its shard.

    Raises:
        ConfigError, FormatError, StoreError: as `split_readers`.
    """
    for reader in split_readers(output, split):
        for key in reader.keys():  # noqa: SIM118 (not a dict)
            yield reader, key
