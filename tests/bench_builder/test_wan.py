from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler, FlowMatchEulerDiscreteScheduler, UniPCMultistepScheduler
from PIL import Image
from safetensors.torch import load_file, save_file

from helix4d.bench_builder import read_manifest
from helix4d.bench_builder.wan import VideoModel, find_checkpoint, read_checkpoint, with_flow_shift
from helix4d.core import ConfigError, FormatError

TINY = {"size": 32, "steps": 3, "num_frames": 17}


@pytest.fixture(scope="module")
def two(a14b: Path) -> VideoModel:
    return VideoModel(read_checkpoint(a14b), _settings("a14b"), "float32", "cpu")


def _settings(name: str, **changes: Any) -> Any:
    return replace(read_manifest().models[name], **{**TINY, **changes})


def _still(size: int = 32) -> Image.Image:
    image = Image.new("RGB", (size, size), (128, 128, 128))
    image.paste((255, 0, 0), (size // 4, size // 4, 3 * size // 4, 3 * size // 4))
    return image


def _generate(model: VideoModel, **changes: Any) -> np.ndarray:
    values = {"still": _still(), "prompt": "A square.", "negative_prompt": "a circle", "seed": 7}
    return model.generate(**{**values, **changes})


def test_two_experts_generate_the_requested_frames(two: VideoModel) -> None:
    reported: list[tuple[int, int]] = []
    frames = _generate(two, progress=lambda done, steps: reported.append((done, steps)))
    assert (frames.dtype, frames.shape) == (np.uint8, (17, 32, 32, 3))
    assert reported == [(1, 3), (2, 3), (3, 3)]
    assert np.abs(np.diff(frames.astype(int), axis=0)).max() > 0


def test_a_video_depends_only_on_its_arguments(two: VideoModel) -> None:
    state = torch.random.get_rng_state()
    first = _generate(two)
    changed = [
        {"seed": 8},
        {"prompt": "A triangle."},
        {"negative_prompt": "text"},
        {"still": Image.new("RGB", (32, 32))},
    ]
    for change in changed:
        assert not np.array_equal(_generate(two, **change), first), change
    assert np.array_equal(_generate(two), first)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_one_network_with_a_timestep_per_token_works(ti2v_5b: Path) -> None:
    checkpoint = read_checkpoint(ti2v_5b)
    model = VideoModel(checkpoint, _settings("ti2v_5b"), "bfloat16", "cpu")
    frames = _generate(model)
    assert (checkpoint.experts, frames.shape) == (1, (17, 32, 32, 3))
    assert np.array_equal(_generate(model), frames)


@pytest.mark.parametrize(
    "change",
    [{"flow_shift": 3.0}, {"boundary_ratio": 0.5}, {"guidance": (3.5, 5.0)}, {"guidance": (5.0, 3.5)}, {"steps": 2}],
)
def test_every_setting_of_the_manifest_reaches_the_model(change: dict[str, Any], two: VideoModel, a14b: Path) -> None:
    model = VideoModel(read_checkpoint(a14b), _settings("a14b", **change), "float32", "cpu")
    assert not np.array_equal(_generate(model), _generate(two))


def test_guidance_lists_the_low_noise_expert_first(a14b: Path) -> None:
    # With the boundary above every timestep, the low-noise expert does it all, and the other's guidance says nothing.
    only_low = {"boundary_ratio": 0.9999, "steps": 1, "flow_shift": 0.5}
    checkpoint = read_checkpoint(a14b)
    videos = [
        _generate(VideoModel(checkpoint, _settings("a14b", guidance=guidance, **only_low), "float32", "cpu"))
        for guidance in [(3.5, 3.5), (3.5, 9.0), (9.0, 3.5)]
    ]
    assert np.array_equal(videos[0], videos[1])
    assert not np.array_equal(videos[0], videos[2])


def test_flow_shift_overrides_the_checkpoint() -> None:
    for scheduler in (
        UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0),
        FlowMatchEulerDiscreteScheduler(shift=3.0),
    ):
        shifted = with_flow_shift(scheduler, 5.0)
        shifted.set_timesteps(4)
        scheduler.set_timesteps(4)
        assert shifted.timesteps[1] > scheduler.timesteps[1]
        assert type(shifted) is type(scheduler)
    with pytest.raises(ConfigError, match="DDPMScheduler does not support flow_shift"):
        with_flow_shift(DDPMScheduler(), 5.0)


def test_the_fingerprint_covers_every_file_that_is_read(a14b: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(a14b, tmp_path / "copy")
    (copy / "README.md").write_text("says nothing to the model")
    before = read_checkpoint(a14b)
    assert read_checkpoint(copy) == replace(before, folder=copy)
    scheduler = copy / "scheduler" / "scheduler_config.json"
    scheduler.write_text(scheduler.read_text().replace("3.0", "4.0"))
    assert read_checkpoint(copy).sha256 != before.sha256


def test_settings_for_another_model_are_refused(a14b: Path, ti2v_5b: Path) -> None:
    with pytest.raises(ConfigError, match=r"2 expert\(s\), but the settings are for 1: choose others"):
        VideoModel(read_checkpoint(a14b), _settings("ti2v_5b"), "float32", "cpu")
    with pytest.raises(ConfigError, match="must be a multiple of 32 for this checkpoint"):
        VideoModel(read_checkpoint(ti2v_5b), _settings("ti2v_5b", multiple=16, size=48), "float32", "cpu")


def test_inputs_that_the_model_cannot_read_are_refused(two: VideoModel) -> None:
    with pytest.raises(ConfigError, match=r"the padded still is RGB \(48, 48\)"):
        _generate(two, still=_still(48))
    with pytest.raises(ConfigError, match=r"tokens, more than 512: shorten it: A square\. A square"):
        _generate(two, prompt="A square. " * 300)


def test_frames_that_are_not_finite_are_refused(a14b: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(a14b, tmp_path / "broken")
    path = broken / "transformer" / "diffusion_pytorch_model.safetensors"
    weights = load_file(path)
    weights["proj_out.bias"] = torch.full_like(weights["proj_out.bias"], float("nan"))
    save_file(weights, path, {"format": "pt"})
    with pytest.raises(FormatError, match="not finite: try --dtype float32"):
        _generate(VideoModel(read_checkpoint(broken), _settings("a14b"), "float32", "cpu"))


def _spoil(folder: Path, **changes: Any) -> None:
    path = folder / "model_index.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"_class_name": "StableDiffusionPipeline"}, "has the pipeline 'StableDiffusionPipeline', must be one of"),
        ({"transformer": ["my_code", "Network"]}, "transformer comes from 'my_code': .* its own code"),
        ({"vae": [None, None]}, "lacks vae"),
        ({"image_encoder": ["transformers", "CLIPVisionModel"]}, "image_encoder/ has no files: is the download"),
    ],
)
def test_folders_that_are_not_wan_checkpoints_are_refused(
    changes: dict[str, Any], message: str, a14b: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(a14b, tmp_path / "spoiled")
    _spoil(folder, **changes)
    with pytest.raises(ConfigError, match=message):
        read_checkpoint(folder)


def test_pickled_weights_and_damaged_files_are_refused(a14b: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(a14b, tmp_path / "spoiled")
    weights = folder / "vae" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ConfigError, match="spoiled: cannot be loaded"):
        VideoModel(read_checkpoint(folder), _settings("a14b"), "float32", "cpu")
    weights.rename(weights.with_suffix(".bin"))
    with pytest.raises(ConfigError, match=r"has \.bin weights only"):
        read_checkpoint(folder)
    with pytest.raises(ConfigError, match=r"model_index\.json: cannot be read"):
        read_checkpoint(tmp_path)


def test_a_model_is_a_folder_or_a_hub_repository(a14b: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert find_checkpoint(str(a14b)) == a14b
    with pytest.raises(ConfigError, match="'wan': must be one of the manifest, a folder or a hub repository"):
        find_checkpoint("wan")
    with pytest.raises(ConfigError, match="cannot download the hub repository nobody/nothing"):
        find_checkpoint("nobody/nothing", offline=True)
    asked: dict[str, Any] = {}

    def fetch(repository: str, **options: Any) -> str:
        asked.update(options, repository=repository)
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    assert find_checkpoint("owner/wan", revision="abc") == tmp_path
    assert (asked["repository"], asked["revision"]) == ("owner/wan", "abc")
    assert "*/*.safetensors" in asked["allow_patterns"]
    assert not any("bin" in pattern for pattern in asked["allow_patterns"])
