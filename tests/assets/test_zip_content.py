"""Members with every compression method, intact and damaged."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from helix4d.assets import Limits, bake, validate
from helix4d.assets.samples import SAMPLES
from helix4d.core import AssetError, ReasonCode
from tests.assets.zips import (
    BZIP2,
    DEFLATE64,
    DEFLATED,
    LZMA,
    STORED,
    ZSTANDARD,
    Member,
    compress,
    start_of_data,
    zipped,
)

GLB = SAMPLES[sorted(SAMPLES)[0]]()
_REPOSITORY = Path(__file__).resolve().parents[2]


def refusal(path: Path, data: bytes) -> AssetError:
    path.write_bytes(data)
    with pytest.raises(AssetError) as caught:
        validate(path, Limits())
    return caught.value


@pytest.mark.parametrize("method", [STORED, DEFLATED, BZIP2, LZMA])
def test_every_supported_method_is_unpacked(method: int, tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(zipped(Member(b"a.glb", GLB, method)))
    (tmp_path / "plain.glb").write_bytes(GLB)
    one, two = bake(tmp_path / "a.zip", frames=2), bake(tmp_path / "plain.glb", frames=2)
    assert (one.frames[1].triangles() == two.frames[1].triangles()).all()


@pytest.mark.parametrize("method", [STORED, DEFLATED, BZIP2, LZMA])
def test_damage_anywhere_is_an_invalid_archive(method: int, tmp_path: Path) -> None:
    member = Member(b"a.glb", GLB, method)
    whole = zipped(member)
    start = start_of_data(whole, member)
    end = whole.index(b"PK\1\2", start)
    places = []
    if method == LZMA:
        places = [start + 2, start + 3, start + 4]  # before it the packer's version, behind it the dictionary's size
        start += 9
    places += [start, start + 1, start + 5, start + 8, (start + end) // 2, end - 5, end - 1]
    places += range(start + 10, end, (end - start) // 12)
    for place in places:
        damaged = bytearray(whole)
        damaged[place] ^= 0xA5
        error = refusal(tmp_path / "a.zip", bytes(damaged))
        assert error.code is ReasonCode.INVALID_ARCHIVE, place
        assert error.message.startswith("the member 'a.glb' "), place


@pytest.mark.parametrize("method", [DEFLATED, BZIP2, LZMA])
def test_truncated_or_missing_data_is_refused(method: int, tmp_path: Path) -> None:
    data = compress(GLB, method)
    for kept in (0, 1, 3, 9, len(data) // 2, len(data) - 20):
        error = refusal(tmp_path / "a.zip", zipped(Member(b"a.glb", GLB, method, compressed=data[:kept])))
        assert error.code is ReasonCode.INVALID_ARCHIVE
    for size in (len(GLB) - 1, len(GLB) + 1):  # the listed size is not trusted
        error = refusal(tmp_path / "a.zip", zipped(Member(b"a.glb", GLB, method, size=size)))
        assert "the archive lists" in error.message


@pytest.mark.parametrize(
    ("method", "named"), [(DEFLATE64, "9 (Deflate64)"), (ZSTANDARD, "93 (Zstandard)"), (99, "99 (AES)"), (77, "77 (un")]
)
def test_unsupported_methods_are_named(method: int, named: str, tmp_path: Path) -> None:
    error = refusal(tmp_path / "a.zip", zipped(Member(b"a.glb", GLB, method)))
    assert error.code is ReasonCode.INVALID_ARCHIVE
    assert f"method {named}" in error.message
    assert "repack" in error.message


def test_encrypted_members_of_any_method_are_refused(tmp_path: Path) -> None:
    for method in (STORED, DEFLATED, BZIP2, LZMA, 99):
        error = refusal(tmp_path / "a.zip", zipped(Member(b"a.glb", GLB, method, flags=1)))
        assert (error.code, "encrypted" in error.message) == (ReasonCode.INVALID_ARCHIVE, True)


@pytest.mark.parametrize("method", [DEFLATED, BZIP2, LZMA])
def test_memory_does_not_grow_with_the_unpacked_size(method: int, tmp_path: Path) -> None:
    """800 bytes of bzip2 are a gigabyte; `zipfile` unpacks them at once, whatever size is listed."""
    data = compress(bytes(120_000_000), method)
    (tmp_path / "a.zip").write_bytes(zipped(Member(b"a.glb", bytes(10), method, compressed=data)))
    script = (
        "import resource\nfrom pathlib import Path\nfrom helix4d.assets.archive import single_asset\n"
        "from helix4d.assets import Limits\nfrom helix4d.core import AssetError\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        f"try:\n    with single_asset(Path({str(tmp_path / 'a.zip')!r}), Limits()):\n        pass\n"
        "except AssetError as error:\n    print(error.code)\n"
        "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)\n"
    )
    printed = subprocess.run(
        [sys.executable, "-c", script], cwd=_REPOSITORY, capture_output=True, text=True, check=True
    )
    code, grown_mib = printed.stdout.split()
    assert code == "invalid_archive"
    assert int(grown_mib) < 50
