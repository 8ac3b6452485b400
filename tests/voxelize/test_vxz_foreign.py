"""`.vxz` files of other programs, written here from the format's description alone: halves, names, interleaving."""

from __future__ import annotations

import json
import zlib
from typing import Any

import numpy as np
import pytest

from helix4d.core import FormatError
from helix4d.voxelize import OVoxel, decode_vxz, encode_vxz, read_vxz_info
from helix4d.voxelize.files.vxz import decode_vxz_arrays
from tests.packages import needs

CHUNK = 8
GEOMETRY = {"vertices": 3, "intersected": 1}
MATERIAL = {"base_color": 3, "metallic": 1, "roughness": 1, "alpha": 1}
EVERYTHING = {"dual_vertices": 3, "intersected": 1, **MATERIAL}


def octree(voxels: list[tuple[int, int, int]], side: int) -> bytes:
    """Depth first, one byte per node, bit 4x + 2y + z of each child; the last level's byte holds the leaves."""
    half = side // 2
    children: list[list[tuple[int, int, int]]] = [[] for _ in range(8)]
    for x, y, z in voxels:
        children[4 * (x // half) + 2 * (y // half) + z // half].append((x % half, y % half, z % half))
    node = bytes([sum(1 << bit for bit, inside in enumerate(children) if inside)])
    return node + b"".join(octree(inside, half) for inside in children if inside and half > 1)


def morton(voxel: tuple[int, int, int]) -> int:
    return sum(((voxel[axis] >> bit) & 1) << (3 * bit + 2 - axis) for axis in range(3) for bit in range(10))


def foreign_file(
    table: dict[tuple[int, int, int], bytes],
    attributes: dict[str, int],
    interleave: str = "as_is",
    compression: str = "deflate",
    channel_name: str = "{name}_{number}",
) -> bytes:
    """A file of voxels -> the bytes of all their attributes, as another program would write it."""
    chunks: list[dict[str, Any]] = []
    payload = b""
    for idx in sorted({(x // CHUNK, y // CHUNK, z // CHUNK) for x, y, z in table}):
        inside = sorted((v for v in table if tuple(c // CHUNK for c in v) == idx), key=morton)
        rows = np.array([list(table[voxel]) for voxel in inside], np.uint8)
        streams = {"svo": octree([(x % CHUNK, y % CHUNK, z % CHUNK) for x, y, z in inside], CHUNK)}
        if interleave == "all":
            streams["attr"] = rows.tobytes()
        column = 0
        for name, channels in attributes.items():
            part = rows[:, column : column + channels]
            if interleave == "as_is":
                streams[name] = part.tobytes()
            if interleave == "none":
                for number in range(channels):
                    key = channel_name.format(name=name, number=number, column=column + number)
                    streams[key] = part[:, number].tobytes()
            column += channels
        chunk: dict[str, Any] = {"idx": list(idx)}
        block = b""
        for name, stream in streams.items():
            packed = pack(stream, compression)
            chunk[name] = [len(block), len(packed)]
            block += packed
        chunk["ptr"] = [len(payload), len(block)]
        payload += block
        chunks.append(chunk)
    header = {
        "num_voxel": len(table),
        "chunk_size": CHUNK,
        "filter": "none",
        "compression": compression,
        "compression_level": 9,
        "attr_interleave": interleave,
        "attr": [[name, channels] for name, channels in attributes.items()],
        "chunks": chunks,
    }
    text = json.dumps(header).encode()
    return b"VXZ\0" + (8 + len(text)).to_bytes(4, "big") + text + payload


def pack(stream: bytes, compression: str) -> bytes:
    if compression == "deflate":
        packer = zlib.compressobj(9, zlib.DEFLATED, -15)
        return packer.compress(stream) + packer.flush()
    import zstandard

    packer = zstandard.ZstdCompressor().compressobj()  # a frame that does not declare its size
    return packer.compress(stream) + packer.flush()


def random_table(channels: int, flags: int | None) -> dict[tuple[int, int, int], bytes]:
    """150 voxels of a 32^3 grid with random bytes; those of column `flags` are below 8."""
    rng = np.random.default_rng(7)
    voxels = np.unique(rng.integers(0, 32, (150, 3)), axis=0)
    rows = rng.integers(0, 256, (len(voxels), channels), np.uint8)
    if flags is not None:
        rows[:, flags] %= 8
    return {tuple(map(int, voxel)): row.tobytes() for voxel, row in zip(voxels, rows, strict=True)}  # type: ignore[misc]


def sorted_rows(table: dict[tuple[int, int, int], bytes]) -> tuple[np.ndarray, np.ndarray]:
    voxels = sorted(table, key=morton)
    return np.array(voxels, np.int32), np.array([list(table[voxel]) for voxel in voxels], np.uint8)


def assert_geometry(ovoxel: OVoxel, rows: np.ndarray) -> None:
    np.testing.assert_array_equal(ovoxel.dual_vertices, rows[:, :3].astype(np.float32) / np.float32(255))
    np.testing.assert_array_equal(ovoxel.intersected, np.unpackbits(rows[:, 3:4], axis=1, bitorder="little")[:, :3])


def assert_material(ovoxel: OVoxel, rows: np.ndarray) -> None:
    found = np.concatenate([ovoxel.base_color, ovoxel.metallic, ovoxel.roughness, ovoxel.alpha], axis=1)
    np.testing.assert_array_equal(found, rows)


@pytest.mark.parametrize("interleave", ["as_is", "none", "all"])
@pytest.mark.parametrize("name", ["vertices", "dual_vertices"])
def test_dual_grids_have_the_default_material(name: str, interleave: str) -> None:
    table = random_table(4, flags=3)
    data = foreign_file(table, {name: 3, "intersected": 1}, interleave)
    ovoxel = decode_vxz(data)
    coords, rows = sorted_rows(table)
    np.testing.assert_array_equal(ovoxel.coords, coords)
    assert ovoxel.resolution == 32
    assert_geometry(ovoxel, rows)
    assert_material(ovoxel, np.full((len(coords), 6), 255))
    assert read_vxz_info(data).attributes == ((name, 3), ("intersected", 1))


@pytest.mark.parametrize("interleave", ["as_is", "none", "all"])
def test_pbr_voxels_have_centers_and_no_crossings(interleave: str) -> None:
    table = random_table(6, flags=None)
    ovoxel = decode_vxz(foreign_file(table, MATERIAL, interleave))
    coords, rows = sorted_rows(table)
    np.testing.assert_array_equal(ovoxel.coords, coords)
    assert_material(ovoxel, rows)
    assert (ovoxel.dual_vertices == 0.5).all()
    assert not ovoxel.intersected.any()


@pytest.mark.parametrize("channel_name", ["{name}_{number}", "attr_{column}"], ids=["official", "ours until 0.3"])
def test_channels_by_either_name(channel_name: str) -> None:
    table = random_table(10, flags=3)
    ovoxel = decode_vxz(foreign_file(table, EVERYTHING, "none", channel_name=channel_name))
    _, rows = sorted_rows(table)
    assert_geometry(ovoxel, rows[:, :4])
    assert_material(ovoxel, rows[:, 4:])


def test_channels_are_written_with_the_official_names() -> None:
    ovoxel = decode_vxz(foreign_file(random_table(10, flags=3), EVERYTHING))
    (chunk,) = read_vxz_info(encode_vxz(ovoxel, "none", interleave="none")).chunks
    names = [f"{name}_{number}" for name, channels in EVERYTHING.items() for number in range(channels)]
    assert list(chunk) == ["idx", "svo", *names, "ptr"]


@pytest.mark.parametrize("interleave", ["as_is", "none", "all"])
def test_what_we_write_is_what_the_description_gives(interleave: str) -> None:
    """Byte for byte, but for the header's additional keys."""
    data = foreign_file(random_table(10, flags=3), EVERYTHING, interleave)
    ours = encode_vxz(decode_vxz(data), "deflate", 9, CHUNK, interleave)
    info, info_ours = read_vxz_info(data), read_vxz_info(ours)
    assert info_ours.chunks == info.chunks
    assert ours[info_ours.payload :] == data[info.payload :]


def test_other_attributes_are_ignored() -> None:
    table = random_table(7, flags=3)
    ovoxel = decode_vxz(foreign_file(table, {**GEOMETRY, "normal": 3}))
    assert_geometry(ovoxel, sorted_rows(table)[1][:, :4])


@pytest.mark.parametrize(
    ("attributes", "missing"),
    [
        ({"vertices": 3}, "intersected with 1"),
        ({"intersected": 1}, "dual_vertices with 3"),
        ({"vertices": 2, "intersected": 1}, "dual_vertices with 3"),
        ({"base_color": 3, "metallic": 1}, "roughness with 1"),
        ({**GEOMETRY, "alpha": 1}, "base_color with 3"),
        ({"normal": 3}, "dual_vertices with 3"),
    ],
)
def test_incomplete_halves_are_refused(attributes: dict[str, int], missing: str) -> None:
    table = random_table(sum(attributes.values()), flags=None)
    with pytest.raises(FormatError, match=f"attribute {missing} channels is missing"):
        decode_vxz(foreign_file(table, attributes))


@pytest.mark.parametrize("attributes", [GEOMETRY, MATERIAL, EVERYTHING])
@pytest.mark.parametrize("interleave", ["as_is", "none", "all"])
def test_files_without_voxels(attributes: dict[str, int], interleave: str) -> None:
    ovoxel = decode_vxz(foreign_file({}, attributes, interleave))
    assert (len(ovoxel), ovoxel.resolution) == (0, 1)


@needs("zstandard")
def test_frames_that_do_not_declare_their_size() -> None:
    table = random_table(10, flags=3)
    data = foreign_file(table, EVERYTHING, compression="zstd")
    _, rows = sorted_rows(table)
    assert_material(decode_vxz(data), rows[:, 4:])
    for name in ("svo", "alpha"):
        with pytest.raises(FormatError, match="more than the"):
            decode_vxz(with_stream(data, name, pack(bytes(1 << 20), "zstd")))
    with pytest.raises(FormatError, match="alpha of chunk"):
        decode_vxz(with_stream(data, "alpha", pack(b"", "zstd")))


@needs("zstandard")
def test_a_truncated_frame_is_refused() -> None:
    import zstandard

    data = foreign_file(random_table(10, flags=3), EVERYTHING, compression="zstd")
    packed = zstandard.ZstdCompressor().compress(np.random.default_rng(0).bytes(2))
    with pytest.raises(FormatError, match=r"zstd stream is truncated \(has \d of 2 bytes\)"):
        decode_vxz(with_stream(data, "metallic", packed[:-1]))


def with_stream(data: bytes, name: str, packed: bytes) -> bytes:
    """Replace a stream of the first chunk by one appended to the file."""
    start = int.from_bytes(data[4:8], "big")
    header = json.loads(data[8:start])
    payload = data[start:] + packed
    chunk = header["chunks"][0]
    chunk[name] = [len(data) - start - chunk["ptr"][0], len(packed)]
    chunk["ptr"][1] = len(payload) - chunk["ptr"][0]
    text = json.dumps(header).encode()
    return data[:4] + (8 + len(text)).to_bytes(4, "big") + text + payload


def test_the_arrays_of_a_file_keep_their_names() -> None:
    table = random_table(4, flags=3)
    _, _, stored = decode_vxz_arrays(foreign_file(table, GEOMETRY))
    assert {name: values.shape[1] for name, values in stored.items()} == GEOMETRY
