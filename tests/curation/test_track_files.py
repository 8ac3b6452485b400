"""The member `tracks.npz`: read by NumPy and webdataset, and safe to read from a stranger's shard."""

from __future__ import annotations

import io
import pickle
import zipfile

import numpy as np
import pytest

from helix4d.assets.tracks import Tracks
from helix4d.core import FormatError
from helix4d.curation.shards.track_files import decode_tracks, encode_tracks

T, N = 3, 5


def _tracks() -> Tracks:
    draw = np.random.default_rng(0)
    positions = draw.uniform(-0.5, 0.5, (T, N, 3)).astype(np.float32)
    return Tracks(positions, draw.normal(size=(T, N, 3)).astype(np.float16), draw.random((T, N)) < 0.8, 1)


def _archive(compression: int = zipfile.ZIP_STORED, **arrays: bytes | np.ndarray) -> bytes:
    """An archive like ours, with some arrays replaced, by arrays or by the bytes of a member."""
    content: dict[str, bytes | np.ndarray] = dict(np.load(io.BytesIO(encode_tracks(_tracks()))))
    content.update(arrays)
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        for name, value in content.items():
            array = io.BytesIO()
            if not isinstance(value, bytes):
                np.save(array, value, allow_pickle=True)
            archive.writestr(f"{name}.npy", value if isinstance(value, bytes) else array.getvalue())
    return stream.getvalue()


def test_tracks_survive_and_equal_tracks_are_equal_bytes() -> None:
    tracks = _tracks()
    data = encode_tracks(tracks)
    assert data == encode_tracks(_tracks())
    found = decode_tracks(data, T, N, "tracks")
    for name in ("positions", "normals", "present"):
        np.testing.assert_array_equal(getattr(found, name), getattr(tracks, name))
    assert found.frame == 1
    loaded = np.load(io.BytesIO(data), allow_pickle=False)
    assert {name: (loaded[name].shape, loaded[name].dtype.str) for name in loaded} == {
        "positions": ((T, N, 3), "<f4"),
        "normals": ((T, N, 3), "<f2"),
        "present": ((T, N), "|b1"),
        "frame": ((), "<i8"),
    }


class _Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (exec, ("raise SystemExit('executed')",))


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"", "does not decode"),
        (encode_tracks(_tracks())[:-40], "does not decode"),
        (_archive(normals=np.zeros((T, N + 1, 3), np.float16)), "normals"),
        (_archive(positions=np.zeros((T, N, 3), np.float64)), "positions is float64"),
        (_archive(positions=np.zeros((3, T, N), np.float32)), "positions is float32"),
        (_archive(positions=np.asfortranarray(np.zeros((T, N, 3), np.float32))), "positions is float32"),
        (_archive(frame=np.array(T, np.int64)), "frame is 3"),
        (_archive(frame=np.array(-1, np.int64)), "frame is -1"),
        (_archive(more=np.zeros(1)), "expected the arrays"),
        (_archive(zipfile.ZIP_DEFLATED), "without compression"),
        (_archive(present=b"\x93NUMPY" + bytes(40)), "does not decode"),
        (_archive(frame=np.array(_Bomb(), object)), "frame"),
        (_archive(frame=pickle.dumps(_Bomb())), "magic string"),
    ],
)
def test_anything_else_is_refused(data: bytes, what: str) -> None:
    with pytest.raises(FormatError, match=what):
        decode_tracks(data, T, N, "tracks")
