"""Decode the latents of a frame to an O-Voxel and its mesh."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from helix4d.model.networks.sparse import SparseTensor
from helix4d.model.vae.sc_vae import SparseDecoder, decode_shape_fields, decode_texture_fields
from helix4d.voxelize import OVoxel, extract_mesh_arrays
from helix4d.voxelize.mesh.cleaning import orient_faces
from helix4d.voxelize.ovoxel import morton_codes


@dataclass(frozen=True, eq=False)
class GeneratedFrame:
    """A decoded frame. A frame without tokens has neither voxels nor faces.

    Attributes:
        ovoxel: O-Voxel with dual vertices clipped to their voxels, as the format requires.
        vertices: float32 (N, 3), unclipped (slightly outside [-0.5, 0.5] at the border), Z up; vertex n is in voxel n.
        faces: int32 (F, 3), consistently oriented.
    """

    ovoxel: OVoxel
    vertices: np.ndarray
    faces: np.ndarray


@torch.no_grad()
def decode_frame(
    shape_decoder: SparseDecoder,
    texture_decoder: SparseDecoder,
    shape: Tensor,
    texture: Tensor,
    coords: Tensor,
    grid: int,
) -> GeneratedFrame:
    """Decode the denormalized latents of one frame to its surface.

    Args:
        shape_decoder, texture_decoder: decoders; the texture decoder follows the subdivisions of the shape decoder.
        shape, texture: [L, C] and [L, C'], latents on the same tokens.
        coords: int32 [L, 3], token coordinates in [0, grid).
        grid: tokens per side; each up block of the decoder doubles it to give the O-Voxel's resolution.
    """
    resolution = grid * 2 ** (len(shape_decoder.config.model_channels) - 1)
    if not len(coords):
        return GeneratedFrame(OVoxel.empty(resolution), np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int32))
    latent = SparseTensor.from_coords(shape, F.pad(coords, (1, 0)).to(shape.device), 1)
    decoded = shape_decoder(latent)
    fields = decode_shape_fields(decoded.fields.feats)
    attributes = decode_texture_fields(texture_decoder(latent.replace(texture), decoded.subdivisions).fields.feats)

    # O-Voxels are stored in Morton order.
    voxels = decoded.fields.coords[:, 1:].cpu().numpy()
    order = np.argsort(morton_codes(voxels), kind="stable")
    voxels = np.ascontiguousarray(voxels[order], np.int32)
    dual = fields.dual_vertices.cpu().numpy()[order]
    crossed = fields.intersected.cpu().numpy()[order]
    weights = fields.split_weight.cpu().numpy()[order]
    colors = (attributes.clamp(0, 1) * 255).round().byte().cpu().numpy()[order]

    vertices, faces = extract_mesh_arrays(resolution, voxels, dual, crossed, "weight", weights)
    faces = orient_faces(vertices, faces)
    channels = (np.ascontiguousarray(part) for part in np.split(colors, (3, 4, 5), axis=1))
    ovoxel = OVoxel(resolution, voxels, dual.clip(0, 1).astype(np.float32), np.ascontiguousarray(crossed), *channels)
    return GeneratedFrame(ovoxel, vertices, faces)
