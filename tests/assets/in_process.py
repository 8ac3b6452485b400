"""`bake` and `bake_clips` in the process of the tests, which then need no child process for each file."""

from __future__ import annotations

from functools import partial

from helix4d import assets

bake = partial(assets.bake, isolated=False)
bake_clips = partial(assets.bake_clips, isolated=False)
list_clips = partial(assets.list_clips, isolated=False)
