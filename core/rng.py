"""Random generators seeded from names, so that any single draw can be repeated on its own."""

from __future__ import annotations

import hashlib

import numpy as np


def generator(*names: str | int) -> np.random.Generator:
    """A generator that depends on its names alone: `generator(dataset_seed, key, "view", 3)`.

    The names are hashed with their types and lengths, so ("ab", "c") and ("a", "bc") are different streams.
    """
    digest = hashlib.sha256()
    for name in names:
        encoded = f"{type(name).__name__}:{name}".encode()
        digest.update(len(encoded).to_bytes(8, "little"))
        digest.update(encoded)
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest.digest(), "little")))
