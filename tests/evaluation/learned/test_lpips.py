from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from helix4d.core import ConfigError, FormatError
from helix4d.evaluation.learned.towers.lpips import ALEX, VGG, Backbone, Lpips, load_lpips
from tests.evaluation.learned.published import randomized


def images(seed: int, size: int = 64) -> Tensor:
    return torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def positive(network: Lpips) -> Lpips:
    """Learned weights are not negative."""
    for name, value in network.state_dict().items():
        if name.startswith("lin"):
            value.abs_()
    return network


def saved(tmp_path: Path, network: Lpips) -> tuple[Path, Path]:
    state = network.state_dict()
    backbone = {name: value for name, value in state.items() if name.startswith("features.")}
    torch.save({**backbone, "classifier.1.weight": torch.zeros(4)}, tmp_path / "alexnet-owt-7be5be79.pth")
    torch.save({name: value for name, value in state.items() if name.startswith("lin")}, tmp_path / "alex.pth")
    return tmp_path / "alexnet-owt-7be5be79.pth", tmp_path / "alex.pth"


def test_names_and_shapes_are_those_of_torchvision_and_lpips() -> None:
    """torchvision: alexnet, vgg16; richzhang/PerceptualSimilarity: weights/v0.1."""
    alex = {name: tuple(value.shape) for name, value in Lpips(ALEX).state_dict().items()}
    sizes = {0: (64, 3, 11, 11), 3: (192, 64, 5, 5), 6: (384, 192, 3, 3), 8: (256, 384, 3, 3), 10: (256, 256, 3, 3)}
    expected = {f"features.{n}.weight": shape for n, shape in sizes.items()}
    expected |= {f"features.{n}.bias": shape[:1] for n, shape in sizes.items()}
    expected |= {f"lin{n}.model.1.weight": (1, c, 1, 1) for n, c in enumerate((64, 192, 384, 256, 256))}
    assert alex == expected
    vgg = {name: tuple(value.shape) for name, value in Lpips(VGG).state_dict().items()}
    convolutions = [int(name.split(".")[1]) for name in vgg if name.startswith("features.") and name.endswith("weight")]
    assert convolutions == [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28]
    assert [vgg[f"lin{n}.model.1.weight"][1] for n in range(5)] == [64, 128, 256, 512, 512]
    assert vgg["features.28.weight"] == (512, 512, 3, 3)


@pytest.mark.parametrize("backbone", [ALEX, VGG])
def test_equal_images_have_distance_zero(backbone: Backbone) -> None:
    network = positive(randomized(Lpips(backbone)))
    assert (network(images(0), images(0)) == 0).all()
    assert (network(images(0), images(1)) > 0).all()
    assert torch.allclose(network(images(0), images(1)), network(images(1), images(0)))


def test_distances_are_the_definition(tmp_path: Path) -> None:
    network = positive(randomized(Lpips(ALEX)))
    w = dict(network.state_dict())

    def taps(x: Tensor) -> list[Tensor]:
        x = (x - torch.tensor([-0.030, -0.088, -0.188])[:, None, None]) / torch.tensor([0.458, 0.448, 0.450])[
            :, None, None
        ]
        found = []
        for n, stride, padding, pool in (
            (0, 4, 2, False),
            (3, 1, 2, True),
            (6, 1, 1, True),
            (8, 1, 1, False),
            (10, 1, 1, False),
        ):
            x = F.max_pool2d(x, 3, 2) if pool else x
            x = F.conv2d(x, w[f"features.{n}.weight"], w[f"features.{n}.bias"], stride, padding).relu()
            found.append(x / x.norm(dim=1, keepdim=True).clamp_min(1e-10))
        return found

    expected = torch.zeros(2)
    for n, (a, b) in enumerate(zip(taps(images(0)), taps(images(1)), strict=True)):
        expected += ((a - b) ** 2 * w[f"lin{n}.model.1.weight"][0]).sum(dim=1).mean(dim=(1, 2))
    assert torch.allclose(load_lpips(*saved(tmp_path, network))(images(0), images(1)), expected, rtol=1e-4)


def test_files_of_another_network_are_refused(tmp_path: Path) -> None:
    features, weights = saved(tmp_path, Lpips(ALEX))
    with pytest.raises(FormatError, match=r"alexnet.* with alex\.pth: does not match Lpips"):
        load_lpips(features, weights, VGG)


def test_images_of_different_sizes_are_refused() -> None:
    with pytest.raises(ConfigError, match="expected two"):
        Lpips(ALEX)(images(0), images(0, 32))
