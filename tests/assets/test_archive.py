from __future__ import annotations

import io
import stat
import zipfile
from pathlib import Path

import pytest

from helix4d.assets import SUFFIXES, Limits, bake, content_hash, list_clips, validate
from helix4d.assets.archive import single_asset
from helix4d.assets.samples import SAMPLES
from helix4d.core import AssetError, ReasonCode
from helix4d.curation.sources import source as sources

GLB = SAMPLES[sorted(SAMPLES)[0]]()


def packed(files: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return stream.getvalue()


def code_of(path: Path, data: bytes, limits: Limits | None = None) -> tuple[ReasonCode, str]:
    path.write_bytes(data)
    with pytest.raises(AssetError) as caught:
        validate(path, limits or Limits())
    return caught.value.code, caught.value.message


@pytest.mark.parametrize(
    "files",
    [
        {"model.glb": GLB},
        {"source/model.GLB": GLB, "textures/a.png": b"x", "__MACOSX/._model.glb": b"x", ".hidden.fbx": b"x"},
        {"source/inner.zip": packed({"model.glb": GLB, "license.txt": b"CC0"}), "textures/a.png": b"x"},
    ],
)
def test_the_one_asset_of_an_archive_is_baked(files: dict[str, bytes], tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(packed(files))
    (tmp_path / "plain.glb").write_bytes(GLB)
    validate(path)
    assert list_clips(path) == list_clips(tmp_path / "plain.glb")
    one, two = bake(path, frames=2), bake(tmp_path / "plain.glb", frames=2)
    assert (one.frames[1].triangles() == two.frames[1].triangles()).all()
    with single_asset(path, Limits()) as (inside, root):
        assert inside.is_relative_to(root)
    assert not root.exists()
    assert content_hash(path) != content_hash(tmp_path / "plain.glb")


def test_archives_of_no_or_several_assets_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    inner = packed({"a.glb": GLB})
    for files, found in (
        ({"a.txt": b"x"}, "none"),
        ({"a.glb": GLB, "b.fbx": b"x"}, "2 (a.glb, b.fbx)"),
        ({"a.zip": inner, "b.zip": inner}, "none"),
        ({"x/a_1.obj": b"", "x/a_2.obj": b"", "a.glb": GLB}, "2 (a.glb, x)"),
        ({"a.zip": packed({"b.zip": inner})}, "none"),
    ):
        code, message = code_of(path, packed(files))
        assert code is ReasonCode.INVALID_ARCHIVE
        assert message == f"must contain exactly one asset, found {found}"


@pytest.mark.parametrize("name", ["../a.glb", "/etc/a.glb", "x/../../a.glb", "x\\..\\a.glb", "C:/a.glb"])
def test_names_that_leave_the_folder_are_refused(name: str, tmp_path: Path) -> None:
    assert code_of(tmp_path / "a.zip", packed({name: GLB}))[0] is ReasonCode.URI_OUTSIDE_ASSET
    assert code_of(tmp_path / "b.zip", packed({"x.zip": packed({name: GLB})}))[0] is ReasonCode.URI_OUTSIDE_ASSET


def test_links_are_refused(tmp_path: Path) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        link = zipfile.ZipInfo("a.glb")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
    assert code_of(tmp_path / "a.zip", stream.getvalue())[0] is ReasonCode.URI_OUTSIDE_ASSET


def test_zip_bombs_are_refused_before_unpacking(tmp_path: Path) -> None:
    bomb = packed({"a.glb": bytes(50_000_000)})
    assert len(bomb) < 100_000
    assert code_of(tmp_path / "a.zip", bomb, Limits(file_bytes=1_000_000))[0] is ReasonCode.OUT_OF_MEMORY
    nested = packed({"inner.zip": bomb})
    assert code_of(tmp_path / "b.zip", nested, Limits(file_bytes=1_000_000))[0] is ReasonCode.OUT_OF_MEMORY
    many = packed({f"{n}.txt": b"" for n in range(20_001)}, zipfile.ZIP_STORED)
    assert code_of(tmp_path / "c.zip", many)[0] is ReasonCode.OUT_OF_MEMORY


def test_broken_archives_are_refused(tmp_path: Path) -> None:
    whole = packed({"a.glb": GLB})
    cut_inside = bytearray(whole)
    cut_inside[len(GLB) // 4] ^= 0xFF
    encrypted = bytearray(packed({"a.glb": GLB}))
    encrypted[6] |= 1
    encrypted[encrypted.rindex(b"PK\1\2") + 8] |= 1
    for data in (b"PK", whole[: len(whole) // 2], bytes(cut_inside), bytes(encrypted)):
        assert code_of(tmp_path / "a.zip", data)[0] is ReasonCode.INVALID_ARCHIVE
    # The declared size is not trusted.
    lying = bytearray(packed({"a.glb": bytes(1_000_000)}))
    at = lying.rindex(b"PK\1\2") + 24
    lying[at : at + 4] = (10).to_bytes(4, "little")
    assert code_of(tmp_path / "b.zip", bytes(lying))[0] is ReasonCode.INVALID_ARCHIVE


def test_curation_lists_the_formats_that_can_be_baked() -> None:
    assert sources.SUFFIXES == SUFFIXES


def test_a_folder_of_numbered_files_is_listed_as_one_asset(tmp_path: Path) -> None:
    for name in (
        "walk/a_01.obj",
        "walk/a_02.obj",
        "walk/a.mtl",
        "mixed/a_1.obj",
        "mixed/b_2.obj",
        "one/a_1.obj",
        "x.zip",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"12345")
    found = sources.list_folder(tmp_path)
    assert [(one.name, one.size) for one in found] == [("walk", 15), ("x.zip", 5)]
    (only,) = sources.list_folder(tmp_path / "walk")
    assert only.name == "walk"
