"""Fetch one view of one sample by byte ranges, without reading the rest of the shard.

    python examples/read_one_view.py s3://bucket/shards/train/helix4d-000000.tar --view 3 --output one_view/

The shard is a path or any URL that fsspec opens (file://, https://, s3://, ...). Only the sidecar `helix4d-000000.json`
and the members of that view are transferred.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from helix4d.shards import ShardReader


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shard", help="path or URL of a tar file")
    parser.add_argument("--key", help="key of the sample (default: the first of the shard)")
    parser.add_argument("--view", type=int, default=0, help="number of the view")
    parser.add_argument("--output", type=Path, required=True, help="folder for the camera and the images")
    args = parser.parse_args()

    reader = ShardReader(args.shard)
    key = args.key or reader.keys()[0]
    members = reader.read_view(key, args.view)  # view_03.json, view_03_frame_00.webp, ...
    args.output.mkdir(parents=True, exist_ok=True)
    for name, data in members.items():
        (args.output / name).write_bytes(data)

    fetched = sum(len(data) for data in members.values())
    print(f"{key}: {len(members)} files, {fetched:,} of the shard's {reader.sidecar['bytes']:,} bytes")


if __name__ == "__main__":
    main()
