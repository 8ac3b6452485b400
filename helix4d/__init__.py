"""Animated 3D assets in, WebDataset shards and a video-to-4D model out: the one name that everything imports from.

In a checkout the packages are the folders beside this one: `helix4d.curation` is `curation/`. In a wheel they are in
this folder.
"""

from pathlib import Path

__version__ = "0.4.0"

_here = Path(__file__).parent
if not (_here / "core").is_dir():
    __path__.append(str(_here.parent))
