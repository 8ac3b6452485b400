"""Export the cameras and images of one frame as `transforms.json`, which instant-ngp and nerfstudio read.

    python examples/export_cameras.py demo_output/shards/train/helix4d-000000.tar --frame 8 --output nerf/

Shards store OpenCV cameras: world to camera, y down, z forward. NeRF tools expect camera to world with y up and z
backward. The world is the same: Z up, the object in [-0.5, 0.5]^3, which `scale` and `offset` map to instant-ngp's
unit cube. For nerfstudio add `--orientation-method none --center-method none --auto-scale-poses False`.
"""

from __future__ import annotations

import argparse
import io
import json
from pathlib import Path

from PIL import Image

from helix4d.curation.shards.reader import ShardReader
from helix4d.render import Camera, camera_to_world


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shard", help="path or URL of a tar file")
    parser.add_argument("--key", help="key of the sample (default: the first of the shard)")
    parser.add_argument("--frame", type=int, default=0, help="number of the frame")
    parser.add_argument("--output", type=Path, required=True, help="folder for transforms.json and images/")
    args = parser.parse_args()

    reader = ShardReader(args.shard)
    key = args.key or reader.keys()[0]
    (args.output / "images").mkdir(parents=True, exist_ok=True)
    frames = []
    for view in range(reader.clip(key)["views"]):
        about, image = f"view_{view:02d}.json", f"view_{view:02d}_frame_{args.frame:02d}.webp"
        members = reader.read_members(key, [about, image])
        camera = Camera.from_json(json.loads(members[about])["camera"])
        path = f"images/view_{view:02d}.png"
        Image.open(io.BytesIO(members[image])).save(args.output / path)
        frames.append(
            {
                "file_path": path,
                "w": camera.image_size,
                "h": camera.image_size,
                "fl_x": camera.focal,
                "fl_y": camera.focal,
                "cx": camera.intrinsics[0, 2],
                "cy": camera.intrinsics[1, 2],
                "transform_matrix": camera_to_world(camera).tolist(),
            }
        )
    scene = {"camera_model": "OPENCV", "aabb_scale": 1, "scale": 1.0, "offset": [0.5, 0.5, 0.5], "frames": frames}
    (args.output / "transforms.json").write_text(json.dumps(scene, indent=1))
    print(f"{key}: {len(frames)} views in {args.output / 'transforms.json'}")


if __name__ == "__main__":
    main()
