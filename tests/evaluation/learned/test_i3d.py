from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from helix4d.core import ConfigError, FormatError
from helix4d.evaluation.learned.towers.i3d import I3d, load_i3d, load_scripted_i3d, pad_same, pieces_of, video_pixels
from tests.evaluation.learned.published import randomized


def same_convolution(x: np.ndarray, w: np.ndarray, stride: int) -> np.ndarray:
    """TensorFlow's SAME, window by window: ceil(size / stride) windows, the odd zero at the end. One channel."""
    k = w.shape[0]
    out_shape = [-(-size // stride) for size in x.shape]
    befores = [max((out - 1) * stride + k - size, 0) // 2 for out, size in zip(out_shape, x.shape, strict=True)]
    out = np.zeros(out_shape)
    for place in itertools.product(*map(range, out_shape)):
        for offset in itertools.product(range(k), repeat=3):
            at = [p * stride - before + o for p, before, o in zip(place, befores, offset, strict=True)]
            if all(0 <= a < size for a, size in zip(at, x.shape, strict=True)):
                out[place] += w[offset] * x[tuple(at)]
    return out


@pytest.mark.parametrize(("kernel", "stride"), [(7, 2), (3, 1), (3, 2), (2, 2), (1, 1)])
def test_same_padding_is_that_of_tensorflow(kernel: int, stride: int) -> None:
    random = np.random.default_rng(0)
    x, w = random.standard_normal((4, 7, 6)), random.standard_normal((kernel,) * 3)
    padded = pad_same(torch.from_numpy(x)[None, None], (kernel,) * 3, (stride,) * 3)
    found = F.conv3d(padded, torch.from_numpy(w)[None, None], stride=stride)[0, 0]
    assert np.allclose(found.numpy(), same_convolution(x, w, stride))


def test_names_and_shapes_are_those_of_pytorch_i3d(tmp_path: Path) -> None:
    """piergiaj/pytorch-i3d: `InceptionI3d`."""
    with torch.device("meta"):
        shapes = {name: tuple(value.shape) for name, value in I3d().state_dict().items()}
    some = {
        "Conv3d_1a_7x7.conv3d.weight": (64, 3, 7, 7, 7),
        "Conv3d_1a_7x7.bn.running_var": (64,),
        "Conv3d_2b_1x1.conv3d.weight": (64, 64, 1, 1, 1),
        "Conv3d_2c_3x3.conv3d.weight": (192, 64, 3, 3, 3),
        "Mixed_3b.b1b.conv3d.weight": (128, 96, 3, 3, 3),
        "Mixed_3c.b0.conv3d.weight": (128, 256, 1, 1, 1),
        "Mixed_4b.b2a.conv3d.weight": (16, 480, 1, 1, 1),
        "Mixed_4f.b3b.conv3d.weight": (128, 528, 1, 1, 1),
        "Mixed_5c.b2b.conv3d.weight": (128, 48, 3, 3, 3),
        "logits.conv3d.weight": (400, 1024, 1, 1, 1),
        "logits.conv3d.bias": (400,),
    }
    assert some.items() <= shapes.items()
    units = {"Conv3d_1a_7x7", "Conv3d_2b_1x1", "Conv3d_2c_3x3"}
    mixed = ("3b", "3c", "4b", "4c", "4d", "4e", "4f", "5b", "5c")
    units |= {f"Mixed_{m}.{b}" for m in mixed for b in ("b0", "b1a", "b1b", "b2a", "b2b", "b3b")}
    parts = ["conv3d.weight", *(f"bn.{p}" for p in ("weight", "bias", "running_mean", "running_var"))]
    parts.append("bn.num_batches_tracked")
    assert shapes.keys() == {f"{u}.{p}" for u in units for p in parts} | {"logits.conv3d.weight", "logits.conv3d.bias"}
    # 12.7 million parameters beside the running statistics.
    counted = sum(int(np.prod(shape)) for name, shape in shapes.items() if "running" not in name and "num_" not in name)
    assert counted == 12_697_264


def flat(w: dict[str, Tensor], name: str, x: Tensor, kernel: int, stride: int = 1, eps: float = 1e-5) -> Tensor:
    x = F.conv3d(pad_same(x, (kernel,) * 3, (stride,) * 3), w[f"{name}.conv3d.weight"], stride=stride)
    mean, variance = (w[f"{name}.bn.running_{part}"].view(-1, 1, 1, 1) for part in ("mean", "var"))
    scale, shift = (w[f"{name}.bn.{part}"].view(-1, 1, 1, 1) for part in ("weight", "bias"))
    return ((x - mean) / (variance + eps).sqrt() * scale + shift).relu()


def pooled(x: Tensor, kernel: tuple[int, int, int], stride: tuple[int, int, int]) -> Tensor:
    return F.max_pool3d(pad_same(x, kernel, stride), kernel, stride)


def mixed(w: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    one, two = flat(w, f"{name}.b1a", x, 1), flat(w, f"{name}.b2a", x, 1)
    three = flat(w, f"{name}.b3b", pooled(x, (3, 3, 3), (1, 1, 1)), 1)
    return torch.cat(
        [flat(w, f"{name}.b0", x, 1), flat(w, f"{name}.b1b", one, 3), flat(w, f"{name}.b2b", two, 3), three], 1
    )


def test_features_are_the_definition_of_i3d(tmp_path: Path) -> None:
    network = randomized(I3d())
    torch.save(network.state_dict(), tmp_path / "i3d_pretrained_400.pt")
    ours = load_i3d(tmp_path / "i3d_pretrained_400.pt")
    video = torch.rand(1, 3, 9, 224, 224, generator=torch.Generator().manual_seed(0)) * 2 - 1
    w = dict(network.state_dict())
    x = pooled(flat(w, "Conv3d_1a_7x7", video, 7, 2), (1, 3, 3), (1, 2, 2))
    x = pooled(flat(w, "Conv3d_2c_3x3", flat(w, "Conv3d_2b_1x1", x, 1), 3), (1, 3, 3), (1, 2, 2))
    x = pooled(mixed(w, "Mixed_3c", mixed(w, "Mixed_3b", x)), (3, 3, 3), (2, 2, 2))
    for part in "bcdef":
        x = mixed(w, f"Mixed_4{part}", x)
    x = mixed(w, "Mixed_5c", mixed(w, "Mixed_5b", pooled(x, (2, 2, 2), (2, 2, 2))))
    assert x.shape == (1, 1024, 2, 7, 7)
    expected = x.mean(dim=(2, 3, 4)) @ w["logits.conv3d.weight"][..., 0, 0, 0].T + w["logits.conv3d.bias"]
    assert expected.abs().max() > 0.1
    assert torch.allclose(ours(video), expected, atol=1e-4 * float(expected.abs().max()))


def test_eps_is_that_of_the_file_and_may_be_another(tmp_path: Path) -> None:
    network = I3d()
    for name, value in network.state_dict().items():
        value.fill_(1e-4 if name.endswith("running_var") else 1.0 if name.endswith("weight") else 0.0)
    torch.save(network.state_dict(), tmp_path / "i3d.pt")
    x = torch.ones(1, 3, 2, 4, 4)
    for eps in (1e-5, 1e-3):
        unit = load_i3d(tmp_path / "i3d.pt", eps).Conv3d_1a_7x7
        assert torch.allclose(unit(x), flat(dict(network.state_dict()), "Conv3d_1a_7x7", x, 7, 2, eps))


def test_too_few_frames_are_refused() -> None:
    with pytest.raises(ConfigError, match="at least 9"):
        I3d()(torch.zeros(1, 3, 8, 224, 224))


def test_another_checkpoint_is_refused(tmp_path: Path) -> None:
    torch.save({"state_dict": {"conv1.weight": torch.zeros(1)}}, tmp_path / "other.pt")
    with pytest.raises(FormatError, match=r"does not match I3d: .*unknown \['conv1.weight'\]"):
        load_i3d(tmp_path / "other.pt")


def test_frames_become_pixels_between_minus_one_and_one() -> None:
    frames = torch.zeros(2, 4, 4, 3, dtype=torch.uint8)
    frames[1], frames[:, :2, :, 0] = 255, 255
    pixels = video_pixels(frames, size=8)
    assert pixels.shape == (3, 2, 8, 8)
    assert (pixels[:, 1] == 1).all()
    assert (pixels[1:, 0] == -1).all()
    assert pixels[0, 0, 0, 0] == 1
    assert pixels[0, 0, -1, 0] == -1


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (16, [[*range(16), *range(15, -1, -1)]]),
        (12, [[*range(12), *range(11, -1, -1), *range(8)]]),
        (1, [[0] * 32]),
        (32, [list(range(32))]),
        (70, [list(range(32)), list(range(32, 64))]),
    ],
)
def test_videos_are_cut_into_pieces_of_32_frames(count: int, expected: list[list[int]]) -> None:
    frames = np.arange(count)[:, None] * np.ones((1, 2), int)
    assert pieces_of(frames)[..., 0].tolist() == expected


class Scripted(torch.nn.Module):
    """The interface of StyleGAN-V's file."""

    def forward(self, x: Tensor, rescale: bool, resize: bool, return_features: bool) -> Tensor:
        if rescale or resize or not return_features:
            x = x + 100
        return x.mean(dim=(2, 3, 4))


def test_the_scripted_network_gets_pixels_as_they_are(tmp_path: Path) -> None:
    torch.jit.script(Scripted()).save(str(tmp_path / "i3d_torchscript.pt"))
    network = load_scripted_i3d(tmp_path / "i3d_torchscript.pt")
    video = torch.linspace(-1, 1, 3).view(1, 3, 1, 1, 1).expand(1, 3, 32, 4, 4)
    assert torch.allclose(network(video), torch.tensor([[-1.0, 0.0, 1.0]]))
    (tmp_path / "other.pt").write_bytes(b"PK")
    with pytest.raises(FormatError, match=r"other\.pt: not a TorchScript archive"):
        load_scripted_i3d(tmp_path / "other.pt")
