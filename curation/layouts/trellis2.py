"""TRELLIS.2's training folders: an object per frame, or per static sample.

| folder | per object |
|---|---|
| `dual_grid_R`, `pbr_voxels_R` | `SHA.vxz`: geometry, and material |
| `renders_cond` | `SHA/transforms.json` and `000.png`, ... |
| `shape_latents/...`, `pbr_latents/...`, `ss_latents/...` | `SHA.npz`, with latents |

Every folder and the root has a `metadata.csv` with the columns that TRELLIS.2's trainer joins and filters by. An object
is named by the SHA-256 of the sample's key and the frame. Frames without voxels are omitted: TRELLIS.2 refuses them.
"""

from __future__ import annotations

import csv
import hashlib
import io
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from helix4d.core import ConfigError, FormatError, canonical_json, write_bytes
from helix4d.curation.layouts.blender_cameras import camera_angle_x, transform_matrix
from helix4d.curation.layouts.samples import Exported, each_sample, read_camera, view_names, write_image, write_once
from helix4d.curation.places.folder import Place, file_in
from helix4d.curation.shards.members import vxz_member
from helix4d.curation.shards.reader import ShardReader
from helix4d.voxelize import decode_vxz, encode_vxz

AESTHETIC_SCORE = 5.0
"""Aesthetic score of samples whose metadata has none; TRELLIS.2 drops objects below 4.5."""
_SHAPE, _TEXTURE = "shape_enc_next_dc_f16c32_fp16", "tex_enc_next_dc_f16c32_fp16"
_STRUCTURE = "ss_enc_conv3d_16l8_fp16"
Tables = dict[str, dict[str, dict[str, Any]]]
"""Folder ("" for the root) -> object -> its row, without the column sha256."""


def export_trellis2(output: Place, folder: Path, split: str, latents: Place | None = None) -> Iterator[Exported]:
    """Write the samples of a split; files that exist are kept. The tables are written last.

    Args:
        output: folder or URL written by `helix4d curate`.
        folder: folder for the data, the `base` of TRELLIS.2's `--data_dir`.
        split: one of `SPLITS`.
        latents: folder or URL written by `helix4d encode` from this output; None for none.

    Raises:
        ConfigError: if the output has no shards of the split, or the latents are not of these shards.
        FormatError: if a shard is damaged.
        StoreError: if a URL cannot be read.
    """
    tables: Tables = {}
    encoded: ShardReader | None = None
    last: ShardReader | None = None
    for reader, key in each_sample(output, split):
        if latents is not None and reader is not last:
            encoded, last = _latents_of(reader, latents, split), reader
        clip = reader.clip(key)
        for frame, voxels in enumerate(clip["voxels"]):
            if voxels:
                _write_object(folder, reader, key, clip, frame, tables)
        if encoded is not None and key in encoded.keys():  # noqa: SIM118 (not a dict)
            _write_latents(folder, encoded, key, clip, tables)
        yield Exported(key, "" if any(clip["voxels"]) else "no frame has a voxel")
    for name, rows in tables.items():
        write_bytes(folder / name / "metadata.csv", _csv(rows))


def object_name(key: str, frame: int) -> str:
    """Return the name of the object of a frame, 64 hex digits."""
    return hashlib.sha256(f"{key}/{frame:02d}".encode()).hexdigest()


def _write_object(
    folder: Path, reader: ShardReader, key: str, clip: Mapping[str, Any], frame: int, tables: Tables
) -> None:
    name, side, voxels = object_name(key, frame), clip["resolution"], clip["voxels"][frame]
    grid, material = f"dual_grid_{side}", f"pbr_voxels_{side}"
    paths = {"dual_grid": folder / grid / f"{name}.vxz", "pbr": folder / material / f"{name}.vxz"}
    if not all(path.exists() for path in paths.values()):
        ovoxel = decode_vxz(reader.read(key, vxz_member(frame)))
        write_bytes(paths["dual_grid"], encode_vxz(ovoxel, part="dual_grid"))
        write_bytes(paths["pbr"], encode_vxz(ovoxel, part="pbr"))
    textures = int(clip.get("measures", {}).get("texture_pixels", 0) > 0)
    tables.setdefault("", {})[name] = {
        "aesthetic_score": _score(clip),
        "num_faces": clip.get("triangles", [0] * clip["frames"])[frame],
        "num_basecolor_tex": textures,
        "num_metallic_tex": textures,
        "num_roughness_tex": textures,
        "key": key,
        "frame": frame,
    }
    tables.setdefault(grid, {})[name] = {"dual_grid_converted": True, "dual_grid_size": voxels}
    tables.setdefault(material, {})[name] = {"pbr_voxelized": True, "num_pbr_voxels": voxels}
    if clip["views"]:
        _write_views(folder / "renders_cond" / name, reader, key, frame, clip["image_size"])
        tables.setdefault("renders_cond", {})[name] = {"cond_rendered": True}


def _write_views(folder: Path, reader: ShardReader, key: str, frame: int, image_size: int) -> None:
    if (folder / "transforms.json").exists():
        return
    frames = []
    for number, view in enumerate(view_names(reader, key, fixed=False)):
        camera = read_camera(reader, key, view)
        write_image(folder / f"{number:03d}.png", reader, key, f"{view}_frame_{frame:02d}", image_size)
        frames.append(
            {
                "file_path": f"{number:03d}.png",
                "camera_angle_x": camera_angle_x(camera),
                "transform_matrix": transform_matrix(camera),
            }
        )
    content = {"aabb": [[-0.5] * 3, [0.5] * 3], "scale": 1.0, "offset": [0.0] * 3, "frames": frames}
    write_bytes(folder / "transforms.json", canonical_json(content))


def _latents_of(reader: ShardReader, latents: Place, split: str) -> ShardReader | None:
    """Return the latent shard of a shard; None if a subset was encoded and has no sample of it."""
    place = file_in(latents, f"{split}/{reader.path.name}")
    try:
        encoded = ShardReader(place)
    except FormatError as error:
        raise ConfigError(
            f"{latents}: has no latents of {split}/{reader.path.name} ({error}): encode these shards"
        ) from error
    source = encoded.sidecar.get("source")
    if not isinstance(source, Mapping) or source.get("sha256") != reader.sidecar["sha256"]:
        raise ConfigError(f"{place}: was not encoded from {reader.path}: rerun `helix4d encode` on these shards")
    return encoded


def _write_latents(folder: Path, encoded: ShardReader, key: str, clip: Mapping[str, Any], tables: Tables) -> None:
    side = clip["resolution"]
    shape, texture = (_tensors(encoded, key, kind) for kind in ("shape", "texture"))
    structure = _tensors(encoded, key, "structure")["latent"]
    stops = np.cumsum(shape["lengths"].ravel())
    occupancy = encoded.sidecar["config"].get("occupancy_resolution", 64)
    shapes, textures = f"shape_latents/{_SHAPE}_{side}", f"pbr_latents/{_TEXTURE}_{side}"
    structures = f"ss_latents/{_STRUCTURE}_{occupancy}"
    if len(stops) != clip["frames"] or len(structure) != clip["frames"] or stops[-1] != len(shape["coords"]):
        raise FormatError(
            f"{encoded.path}: {key}: its latents do not have {clip['frames']} frames: rerun `helix4d encode` with a "
            "new output"
        )
    for frame, tokens in enumerate(shape["lengths"].ravel().tolist()):
        if not tokens:
            continue
        name, part = object_name(key, frame), slice(stops[frame] - tokens, stops[frame])
        coords = shape["coords"][part].astype(np.uint8)
        for target, feats in ((shapes, shape["latent"]), (textures, texture["latent"])):
            arrays = {"coords": coords, "feats": feats[part].astype(np.float32)}
            write_once(folder / target / f"{name}.npz", lambda arrays=arrays: _npz(arrays))  # type: ignore[misc]
        arrays = {"z": structure[frame].astype(np.float32)}
        write_once(folder / structures / f"{name}.npz", lambda arrays=arrays: _npz(arrays))  # type: ignore[misc]
        tables.setdefault(shapes, {})[name] = {"shape_latent_encoded": True, "shape_latent_tokens": tokens}
        tables.setdefault(textures, {})[name] = {"pbr_latent_encoded": True, "pbr_latent_tokens": tokens}
        tables.setdefault(structures, {})[name] = {"ss_latent_encoded": True}


def _tensors(encoded: ShardReader, key: str, kind: str) -> dict[str, np.ndarray]:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    where = f"{encoded.path}: {key}.{kind}.safetensors"
    try:
        tensors: dict[str, np.ndarray] = load(encoded.read(key, f"{kind}.safetensors"))
    except (SafetensorError, KeyError, ValueError, TypeError) as error:
        raise FormatError(
            f"{where}: cannot be read as float16 or float32 ({error}): encode with --dtype float16"
        ) from error
    expected = {"latent", "coords", "lengths"} if kind == "shape" else {"latent"}
    if missing := sorted(expected - tensors.keys()):
        raise FormatError(f"{where}: has no {', '.join(missing)}: rerun `helix4d encode` with a new output")
    return tensors


def _score(clip: Mapping[str, Any]) -> float:
    metadata = clip.get("metadata")
    score = metadata.get("aesthetic_score") if isinstance(metadata, Mapping) else None
    try:
        number = float(score) if isinstance(score, int | float | str) else math.nan
    except ValueError:
        number = math.nan
    return number if math.isfinite(number) else AESTHETIC_SCORE


def _npz(arrays: Mapping[str, np.ndarray]) -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]
    return stream.getvalue()


def _csv(rows: Mapping[str, Mapping[str, Any]]) -> bytes:
    stream = io.StringIO()
    columns = ["sha256", *next(iter(rows.values()))]
    writer = csv.DictWriter(stream, columns, lineterminator="\n")
    writer.writeheader()
    for name in sorted(rows):
        writer.writerow({"sha256": name, **rows[name]})
    return stream.getvalue().encode()
