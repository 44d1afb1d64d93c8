"""Standard ONNX operators on torch tensors, of those that the bodies of integer operators are made of.

Every entry of `OPERATORS` takes the attributes of a node and gives the function that runs it: tensors in,
a tensor (or, of Split, a tuple) out. Integers stay INT64 wherever the body says so, and what runs is in
`ALLOWED`: operators that PyTorch has on CUDA in these dtypes. Two rules keep the bits of floats,
of which there are few (quantising an input, the half_even mode): a float is never divided by a number of
Python or of the CPU, because CUDA then multiplies by its reciprocal, and nothing is fused.

`HOST` says which operands are read as Python numbers (shapes, axes, widths of padding): they come from
constants and shapes and never lie on the device, so that nothing waits for it. Not run on a GPU.
"""

from collections.abc import Callable, Mapping
from functools import partial, reduce
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

Attrs = Mapping[str, Any]
Run = Callable[..., Any]

ALLOWED = (
    "__rshift__.Scalar _int_mm _to_copy _unsafe_view abs add.Tensor alias amax amin arange "
    "bitwise_and.Scalar bitwise_and.Tensor bmm cat clamp.Tensor clone constant_pad_nd cumsum div.Tensor "
    "div.Tensor_mode eq.Tensor expand flip floor ge.Tensor gt.Tensor index_select le.Tensor lift_fresh "
    "logical_and logical_not logical_or logical_xor lt.Scalar lt.Tensor maximum minimum mm mul.Tensor neg "
    "new_zeros permute remainder.Tensor repeat round sign slice.Tensor split.Tensor stack sub.Tensor "
    "sum.dim_IntList t unbind.int unsqueeze view where.self"
).split()
"""All that may run on a device, as ATen calls it. Each has a kernel for CUDA, in the dtypes that come here,
or is composed by PyTorch of such (copies, fills, views). A CPU build cannot say which kernels CUDA has, so
the list stands here; tests hold it against the table of kernels that PyTorch ships, and what runs against it.
mm and bmm have kernels for floats only: no matrix of integers may come to them."""

_DTYPES = {
    np.dtype(name): getattr(torch, name) for name in ("bool", "int8", "int16", "int32", "int64", "float32")
}

HOST: dict[str, tuple[int, ...]] = {
    "CumSum": (1,),
    "Expand": (1,),
    "Pad": (1, 2, 3),
    "Range": (0, 1, 2),
    "ReduceMax": (1,),
    "ReduceMin": (1,),
    "ReduceSum": (1,),
    "Reshape": (1,),
    "Slice": (1, 2, 3, 4),
    "Tile": (1,),
    "Unsqueeze": (1,),
}
"""Positions of operands that are read as Python numbers."""


def number(x: Tensor) -> int:
    """The one number of a tensor that is on the host."""
    return int(x.reshape(-1).tolist()[0])


def _div(a: Tensor, b: Tensor) -> Tensor:
    """Whole numbers towards zero."""
    return torch.div(a, b) if a.is_floating_point() else torch.div(a, b, rounding_mode="trunc")


def _clip(x: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
    return torch.clamp(x, low, high)


def _gather(axis: int, counts_back: bool, x: Tensor, index: Tensor) -> Tensor:
    """Entries along an axis; indices below 0 count from the end."""
    if counts_back:
        index = torch.where(index < 0, index + x.shape[axis], index)
    axis = axis % x.ndim
    taken = torch.index_select(x, axis, index.reshape(-1))
    return taken.reshape((*x.shape[:axis], *index.shape, *x.shape[axis + 1 :]))


def _reduced(run: Run, keepdims: bool, x: Tensor, axes: Tensor | None = None) -> Tensor:
    made: Tensor = run(x, list(range(x.ndim)) if axes is None else axes.tolist(), keepdims)
    return made


def _cumulative(exclusive: bool, backwards: bool, x: Tensor, axis: Tensor) -> Tensor:
    along = number(axis)
    turned = x.flip(along) if backwards else x
    sums = torch.cumsum(turned, along)
    sums = sums - turned if exclusive else sums
    return sums.flip(along) if backwards else sums


def _reshape(x: Tensor, shape: Tensor) -> Tensor:
    return x.reshape([x.shape[i] if size == 0 else size for i, size in enumerate(shape.tolist())])


def _unsqueeze(x: Tensor, axes: Tensor) -> Tensor:
    rank = x.ndim + axes.numel()
    for axis in sorted(axis % rank for axis in axes.tolist()):
        x = x.unsqueeze(axis)
    return x


def _pad(x: Tensor, widths: Tensor, value: Tensor | None = None, axes: Tensor | None = None) -> Tensor:
    """So many of `value` before and after each axis."""
    numbers = widths.tolist()
    half = len(numbers) // 2
    places = range(x.ndim) if axes is None else [axis % x.ndim for axis in axes.tolist()]
    sides = dict(zip(places, zip(numbers[:half], numbers[half:], strict=True), strict=True))
    order = [width for axis in reversed(range(x.ndim)) for width in sides.get(axis, (0, 0))]
    return pad(x, order, value=0 if value is None else number(value))


def _slice(
    x: Tensor, starts: Tensor, ends: Tensor, axes: Tensor | None = None, steps: Tensor | None = None
) -> Tensor:
    firsts = starts.tolist()
    places = list(range(len(firsts))) if axes is None else axes.tolist()
    strides = [1] * len(firsts) if steps is None else steps.tolist()
    for start, end, axis, step in zip(firsts, ends.tolist(), places, strides, strict=True):
        x = _cut(x, axis % x.ndim, start, end, step)
    return x


def _cut(x: Tensor, axis: int, start: int, end: int, step: int) -> Tensor:
    """A part of one axis; backwards it is the forward part turned round."""
    size = x.shape[axis]
    lowest, highest = (0, size) if step > 0 else (-1, size - 1)
    start, end = (min(max(n + size if n < 0 else n, lowest), highest) for n in (start, end))
    taken = range(start, end, step)
    first, last = sorted((taken[0], taken[-1])) if taken else (0, -1)
    forward: Tensor = torch.ops.aten.slice.Tensor(x, axis, first, last + 1, abs(step))
    return forward if step > 0 else forward.flip(axis)


def _range(start: Tensor, limit: Tensor, step: Tensor) -> Tensor:
    first, stride = number(start), number(step)
    count = len(range(first, number(limit), stride))
    return torch.arange(count, dtype=torch.int64, device="cpu") * stride + first


def _shape(start: int, end: int | None, x: Tensor) -> Tensor:
    return torch.tensor(x.shape[start:end], dtype=torch.int64, device="cpu")


def _split(axis: int, count: int, x: Tensor) -> tuple[Tensor, ...]:
    return torch.split(x, -(-x.shape[axis] // count), axis)


def _expand(x: Tensor, shape: Tensor) -> Tensor:
    return x.expand(np.broadcast_shapes(x.shape, tuple(shape.tolist())))


def _always(run: Run) -> Callable[[Attrs], Run]:
    """An operator without attributes."""
    return lambda attrs: run


def _folded(run: Run) -> Callable[[Attrs], Run]:
    """An operator of any number of operands."""
    return lambda attrs: lambda *xs: reduce(run, xs)


def _over_axes(run: Run) -> Callable[[Attrs], Run]:
    return lambda attrs: partial(_reduced, run, bool(attrs.get("keepdims", 1)))


OPERATORS: dict[str, Callable[[Attrs], Run]] = {
    "Abs": _always(torch.abs),
    "Add": _always(torch.add),
    "And": _always(torch.logical_and),
    "BitwiseAnd": _always(torch.bitwise_and),
    "Cast": lambda attrs: lambda x: x.to(_DTYPES[attrs["to"]]),
    "Clip": _always(_clip),
    "Concat": lambda attrs: lambda *xs: torch.cat(xs, attrs["axis"]),
    "CumSum": lambda attrs: partial(_cumulative, bool(attrs.get("exclusive")), bool(attrs.get("reverse"))),
    "Div": _always(_div),
    "Equal": _always(torch.eq),
    "Expand": _always(_expand),
    "Floor": _always(torch.floor),
    "Gather": lambda attrs: partial(_gather, attrs.get("axis", 0), attrs.get("counts_back", True)),
    "Greater": _always(torch.gt),
    "GreaterOrEqual": _always(torch.ge),
    "Identity": _always(lambda x: x),
    "Less": _always(torch.lt),
    "LessOrEqual": _always(torch.le),
    "Max": _folded(torch.maximum),
    "Min": _folded(torch.minimum),
    "Mod": _always(torch.remainder),
    "Mul": _always(torch.mul),
    "Neg": _always(torch.neg),
    "Not": _always(torch.logical_not),
    "Or": _always(torch.logical_or),
    "Pad": _always(_pad),
    "Range": _always(_range),
    "ReduceMax": _over_axes(torch.amax),
    "ReduceMin": _over_axes(torch.amin),
    "ReduceSum": _over_axes(torch.sum),
    "Reshape": _always(_reshape),
    "Round": _always(torch.round),
    "Shape": lambda attrs: partial(_shape, attrs.get("start", 0), attrs.get("end")),
    "Sign": _always(torch.sign),
    "Slice": _always(_slice),
    "Split": lambda attrs: partial(_split, attrs.get("axis", 0), attrs["num_outputs"]),
    "Sub": _always(torch.sub),
    "Tile": _always(lambda x, counts: x.repeat(counts.tolist())),
    "Transpose": lambda attrs: lambda x: x.permute(attrs["perm"]),
    "Unsqueeze": _always(_unsqueeze),
    "Where": _always(torch.where),
    "Xor": _always(torch.logical_xor),
}
"""What runs a standard operator, from its attributes; MatMul and Scan are in `device_program`."""
