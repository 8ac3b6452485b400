"""Writes the files that describe an output: `README.md`, `CREDITS.md`, `croissant.json` and the `clip.json` schema."""

from __future__ import annotations

from pathlib import Path

from helix4d.core import atomic_writer, write_bytes, write_json
from helix4d.curation.places.folder import LocalFolder
from helix4d.curation.publish.card import CREDITS_FILE, readme
from helix4d.curation.publish.credits_file import credit_lines
from helix4d.curation.publish.croissant import croissant
from helix4d.curation.publish.facts import collect_facts
from helix4d.curation.shards.clip_schema import CLIP_SCHEMA_FILE, clip_schema

README_FILE = "README.md"
CROISSANT_FILE = "croissant.json"
DESCRIPTION_FILES = (README_FILE, CREDITS_FILE, CROISSANT_FILE, CLIP_SCHEMA_FILE)


def write_description(output: Path) -> None:
    """Write the files into a folder with an index. Equal indexes give equal bytes.

    Raises:
        FormatError: if the index is damaged.
    """
    folder = LocalFolder(output)
    facts = collect_facts(folder)
    write_bytes(output / README_FILE, readme(facts).encode())
    with atomic_writer(output / CREDITS_FILE) as stream:
        for line in credit_lines(folder):
            stream.write(f"{line}\n".encode())
    write_json(output / CROISSANT_FILE, croissant(facts))
    write_json(output / CLIP_SCHEMA_FILE, clip_schema())
