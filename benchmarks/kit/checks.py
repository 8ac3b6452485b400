"""The checks, in the order in which they run: the most important results first, and correctness before speed.

To add one, write a function that maps a `Context` to rows and add a line here. Modules are given as strings, so that an
import error fails only its own check.
"""

from __future__ import annotations

from benchmarks.kit.runner import Check

CHECKS = (
    Check("ceilings", 8, 30, "benchmarks.kit.ceilings:measure"),
    Check("gpu-tests", 60, 100, "benchmarks.kit.gpu_tests:run"),
    Check("parity", 12, 30, "benchmarks.kit.parity:compare"),
    Check("convolution-exact", 15, 40, "benchmarks.kit.convolution:compare"),
    Check("voxelizer-exact", 25, 50, "benchmarks.kit.voxelizer:compare", needs_gpu=True),
    Check("attention-window", 30, 45, "benchmarks.kit.attention:window"),
    Check("attention-varlen", 25, 35, "benchmarks.kit.attention:varlen", needs_gpu=True),
    Check("attention-per-frame", 25, 35, "benchmarks.kit.attention:per_frame"),
    Check("flex-attention", 60, 60, "benchmarks.kit.flex_attention:measure", needs_gpu=True),
    Check("pointwise", 12, 30, "benchmarks.kit.pointwise:measure"),
    Check("convolution-speed", 15, 30, "benchmarks.kit.convolution:measure"),
    Check("training-step", 70, 120, "benchmarks.kit.training:measure"),
    Check("sampling", 40, 60, "benchmarks.kit.sampling:measure"),
    Check("cuda-graphs", 20, 35, "benchmarks.kit.sampling:graphs", needs_gpu=True),
    Check("voxelizer-speed", 15, 30, "benchmarks.kit.voxelizer:measure"),
    Check("alignment", 6, 15, "benchmarks.kit.alignment:measure"),
    Check("loader", 8, 20, "benchmarks.kit.loading:measure"),
)
