"""The whole chain on one clip: VAEs, latents, stages, and samples that reproduce the clip."""

from __future__ import annotations

import functools
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from helix4d.cli.main import main
from helix4d.core import ConfigError
from helix4d.curation.shards.reader import ShardReader
from helix4d.model.checkpoint.checkpoint import load_network
from helix4d.model.conditioning.images import prepare_frames
from helix4d.model.conditioning.video_input import read_video
from helix4d.model.sampling.anchor_fit import fit_ratio
from helix4d.model.sampling.sampler import SamplerConfig
from helix4d.model.sampling.video_pipeline import AnchorOptions, Helix4DPipeline
from helix4d.train.data import dataset
from helix4d.train.data.dataset import ClipReader
from helix4d.train.export import export_run, load_trained
from helix4d.train.latents.encode import EncodeConfig, encode
from helix4d.train.latents.jobs import LatentConfig
from helix4d.train.loop import train
from helix4d.train.metrics import read_metrics
from helix4d.train.network import load_image_encoder
from helix4d.train.samples.sampling import decode_meshes, decode_occupancy, sample_video
from helix4d.train.small_world.vae import VaeConfig, train_vaes
from helix4d.voxelize import decode_vxz, extract_mesh, read_vxz
from tests.packages import needs
from tests.train import world

pytestmark = [pytest.mark.slow, needs("bpy", "tyro")]
CPU = torch.device("cpu")
SAMPLER = SamplerConfig(steps=12, guidance=1.0, rescale_t=3.0)


@dataclass(frozen=True)
class SmallWorld:
    shards: Path
    models: Path
    latents: Path
    losses: dict[str, list[float]]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> SmallWorld:
    root = tmp_path_factory.mktemp("small")
    shards = world.write_shards(root / "shards", ["butterfly"], rendered=True)
    config = VaeConfig(
        shards=str(shards),
        output=str(root / "models"),
        occupancy_resolution=16,
        structure_channels=(8, 16, 32),
        sparse_channels=(16, 16, 32, 32, 32),
        sparse_latent=8,
        image_channels=16,
        steps=120,
        batch=1,
        lr=4e-3,
    )
    losses = train_vaes(config)
    options = {"latents": LatentConfig(occupancy_resolution=16), "workers": 1}
    encode(EncodeConfig(shards, root / "latents", config.output, **options))
    return SmallWorld(shards, root / "models", root / "latents", losses)


def trained(small: SmallWorld, stage: str, output: Path, base: bool = False) -> Any:
    """A run of a stage on the one clip: its settings, network, reader and image tokens.

    A base knows single frames alone: no attention across frames, no time, no given frame, each in its own tight box.
    """
    values = world.train_values(stage, small.latents, small.shards, small.models, output)
    values |= {"steps": 300, "batch": 4, "condition_dropout": 0.0}
    values["network"]["scratch"] |= {"model_channels": 64, "resolution": 4, "num_blocks": 3}
    if stage == "structure":
        values["network"]["scratch"] |= {"in_channels": 8, "out_channels": 8}
    if base:
        values["network"] |= {"first_frame": False}
        values["network"]["video"] |= {"pattern": "spatial", "temporal": "none", "kept": 1.0}
    values["optimizer"] |= {"lr": 3e-3, "ema": 0.98, "clip_history": 1000}
    values["run"] |= {"save_every": 300, "log_every": 20}
    config = world.build(world.TrainConfig, values, "test")
    with pytest.MonkeyPatch.context() as patch:
        if base:
            patch.setattr(dataset, "prepare_frames", tight_frames)
        train(config)
    reader = ClipReader(config.data, config.stage)
    cond = load_image_encoder(config.network, CPU)(reader.images(0, 0))
    return config, load_trained(config, CPU), reader, cond


def tight_frames(frames: Sequence[Image.Image], image_size: int) -> torch.Tensor:
    """Prepare each frame in its own box, as TRELLIS.2 was trained."""
    return torch.cat([prepare_frames([frame], image_size) for frame in frames])


@pytest.fixture(scope="module")
def stages(small: SmallWorld, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Any]:
    """Returns what `trained` returns for a stage; each stage is trained once."""
    root = tmp_path_factory.mktemp("stages")
    return functools.cache(lambda stage: trained(small, stage, root))


def test_the_vaes_learn(small: SmallWorld) -> None:
    for losses in small.losses.values():
        assert np.mean(losses[-10:]) < 0.2 * losses[0]


def test_overfitting_a_clip_reproduces_its_structure(small: SmallWorld, stages: Callable[[str], Any]) -> None:
    config, network, reader, cond = stages("structure")
    losses = [line["loss"] for line in read_metrics(config.folder)]
    assert losses[-1] < 0.15 * losses[0]
    latent = reader.latent(0)
    decoder: Any = load_network(str(small.models), "ckpts/sparse_structure_decoder")
    sampled = decode_occupancy(decoder, sample_video(network, latent, cond, SAMPLER, seed=0))
    wanted = decode_occupancy(decoder, latent.clean)
    for a, b in zip(sampled, wanted, strict=True):
        assert int((a & b).sum()) / int((a | b).sum()) > 0.9


def test_overfitting_a_clip_reproduces_its_surface(small: SmallWorld, stages: Callable[[str], Any]) -> None:
    config, network, reader, cond = stages("geometry")
    losses = [line["loss"] for line in read_metrics(config.folder)]
    assert losses[-1] < 0.4 * losses[0]
    latent = reader.latent(0)
    z = reader.statistics["shape"].denormalize(sample_video(network, latent, cond, SAMPLER, seed=0))
    decoder: Any = load_network(str(small.models), "ckpts/shape_slat_decoder")
    meshes = decode_meshes(decoder, z, latent.coords, latent.lengths, world.RESOLUTION)
    shard = ShardReader(next((small.shards / "train").glob("*.tar")))
    for frame, mesh in enumerate(meshes):
        data = shard.read(reader.entries[0].key, f"frame_{frame:02d}.vxz")
        vertices, faces = extract_mesh(decode_vxz(data))
        ours = torch.from_numpy(mesh.vertices[np.unique(mesh.faces)])
        truth = torch.from_numpy(vertices[np.unique(faces)])
        voxels = torch.cdist(ours, truth) * world.RESOLUTION
        for distances in (voxels.amin(0), voxels.amin(1)):
            assert float(distances.mean()) < 1
            assert float(distances.quantile(0.99)) < 2


def test_the_material_loss_decreases(stages: Callable[[str], Any]) -> None:
    """The last stage trained by `make tiny`; the other two are tested above by their samples."""
    config, *_ = stages("material")
    losses = [line["loss"] for line in read_metrics(config.folder)]
    assert losses[-1] < 0.4 * losses[0]


@pytest.fixture(scope="module")
def exported(
    small: SmallWorld, stages: Callable[[str], Any], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path, Path]:
    """Base, fine-tuned stages, and a folder with the images of one view."""
    root = tmp_path_factory.mktemp("exported")
    base, tuned, video = root / "base", root / "tuned", root / "video"
    shutil.copytree(small.models, base)
    for stage in ("structure", "geometry", "material"):
        config, *_ = trained(small, stage, root / "runs", base=True)
        export_run(config.folder, base)
        config, *_ = stages(stage)
        export_run(config.folder, tuned)
    shard = ShardReader(next((small.shards / "train").glob("*.tar")))
    (key,) = shard.keys()
    video.mkdir()
    for frame in range(world.FRAMES):
        (video / f"{frame}.webp").write_bytes(shard.read(key, f"view_00_frame_{frame:02d}.webp"))
    return base, tuned, video


def test_sampling_a_rendered_video_reproduces_its_asset(small: SmallWorld, exported: tuple[Path, Path, Path]) -> None:
    """The only inputs are images: the first frame is generated by the base."""
    base, tuned, folder = exported
    shard = ShardReader(next((small.shards / "train").glob("*.tar")))
    (key,) = shard.keys()
    pipeline = Helix4DPipeline.from_pretrained(str(tuned), str(base), device="cpu")
    samplers = pipeline.samplers.changed(guidance=1.0, rescale_t=3.0)
    reported: list[tuple[str, int, int]] = []
    video = read_video(folder)
    frames = list(pipeline(video, samplers=samplers, progress=lambda *step: reported.append(step)))
    assert len(frames) == world.FRAMES
    assert reported[-1] == ("decode", world.FRAMES, world.FRAMES)
    assert set(pipeline.timings) == {"images", "anchor", "structure", "occupancy", "geometry", "material", "decode"}

    overlaps, shuffled = [], []
    for number, frame in enumerate(frames):
        truth = cells(decode_vxz(shard.read(key, f"frame_{number:02d}.vxz")).coords)
        ours = cells(frame.ovoxel.coords)
        overlaps.append(overlap(ours, truth))
        # Hardest fair comparison: the same object with permuted axes.
        shuffled.append(max(overlap(ours.transpose(axes), truth) for axes in [(1, 2, 0), (2, 0, 1), (0, 2, 1)]))
        assert len(frame.faces) > 100
        assert np.abs(frame.vertices).max() < 0.55
    print(f"overlap {overlaps}, shuffled {shuffled}")
    assert min(overlaps) > 0.6
    assert min(overlaps) > 2 * max(shuffled)

    again = list(pipeline(video, samplers=samplers))
    assert all(np.array_equal(a.vertices, b.vertices) for a, b in zip(frames, again, strict=True))
    other = next(pipeline(video, seed=1, samplers=samplers))
    assert not np.array_equal(other.vertices, frames[0].vertices)


@needs("trimesh")
def test_the_command_writes_files_that_other_software_can_open(
    exported: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    import trimesh

    base, tuned, video = exported
    common = ["--video", str(video), "--model", str(tuned), "--base", str(base), "--device", "cpu", "--guidance", "1"]
    quick = ["--steps", "4", "--texture-size", "64", "--turntable-size", "32"]
    assert main(["sample", *common, *quick, "--output", str(tmp_path / "a")]) == 0
    written = {path.name for path in (tmp_path / "a").iterdir()}
    frames = {f"frame_{f:02d}.{kind}" for f in range(world.FRAMES) for kind in ("glb", "vxz")}
    assert written == frames | {"clip.glb", "input.webp", "turntable.webp", "run.json"}
    facts = json.loads((tmp_path / "a/run.json").read_bytes())
    assert (facts["settings"]["seed"], facts["samplers"]["structure"]["steps"]) == (0, 4)
    assert facts["seconds"].keys() > {
        "anchor",
        "structure",
        "geometry",
        "material",
        "decode",
        "mesh",
        "write",
        "turntable",
    }
    for number, frame in enumerate(facts["frames"]):
        assert len(read_vxz(tmp_path / f"a/frame_{number:02d}.vxz")) == frame["voxels"]
        scene = trimesh.load(tmp_path / f"a/frame_{number:02d}.glb")
        assert sum(len(mesh.faces) for mesh in scene.geometry.values()) == frame["faces"] > 100
    with Image.open(tmp_path / "a/turntable.webp") as picture:
        assert (picture.n_frames, picture.size) == (2 * world.FRAMES, (32, 32))
        assert np.asarray(picture.convert("L")).min() < 200, "there is something to see"
    assert main(["sample", *common, *quick, "--output", str(tmp_path / "b"), "--low-vram"]) == 0
    for name in written - {"run.json"}:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name


def test_invalid_input_is_reported(
    exported: tuple[Path, Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base, tuned, video = exported

    def errors(**changes: str) -> str:
        values = {
            "video": str(video),
            "model": str(tuned),
            "base": str(base),
            "output": str(tmp_path / "out"),
            **changes,
        }
        assert main(["sample", *(word for name, value in values.items() for word in (f"--{name}", value))]) == 2
        assert not (tmp_path / "out/run.json").exists()
        return capsys.readouterr().err

    assert "no such file" in errors(video="missing.mp4")
    assert "pipeline.json not found" in errors(model=str(tmp_path))
    assert "pipeline.json does not list" in errors(base=str(tuned))
    one = tmp_path / "one"
    one.mkdir()
    shutil.copy(video / "0.webp", one)
    assert "only one frame" in errors(video=str(one))
    for name in ("a.png", "b.png"):
        Image.new("RGBA", (8, 8)).save(one / name)
    (one / "0.webp").unlink()
    assert "no object in the first frame" in errors(video=str(one))


def test_a_growing_object_is_given_room(exported: tuple[Path, Path, Path], tmp_path: Path) -> None:
    """The same image in all frames, at half the size in the first."""
    base, tuned, folder = exported
    double = (2 * world.IMAGE_SIZE, 2 * world.IMAGE_SIZE)
    image = Image.open(folder / "0.webp").convert("RGBA")
    for number in range(world.FRAMES):
        if number == 0:
            canvas = Image.new("RGBA", double)
            canvas.paste(image, (world.IMAGE_SIZE // 2, world.IMAGE_SIZE // 2))
        else:
            canvas = image.resize(double, Image.Resampling.NEAREST)
        canvas.save(tmp_path / f"{number}.png")
    video = read_video(tmp_path)
    ratio = fit_ratio(video.frames, video.alpha_threshold)
    assert 0.4 < ratio < 0.6
    sizes, tokens = [], []
    for fit in (False, True):
        pipeline = Helix4DPipeline.from_pretrained(str(tuned), str(base), device="cpu", anchor=AnchorOptions(fit=fit))
        frames = list(pipeline(video, samplers=pipeline.samplers.changed(guidance=1.0, rescale_t=3.0)))
        vertices = frames[0].vertices[np.unique(frames[0].faces)]
        sizes.append(float(np.ptp(vertices, axis=0).max()))
        tokens.append(len(frames[0].ovoxel))
    print(f"ratio {ratio}, sizes {sizes}, voxels {tokens}")
    assert sizes[1] / sizes[0] == pytest.approx(ratio, abs=0.1)
    assert tokens[1] < 0.6 * tokens[0]


def test_a_video_longer_than_in_training_keeps_all_frames(exported: tuple[Path, Path, Path], tmp_path: Path) -> None:
    """A video that plays back and forth twice; its first frame equals the short video's, as the anchor is the same."""
    base, tuned, folder = exported
    for number, picture in enumerate([0, 1, 2, 1, 0, 1, 2]):
        shutil.copy(folder / f"{picture}.webp", tmp_path / f"{number}.webp")
    pipeline = Helix4DPipeline.from_pretrained(str(tuned), str(base), device="cpu")
    samplers = pipeline.samplers.changed(guidance=1.0, rescale_t=3.0)
    frames = list(pipeline(read_video(tmp_path, frames=None), samplers=samplers))
    assert len(frames) == 7 > pipeline.video.geometry.video.training_frames
    assert all(len(frame.faces) and np.isfinite(frame.vertices).all() for frame in frames)
    short = next(pipeline(read_video(folder), samplers=samplers))
    np.testing.assert_array_equal(frames[0].ovoxel.coords, short.ovoxel.coords)


def test_out_of_memory_is_reported(exported: tuple[Path, Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    base, tuned, folder = exported
    pipeline = Helix4DPipeline.from_pretrained(str(tuned), str(base), device="cpu")

    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("tried to allocate 80 GiB")

    monkeypatch.setattr(pipeline.video.geometry, "forward", full)
    with pytest.raises(ConfigError, match=r"geometry: out of memory on cpu .*80 GiB.*low_vram"):
        next(pipeline(read_video(folder), samplers=pipeline.samplers.changed(steps=1)))


def cells(coords: np.ndarray) -> np.ndarray:
    """Occupancy of 16³ cells by voxels."""
    grid = np.zeros((16, 16, 16), bool)
    grid[tuple(np.asarray(coords).T * 16 // world.RESOLUTION)] = True
    return grid


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())
