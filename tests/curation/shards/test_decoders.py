"""webdataset decodes every member with `decoders()`; its own decoders ignore depth images, which they would damage."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import webdataset as wds
from PIL import Image

from helix4d.assets.tracks import Tracks
from helix4d.core import FormatError
from helix4d.curation.shards.track_files import encode_tracks
from helix4d.curation.work.stages import encode_webp
from helix4d.render.scene.passes import encode_depth, encode_normal
from helix4d.shards import decoders
from helix4d.voxelize import OVoxel, encode_vxz

CLIP = {
    "version": 1,
    **{"key": "0123456789abcdef_0", "asset": "a.glb", "clip": {"name": None, "index": 0}},
    **{"frames": 1, "views": 1, "resolution": 8, "image_size": 4, "voxels": [1], "tokens": [1]},
}
RGBA = np.random.default_rng(0).integers(0, 256, (4, 4, 4), np.uint8)
DEPTH = np.linspace(0.0, 15.9, 16).reshape(4, 4)
UP = np.broadcast_to(np.array([0.0, 0.0, 1.0], np.float32), (4, 4, 3))
TRACKS = Tracks(np.zeros((1, 5, 3), np.float32), np.zeros((1, 5, 3), np.float16), np.ones((1, 5), np.bool_), 0)


def members() -> dict[str, bytes]:
    one = np.ones((1, 1), np.uint8)
    crossed, center = np.ones((1, 3), np.bool_), np.full((1, 3), 0.5, np.float32)
    voxel = OVoxel(8, np.array([[1, 2, 3]], np.int32), center, crossed, one.repeat(3, 1), one, one, one)
    return {
        "clip.json": json.dumps(CLIP).encode(),
        "frame_00.vxz": encode_vxz(voxel),
        "tracks.npz": encode_tracks(TRACKS),
        "view_00.json": b'{"camera": {}}',
        "view_00_frame_00.depth.png16": encode_depth(DEPTH),
        "view_00_frame_00.normal.exr": encode_normal(UP),
        "view_00_frame_00.webp": encode_webp(RGBA),
    }


def read(folder: Path, content: dict[str, bytes], *decoder: Any) -> dict[str, Any]:
    path = folder / "shard.tar"
    with tarfile.open(path, "w") as archive:
        for suffix, data in content.items():
            member = tarfile.TarInfo(f"{CLIP['key']}.{suffix}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    (sample,) = wds.WebDataset(str(path), shardshuffle=False).decode(*decoder)
    return dict(sample)


def test_every_member_is_decoded(tmp_path: Path) -> None:
    sample = read(tmp_path, members(), *decoders())
    assert sample["clip.json"] == CLIP
    assert sample["frame_00.vxz"].coords.tolist() == [[1, 2, 3]]
    np.testing.assert_array_equal(sample["tracks.npz"].positions, TRACKS.positions)
    assert sample["view_00.json"] == {"camera": {}}
    np.testing.assert_allclose(sample["view_00_frame_00.depth.png16"], DEPTH, atol=0.5 / 4096)
    np.testing.assert_allclose(sample["view_00_frame_00.normal.exr"], UP)
    shown = RGBA[..., 3] > 0
    np.testing.assert_array_equal(sample["view_00_frame_00.webp"][shown], RGBA[shown])


@pytest.mark.parametrize("image", ["rgba8", "pil", "rgb"])
def test_generic_decoders_leave_depth_as_it_is(tmp_path: Path, image: str) -> None:
    del (content := members())["tracks.npz"]
    assert read(tmp_path, content, image)["view_00_frame_00.depth.png16"] == content["view_00_frame_00.depth.png16"]


def test_the_name_of_version_0_3_is_decoded(tmp_path: Path) -> None:
    sample = read(tmp_path, {"view_00_frame_00.depth.png": encode_depth(DEPTH)}, *decoders())
    np.testing.assert_allclose(sample["view_00_frame_00.depth.png"], DEPTH, atol=0.5 / 4096)


def test_other_members_are_left_to_webdataset(tmp_path: Path) -> None:
    sample = read(tmp_path, {"note.txt": b"text", "of.mine": b"\0"}, *decoders())
    assert (sample["note.txt"], sample["of.mine"]) == ("text", b"\0")


def large_image() -> bytes:
    stream = io.BytesIO()
    Image.new("RGBA", (5000, 5000)).save(stream, "WEBP", lossless=True)
    return stream.getvalue()


def large_tracks() -> bytes:
    many = Tracks(np.zeros((101, 1, 3), np.float32), np.zeros((101, 1, 3), np.float16), np.ones((101, 1), np.bool_), 0)
    return encode_tracks(many)


@pytest.mark.parametrize(
    ("suffix", "data"),
    [
        ("clip.json", b"{}"),
        ("view_00.json", b"["),
        ("frame_00.vxz", b"VXZ"),
        ("tracks.npz", b"PK"),
        ("tracks.npz", large_tracks()),
        ("view_00_frame_00.webp", large_image()),
        ("view_00_frame_00.depth.png16", encode_webp(RGBA)),
        ("view_00_frame_00.normal.exr", b"v/1\1"),
    ],
)
def test_damaged_and_oversized_members_are_errors(suffix: str, data: bytes) -> None:
    (decode,) = decoders()
    with pytest.raises(FormatError):
        decode(f".{suffix}", data)
