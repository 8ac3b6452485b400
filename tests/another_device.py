"""A device that is the CPU but does not admit it: what would fail on a GPU for tensors on two devices fails here.

Inside `another_device()` tensors may live on it as they would on a card: an operation on tensors of both devices is an
error, unless CUDA allows it (a scalar, a copy, an index), and so is turning one into a numpy array. Numbers are
the CPU's, up to what another attention kernel rounds. It says nothing of kernels made for CUDA, their speed or memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn
from unittest import mock

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

_NAME = "elsewhere"
_aten = torch.ops.aten
_BETWEEN_DEVICES = {_aten.copy_.default, _aten._to_copy.default}
_INDEXING = {_aten.index.Tensor, _aten.index_put.default, _aten.index_put_.default, _aten._index_put_impl_.default}
_MATH_ATTENTION = 0

# On import, because autograd counts the devices of a process when it is first used.
_setup_privateuseone_for_python_backend(_NAME)
_DEVICE = torch.device(_NAME, 0)


@contextmanager
def another_device() -> Iterator[torch.device]:
    """The device, which tensors may be on while the block runs."""
    # Wrapped tensors have no inference mode; to grow no graph is all that it means here.
    with mock.patch.object(torch, "inference_mode", torch.no_grad), _Functions(), _Operations():
        yield _DEVICE


class _Elsewhere(torch.Tensor):
    """A tensor that says it is on the other device, around the one on the CPU that holds its numbers."""

    raw: torch.Tensor

    @staticmethod
    def __new__(cls, raw: torch.Tensor) -> _Elsewhere:
        made: _Elsewhere = torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            raw.size(),
            strides=raw.stride(),
            storage_offset=raw.storage_offset(),
            dtype=raw.dtype,
            device=_DEVICE,
        )
        made.raw = raw
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(operation, args, kwargs or {})

    def __repr__(self, **options: Any) -> str:
        return f"{_NAME}: {self.raw!r}"

    def tolist(self) -> Any:
        return self.raw.tolist()

    def numpy(self, **options: Any) -> NoReturn:
        raise TypeError(f"a tensor on {self.device} is no numpy array: copy it to the CPU first")

    __array__ = numpy


class _Operations(TorchDispatchMode):
    """Every operation on tensors, those that make new ones included."""

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(operation, args, kwargs or {})


class _Functions(TorchFunctionMode):
    """The few functions that copy Python's numbers to a device without an operation."""

    def __torch_function__(self, function: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if function in (torch.tensor, torch.as_tensor) and _is_ours(kwargs.get("device")):
            device = kwargs.pop("device")
            return function(*args, **kwargs).to(device)
        if args and isinstance(args[0], _Elsewhere):
            if function is torch.Tensor.new_tensor:
                return torch.tensor(args[1], dtype=kwargs.get("dtype", args[0].dtype)).to(args[0].device)
            if function in (torch.Tensor.__getitem__, torch.Tensor.__setitem__):
                index = args[1] if isinstance(args[1], tuple) else (args[1],)
                index = tuple(torch.tensor(i).to(args[0].device) if isinstance(i, list) else i for i in index)
                args = (args[0], index, *args[2:])
        return function(*args, **kwargs)


def _run(operation: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
    ours = [tensor for tensor in tensors if isinstance(tensor, _Elsewhere)]
    _check(operation, args, tensors, bool(ours))
    if operation is _aten._fused_sdp_choice.default and ours:
        return _MATH_ATTENTION  # the CPU's own kernels are looked up by the device
    target = kwargs.get("device")
    to_ours = bool(ours) if target is None else _is_ours(target)
    if operation is _aten.copy_.default:
        to_ours = isinstance(args[0], _Elsewhere)

    raw_args, raw_kwargs = tree_map(lambda x: x.raw if isinstance(x, _Elsewhere) else x, (args, kwargs))
    if _is_ours(target):
        raw_kwargs["device"] = torch.device("cpu")
    result = operation(*raw_args, **raw_kwargs)
    if operation is _aten._to_copy.default and to_ours != bool(ours):
        result = result.clone()  # both are the CPU here, so the copy may be its source
    if not to_ours:
        return result

    known = {id(tensor.raw): tensor for tensor in ours}

    def wrapped(x: Any) -> Any:
        if not isinstance(x, torch.Tensor):
            return x
        return known[id(x)] if id(x) in known else _Elsewhere(x)

    result = tree_map(wrapped, result)
    return return_and_correct_aliasing(operation, args, kwargs, result) if ours else result


def _check(operation: Any, args: Any, tensors: list[torch.Tensor], any_ours: bool) -> None:
    """As CUDA does: scalars, copies and a CPU's index into a device's tensor are the only meetings of devices."""
    others = [tensor for tensor in tensors if not isinstance(tensor, _Elsewhere) and tensor.dim()]
    if not any_ours or not others or operation in _BETWEEN_DEVICES:
        return
    if operation in _INDEXING and isinstance(args[0], _Elsewhere):
        others = [tensor for tensor in others if not any(tensor is index for index in args[1])]
    if others:
        raise RuntimeError(f"{operation}: tensors on two devices, of shapes {[tuple(t.shape) for t in tensors]}")


def _is_ours(device: Any) -> bool:
    return device is not None and torch.device(device).type == _NAME
