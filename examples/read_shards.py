"""Read curated shards with plain webdataset and decode their members.

    python examples/read_shards.py "demo_output/shards/train/helix4d-{000000..000003}.tar"

Nothing here needs Ray, Blender or a GPU.
"""

from __future__ import annotations

import argparse

import webdataset as wds

from helix4d.render import Camera
from helix4d.shards import decoders


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shards", help="path, URL or brace pattern of the tar files")
    parser.add_argument("--view", type=int, default=0, help="view to decode")
    parser.add_argument("--frame", type=int, default=0, help="frame to decode")
    args = parser.parse_args()

    for sample in wds.WebDataset(args.shards, shardshuffle=False).decode(*decoders()):
        view, frame = f"view_{args.view:02d}", f"frame_{args.frame:02d}"
        about = sample["clip.json"]
        image = sample[f"{view}_{frame}.webp"]  # (S, S, 4) uint8, sRGB, straight alpha
        camera = Camera.from_json(sample[f"{view}.json"]["camera"])  # OpenCV axes, intrinsics in pixels
        ovoxel = sample[f"{frame}.vxz"]  # coords (N, 3), base_color (N, 3) uint8, ...
        print(
            f"{sample['__key__']}  {about['asset']}, {about['frames']} frames: image {image.shape}, "
            f"field of view {camera.fov_deg:.1f} degrees, {len(ovoxel)} voxels of {ovoxel.resolution}^3"
        )


if __name__ == "__main__":
    main()
