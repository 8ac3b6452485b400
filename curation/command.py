"""The command line of `helix4d curate` and `python curation/pipeline.py`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from helix4d.core.command_line import parse
from helix4d.core.options import Option
from helix4d.curation.config import CurateConfig, RunConfig, SampleConfig, working_folder
from helix4d.curation.places.names import is_url


def parse_config(arguments: list[str] | None = None, program: str = "pipeline.py") -> CurateConfig:
    """Parse a `CurateConfig` from command-line arguments (default: `sys.argv`)."""
    given = parse(_Arguments, program, arguments)
    url = given.output.rstrip("/") if is_url(given.output) else None
    return CurateConfig(
        source=given.source,
        output=Path(given.output) if url is None else working_folder(url, given.run),
        sample=given.sample,
        run=given.run,
        remote=url,
        hdri=given.hdri,
    )


@dataclass(frozen=True)
class _Arguments:
    """Turn animated 3D assets into WebDataset shards of O-Voxels and rendered views.

    Every asset ends as done, filtered or failed, and the ledger records why. Resumable: rerun the command after a crash
    and it continues where it stopped; the shards are byte-identical to those of an uninterrupted run. Examples:

        helix4d curate --source assets --output shards --dry-run
        helix4d curate --source assets --output shards --resolution 128 --views 4 --image-size 128
        helix4d verify shards
    """

    source: str
    """Assets to process, see docs/sources.md: a folder, which is searched recursively;
    a manifest (.csv, .jsonl or .parquet); a URL of either;
    or texverse, texverse:IDS, objaverse:IDS, where IDS is a file with one id per line."""
    output: str
    """Folder for the shards, which every node of a cluster must see, or a URL such as s3://bucket/shards."""
    sample: Annotated[SampleConfig, Option(flat=True)] = field(default_factory=SampleConfig)
    run: Annotated[RunConfig, Option(flat=True)] = field(default_factory=RunConfig)
    hdri: Annotated[Path | None, Option(metavar="DIR", default="(default: lit by lamps)")] = None
    """Light each view with one of the equirectangular .hdr or .exr maps in this folder."""
