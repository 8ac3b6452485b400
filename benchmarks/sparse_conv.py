"""Cost of submanifold convolution, forward and backward: compared with a dense one, and at every decoder level.

    python benchmarks/sparse_conv.py
    python benchmarks/sparse_conv.py --device cuda --radius 0.45    # a sphere that fills the 512³ grid

The voxels form a spherical shell two voxels thick, like the O-Voxels of a surface. On a CPU, times are processor
seconds of one thread.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from helix4d.model.networks.convolution.sparse_conv import gather_conv, submanifold_conv
from helix4d.model.networks.sparse import SparseLayout

LEVELS = ((32, 1024), (64, 512), (128, 256), (256, 128), (512, 64))  # the shape decoder's grids and channels


def main() -> None:
    """Print two tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--radius", type=float, default=0.15, help="radius of the shell as a share of the grid's side")
    parser.add_argument("--repeats", type=int, default=2)
    args = parser.parse_args()
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("no CUDA GPU found: run without --device cuda")
    torch.set_num_threads(1)
    device = torch.device(args.device)
    if args.device == "cuda":
        print(torch.cuda.get_device_name())
    # The VAEs run in float16; encoding defaults to float32.
    for dtype in (torch.float16, torch.float32) if args.device == "cuda" else (torch.float32,):
        _against_dense(device, dtype, args.repeats)
        _levels(device, dtype, args.radius, args.repeats)


def _against_dense(device: torch.device, dtype: torch.dtype, repeats: int) -> None:
    print(f"\ncompared with a dense convolution over the shell's bounding box, 64 channels, {device}, {dtype}")
    print(f"{'box':>5s} {'voxels':>8s} {'occupied':>9s} {'sparse s':>9s} {'dense s':>9s} {'dense / sparse':>15s}")
    for side in (16, 32, 48):
        layout = SparseLayout(shell(side, 0.45, device), 1)
        feats, weight, bias = inputs(layout, 64, dtype)
        grid = _normal((1, 64, side, side, side), device, dtype).requires_grad_()
        kernel = weight.detach().unflatten(1, (3, 3, 3)).movedim(-1, 1).contiguous().requires_grad_()

        def dense(grid: Tensor = grid, kernel: Tensor = kernel, bias: Tensor = bias) -> None:
            F.conv3d(grid, kernel, bias, padding=1).sum().backward()

        sparse_s = _seconds(_sparse(feats, weight, bias, layout), repeats, device)
        dense_s = _seconds(dense, repeats, device)
        print(
            f"{side:4d}³ {len(layout):8d} {len(layout) / side**3:9.1%} {sparse_s:9.4f} {dense_s:9.4f} "
            f"{dense_s / sparse_s:15.1f}"
        )


def _levels(device: torch.device, dtype: torch.dtype, radius: float, repeats: int) -> None:
    print(f"\nat the levels of the shape decoder, a shell of radius {radius}, {device}, {dtype}")
    print(
        f"{'grid':>5s} {'channels':>8s} {'voxels':>8s} {'neighbors':>9s} {'tiles s':>7s} {'forward s':>9s} "
        f"{'both s':>8s} {'voxels/s':>9s} {'GFLOP/s':>8s}"
    )
    for side, channels in LEVELS:
        coords = shell(side, radius, device)
        layout = SparseLayout(coords, 1)
        map_s = _seconds(lambda coords=coords: SparseLayout(coords, 1).gather_tiles, 1, device)  # type: ignore[misc]
        feats, weight, bias = inputs(layout, channels, dtype)
        with torch.no_grad():
            forward_s = _seconds(lambda: submanifold_conv(feats, weight, bias, layout), repeats, device)  # noqa: B023
        both_s = _seconds(_sparse(feats, weight, bias, layout), repeats, device)
        pairs = len(layout) + 2 * sum(len(pair.target) for pair in layout.pairs)
        print(
            f"{side:4d}³ {channels:8d} {len(layout):8d} {pairs / len(layout):9.1f} {map_s:7.3f} {forward_s:9.3f} "
            f"{both_s:8.3f} {len(layout) / forward_s:9.0f} {2 * pairs * channels**2 / forward_s / 1e9:8.1f}"
        )


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


def _seconds(step: Callable[[], object], repeats: int, device: torch.device) -> float:
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
    return min(times)


if __name__ == "__main__":
    main()
