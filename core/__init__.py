"""Basics for every package: errors and reason codes, named random generators, atomic files, locks and logging."""

from helix4d.core.differences import differences
from helix4d.core.errors import (
    AssetError,
    AssetState,
    ConfigError,
    FormatError,
    Helix4DError,
    ReasonCode,
    SetupError,
    first_line,
)
from helix4d.core.files import (
    atomic_writer,
    canonical_json,
    fsync_folder,
    sha256_file,
    sha256_json,
    write_bytes,
    write_json,
)
from helix4d.core.logs import setup_logging
from helix4d.core.rng import generator
from helix4d.core.schema import NewerError, Schema
from helix4d.core.storage import StorageError, insist

__all__ = [
    "AssetError",
    "AssetState",
    "ConfigError",
    "FormatError",
    "Helix4DError",
    "NewerError",
    "ReasonCode",
    "Schema",
    "SetupError",
    "StorageError",
    "atomic_writer",
    "canonical_json",
    "differences",
    "first_line",
    "fsync_folder",
    "generator",
    "insist",
    "setup_logging",
    "sha256_file",
    "sha256_json",
    "write_bytes",
    "write_json",
]
