"""Turn an O-Voxel into a textured GLB: a `.vxz` file, or one frame of a sample in a shard.

    python examples/ovoxel_to_glb.py frame_00.vxz --output frame_00.glb
    python examples/ovoxel_to_glb.py demo_output/shards/train/helix4d-000000.tar --frame 8 --output frame_08.glb

Needs the extra `model` for xatlas, which unwraps the mesh.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from helix4d.curation.shards.reader import ShardReader
from helix4d.voxelize import decode_vxz, extract_mesh, read_vxz
from helix4d.voxelize.mesh.baking import bake_mesh
from helix4d.voxelize.mesh.cleaning import orient_faces
from helix4d.voxelize.mesh.glb import encode_textures, frame_glb


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", help="a .vxz file, or path or URL of a shard's tar file")
    parser.add_argument("--key", help="key of the sample (default: the first of the shard)")
    parser.add_argument("--frame", type=int, default=0, help="number of the frame")
    parser.add_argument("--texture-size", type=int, default=1024, help="pixels per side")
    parser.add_argument("--output", type=Path, required=True, help="the .glb file")
    args = parser.parse_args()

    if args.source.endswith(".tar"):
        reader = ShardReader(args.source)
        ovoxel = decode_vxz(reader.read(args.key or reader.keys()[0], f"frame_{args.frame:02d}.vxz"))
    else:
        ovoxel = read_vxz(args.source)
    vertices, faces = extract_mesh(ovoxel)
    # An O-Voxel stores where its surface crosses grid edges, not which side is outside.
    mesh = bake_mesh(vertices, orient_faces(vertices, faces), ovoxel, args.texture_size)
    args.output.write_bytes(frame_glb(encode_textures(mesh), args.output.stem))
    print(f"{args.output}: {len(faces):,} triangles from {len(ovoxel):,} voxels of {ovoxel.resolution}^3")


if __name__ == "__main__":
    main()
