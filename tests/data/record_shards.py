r"""Write `sample_shards_64.json`: the sha256 of every member of the sample assets' shards.

    helix4d samples --output samples
    helix4d curate --source samples --output shards --resolution 64 --views 2 --image-size 64 --assets-per-shard 4 \
        --cameras even --lights even --max-tokens None
    python -m tests.data.record_shards shards

The `.json` and `.vxz` members were recorded with version 0.3.0, before everything moved into one package; measures,
clipped pixels, the skeleton and the up axis were added to `clip.json` later. The `.webp` members were recorded when
Cycles began to render only the box around the silhouette, and those of `fishbowl` when lights behind glass were no
longer counted twice. Record members again only together with a version that changes their bytes, and say so in
CHANGELOG.md.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
import tarfile
from pathlib import Path
from typing import Any

from helix4d.core import canonical_json
from helix4d.curation.shards.sidecar import read_sidecar

RECORD = Path(__file__).with_name("sample_shards_64.json")


def describe_shards(output: Path) -> dict[str, Any]:
    """What must stay the same of an output's shards.

    Returns:
        `version`, `cpu`: what wrote them; image bytes depend on the type of CPU.
        `config_sha256`: the hash in every sidecar.
        `shards`: name of the tar -> name of the member -> sha256, with the version string blanked, and without what
            later versions added to `clip.json`.
    """
    tars = sorted(output.glob("*/*.tar"))
    sidecars = [read_sidecar(tar) for tar in tars]
    assert sidecars
    assert all(sidecars), f"{output} holds a shard that is not committed"
    (version,) = {sidecar["tools"]["helix4d"] for sidecar in sidecars if sidecar}
    (config_sha256,) = {sidecar["config_sha256"] for sidecar in sidecars if sidecar}
    shards = {tar.relative_to(output).as_posix(): _hash_members(tar, version) for tar in tars}
    return {"version": version, "cpu": cpu_model(), "config_sha256": config_sha256, "shards": shards}


def cpu_model() -> str:
    """The processor's family, model and name, as Linux reports them."""
    text = Path("/proc/cpuinfo").read_text()
    fields = [re.search(rf"^{name}\s*: (.*)$", text, re.MULTILINE) for name in ("cpu family", "model", "model name")]
    return " ".join(field[1] if field else "unknown" for field in fields)


def _without_additions(clip: bytes) -> bytes:
    """Return a `clip.json` with the fields that version 0.3.0 wrote."""
    content = json.loads(clip)
    for name in ("clipped", "skeleton", "up_axis"):
        content.pop(name, None)
    for name in ("frame_gap_s", "tokens"):
        content["measures"].pop(name, None)
    return canonical_json(content)


def _hash_members(tar: Path, version: str) -> dict[str, str]:
    hashes = {}
    with tarfile.open(tar) as archive:
        for member in archive:
            stream = archive.extractfile(member)
            assert stream is not None, f"{tar}: {member.name} is not a file"
            data = stream.read()
            if member.name.endswith(".clip.json"):
                data = _without_additions(data)
            if member.name.endswith(".json"):
                data = data.replace(version.encode(), b"VERSION")
            hashes[member.name] = hashlib.sha256(data).hexdigest()
    return hashes


if __name__ == "__main__":
    RECORD.write_text(json.dumps(describe_shards(Path(sys.argv[1])), indent=1) + "\n")
