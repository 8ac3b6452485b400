"""Operations and bytes of one transformer block, per part, before and after the kernels; no GPU and no memory needed.

    python benchmarks/block_traffic.py                        # 16 frames of 8192 tokens, 1536 channels
    python benchmarks/block_traffic.py --frames 8 --tokens 4096

Runs the real forward and backward pass of a full-size block on tensors without data. An operation reads each of its
inputs once and writes each of its outputs once; views are free. Only self-attention is trained, as in Helix4D. The time
of an operation is the greater of its arithmetic and its traffic, at the shares of an H200's rates given below: a
prediction.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from benchmarks.results import Column, Report, Table
from helix4d.model.networks import blocks
from helix4d.model.networks.attention.plan import AttentionBackend, AttentionPlan, plan_cross_attention
from helix4d.model.networks.config import FlowConfig, VideoConfig
from helix4d.model.networks.flow import SparseFlow
from helix4d.model.networks.frames import FrameLayout
from helix4d.model.networks.layers import Linear
from helix4d.model.networks.pointwise import functions as pointwise
from helix4d.train.flops import step_flops

META = torch.device("meta")
CONFIG = FlowConfig(resolution=32, in_channels=32, out_channels=32, num_blocks=1)
PEAK, BANDWIDTH = 989e12, 4.8e12
"""An H200's dense bfloat16 operations and bytes per second, from its datasheet."""
MATRIX_SHARE, MEMORY_SHARE = 0.70, 0.85
"""Shares that large matrix products and streaming kernels reach: assumptions."""
ATTENTION_SHARE = {("varlen", "forward"): 0.40, ("varlen", "backward"): 0.33,
                   ("window", "forward"): 0.55, ("window", "backward"): 0.45}  # fmt: skip
"""Shares of the arithmetic rate in attention: published for FlashAttention-2 on an H100, estimated for `window`."""
CUDNN_SHARE = {"forward": 0.60, "backward": 0.52}
"""Published for cuDNN on an H100, at 128 channels and long sequences."""
PRODUCTS = {("varlen", "forward"): 2, ("varlen", "backward"): 5, ("window", "forward"): 2, ("window", "backward"): 7}
"""Matrix products over all visible pairs; `window` computes logits and slopes twice, which avoids atomics."""
PARTS = ("norm1, norm3 and modulation", "norm2", "qkv", "norm and rotary", "self-attention", "out", "cross: linear",
         "cross: attention", "mlp: linear", "mlp: GELU", "residuals")  # fmt: skip
_FREE = {"empty", "empty_like", "new_empty", "empty_strided", "_unsafe_view", "detach", "lift_fresh", "alias"}
_WRITTEN_ONLY = {"copy_", "zero_", "fill_"}
_ATTENTION = {"_varlen_attn": "forward", "_varlen_attn_backward": "backward", "window_attention": "forward",
              "window_attention_gradients": "backward"}  # fmt: skip


@dataclass
class Cost:
    """Arithmetic operations, bytes read and written, and predicted seconds."""

    flops: float = 0.0
    bytes: float = 0.0
    seconds: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.flops + other.flops, self.bytes + other.bytes, self.seconds + other.seconds)


Costs = dict[tuple[str, str], Cost]
"""Cost by part and direction, forward or backward."""


class Counter(TorchDispatchMode):
    """Adds up the cost of operations per part of a block; a gradient belongs to the part of its forward operation."""

    def __init__(self) -> None:
        super().__init__()
        self.costs: Costs = defaultdict(Cost)
        self.direction = "forward"
        self.pairs = 0
        self._part = "residuals"
        self._ranges: list[tuple[int, int, str, int]] = []

    @contextmanager
    def part(self, name: str, pairs: int = 0) -> Iterator[None]:
        """Assign what runs inside, and its gradients, to a part; `pairs` of tokens that attend to each other."""
        outer, self._part, self.pairs = self._part, name, pairs
        start = torch.autograd._get_sequence_nr()
        yield
        self._ranges.append((start, torch.autograd._get_sequence_nr(), name, pairs))
        self._part = outer

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        name = func._schema.name.split("::")[1]
        if name not in _FREE and not func.is_view:
            part, pairs = self._place()
            self.costs[part, self.direction] += self._cost(func, name, pairs, args, kwargs or {}, out)
        return out

    def _place(self) -> tuple[str, int]:
        if self.direction == "forward":
            return self._part, self.pairs
        node = torch._C._current_autograd_node()
        number = -1 if node is None else node._sequence_nr()
        inside = ((name, pairs) for start, end, name, pairs in self._ranges if start <= number < end)
        return next(inside, ("residuals", 0))

    def _cost(self, func: Any, name: str, pairs: int, args: Any, kwargs: Any, out: Any) -> Cost:
        outputs = [x for x in tree_leaves(out) if isinstance(x, Tensor)]
        inputs = {id(x): x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)}
        if name in _WRITTEN_ONLY:
            inputs.pop(id(args[0]))
        elif name == "index":  # reads the rows that it writes
            inputs[id(args[0])] = outputs[0]
        moved = float(sum(_bytes(x) for x in [*inputs.values(), *outputs]))
        if name in _ATTENTION:
            kind = ("window" if "window" in name else "varlen", _ATTENTION[name])
            flops, share = PRODUCTS[kind] * 2.0 * pairs * CONFIG.model_channels, ATTENTION_SHARE[kind]
        else:
            formula = flop_registry.get(func._overloadpacket)
            flops, share = float(formula(*args, **kwargs, out_val=out)) if formula else 0.0, MATRIX_SHARE
        return Cost(flops, moved, max(flops / (share * PEAK), moved / (MEMORY_SHARE * BANDWIDTH)))


def count(frames: int, tokens: int, kernels: bool) -> Costs:
    """Cost of one block per part and direction, of the plain parts with varlen attention or of the kernels."""
    with META:
        network = SparseFlow(CONFIG, VideoConfig())
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(".self_attn." in name)
        if ".self_attn." not in name:
            parameter.data = parameter.data.bfloat16()
    network.attention_backend = AttentionBackend.WINDOW if kernels else AttentionBackend.VARLEN
    layout, images = FrameLayout(((tokens,) * frames,)), 1029
    coords = torch.zeros(layout.tokens, 3, dtype=torch.int32, device=META)
    context = network._context(coords, layout, images, None)
    context = replace(context, cross_plan=plan_cross_attention(layout, images, AttentionBackend.VARLEN))
    x, up = (torch.zeros(layout.tokens, CONFIG.model_channels, dtype=torch.bfloat16, device=META) for _ in range(2))
    cond = torch.zeros(frames * images, CONFIG.cond_channels, dtype=torch.bfloat16, device=META)
    shared = torch.zeros(frames, 6 * CONFIG.model_channels, device=META)
    counter = Counter()
    trained = [x.requires_grad_(), *(p for p in network.blocks[0].parameters() if p.requires_grad)]
    with _parts_of_a_block(counter), mock.patch.object(pointwise, "served_by_kernels", return_value=kernels), counter:
        out, _ = network.blocks[0](x, shared, cond, context)
        counter.direction = "backward"
        torch.autograd.grad(out, trained, up)
    return dict(counter.costs)


@contextmanager
def _parts_of_a_block(counter: Counter) -> Iterator[None]:
    """Assign functions and layers of `blocks` to parts."""

    def named(function: Callable[..., Any], name: str) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            with counter.part(name):
                return function(*args, **kwargs)

        return run

    def attend(plan: AttentionPlan, *args: Any) -> Any:
        pairs = sum((s.query[1] - s.query[0]) * s.key_tokens for s in plan.segments)
        with counter.part("cross: attention" if plan.video is None else "self-attention", pairs):
            return plan._attend(*args, *[None] * (4 - len(args)))

    def linear(layer: Linear, x: Tensor) -> Tensor:
        with counter.part(names[id(layer)]):
            return plain_linear(layer, x)

    def block(module: Any, *args: Any) -> Any:
        for path, layer in module.named_modules():
            part, _, rest = path.partition(".")
            own = "qkv" if rest == "to_qkv" else "out"
            names[id(layer)] = {"cross_attn": "cross: linear", "mlp": "mlp: linear"}.get(part, own)
        return plain_block(module, *args)

    names: dict[int, str] = {}
    plain_linear, plain_block = Linear.forward, blocks.Block.forward
    with ExitStack() as stack:
        for owner, name, part in (
            (blocks, "modulated_norm", "norm1, norm3 and modulation"),
            (blocks, "affine_norm", "norm2"),
            (blocks, "rms_norm_rotary", "norm and rotary"),
            (torch.nn.GELU, "forward", "mlp: GELU"),
        ):
            stack.enter_context(mock.patch.object(owner, name, named(getattr(owner, name), part)))
        stack.enter_context(mock.patch.object(AttentionPlan, "attend", attend))
        stack.enter_context(mock.patch.object(Linear, "forward", linear))
        stack.enter_context(mock.patch.object(blocks.Block, "forward", block))
        yield


def _bytes(x: Tensor) -> int:
    """Bytes of the elements of x that differ: an expanded axis counts once."""
    count = x.element_size()
    for size, stride in zip(x.shape, x.stride(), strict=True):
        count *= size if stride else min(size, 1)
    return count


def main() -> None:
    """Print the table per part and the predicted MFU."""
    report = Report("block_traffic", __doc__, quick="4 frames of 1024 tokens")
    report.parser.add_argument("--frames", type=int, default=16)
    report.parser.add_argument("--tokens", type=int, default=8192)
    options = report.parse()
    frames, tokens = (4, 1024) if options.quick else (options.frames, options.tokens)
    before, after = (count(frames, tokens, kernels) for kernels in (False, True))
    print(f"one block, {frames} frames x {tokens} tokens, {CONFIG.model_channels} channels, bfloat16")
    titles = ("forward, TFLOP", "GB before", "GB after", "backward, TFLOP before", "after", "GB before", "GB after")
    parts = report.table("parts", Column("part"), *(Column(title, ".1f") for title in titles))
    columns = [(costs, direction) for direction in ("forward", "backward") for costs in (before, after)]
    for part in PARTS:
        _row(parts, part, [costs.get((part, direction), Cost()) for costs, direction in columns])
    _row(parts, "sum", [_sum(costs, direction) for costs, direction in columns])
    model = step_flops(CONFIG, VideoConfig(), ((tokens,) * frames,), 1029, all_trained=False)
    titles = ("forward, ms", "recomputation", "backward")
    predicted = report.table(
        "predicted",
        Column("predicted for an H200, one block"),
        *(Column(title, ".1f") for title in titles),
        Column("MFU", ".0%"),
    )
    for name, costs in (
        ("before", before),
        ("after", after),
        ("after, with cuDNN's attention", _with_cudnn(before, after)),
    ):
        forward, backward = (_sum(costs, direction).seconds for direction in ("forward", "backward"))
        times = (forward, forward - costs["self-attention", "forward"].seconds, backward)
        predicted.add(name, *(1e3 * seconds for seconds in times), model / sum(times) / PEAK)
    report.save()


def _with_cudnn(before: Costs, after: Costs) -> Costs:
    """The costs after, but with gathered keys and cuDNN's rates, as the backend per_frame has them on Hopper."""
    mixed = dict(after)
    for direction in ("forward", "backward"):
        cost = before["self-attention", direction]
        change = 1 / CUDNN_SHARE[direction] - 1 / ATTENTION_SHARE["varlen", direction]
        seconds = cost.seconds + cost.flops / PEAK * change
        mixed["self-attention", direction] = replace(cost, seconds=seconds)
    return mixed


def _sum(costs: Costs, direction: str) -> Cost:
    return sum((cost for (_, way), cost in costs.items() if way == direction), Cost())


def _row(table: Table, name: str, costs: list[Cost]) -> None:
    forward, kernel_forward, backward, kernel_backward = costs
    table.add(
        name,
        forward.flops / 1e12,
        *(cost.bytes / 1e9 for cost in (forward, kernel_forward)),
        *(cost.flops / 1e12 for cost in (backward, kernel_backward)),
        *(cost.bytes / 1e9 for cost in (backward, kernel_backward)),
    )


if __name__ == "__main__":
    main()
