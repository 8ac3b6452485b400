"""The member `tracks.npz`: tracked points as a NumPy archive without compression or pickles.

Arrays: `positions` (T, N, 3) float32, `normals` (T, N, 3) float16, `present` (T, N) bool, `frame` () int64; see
`helix4d.assets.tracks`. Equal tracks are equal bytes.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from typing import IO

import numpy as np
from numpy.lib import format as npy

from helix4d.assets.tracks import Tracks
from helix4d.core import FormatError
from helix4d.curation.shards.members import MOST

TRACKS_MEMBER = "tracks.npz"

_DTYPES = {"positions": "<f4", "normals": "<f2", "present": "|b1", "frame": "<i8"}
_UNREADABLE = (zipfile.BadZipFile, ValueError, EOFError, NotImplementedError, RuntimeError, OverflowError)
_HEADER_BYTES = 1 << 12
"""Largest header of an array in the archive: NumPy writes 128 bytes."""


def encode_tracks(tracks: Tracks) -> bytes:
    """Return the bytes of the member."""
    stream = io.BytesIO()
    np.savez(
        stream,
        positions=tracks.positions,
        normals=tracks.normals,
        present=tracks.present,
        frame=np.array(tracks.frame, np.int64),
    )
    return stream.getvalue()


def decode_tracks(data: bytes, frames: int, points: int, where: object) -> Tracks:
    """Decode the member of an untrusted shard. Sizes are compared with the expected ones before anything is read.

    Args:
        data: bytes of the member.
        frames: T, as recorded in `clip.json`.
        points: N, likewise.
        where: name of the member, for messages.

    Raises:
        FormatError: if it is damaged, or contains anything but the expected arrays.
    """
    shapes = {
        "positions": (frames, points, 3),
        "normals": (frames, points, 3),
        "present": (frames, points),
        "frame": (),
    }
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            _check_sizes(archive, shapes, where)
            arrays = {name: _read(archive, name, shape, where) for name, shape in shapes.items()}
    except _UNREADABLE as error:
        raise FormatError(f"{where}: does not decode ({type(error).__name__}: {error})") from error
    frame = int(arrays["frame"])
    if not 0 <= frame < frames:
        raise FormatError(f"{where}: frame is {frame}: expected 0 to {frames - 1}")
    return Tracks(arrays["positions"], arrays["normals"], arrays["present"], frame)


def decode_any_tracks(data: bytes, where: object) -> Tracks:
    """Decode tracks from an untrusted shard without its `clip.json`, with the general limits on frames and points.

    Args:
        data: bytes of the member.
        where: name of the member, for messages.

    Raises:
        FormatError: as `decode_tracks`.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive, archive.open("present.npy") as stream:
            shape, _, _ = _header(stream)
    except (KeyError, *_UNREADABLE) as error:
        raise FormatError(f"{where}: does not decode ({type(error).__name__}: {error})") from error
    if len(shape) != 2 or shape[0] > MOST["frames"] or shape[1] > MOST["tracks"]:
        most = f"{MOST['frames']} frames of {MOST['tracks']:,} points"
        raise FormatError(f"{where}: present has the shape {shape}, expected at most {most}")
    return decode_tracks(data, *shape, where)


def _check_sizes(archive: zipfile.ZipFile, shapes: Mapping[str, tuple[int, ...]], where: object) -> None:
    members = archive.infolist()
    expected = sorted(f"{name}.npy" for name in shapes)
    if sorted(member.filename for member in members) != expected:
        raise FormatError(f"{where}: expected the arrays {', '.join(expected)}")
    for member in members:
        name = member.filename.removesuffix(".npy")
        size = int(np.prod(shapes[name], dtype=np.int64)) * np.dtype(_DTYPES[name]).itemsize
        if member.compress_type != zipfile.ZIP_STORED or not size < member.file_size <= size + _HEADER_BYTES:
            raise FormatError(f"{where}: {name} has {member.file_size:,} bytes, expected {size:,} without compression")


def _read(archive: zipfile.ZipFile, name: str, shape: tuple[int, ...], where: object) -> np.ndarray:
    with archive.open(f"{name}.npy") as stream:
        found, order, dtype = _header(stream)
        if found != shape or order or dtype != np.dtype(_DTYPES[name]):
            raise FormatError(f"{where}: {name} is {dtype} {found}, expected {np.dtype(_DTYPES[name])} {shape}")
        values = np.frombuffer(stream.read(), dtype)
    return values.reshape(shape)


def _header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    if npy.read_magic(stream) != (1, 0):
        raise ValueError("the format version of an array is not 1.0")
    shape, order, dtype = npy.read_array_header_1_0(stream, max_header_size=_HEADER_BYTES)
    # A one-dimensional or empty array is both in C and in Fortran order; NumPy records the former.
    return shape, order, dtype
