"""Tensors that pretend to be on another device, and what watches the operators of ATen that run."""

from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from nnaq.train.device_operators import ALLOWED

MULTIPLIES = {"mm", "bmm", "addmm", "baddbmm", "addbmm", "mv", "addmv", "dot", "vdot"}
THERE = torch.device("meta")  # where they say they are: a device that needs no driver
_aten = torch.ops.aten


def name_of(function: Any) -> str:
    """ATen's name of an operator, as native_functions.yaml has it."""
    name: str = function._schema.name.removeprefix("aten::")
    overload = function._schema.overload_name
    return f"{name}.{overload}" if overload else name


class Mode(TorchDispatchMode):
    """A mode that torch's compiler need not know of, which is imported for it otherwise."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False


class Watch(Mode):
    """Fails on an operator that is not allowed on a device, and on a product of integer matrices."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name, tensors = name_of(function), tensors_in((args, kwargs))
        assert name in ALLOWED, f"{name} is not known to run on CUDA"
        if name.split(".")[0] in MULTIPLIES:
            assert all(x.is_floating_point() for x in tensors), f"{name} of integers does not run on CUDA"
        if name == "_int_mm":
            takes_int_mm(*tensors)
        self.seen.add(name)
        return function(*args, **(kwargs or {}))


def takes_int_mm(a: torch.Tensor, b: torch.Tensor) -> None:
    """What CUDA's `_int_mm` demands of its operands."""
    assert a.dtype == b.dtype == torch.int8
    assert a.ndim == b.ndim == 2
    assert a.shape[0] > 16
    assert a.shape[1] > 0 and a.shape[1] % 8 == 0
    assert b.shape[1] > 0 and b.shape[1] % 8 == 0
    assert a.is_contiguous() and b.t().is_contiguous()


class Elsewhere(torch.Tensor):
    """A tensor that says it is `THERE`; `held` is what it really holds."""

    held: torch.Tensor

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> "Elsewhere":
        return torch.Tensor._make_wrapper_subclass(
            cls, held.shape, strides=held.stride(), dtype=held.dtype, device=THERE
        )

    def __init__(self, held: torch.Tensor) -> None:
        self.held = held

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        raise AssertionError(f"{name_of(function)} ran outside of the pretence")


class Pretence(Mode):
    """Runs what is elsewhere; fails where it meets a tensor of the CPU, or is brought back."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        places = {isinstance(x, Elsewhere) for x in tensors_in((args, kwargs))}
        device = torch.device(kwargs.get("device") or "cpu")
        if function is _aten._to_copy.default and places == {False} and device == THERE:
            return Elsewhere(function(*args, **{**kwargs, "device": None}))
        if True not in places:
            return function(*args, **kwargs)
        assert places == {True}, f"{name_of(function)} mixes devices"
        assert name_of(function) in ALLOWED, f"{name_of(function)} reads from the device"
        assert kwargs.pop("device", None) in (None, THERE), f"{name_of(function)} leaves the device"
        return sent(function(*brought(args), **brought(kwargs)))


def tensors_in(tree: Any) -> list[torch.Tensor]:
    return [x for x in tree_leaves(tree) if isinstance(x, torch.Tensor)]


def brought(tree: Any) -> Any:
    return tree_map(lambda x: x.held if isinstance(x, Elsewhere) else x, tree)


def sent(tree: Any) -> Any:
    return tree_map(lambda x: Elsewhere(x) if isinstance(x, torch.Tensor) else x, tree)


def elsewhere(array: np.ndarray) -> Elsewhere:
    return Elsewhere(torch.tensor(array))
