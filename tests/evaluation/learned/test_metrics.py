"""The registry's learned metrics on an item, with tiny networks in the published files' places."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from helix4d.assets import Clip, Frame, Material, Topology
from helix4d.evaluation.metrics import learned
from helix4d.evaluation.metrics.learned import Y_UP, Network, PointScore, colored_clouds, learned_metrics
from helix4d.evaluation.metrics.metric import Item, Measure, Metric, Need, NotAvailable, SetMetric, View, missing
from tests.evaluation.shapes import tripod

FVD = ["fvd_set", "fvd_pair", "fvd_set_videogpt", "fvd_pair_videogpt"]
NAMES = ["clip", "clip_n", "ulip_2", "uni3d", "dreamsim", *FVD, "lpips_vgg", "lpips_alex"]


def clip_of(frames: int) -> Clip:
    surface = tripod()
    faces = surface.faces
    topology = Topology(faces, np.zeros((0, len(faces), 3, 2), np.float32), np.zeros(len(faces), np.int32))
    normals = np.broadcast_to(np.float32([0, 0, 1]), surface.vertices.shape).copy()
    moved = tuple(Frame(surface.vertices + np.float32(0.01 * t), normals, topology) for t in range(frames))
    return Clip("", 0, np.arange(frames) / 10, moved, (Material(base_color=(1.0, 0.5, 0.0)),))


def draw(clip: Clip, view: View) -> np.ndarray:
    """An image of noise that depends on the view only, with a border of background."""
    seed = int(view.azimuth_deg) + (1000 if view.shows == "normal" else 0)
    random = np.random.default_rng(seed)
    pictures = np.zeros((len(clip.frames), 64, 64, 4), np.uint8)
    pictures[:, 8:56, 8:56, :3] = random.integers(0, 256, (48, 48, 3), np.uint8)
    pictures[:, 8:56, 8:56, 3] = 255
    return pictures


def item_of(frames: int = 9, **changes: Any) -> Item:
    """A new item, since items cache renderings and features."""
    prediction = clip_of(frames)
    values: dict[str, Any] = {
        "key": "a",
        "prediction": prediction,
        "video": draw(prediction, View()),
        "truth": NotAvailable("none"),
        "tracked": False,
        "textured": True,
        "device": torch.device("cpu"),
        "draw": draw,
    }
    return Item(**{**values, **changes})


def by_name(weights: Path | None) -> dict[str, Measure]:
    return {metric.name: metric for metric in learned_metrics(weights)}


def value(metric: Measure, item: Item) -> float:
    assert isinstance(metric, Metric)
    found = metric.evaluate(item)
    assert isinstance(found, float)
    return found


def test_names_directions_and_needs_are_those_of_the_papers_table() -> None:
    found = by_name(None)
    assert list(found) == NAMES
    assert {name for name, metric in found.items() if metric.higher_is_better} == {"clip", "clip_n", "ulip_2", "uni3d"}
    assert {name for name, m in found.items() if Need.TEXTURE in m.needs} == set(NAMES) - {"clip_n", "ulip_2", "uni3d"}
    assert all(Need.VIDEO in metric.needs and metric.checkpoint and metric.definition for metric in found.values())
    assert isinstance(missing(found["clip"], item_of(textured=False)), NotAvailable)
    assert missing(found["clip_n"], item_of(textured=False)) is None
    assert missing(found["clip"], item_of(lost_textures="no image")) == NotAvailable("no image")


def test_metrics_can_be_sent_to_other_processes(tmp_path: Path) -> None:
    for metric in by_name(tmp_path).values():
        sent = pickle.loads(pickle.dumps(metric))  # noqa: S301
        assert (sent.name, sent.choices, sent.available()) == (metric.name, metric.choices, metric.available())


def test_without_weights_every_metric_names_its_commands(tmp_path: Path) -> None:
    reasons = {name: metric.available() or "" for name, metric in by_name(None).items()}
    assert all(reason.endswith("then --weights DIR") for reason in reasons.values())
    assert "hf download laion/CLIP-ViT-bigG-14-laion2B-39B-b160k open_clip_pytorch_model.bin" in reasons["clip"]
    assert "hf download SFXX/ulip ULIP-2/pretrained_models/" in reasons["ulip_2"]
    assert "--repo-type dataset --local-dir DIR/ulip" in reasons["ulip_2"]
    assert "laion/CLIP" in reasons["ulip_2"]
    assert "hf download BAAI/Uni3D modelzoo/uni3d-g/model.pt --local-dir DIR/uni3d" in reasons["uni3d"]
    assert "timm/eva02_enormous_patch14_plus_clip_224.laion2b_s9b_b144k" in reasons["uni3d"]
    assert reasons["dreamsim"].count("unzip") == 1
    assert "--repo-type space" in reasons["fvd_set_videogpt"]
    assert "i3d_torchscript.pt" in reasons["fvd_pair"]
    assert reasons["lpips_vgg"].count("curl") == 2
    folder = by_name(tmp_path)["lpips_alex"]
    assert f"--weights {tmp_path}" in (folder.available() or "")
    for path in ("alexnet-owt-7be5be79.pth", "alex.pth"):
        (tmp_path / "lpips").mkdir(exist_ok=True)
        (tmp_path / "lpips" / path).touch()
    assert folder.available() is None


def test_cosines_of_views_and_of_points(tiny: Path) -> None:
    found = by_name(tiny)
    item = item_of(2)
    scores = {name: value(found[name], item) for name in ("clip", "clip_n", "ulip_2", "uni3d")}
    assert all(found[name].available() is None for name in scores)
    assert all(-1 <= score <= 1 for score in scores.values())
    assert len(set(scores.values())) == 4
    again = item_of(2)
    assert scores == {name: value(metric, again) for name, metric in by_name(tiny).items() if name in scores}


def test_a_prediction_that_looks_like_the_video_from_all_sides_scores_one(tiny: Path) -> None:
    item = item_of(draw=lambda clip, view: draw(clip, View()))
    assert value(by_name(tiny)["clip"], item) == pytest.approx(1, abs=1e-6)
    assert value(by_name(tiny)["clip"], item_of()) < 1 - 5e-4


def test_clip_counts_the_videos_own_view_beside_the_four_sides(tiny: Path) -> None:
    clip = by_name(tiny)["clip"]
    alone = []
    for azimuth in (0, 90, 180, 270):
        alone.append(value(clip, item_of(draw=lambda shown, view, azimuth=azimuth: draw(shown, View(azimuth)))))
    assert value(clip, item_of()) == pytest.approx((2 * alone[0] + sum(alone[1:])) / 5, abs=1e-6)


def test_clip_looks_from_four_sides_and_reads_the_video_once(tiny: Path) -> None:
    drawn: list[View] = []

    def watch(clip: Clip, view: View) -> np.ndarray:
        drawn.append(view)
        return draw(clip, view)

    item = item_of(draw=watch)
    found = by_name(tiny)
    value(found["clip"], item)
    value(found["clip_n"], item)
    assert [(view.azimuth_deg, view.elevation_deg, view.shows) for view in drawn] == [
        (azimuth, 0, shows) for shows in ("color", "normal") for azimuth in (0, 90, 180, 270)
    ]


def test_clouds_have_the_materials_color_and_gray_without_textures() -> None:
    clouds = colored_clouds(item_of(2))
    assert clouds.shape == (2, 10_000, 6)
    assert np.allclose(clouds[..., 3:], (1, 1.055 * 0.5 ** (1 / 2.4) - 0.055, 0), atol=1e-6)
    assert np.allclose(colored_clouds(item_of(2, textured=False))[..., 3:], 0.4)
    assert np.allclose(colored_clouds(item_of(2, lost_textures="no image"))[..., 3:], 0.4)
    assert not np.array_equal(clouds[0, :, :3], clouds[1, :, :3])


def test_both_point_encoders_see_the_shape_with_y_up_and_not_mirrored(tiny: Path) -> None:
    assert (Y_UP @ np.array([0.0, 0.0, 1.0])).tolist() == [0, 1, 0]
    assert np.isclose(np.linalg.det(Y_UP), 1)
    mirrored = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, 1.0, 0.0]])  # y and z swapped
    for name in ("ulip_2", "uni3d"):
        metric = by_name(tiny)[name]
        assert isinstance(metric, PointScore)
        found = {axes.tobytes(): value(replace(metric, axes=axes), item_of(2)) for axes in (Y_UP, mirrored)}
        assert len(set(found.values())) == 2
        assert value(metric, item_of(2)) == found[Y_UP.tobytes()]


def test_a_frame_without_surface_has_no_point_score(tiny: Path) -> None:
    prediction = clip_of(2)
    faces = np.zeros((0, 3), np.int32)
    nothing = Topology(faces, np.zeros((0, 0, 3, 2), np.float32), np.zeros(0, np.int32))
    empty = replace(prediction.frames[1], topology=nothing)
    item = item_of(2, prediction=replace(prediction, frames=(prediction.frames[0], empty)))
    metric = by_name(tiny)["ulip_2"]
    assert isinstance(metric, Metric)
    found = metric.evaluate(item)
    assert isinstance(found, NotAvailable)
    assert "frame 1: the mesh has no triangles" in found.reason


class Means(nn.Module):
    """Replaces I3D: mean and standard deviation of each channel."""

    def forward(self, videos: torch.Tensor) -> torch.Tensor:
        return torch.cat([videos.mean(dim=(2, 3, 4)), videos.std(dim=(2, 3, 4))], dim=-1)


class Absolute(nn.Module):
    """Replaces an image distance."""

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return (a - b).abs().mean(dim=(1, 2, 3))


def video_metric(monkeypatch: pytest.MonkeyPatch, name: str, network: type[nn.Module] = Means) -> SetMetric:
    for published in ("STYLEGAN_V_NETWORK", "VIDEOGPT_NETWORK"):
        monkeypatch.setattr(learned, published, Network(published, (), network))
    metric = by_name(None)[name]
    assert isinstance(metric, SetMetric)
    return metric


@pytest.mark.parametrize("name", FVD)
def test_video_distances_are_zero_for_the_inputs_themselves(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    metric = video_metric(monkeypatch, name)
    same, other = [], []
    for seed in range(4):
        video = draw(clip_of(9), View())
        video[..., :3] //= seed + 1
        same.append(metric.features(item_of(video=video, draw=lambda clip, view, video=video: video)))
        other.append(metric.features(item_of(video=video)))
    assert all(isinstance(each, np.ndarray) and each.shape == (1, 2, 6) for each in same)
    assert metric.reduce(same) == pytest.approx(0, abs=1e-9)
    assert metric.reduce(other) > 1e-3


def test_the_two_conventions_of_the_video_distance(monkeypatch: pytest.MonkeyPatch) -> None:
    sets, pairs = (video_metric(monkeypatch, name) for name in ("fvd_set", "fvd_pair"))
    shown, inputs = np.float32([[0, 0], [2, 0]]), np.float32([[2, 1], [0, 1]])
    features = [np.stack([a, b])[None] for a, b in zip(shown, inputs, strict=True)]
    assert sets.reduce(features) == pytest.approx(1)  # the sets differ by 1 along the second axis
    assert pairs.reduce(features) == pytest.approx(5)  # each prediction is (2, 1) away from its own input
    assert isinstance(sets.reduce(features[:1]), NotAvailable)
    assert pairs.reduce(features[:1]) == pytest.approx(5)


def test_all_pieces_of_a_video_share_one_crop(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[torch.Tensor] = []

    class Watch(Means):
        def forward(self, videos: torch.Tensor) -> torch.Tensor:
            seen.append(videos)
            return super().forward(videos)

    video = np.zeros((64, 64, 64, 4), np.uint8)
    for t in range(64):
        video[t, 20:40, t // 32 * 20 : t // 32 * 20 + 20] = [3 * t, 0, 0, 255]
    features = video_metric(monkeypatch, "fvd_set", Watch).features(item_of(64, video=video))
    assert isinstance(features, np.ndarray)
    assert features.shape == (2, 2, 6)
    assert [tuple(each.shape) for each in seen] == [(1, 3, 32, 224, 224)] * 4
    inputs = [each[0, 0] * 127.5 + 127.5 for each in seen[2:]]
    for piece, column in ((0, 60), (1, 164)):  # left and right of the center
        assert inputs[piece][:, 112, column].round().int().tolist() == [3 * (32 * piece + t) for t in range(32)]


@pytest.mark.parametrize("name", ["vgg", "alex"])
def test_image_distances_compare_the_front_view(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learned, f"{name.upper()}_NETWORK", Network(name, (), Absolute))
    metric = by_name(None)[f"lpips_{name}"]
    sizes: list[int] = []

    def watch(clip: Clip, view: View) -> np.ndarray:
        sizes.append(view.image_size)
        return draw(clip, view)

    assert value(metric, item_of(draw=watch)) == 0  # the video is the picture from the front
    assert value(metric, item_of(video=draw(clip_of(9), View(90)))) > 0.1
    assert sizes == [1024]
