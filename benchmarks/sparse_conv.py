"""Cost of submanifold convolution, forward and backward: compared with a dense one, and at every decoder level.

    python benchmarks/sparse_conv.py
    python benchmarks/sparse_conv.py --device cuda --radius 0.45    # a sphere that fills the 512³ grid

The voxels form a spherical shell two voxels thick, like the O-Voxels of a surface. On a CPU, times are processor
seconds of one thread.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.results import Column, Report, Spread
from helix4d.model.networks.convolution.sparse_conv import gather_conv, submanifold_conv
from helix4d.model.networks.sparse import SparseLayout

LEVELS = ((32, 1024), (64, 512), (128, 256), (256, 128), (512, 64))  # the shape decoder's grids and channels


def main() -> None:
    """Print two tables."""
    report = Report("sparse_conv", __doc__, quick="a shell of radius 0.03, one repeat")
    report.parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    radius_help = "radius of the shell as a share of the grid's side"
    report.parser.add_argument("--radius", type=float, default=0.15, help=radius_help)
    report.parser.add_argument("--repeats", type=int, default=3)
    args = report.parse()
    if args.device == "cuda" and not torch.cuda.is_available():
        report.parser.error("no CUDA GPU found: run without --device cuda")
    torch.set_num_threads(1)
    device = torch.device(args.device)
    if args.device == "cuda":
        print(torch.cuda.get_device_name())
    # The VAEs run in float16; encoding defaults to float32.
    for dtype in (torch.float16, torch.float32) if args.device == "cuda" else (torch.float32,):
        radius, repeats = (0.03, 1) if args.quick else (args.radius, args.repeats)
        _against_dense(report, device, dtype, repeats)
        _levels(report, device, dtype, radius, repeats)
    report.save()


def _against_dense(report: Report, device: torch.device, dtype: torch.dtype, repeats: int) -> None:
    print(f"\ncompared with a dense convolution over the shell's bounding box, 64 channels, {device}, {dtype}")
    columns = (Column("voxels", ","), Column("occupied", ".1%"), Column("sparse, s", ".4f"), Column("dense, s", ".4f"))
    table = report.table(f"dense-{_short(dtype)}", Column("box"), *columns, Column("dense / sparse", ".1f"))
    for side in (16, 32, 48):
        layout = SparseLayout(shell(side, 0.45, device), 1)
        feats, weight, bias = inputs(layout, 64, dtype)
        grid = _normal((1, 64, side, side, side), device, dtype).requires_grad_()
        kernel = weight.detach().unflatten(1, (3, 3, 3)).movedim(-1, 1).contiguous().requires_grad_()

        def dense(grid: Tensor = grid, kernel: Tensor = kernel, bias: Tensor = bias) -> None:
            F.conv3d(grid, kernel, bias, padding=1).sum().backward()

        sparse_s = _seconds(_sparse(feats, weight, bias, layout), repeats, device)
        dense_s = _seconds(dense, repeats, device)
        ratio = Spread.of_ratios(dense_s, sparse_s)
        table.add(f"{side}³", len(layout), len(layout) / side**3, Spread.of(sparse_s), Spread.of(dense_s), ratio)


def _levels(report: Report, device: torch.device, dtype: torch.dtype, radius: float, repeats: int) -> None:
    print(f"\nat the levels of the shape decoder, a shell of radius {radius}, {device}, {dtype}")
    titles = (("channels", "d"), ("voxels", ","), ("neighbors", ".1f"), ("tiles, s", ".3f"), ("forward, s", ".3f"))
    titles += (("forward and backward, s", ".3f"), ("voxels/s", ",.0f"), ("GFLOP/s", ".1f"))
    table = report.table(f"levels-{_short(dtype)}", Column("grid"), *(Column(*title) for title in titles))
    for side, channels in LEVELS:
        coords = shell(side, radius, device)
        layout = SparseLayout(coords, 1)
        map_s = _seconds(lambda coords=coords: SparseLayout(coords, 1).gather_tiles, 1, device)  # type: ignore[misc]
        feats, weight, bias = inputs(layout, channels, dtype)
        with torch.no_grad():
            forward_s = _seconds(lambda: submanifold_conv(feats, weight, bias, layout), repeats, device)  # noqa: B023
        both_s = _seconds(_sparse(feats, weight, bias, layout), repeats, device)
        pairs = len(layout) + 2 * sum(len(pair.target) for pair in layout.pairs)
        tiles, forward, both = (Spread.of(seconds) for seconds in (map_s, forward_s, both_s))
        rates = (len(layout) / forward.median, 2 * pairs * channels**2 / forward.median / 1e9)
        table.add(f"{side}³", channels, len(layout), pairs / len(layout), tiles, forward, both, *rates)


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _sparse(feats: Tensor, weight: Tensor, bias: Tensor, layout: SparseLayout) -> Callable[[], None]:
    conv = submanifold_conv if feats.is_cuda else gather_conv
    return lambda: conv(feats, weight, bias, layout).sum().backward()


def inputs(layout: SparseLayout, channels: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Random features and weight, and no bias, for a convolution that keeps the number of channels."""
    device = layout.coords.device
    feats = _normal((len(layout), channels), device, dtype)
    weight = 0.01 * _normal((channels, 27, channels), device, dtype)
    bias = torch.zeros(channels, device=device, dtype=dtype)
    return feats.requires_grad_(), weight.requires_grad_(), bias.requires_grad_()


def _normal(shape: tuple[int, ...], device: torch.device, dtype: torch.dtype) -> Tensor:
    return torch.randn(shape, generator=torch.Generator(device).manual_seed(0), device=device, dtype=dtype)


def shell(side: int, radius: float, device: torch.device) -> Tensor:
    """int32 [N, 4]: the voxels with a center within one voxel of the sphere."""
    reach = int(radius * side) + 2
    axis = torch.arange(max(0, side // 2 - reach), min(side, side // 2 + reach), device=device)
    points = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1).flatten(0, 2)
    distance = (points + 0.5 - side / 2).float().norm(dim=1)
    near = points[(distance - radius * side).abs() < 1]
    return F.pad(near, (1, 0)).to(torch.int32)


def _seconds(step: Callable[[], object], repeats: int, device: torch.device) -> list[float]:
    step()
    times = []
    for _ in range(repeats):
        if device.type == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter() if device.type == "cuda" else time.process_time()
        step()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append((time.perf_counter() if device.type == "cuda" else time.process_time()) - start)
    return times


if __name__ == "__main__":
    main()
