"""Names of members: encodings, separators, duplicates, and the layouts of model-sharing sites."""

from __future__ import annotations

import io
import json
import struct
import tempfile
import unicodedata
import zipfile
import zlib
from pathlib import Path
from urllib.parse import quote

import pytest
from PIL import Image

from helix4d.assets import Clip, Limits, bake, validate
from helix4d.assets.archive import single_asset
from helix4d.core import AssetError, ReasonCode
from tests.assets.glb import moving_tetrahedron
from tests.assets.zips import Member, zipped


def png(color: tuple[int, int, int]) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (2, 2), color).save(stream, "PNG")
    return stream.getvalue()


RED, BLUE = png((255, 0, 0)), png((0, 0, 255))


def gltf(buffer: str, image: str, escape: bool = True) -> tuple[bytes, bytes]:
    """Return the JSON of a moving, textured asset that names these files, and the content of its buffer."""
    builder = moving_tetrahedron()
    builder.primitive["attributes"]["TEXCOORD_0"] = builder.accessor([[0, 0], [1, 0], [0, 1], [1, 1]])
    builder.primitive["material"] = 0
    content = bytes(builder.binary)
    document = {
        **builder.gltf,
        "buffers": [{"byteLength": len(content), "uri": buffer}],
        "images": [{"uri": image}],
        "textures": [{"source": 0}],
        "materials": [{"pbrMetallicRoughness": {"baseColorTexture": {"index": 0}}}],
    }
    return json.dumps(document, ensure_ascii=escape).encode(), content


def baked(folder: Path, archive: bytes) -> Clip:
    (folder / "a.zip").write_bytes(archive)
    validate(folder / "a.zip")
    return bake(folder / "a.zip", frames=2)


def color_of(clip: Clip) -> tuple[int, ...]:
    assert clip.warnings == ()
    (image,) = clip.images
    return tuple(image[0, 0, :3].tolist())


@pytest.mark.parametrize(
    ("encoding", "name"),
    [
        ("gbk", "模型"),
        ("gb18030", "㐂纹理"),
        ("big5", "紋理貼圖"),
        ("shift_jis", "表テクスチャ"),  # the first letter ends with the byte of a backslash
        ("euc-kr", "텍스처"),
        ("cp1251", "текстура"),
        ("cp866", "текстура"),
        ("cp1252", "Größe"),
        ("cp850", "Größe"),
        ("cp437", "modèle"),
        ("cp1250", "źródło"),
        ("utf-8", "текстура模型"),
    ],
)
@pytest.mark.parametrize("how", ["plain", "JSON escapes", "percent escapes"])
def test_names_in_legacy_encodings_are_those_that_the_asset_refers_to(
    encoding: str, name: str, how: str, tmp_path: Path
) -> None:
    folder = f"{name} 2"
    uris = f"{name}.bin", f"{folder}/{name}.png"
    if how == "percent escapes":
        uris = quote(uris[0]).lower(), quote(uris[1])
    document, content = gltf(*uris, escape=how == "JSON escapes")
    archive = zipped(
        Member(b"scene.gltf", document),
        Member(f"{name}.bin".encode(encoding), content),
        Member(f"{folder}/{name}.png".encode(encoding), RED),
    )
    assert color_of(baked(tmp_path, archive)) == (255, 0, 0)


def test_the_unicode_path_field_is_used_unless_the_name_has_changed(tmp_path: Path) -> None:
    document, content = gltf("b.bin", "模型.png")
    for raw, checked, found in ((b"\xff\xfe.png", b"\xff\xfe.png", True), (b"\xff\xfe.png", b"other.png", False)):
        field = struct.pack("<BL", 1, zlib.crc32(checked)) + "模型.png".encode()
        extra = struct.pack("<HH", 0x7075, len(field)) + field
        archive = zipped(Member(b"a.gltf", document), Member(b"b.bin", content), Member(raw, RED, extra=extra))
        clip = baked(tmp_path, archive)
        assert bool(clip.images) is found


def test_names_that_macos_decomposes_are_found(tmp_path: Path) -> None:
    document, content = gltf("b.bin", "éé.png", escape=False)
    decomposed = unicodedata.normalize("NFD", "éé.png")
    assert decomposed != "éé.png"
    for flags in (0x800, 0):
        archive = zipped(
            Member(b"a.gltf", document), Member(b"b.bin", content), Member(decomposed.encode(), RED, flags=flags)
        )
        assert color_of(baked(tmp_path, archive)) == (255, 0, 0)


def test_backslashes_separate_folders(tmp_path: Path) -> None:
    document, content = gltf("b.bin", "textures/deep/t.png")
    archive = zipped(
        Member(b"model\\a.gltf", document),
        Member(b"model\\textures\\", b""),
        Member(b"model\\b.bin", content),
        Member(b"model\\textures\\deep\\t.png", RED),
    )
    assert color_of(baked(tmp_path, archive)) == (255, 0, 0)


@pytest.mark.parametrize(
    "name", [b"..\\a.gltf", b"x\\..\\..\\a.gltf", b"\\a.gltf", b"\\\\host\\a.gltf", b"C:\\a.gltf", b"x/..\\a.gltf"]
)
def test_backslashes_cannot_leave_the_folder(name: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(zipped(Member(name, gltf("b.bin", "t.png")[0])))
    with pytest.raises(AssetError) as caught:
        validate(tmp_path / "a.zip")
    assert caught.value.code is ReasonCode.URI_OUTSIDE_ASSET


def test_decoded_names_cannot_leave_the_folder(tmp_path: Path) -> None:
    """In Shift JIS a letter may end with the byte of a backslash; read in another encoding it is one."""
    archive = zipped(Member("表/../x.gltf".encode("shift_jis"), gltf("b.bin", "表.png", escape=False)[0]))
    (tmp_path / "a.zip").write_bytes(archive)
    with pytest.raises(AssetError) as caught:
        validate(tmp_path / "a.zip")
    assert caught.value.code is ReasonCode.URI_OUTSIDE_ASSET


def test_the_last_of_duplicate_members_is_used(tmp_path: Path) -> None:
    document, content = gltf("b.bin", "t.png")
    archive = zipped(
        Member(b"a.gltf", b"broken"),
        Member(b"t.png", RED),
        Member(b"./a.gltf", document),
        Member(b"b.bin", content),
        Member(b"t.png", BLUE),
    )
    assert color_of(baked(tmp_path, archive)) == (0, 0, 255)
    reversed_ = zipped(
        Member(b"a.gltf", document), Member(b"b.bin", content), Member(b"t.png", BLUE), Member(b"t.png", RED)
    )
    assert color_of(baked(tmp_path, reversed_)) == (255, 0, 0)


@pytest.mark.parametrize("names", [(b"x.gltf", b"x.gltf/y.png"), (b"x.gltf/y.png", b"x.gltf"), (b"x.gltf", b"n" * 300)])
def test_invalid_file_names_are_an_invalid_archive(names: tuple[bytes, ...], tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(zipped(*(Member(name, b"x") for name in names)))
    messages = []
    for _ in range(2):
        with pytest.raises(AssetError) as caught:
            validate(tmp_path / "a.zip")
        assert caught.value.code is ReasonCode.INVALID_ARCHIVE
        assert tempfile.gettempdir() not in caught.value.message
        messages.append(caught.value.message)
    assert messages[0] == messages[1]


DOCUMENT, CONTENT = gltf("scene.bin", "textures/t.png")
FILES = {"scene.gltf": DOCUMENT, "scene.bin": CONTENT, "textures/t.png": RED}


def plain(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return stream.getvalue()


@pytest.mark.parametrize(
    "files",
    [
        {f"My Model (1)/{name}": data for name, data in FILES.items()},
        {**FILES, "license.txt": b"CC0", "preview.png": BLUE, "readme.html": b"<html>", "thumbs/t.jpg": BLUE},
        {**FILES, "__MACOSX/._scene.gltf": b"x", "__MACOSX/textures/._t.png": b"x", ".DS_Store": b"x"},
        {"source/scene.gltf": DOCUMENT, "source/scene.bin": CONTENT, "textures/t.png": RED},
        {"source/scene.gltf": DOCUMENT, "source/scene.bin": CONTENT, "textures/T.PNG": RED, "license.txt": b"CC0"},
        {"source/scene.zip": plain(FILES), "textures/t.jpg": BLUE, "license.txt": b"CC0"},
        {"source/scene.zip": plain({"x/scene.gltf": DOCUMENT, "x/scene.bin": CONTENT}), "textures/t.png": RED},
        {"a/b/source/scene.zip": plain({"__MACOSX/._x.gltf": b"x", **FILES})},
    ],
)
def test_common_layouts_are_complete(files: dict[str, bytes], tmp_path: Path) -> None:
    assert color_of(baked(tmp_path, plain(files))) == (255, 0, 0)


def test_a_moved_file_is_used_only_if_it_is_the_only_one(tmp_path: Path) -> None:
    files = {"source/scene.gltf": DOCUMENT, "source/scene.bin": CONTENT, "a/t.png": RED, "b/t.png": BLUE}
    clip = baked(tmp_path, plain(files))
    assert clip.images == ()
    assert "missing ('textures/t.png')" in clip.warnings[0]
    blocked = {**files, "source/textures": b"a file"}
    del blocked["b/t.png"]
    assert baked(tmp_path, plain(blocked)).images == ()


def test_unsupported_archives_inside_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(plain({"source/model.rar": b"Rar!", "textures/t.png": RED}))
    with pytest.raises(AssetError, match=r"found none \(source/model\.rar is not supported: repack it as \.zip\)"):
        validate(tmp_path / "a.zip")


def test_an_inner_archive_cannot_overwrite_the_outer_one(tmp_path: Path) -> None:
    files = {"level 1/scene.txt": b"x", "inner archive/t.png": BLUE, "m.zip": plain(FILES)}
    (tmp_path / "a.zip").write_bytes(plain(files))
    with single_asset(tmp_path / "a.zip", Limits()) as (asset, root):
        assert asset.is_relative_to(root)
        assert (asset.parent / "textures/t.png").read_bytes() == RED
        assert len([path for path in root.rglob("*") if path.is_file()]) == len(files) + len(FILES)
