"""Hand-made environment maps, and a writer of `.hdr` files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from helix4d.render.scene.environment import EnvironmentMap, texel_directions

SKY, GROUND = (0.3, 0.5, 0.9), (0.25, 0.2, 0.12)


def landscape(spots: dict[tuple[float, float, float], tuple[float, float, float]], height: int = 64) -> np.ndarray:
    """(H, 2·H, 3) float32: blue above, brown below, and round spots of 12 degrees around directions."""
    directions, _ = texel_directions(height)
    light = np.where(directions[..., 2:] > 0, SKY, GROUND)
    for direction, color in spots.items():
        near = directions @ (np.array(direction) / np.linalg.norm(direction)) > np.cos(np.radians(12.0))
        light[near] += color
    return light.astype(np.float32)


def as_map(light: np.ndarray, name: str = "made") -> EnvironmentMap:
    return EnvironmentMap(f"{name}.hdr", name, light)


def to_rgbe(light: np.ndarray) -> np.ndarray:
    """(H, W, 4) uint8."""
    brightest = light.max(axis=-1)
    _, exponents = np.frexp(brightest)
    scaled = np.floor(np.ldexp(light, 8 - exponents[..., None]))
    rgbe = np.concatenate([scaled, exponents[..., None] + 128], axis=-1)
    rgbe[brightest <= 0] = 0
    return rgbe.astype(np.uint8)


def write_hdr(path: Path, light: np.ndarray, rows: bytes | None = None) -> None:
    """Write a Radiance file; its rows are uncompressed unless given."""
    height, width = light.shape[:2]
    header = f"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y {height} +X {width}\n".encode()
    path.write_bytes(header + (to_rgbe(light).tobytes() if rows is None else rows))
