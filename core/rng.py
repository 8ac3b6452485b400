"""Random generators seeded from names, so that any single draw can be reproduced on its own."""

from __future__ import annotations

import hashlib

import numpy as np


def generator(*names: str | int) -> np.random.Generator:
    """Return a generator that depends on its names alone, as in `generator(dataset_seed, key, "view", 3)`.

    Names are hashed with their types and lengths, so ("ab", "c") and ("a", "bc") seed different streams.
    """
    digest = hashlib.sha256()
    for name in names:
        encoded = f"{type(name).__name__}:{name}".encode()
        digest.update(len(encoded).to_bytes(8, "little"))
        digest.update(encoded)
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest.digest(), "little")))
