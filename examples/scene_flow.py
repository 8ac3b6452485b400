"""Scene flow of a view: positions of tracked points in two frames, in pixels and in space.

    python examples/scene_flow.py shards/train/helix4d-000000.tar --view view_00 --frames 3 4 --output flow.npz

Requires shards that were curated with `--tracks`. The output has one row per point that is present in both frames:

    pixels   (N, 2, 2) float64: x right, y down in each of the two frames; the image's upper left corner is (0, 0)
    points   (N, 2, 3) float64: camera coordinates in each frame, x right, y down, z forward, in units of the cube
    visible  (N,) bool: the point faces the camera in the first frame, and no other point is in front of it
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from helix4d.curation.shards.reader import ShardReader
from helix4d.curation.shards.track_files import decode_tracks
from helix4d.render import Camera, project

CELLS, THICK = 128, 0.03  # cells per side; depth tolerance behind the nearest point of a cell, in units of the cube


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shard", help="path or URL of a tar file")
    parser.add_argument("--key", help="key of the sample (default: the first of the shard)")
    parser.add_argument("--view", default="view_00", help="name of the view, such as view_03 or fixed_00")
    parser.add_argument("--frames", type=int, nargs=2, default=(0, 1), help="indices of the two frames")
    parser.add_argument("--output", type=Path, required=True, help="the .npz file to write")
    args = parser.parse_args()

    reader = ShardReader(args.shard)
    key = args.key or reader.keys()[0]
    clip = reader.clip(key)
    members = reader.read_members(key, [f"{args.view}.json", "tracks.npz"])
    camera = Camera.from_json(json.loads(members[f"{args.view}.json"])["camera"])
    tracks = decode_tracks(members["tracks.npz"], clip["frames"], clip["tracks"], key)

    both = tracks.present[list(args.frames)].all(axis=0)
    world = tracks.positions[list(args.frames)][:, both].astype(np.float64)
    pixels, depth = project(camera, world)
    points = world @ camera.extrinsics[:3, :3].T + camera.extrinsics[:3, 3]

    rows, columns = np.clip(pixels[0] * CELLS / camera.image_size, 0, CELLS - 1).astype(int).T
    nearest = np.full((CELLS, CELLS), np.inf)
    np.minimum.at(nearest, (rows, columns), depth[0])
    facing = (tracks.normals[args.frames[0]][both] * (camera.position - world[0])).sum(axis=1) > 0
    visible = facing & (depth[0] <= nearest[rows, columns] + THICK)

    np.savez(args.output, pixels=pixels.swapaxes(0, 1), points=points.swapaxes(0, 1), visible=visible)
    print(f"{key}: {both.sum()} points, {visible.sum()} visible, in {args.output}")


if __name__ == "__main__":
    main()
