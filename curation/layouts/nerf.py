"""The layout of NeRF tools: `KEY/frame_FF/transforms.json` with the images of all views at one time.

instant-ngp and nerfstudio read it. Views differ in their field of view, so intrinsics are stated per image.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from helix4d.core import canonical_json
from helix4d.curation.layouts.blender_cameras import camera_angle_x, intrinsics, transform_matrix
from helix4d.curation.layouts.samples import (
    Exported,
    each_sample,
    read_camera,
    require_views,
    view_names,
    write_image,
    write_once,
)
from helix4d.curation.places.folder import Place
from helix4d.curation.shards.reader import ShardReader

TRANSFORMS = "transforms.json"


def export_nerf(output: Place, folder: Path, split: str) -> Iterator[Exported]:
    """Write the samples of a split; files that exist are kept.

    World: Z up, the object inside [-0.5, 0.5]³. Images: RGBA with straight alpha.

    Args:
        output: folder or URL written by `helix4d curate`.
        folder: folder for the samples.
        split: one of `SPLITS`.

    Raises:
        ConfigError: if the output has no shards of the split, or they have no views.
        FormatError: if a shard is damaged.
        StoreError: if a URL cannot be read.
    """
    for reader, key in each_sample(output, split):
        require_views(reader, "nerf")
        clip = reader.clip(key)
        frames = [folder / key / f"frame_{frame:02d}" for frame in range(clip["frames"])]
        if not all((frame / TRANSFORMS).exists() for frame in frames):
            for number, frame in enumerate(frames):
                _write_frame(reader, key, frame, number, clip["image_size"])
        yield Exported(key)


def _write_frame(reader: ShardReader, key: str, folder: Path, frame: int, image_size: int) -> None:
    images = []
    for view in view_names(reader, key):
        camera = read_camera(reader, key, view)
        write_image(folder / "images" / f"{view}.png", reader, key, f"{view}_frame_{frame:02d}", image_size)
        images.append(
            {
                "file_path": f"images/{view}.png",
                "transform_matrix": transform_matrix(camera),
                "camera_angle_x": camera_angle_x(camera),
                **intrinsics(camera),
            }
        )
    content = {"camera_model": "OPENCV", "aabb_scale": 1, "frames": images}
    write_once(folder / TRANSFORMS, lambda: canonical_json(content))
