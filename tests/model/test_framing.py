"""The boxes that sampling crops to: training's for the video stages, frame 0's own for the base."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from helix4d.model.conditioning.images import MATTED_ALPHA, prepare_frames, union_box
from helix4d.model.conditioning.video_input import Video, read_video
from helix4d.model.latents.latents import SHAPE_STATISTICS, TEXTURE_STATISTICS
from helix4d.model.sampling import video_pipeline
from helix4d.model.sampling.anchor import Anchor, Autoencoder
from helix4d.model.sampling.loading import Stages
from helix4d.model.sampling.video_pipeline import Helix4DPipeline

SIZE = 64


class _Recorder(nn.Module):
    """Stands in for the image encoder: records its images and returns each one's number as its token."""

    def forward(self, images: Tensor) -> Tensor:
        self.images = images
        return torch.arange(len(images), dtype=torch.float32).reshape(-1, 1, 1)


class _ReachedError(Exception):
    """The fine-tuned stage 1 has been given its condition."""


def conditions(video: Video, monkeypatch: pytest.MonkeyPatch) -> tuple[Tensor, Tensor]:
    """Return what the base and the video stages see: [1, 3, S, S] and [T, 3, S, S]."""
    nothing: Any = nn.Identity()
    recorder: Any = _Recorder()
    stages = Stages(nothing, nothing, nothing)
    vae = Autoencoder(nothing, nothing, nothing, None, SHAPE_STATISTICS, TEXTURE_STATISTICS)
    pipeline = Helix4DPipeline(stages, stages, vae, recorder, image_size=SIZE)
    seen: list[Tensor] = []

    def anchor(run: object, base: Stages, decoder: nn.Module, cond: Tensor) -> Anchor:
        seen.append(cond)
        tokens: Any = torch.zeros(1, 1)
        return Anchor(tokens, tokens, tokens, tokens)

    def stage(network: nn.Module, anchor: Tensor, cond: Tensor, batched: bool) -> None:
        seen.append(cond)
        raise _ReachedError

    monkeypatch.setattr(video_pipeline, "base_anchor", anchor)
    monkeypatch.setattr(video_pipeline, "anchored_dense_velocity", stage)
    with pytest.raises(_ReachedError):
        pipeline.latents(video)
    base, stages_cond = (recorder.images[tokens.flatten().long()] for tokens in seen)
    return base, stages_cond


def growing(alpha: int = 255) -> list[Image.Image]:
    """A square that grows from 8 to 32 pixels."""
    frames = []
    for half in (4, 8, 16):
        pixels = np.zeros((48, 48, 4), np.uint8)
        pixels[24 - half : 24 + half, 24 - half : 24 + half] = (255, 255, 255, alpha)
        frames.append(Image.fromarray(pixels, "RGBA"))
    return frames


def shown_width(image: Tensor) -> float:
    """Share of the columns of the normalized image [3, S, S] that are brighter than 0.37."""
    return float((image[0] > -0.5).any(dim=0).float().mean())


@pytest.mark.parametrize("alpha", [255, 150])
def test_the_base_sees_frame_0_in_its_own_box_and_the_video_stages_in_the_unions(alpha, monkeypatch) -> None:
    video = Video(tuple(growing(alpha)), (0, 1, 2), 3, False)
    base, stages = conditions(video, monkeypatch)
    assert (len(base), len(stages)) == (1, 3)
    assert shown_width(base[0]) == 1
    assert [shown_width(image) for image in stages] == pytest.approx([0.26, 0.52, 1], abs=0.05)
    assert torch.equal(base, prepare_frames(video.frames[:1], SIZE))
    assert torch.equal(stages, prepare_frames(video.frames, SIZE))


def test_the_veil_of_matting_is_outside_of_both_boxes(monkeypatch) -> None:
    veil = Image.new("RGBA", (48, 48), (90, 90, 90, MATTED_ALPHA))
    frames = tuple(Image.alpha_composite(veil, frame) for frame in growing())
    base, stages = conditions(Video(frames, (0, 1, 2), 3, matted=True), monkeypatch)
    assert torch.equal(base, prepare_frames(growing()[:1], SIZE))
    assert torch.equal(stages[-1], prepare_frames(growing(), SIZE)[-1])


def render(name: str, views: Sequence[int], folder: Path) -> list[list[bytes]]:
    """Render four frames of a sample as in curation: WebP files per view and frame."""
    pytest.importorskip("moderngl", reason="moderngl is not installed (extra 'raster')")
    from helix4d.assets import bake, normalize
    from helix4d.assets.samples import SAMPLES
    from helix4d.curation.work.stages import encode_webp
    from helix4d.render.engines import load_engine
    from helix4d.render.scene.cameras import sample_cameras
    from helix4d.render.scene.lighting import sample_lights
    from helix4d.render.scene.settings import preset

    (folder / f"{name}.glb").write_bytes(SAMPLES[name]())
    clip, _ = normalize(bake(folder / f"{name}.glb", 4))
    cameras = sample_cameras(0, name, 16, SIZE)
    lights = sample_lights(0, name, cameras)
    chosen = [cameras[v] for v in views], [lights[v] for v in views]
    files: list[list[bytes]] = [[] for _ in views]
    for image in load_engine("raster")(clip, *chosen, preset("train", image_size=SIZE, device="cpu")):
        assert len(files[image.view]) == image.frame
        files[image.view].append(encode_webp(image.rgba))
    return files


@pytest.mark.parametrize("name", ["campfire", "firefly_jar", "smoke_puff", "fishbowl"])
@pytest.mark.parametrize("views", [(0, 8), pytest.param(tuple(range(16)), marks=pytest.mark.acceptance)])
def test_sampling_frames_what_is_translucent_as_training_does(name, views, tmp_path: Path, monkeypatch) -> None:
    from helix4d.curation.shards.members import decode_image

    differ = 0
    for view, files in zip(views, render(name, views, tmp_path), strict=True):
        folder = tmp_path / f"view_{view:02d}"
        folder.mkdir()
        for frame, data in enumerate(files):
            (folder / f"{frame}.webp").write_bytes(data)
        video = read_video(folder)
        trained = [decode_image(data, f"{view}", SIZE) for data in files]
        assert union_box(video.frames, video.alpha_threshold) == union_box(trained, 0)
        base, stages = conditions(video, monkeypatch)
        assert torch.equal(stages, prepare_frames(trained, SIZE))
        assert torch.equal(base, prepare_frames(trained[:1], SIZE))
        differ += union_box(trained, 0) != union_box(trained, MATTED_ALPHA)
    assert differ, "the threshold of matting would have cut this object"
