"""The index on disk: `index/SPLIT-000000.parquet`, a row per sample, sorted by shard and key.

The number is that of the generation. Rows are written in groups, so that an output of any size fits in memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from helix4d.core import ConfigError, FormatError, Schema, atomic_writer
from helix4d.core.extras import missing_package
from helix4d.curation.index.rows import MEASURES, shard_rows
from helix4d.curation.places.folder import Folder, Place, folder_at
from helix4d.curation.shards.layout import INDEX_FOLDER, SPLITS

if TYPE_CHECKING:
    import pyarrow

SAMPLE_INDEX = Schema("index of samples", version=1, oldest=1, rewrite="rerun `helix4d curate`")
_VERSION = b"helix4d_version"
_GROUP = 1000
"""Rows per row group."""
_REPAIR = "rerun `helix4d curate`, which rewrites it"


def index_file(split: str) -> str:
    """Return the name of the index of a split: `index/train-000000.parquet`."""
    return f"{INDEX_FOLDER}/{split}-000000.parquet"


def check_pyarrow(purpose: str) -> None:
    """Check that Parquet can be read and written.

    Raises:
        SetupError: if pyarrow is not installed.
    """
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        raise missing_package(purpose, "pyarrow") from error


def write_index(place: Place, shards: Sequence[str], folder: Path) -> list[str]:
    """Write the index of the committed shards of an output. Equal shards give equal bytes, for one pyarrow version.

    Args:
        place: folder or URL of the output.
        shards: names of its shards, `train/helix4d-000000`, in the order of the plan.
        folder: folder below which the files are written.

    Returns:
        Names of the files written. A split without samples has no file; an existing one is removed.

    Raises:
        FormatError: if a shard is damaged.
        StoreError: if a URL cannot be read.
        SetupError: if pyarrow is not installed.
    """
    written = []
    for split in SPLITS:
        rows = shard_rows(place, [name for name in shards if name.startswith(f"{split}/")])
        samples = (row for of_shard in rows for row in of_shard)
        path = folder / index_file(split)
        if (first := next(samples, None)) is None:
            path.unlink(missing_ok=True)
            continue
        _write(path, first, samples)
        written.append(index_file(split))
    return written


def read_index(folder: Folder, name: str, without: Iterable[str] = ()) -> Iterator[dict[str, Any]]:
    """Yield the rows of an index file: column -> value.

    Args:
        folder: the output.
        name: name of the file.
        without: columns to omit.

    Raises:
        FileNotFoundError: if there is no such file.
        FormatError: if it is not an index, or its version is not supported.
        StoreError: if a URL cannot be read.
        SetupError: if pyarrow is not installed.
    """
    check_pyarrow(f"{folder.address(name)}: reading Parquet")
    import pyarrow
    import pyarrow.parquet

    where = folder.address(name)
    data = folder.read(name)
    try:
        file = pyarrow.parquet.ParquetFile(pyarrow.BufferReader(data))
        SAMPLE_INDEX.check({"version": _version(file.schema_arrow)}, where)
        columns = [column for column in file.schema_arrow.names if column not in set(without)]
        for batch in file.iter_batches(_GROUP, columns=columns):
            yield from batch.to_pylist()
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise FormatError(f"{where}: not a valid Parquet file ({type(error).__name__}): {_REPAIR}") from error


def index_files(place: Place) -> tuple[Folder, list[str]]:
    """Return an output and the names of its index files.

    Raises:
        ConfigError: if it has none.
        StoreError: if a URL cannot be read.
    """
    folder = folder_at(place)
    names = [name for name in folder.names(INDEX_FOLDER) if name.endswith(".parquet")]
    if not names:
        raise ConfigError(
            f"{place}: has no {INDEX_FOLDER}/*.parquet: this is not an output of `helix4d curate`, its run has not "
            "finished, or an older version wrote it: rerun `helix4d curate`"
        )
    return folder, names


def _write(path: Path, first: dict[str, Any], rest: Iterator[dict[str, Any]]) -> None:
    check_pyarrow("writing the index")
    import pyarrow
    import pyarrow.parquet

    schema = _schema()
    group = [first]
    with atomic_writer(path) as stream, pyarrow.parquet.ParquetWriter(stream, schema, compression="zstd") as writer:
        while group:
            group += [row for row, _ in zip(rest, range(_GROUP - len(group)), strict=False)]
            try:
                writer.write_table(pyarrow.Table.from_pylist(group, schema))
            except (pyarrow.ArrowException, TypeError, OverflowError) as error:
                raise FormatError(
                    f"{path.name}: a clip.json of {group[0]['shard']} or a later shard has a field of an unexpected "
                    f"type ({error}): run `helix4d verify`"
                ) from error
            group = [row for row, _ in zip(rest, range(1), strict=False)]


def _schema() -> pyarrow.Schema:
    import pyarrow as pa

    text, whole, number, flag = pa.string(), pa.int64(), pa.float64(), pa.bool_()
    extent = pa.struct([("name", text), ("offset", whole), ("bytes", whole)])
    columns: list[tuple[str, pa.DataType]] = [
        ("key", text),
        ("asset", text),
        ("generation", pa.int32()),
        ("shard", text),
        ("shard_sha256", text),
        ("offset", whole),
        ("bytes", whole),
        ("members", pa.list_(extent)),
        ("content_sha256", text),
        ("clip_name", text),
        ("clip_index", whole),
        ("window", whole),
        ("frames", whole),
        ("views", whole),
        ("fixed_views", pa.list_(number)),
        ("resolution", whole),
        ("other_resolutions", pa.list_(whole)),
        ("image_size", whole),
        ("tracks", whole),
        ("seed", whole),
        ("times_s", pa.list_(number)),
        ("triangles", pa.list_(whole)),
        ("voxels", pa.list_(whole)),
        ("tokens", pa.list_(whole)),
        ("max_tokens", whole),
        ("vanished_area", pa.list_(number)),
        ("measures", pa.struct([(name, number) for name in MEASURES])),
        ("geometry_hash", text),
        ("license", text),
        ("license_text", text),
        ("attribution", flag),
        ("share_alike", flag),
        ("non_commercial", flag),
        ("no_derivatives", flag),
        ("title", text),
        ("author", text),
        ("source", text),
        ("captions", pa.list_(text)),
        ("warnings", pa.list_(text)),
        ("metadata", text),
        ("extras", text),
        ("other", text),
        ("config_sha256", text),
    ]
    return pa.schema(columns, {_VERSION: str(SAMPLE_INDEX.version).encode()})


def _version(schema: pyarrow.Schema) -> Any:
    found = (schema.metadata or {}).get(_VERSION, b"0")
    return int(found) if found.isdigit() else found
