"""Frame 0 from the base's cascade and from a given mesh, against plain computations."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from helix4d.assets import bake, normalize
from helix4d.assets.samples import SAMPLES
from helix4d.core import ConfigError
from helix4d.model.conditioning.images import prepare_frames
from helix4d.model.conditioning.video_input import Video
from helix4d.model.latents.decode import GeneratedFrame, decode_frame
from helix4d.model.latents.encode import encode_clip
from helix4d.model.networks.sparse import SparseLayout, SparseTensor
from helix4d.model.sampling.anchor import AnchorKind, cascade_tokens
from helix4d.model.sampling.resampling import frame_of, resample
from helix4d.model.sampling.sampler import SamplerConfig
from helix4d.model.sampling.stages import named_noise
from helix4d.model.sampling.video_pipeline import AnchorOptions, Helix4DPipeline, VideoLatents
from helix4d.voxelize import OVoxel, voxelize_clip
from tests.voxelize.meshes import painted_sphere

SEED = 5
VOXELS = 32


@pytest.mark.parametrize("wanted", [1024, 1536])
def test_tokens_of_the_cascade_are_trellis2s(wanted: int) -> None:
    """unique(floor((c + 0.5) / 512 · R / 16)); R falls by 128 while there are too many tokens, but not below 1024."""
    coords = np.random.default_rng(0).integers(100, 150, (5000, 3))

    def plain(resolution: int) -> np.ndarray:
        return np.unique(np.floor((coords + 0.5) / 512 * (resolution / 16)).astype(int), axis=0)

    counts = {resolution: len(plain(resolution)) for resolution in range(1024, 1537, 128)}
    assert sorted(counts.values()) == list(counts.values())
    for limit in (10**6, counts[wanted] + 1, counts[wanted], counts[1280], counts[1024] + 1, counts[1024], 1):
        expected = next((r for r in range(wanted, 1023, -128) if counts[r] < limit), 1024)
        tokens, resolution = cascade_tokens(torch.from_numpy(coords), 512, wanted, limit)
        assert resolution == expected
        assert np.array_equal(tokens, plain(expected))
    assert cascade_tokens(torch.from_numpy(coords), 512, 1536)[1] == 1536


def euler(velocity: Callable[[Tensor, Tensor], Tensor], noise: Tensor, config: SamplerConfig) -> Tensor:
    s = np.linspace(1, 0, config.steps + 1)
    t = config.rescale_t * s / (1 + (config.rescale_t - 1) * s)
    x = noise
    for now, after in itertools.pairwise(t):
        x = x - (now - after) * velocity(x, torch.tensor([1000.0 * now]))
    return x


def film() -> Video:
    """Two frames of a square that grows."""
    frames = []
    for half in (6, 12):
        pixels = np.zeros((48, 48, 4), np.uint8)
        pixels[24 - half : 24 + half, 20 - half : 20 + half] = (200, 120, 40, 255)
        frames.append(Image.fromarray(pixels, "RGBA"))
    return Video(tuple(frames), (0, 1), 2, False)


def sampled(folder: Path, **options: object) -> tuple[Helix4DPipeline, VideoLatents]:
    pipeline = Helix4DPipeline.from_pretrained(str(folder), str(folder), device="cpu", anchor=AnchorOptions(**options))
    pipeline.samplers = pipeline.samplers.changed(guidance=1.0, steps=3)
    return pipeline, pipeline.latents(film(), SEED)


@torch.no_grad()
def plain_cascade(p: Helix4DPipeline, factor: int) -> tuple[GeneratedFrame, int]:
    """Frame 0 as the cascade is described, one network call after the other; also the number of tokens."""
    assert p.cascade is not None
    low, high = (p.encoder(prepare_frames(film().frames[:1], size)) for size in (32, 64))
    noise = named_noise((4, 2, 2, 2), SEED, "structure", 0)[None]
    volume = euler(lambda x, t: p.base.structure(x, t, low), noise, p.samplers.structure)
    cells = F.max_pool3d((p.vae.structure(volume) > 0).float(), p.vae.structure(volume).shape[-1] // 2)[0, 0].nonzero()
    layout = SparseLayout.from_coords(F.pad(cells, (1, 0)), 1)
    shape = euler(
        lambda x, t: p.base.geometry(SparseTensor(x, layout), t, low).feats,
        named_noise((len(cells), 8), SEED, "geometry", 0),
        p.samplers.geometry,
    )
    voxels = p.vae.shape(SparseTensor(shape * 2.0 + 0.1, layout)).fields.coords[:, 1:].numpy()
    tokens = np.unique(np.floor((voxels + 0.5) / VOXELS * (VOXELS * factor / 16)).astype(int), axis=0)
    fine = SparseLayout.from_coords(F.pad(torch.from_numpy(tokens), (1, 0)), 1)
    z = euler(
        lambda x, t: p.cascade.geometry(SparseTensor(x, fine), t, high).feats,
        named_noise((len(tokens), 8), SEED, "fine geometry", 0),
        p.samplers.geometry,
    )
    y = euler(
        lambda x, t: p.cascade.material(SparseTensor(x, fine), t, high, side=z).feats,
        named_noise((len(tokens), 8), SEED, "fine material", 0),
        p.samplers.material,
    )
    coords = torch.from_numpy(tokens).int()
    frame = decode_frame(p.vae.shape, p.vae.texture, z * 2.0 + 0.1, y * 2.0 + 0.1, coords, VOXELS * factor // 16)
    return frame, len(tokens)


def check_encoded(p: Helix4DPipeline, latents: VideoLatents, ovoxel: OVoxel) -> None:
    """Frame 0's latents are those of an O-Voxel at the resolution of the video stages."""
    assert p.vae.encoders is not None
    expected = encode_clip([ovoxel], p.vae.encoders, 8)
    count = latents.layout.lengths[0]
    assert torch.equal(latents.layout.coords[:count, 1:], expected.coords)
    assert torch.allclose(latents.shape[:count], (expected.shape - 0.1) / 2, atol=1e-5)
    assert torch.allclose(latents.texture[:count], (expected.texture - 0.1) / 2, atol=1e-5)


@pytest.mark.parametrize(("kind", "factor"), [(AnchorKind.CASCADE_1024, 2), (AnchorKind.CASCADE_1536, 3)])
def test_the_cascade_equals_a_plain_computation(kind: AnchorKind, factor: int, tiny: Path) -> None:
    pipeline, latents = sampled(tiny, kind=kind)
    expected, tokens = plain_cascade(pipeline, factor)
    assert tokens > 4
    first = latents.first
    assert first is not None
    assert first.ovoxel.resolution == VOXELS * factor
    assert np.array_equal(first.ovoxel.coords, expected.ovoxel.coords)
    assert first.vertices == pytest.approx(expected.vertices, abs=1e-5)
    assert np.array_equal(first.faces, expected.faces)
    assert np.abs(first.ovoxel.base_color.astype(int) - expected.ovoxel.base_color).max() <= 1
    check_encoded(pipeline, latents, resample(first, VOXELS))
    frames = list(pipeline.decode(latents))
    assert frames[0] is first, "frame 0's own files have the cascade's resolution"
    assert isinstance(frames[1], GeneratedFrame)
    assert frames[1].ovoxel.resolution == VOXELS


def test_the_cascade_sees_frame_0_in_its_own_box_at_twice_the_size(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline, _ = sampled(tiny, kind=AnchorKind.CASCADE_1024)
    seen: list[Tensor] = []
    encode = pipeline.encoder.forward

    def record(images: Tensor) -> Tensor:
        seen.append(images)
        return encode(images)

    monkeypatch.setattr(pipeline.encoder, "forward", record)
    pipeline.latents(film(), SEED)
    small, large = seen
    assert torch.equal(small[:1], prepare_frames(film().frames[:1], 32))
    assert torch.equal(small[1:], prepare_frames(film().frames, 32))
    assert torch.equal(large, prepare_frames(film().frames[:1], 64))
    assert not torch.equal(small[0], small[1])


def test_a_given_mesh_is_the_first_frame(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "mesh.glb"
    path.write_bytes(SAMPLES["blob_star"]())
    (ovoxel,) = voxelize_clip(normalize(bake(path, 1))[0], VOXELS)
    pipeline, latents = sampled(tiny, mesh=path)
    check_encoded(pipeline, latents, ovoxel)
    first = next(iter(pipeline.decode(latents)))
    assert isinstance(first, GeneratedFrame)
    for name in ("coords", "dual_vertices", "base_color", "alpha"):
        assert np.array_equal(getattr(first.ovoxel, name), getattr(ovoxel, name))

    def unused(*_: object, **__: object) -> None:
        raise AssertionError("the base generates nothing")

    for flow in (pipeline.base.structure, pipeline.base.geometry, pipeline.base.material):
        monkeypatch.setattr(flow, "forward", unused)
    again = pipeline.latents(film(), SEED)
    assert torch.equal(again.shape, latents.shape)


def test_the_scale_holds_for_every_kind_of_anchor(tiny: Path, tmp_path: Path) -> None:
    """The film's object doubles, so with fit frame 0 is half as large, in its own files and for the video stages."""
    path = tmp_path / "mesh.glb"
    path.write_bytes(SAMPLES["blob_star"]())
    for options in ({"mesh": path}, {"kind": AnchorKind.CASCADE_1024}):
        _, plain = sampled(tiny, **options)
        pipeline, fitted = sampled(tiny, **options, fit=True)
        assert plain.first is not None
        assert fitted.first is not None
        assert fitted.first.ovoxel.resolution == plain.first.ovoxel.resolution
        sizes = [np.ptp(f.vertices[np.unique(f.faces)], axis=0).max() for f in (fitted.first, plain.first)]
        assert sizes[0] / sizes[1] == pytest.approx(11 / 23, abs=0.05)
        check_encoded(pipeline, fitted, resample(fitted.first, VOXELS) if "kind" in options else fitted.first.ovoxel)


def test_anchors_that_cannot_be_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"the anchor is 1024_cascade and also the mesh a\.glb"):
        AnchorOptions(AnchorKind.CASCADE_1024, Path("a.glb"))
    with pytest.raises(ConfigError, match=r"anchor scale is 0\.0: must be in \(0, 1\]"):
        resample(frame_of(painted_sphere(16)), 16, 0.0)


def test_resampling_keeps_shape_and_colors() -> None:
    """A sphere colored by position, to half and to twice the resolution, and shrunk."""
    frame = frame_of(painted_sphere(64))
    for resolution, scale in ((32, 1.0), (128, 1.0), (64, 0.5)):
        small = resample(frame, resolution, scale)
        points = (small.coords + small.dual_vertices) / resolution - 0.5
        assert np.linalg.norm(points, axis=1) == pytest.approx(0.45 * scale, abs=0.02)
        assert np.abs(small.base_color / 255 - (points / scale + 0.5)).max() < 0.05
        assert set(np.unique(small.roughness)) == {127}
