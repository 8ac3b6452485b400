"""A stand-in for a GPU that runs on the CPU: mixing devices fails here as it would fail with CUDA.

Within `another_device()`, tensors can be placed on the stand-in. An operation on tensors of both devices is an error
unless CUDA allows it (scalars, copies, indices), and so is converting a tensor on the stand-in to numpy. Results are
those of the CPU, up to the rounding of a different attention kernel. CUDA kernels, speed and memory are not simulated.
`waits()` lists the operations that would make the host wait for CUDA.
"""

from __future__ import annotations

import traceback
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
_WAITING = {
    _aten._local_scalar_dense.default,
    _aten.bincount.default,
    _aten.equal.default,
    _aten.is_nonzero.default,
    _aten.masked_select.default,
    _aten.nonzero.default,
    _aten._unique2.default,
}

# At import, because autograd counts the devices of the process when it is first used.
_setup_privateuseone_for_python_backend(_NAME)
_DEVICE = torch.device(_NAME, 0)


@contextmanager
def another_device() -> Iterator[torch.device]:
    """Provide the device, which tensors may be placed on while the block runs."""
    # Wrapped tensors do not support inference mode; disabling gradients is all that matters here.
    with mock.patch.object(torch, "inference_mode", torch.no_grad), _Functions(), _Operations():
        yield _DEVICE


@contextmanager
def waits() -> Iterator[list[str]]:
    """Provide a list to which each operation of the block that makes the host wait for the device adds its place.

    These are values read on the CPU, copies that block, and results whose shape depends on values.
    """
    global _waits
    _waits, outer = [], _waits
    try:
        yield _waits
    finally:
        _waits = outer


_waits: list[str] | None = None


class _Elsewhere(torch.Tensor):
    """A tensor that reports the other device, wrapping the CPU tensor with its data."""

    raw: torch.Tensor

    @staticmethod
    def __new__(cls, raw: torch.Tensor) -> _Elsewhere:
        wrapper: _Elsewhere = torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            raw.size(),
            strides=raw.stride(),
            storage_offset=raw.storage_offset(),
            dtype=raw.dtype,
            device=_DEVICE,
        )
        wrapper.raw = raw
        return wrapper

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(operation, args, kwargs or {})

    def __repr__(self, **options: Any) -> str:
        return f"{_NAME}: {self.raw!r}"

    def tolist(self) -> Any:
        _record_wait("tolist")
        return self.raw.tolist()

    def numpy(self, **options: Any) -> NoReturn:
        raise TypeError(f"a tensor on {self.device} cannot be converted to numpy: copy it to the CPU first")

    __array__ = numpy


class _Operations(TorchDispatchMode):
    """Intercepts every operation on tensors, including those that create tensors."""

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(operation, args, kwargs or {})


class _Functions(TorchFunctionMode):
    """Intercepts the few functions that copy Python numbers to a device without dispatching an operation."""

    def __torch_function__(self, function: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if function in (torch.tensor, torch.as_tensor) and _is_elsewhere(kwargs.get("device")):
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
    wrapped = [tensor for tensor in tensors if isinstance(tensor, _Elsewhere)]
    _check(operation, args, tensors, bool(wrapped))
    if _waits is not None and _is_wait(operation, args, kwargs, bool(wrapped)):
        _record_wait(str(operation))
    if operation is _aten._fused_sdp_choice.default and wrapped:
        return _MATH_ATTENTION  # the CPU's own kernels are selected by device
    target = kwargs.get("device")
    to_elsewhere = bool(wrapped) if target is None else _is_elsewhere(target)
    if operation is _aten.copy_.default:
        to_elsewhere = isinstance(args[0], _Elsewhere)

    raw_args, raw_kwargs = tree_map(lambda x: x.raw if isinstance(x, _Elsewhere) else x, (args, kwargs))
    if _is_elsewhere(target):
        raw_kwargs["device"] = torch.device("cpu")
    result = operation(*raw_args, **raw_kwargs)
    if operation is _aten._to_copy.default and to_elsewhere != bool(wrapped):
        result = result.clone()  # both devices are the CPU, so the copy may alias its source
    if not to_elsewhere:
        return result

    known = {id(tensor.raw): tensor for tensor in wrapped}

    def wrap(x: Any) -> Any:
        if not isinstance(x, torch.Tensor):
            return x
        return known[id(x)] if id(x) in known else _Elsewhere(x)

    result = tree_map(wrap, result)
    return return_and_correct_aliasing(operation, args, kwargs, result) if wrapped else result


def _check(operation: Any, args: Any, tensors: list[torch.Tensor], any_wrapped: bool) -> None:
    """Allow the same mixing of devices as CUDA: scalars, copies, and CPU indices into a tensor on the device."""
    others = [tensor for tensor in tensors if not isinstance(tensor, _Elsewhere) and tensor.dim()]
    if not any_wrapped or not others or operation in _BETWEEN_DEVICES:
        return
    if operation in _INDEXING and isinstance(args[0], _Elsewhere):
        others = [tensor for tensor in others if not any(tensor is index for index in args[1])]
    if others:
        raise RuntimeError(f"{operation}: tensors on two devices, of shapes {[tuple(t.shape) for t in tensors]}")


def _is_elsewhere(device: Any) -> bool:
    return device is not None and torch.device(device).type == _NAME


def _is_wait(operation: Any, args: Any, kwargs: dict[str, Any], any_wrapped: bool) -> bool:
    if operation is _aten._to_copy.default:
        target = kwargs.get("device")
        crosses = target is not None and _is_elsewhere(target) != any_wrapped
        return crosses and not (kwargs.get("non_blocking") and _is_elsewhere(target))
    if operation is _aten.copy_.default:
        crosses = isinstance(args[0], _Elsewhere) != isinstance(args[1], _Elsewhere)
        to_device = isinstance(args[0], _Elsewhere)
        return crosses and not (to_device and len(args) > 2 and bool(args[2]))
    if operation in _INDEXING and any_wrapped:
        indices = [index for index in args[1] if index is not None]
        return any(index.dtype == torch.bool or not isinstance(index, _Elsewhere) for index in indices)
    if operation is _aten.repeat_interleave.Tensor:
        return any_wrapped and kwargs.get("output_size") is None
    return any_wrapped and operation in _WAITING


def _record_wait(operation: str) -> None:
    if _waits is not None:
        stack = traceback.extract_stack()
        own = [f for f in stack if "site-packages" not in f.filename and f.filename != __file__]
        _waits.append(f"{operation} at {own[-1].filename}:{own[-1].lineno}")
