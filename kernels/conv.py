"""Convolutions over one and two spatial dimensions, with groups, stride, dilation and padding.

    acc[n,o,p] = bias[o] + Σ_{c,k} (weight[o,c,k] - z_w) * (x[n, g*C/G + c, at(p,k)] - z_x)
    y[n,o,p]   = saturate(requantize(acc[n,o,p], multiplier[o], shift[o]) + z_y)

with G groups, g = o // (O/G) the group of output o, c over its C/G inputs, and at(p,k) =
p*stride - pad + k*dilation in each spatial dimension. Outside of x stands real 0, that is code
z_x, which adds nothing. G = C is the depthwise convolution. acc is i32 for i8 activations and i48
(in int64) for i16, proved wrap-free from the constants when prepared (kernels/accumulate.py), or
narrow, summed over c, then over k in the order of the weight (kernels/narrow.py). A fused relu clamps
low at z_y. The bound on |y - real| is that of fully_connected (kernels/matmul.py).

conv1d is conv2d with one row. The fast form: kernels/conv_layer.py.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np

from nnaq.errors import GraphError
from nnaq.ir.dims import Shape, bind, show, window
from nnaq.ir.op import Arrays, Attr, Bindable, Kernel, Op, Signature, Work, at_once, register
from nnaq.ir.types import TensorType, storage
from nnaq.kernels.accumulate import (
    activate,
    check_layer,
    layer_forms,
    order_of,
    output_range,
    outputs_reference,
    prepare_layer,
    rows_reference,
)
from nnaq.kernels.conv_bound import bind_layer
from nnaq.kernels.conv_layer import Layer, Plan, even_offsets
from nnaq.kernels.conv_loops import Grid, frame_of
from nnaq.kernels.fixedpoint import CODES
from nnaq.kernels.multiply import scales_of
from nnaq.kernels.weight_panels import byte_zero

Types = tuple[TensorType | None, ...]
Pair = tuple[int, int]


@dataclass(frozen=True)
class Geometry:
    """How a window moves over two spatial dimensions; padding is (top, left, bottom, right)."""

    kernel: Pair
    stride: Pair
    dilation: Pair
    padding: tuple[int, int, int, int]
    groups: int

    @property
    def extents(self) -> Pair:
        """Rows and columns from the first tap to the last."""
        return self.dilation[0] * (self.kernel[0] - 1) + 1, self.dilation[1] * (self.kernel[1] - 1) + 1

    def size(self, height: int, width: int) -> Pair:
        """Positions of the window over an image."""
        top, left, bottom, right = self.padding
        rows, columns = self.extents
        return (
            int(window(height, top + bottom, rows, self.stride[0])),
            int(window(width, left + right, columns, self.stride[1])),
        )


def numbers_of(
    attrs: Mapping[str, Attr], name: str, default: tuple[int, ...], who: str = "convolution"
) -> tuple[int, ...]:
    """An attribute of one number or several as a tuple of the default's length."""
    value = attrs.get(name, default)
    numbers = tuple(map(int, value)) if isinstance(value, tuple) else (int(value),)
    if len(numbers) != len(default) or min(numbers) < min(default):
        raise GraphError(
            f"{who}: {name} must be {len(default)} numbers from {min(default)} up, found {value}"
        )
    return numbers


def geometry(attrs: Mapping[str, Attr], kernel: Shape) -> Geometry:
    """The geometry of a conv1d (kernel of one dimension) or conv2d node."""
    rank = len(kernel)
    stride, dilation = numbers_of(attrs, "stride", (1,) * rank), numbers_of(attrs, "dilation", (1,) * rank)
    padding, (groups,) = numbers_of(attrs, "padding", (0,) * (2 * rank)), numbers_of(attrs, "groups", (1,))
    sizes = tuple(map(int, kernel))
    if rank == 1:
        left, right = padding
        return Geometry((1, sizes[0]), (1, stride[0]), (1, dilation[0]), (0, left, 0, right), groups)
    return Geometry(sizes, stride, dilation, padding, groups)  # type: ignore[arg-type]


def infer(name: str, rank: int, inputs: Types, attrs: Mapping[str, Attr]) -> tuple[Shape, ...]:
    """x[N,C,*spatial], weight[O,C/groups,*kernel] -> [N,O,*positions]; N and spatial may be symbolic."""
    x, weight = inputs[0], inputs[1]
    assert x is not None and weight is not None
    if x.rank != rank + 2 or weight.rank != rank + 2:
        raise GraphError(
            f"{name}: x {show(x.shape)} and weight {show(weight.shape)} must have rank {rank + 2}"
        )
    shape = geometry(attrs, weight.shape[2:])
    channels, (outputs, inner) = x.shape[1], weight.shape[:2]
    if not isinstance(channels, int) or channels != int(inner) * shape.groups or int(outputs) % shape.groups:
        raise GraphError(
            f"{name}: {channels} channels of x {show(x.shape)} do not fit weight {show(weight.shape)} with "
            f"{shape.groups} groups; a weight is [O, channels / groups, ...] with O a multiple of groups"
        )
    check_layer(name, inputs, attrs)
    top, left, bottom, right = shape.padding
    padded, sizes = (top + bottom, left + right)[2 - rank :], x.shape[2:]
    positions = map(window, sizes, padded, shape.extents[2 - rank :], shape.stride[2 - rank :])
    return ((x.shape[0], outputs, *positions),)


def pad_real(xp: Any, x: Any, padding: tuple[int, int, int, int]) -> Any:
    """x [N,C,H,W] with zeros around it."""
    top, left, bottom, right = padding
    for axis, before, after in ((2, top, bottom), (3, left, right)):
        ends = []
        for size in (before, after):
            shape = (*x.shape[:axis], size, *x.shape[axis + 1 :])
            ends.append(xp.zeros(shape, dtype=x.dtype, device=x.device))
        x = xp.concatenate((ends[0], x, ends[1]), axis) if before or after else x
    return x


def windows_real(xp: Any, x: Any, shape: Geometry) -> Any:
    """What each window sees of x [N,C,H,W] and the zeros around it: [N,C,rows,columns,KH,KW], a view."""
    rows, columns = shape.size(*x.shape[2:])
    tall, wide = shape.extents
    top, left, bottom, right = shape.padding
    # Where x is smaller than the window there is no position; more zeros make one to cut off again.
    lack = max(tall - x.shape[2] - top - bottom, 0), max(wide - x.shape[3] - left - right, 0)
    padded = pad_real(xp, x, (top, left, bottom + lack[0], right + lack[1]))
    if xp is np:
        every = np.lib.stride_tricks.sliding_window_view(padded, (tall, wide), (2, 3))
        seen = every[:, :, :: shape.stride[0], :: shape.stride[1]]
    else:
        seen = padded.unfold(2, tall, shape.stride[0]).unfold(3, wide, shape.stride[1])
    return seen[:, :, :rows, :columns, :: shape.dilation[0], :: shape.dilation[1]]


def real(xp: Any, attrs: Mapping[str, Attr], x: Any, weight: Any, bias: Any = None) -> tuple[Any, ...]:
    """activation(convolution(x, weight) + bias): windows as rows, then one product of matrices per group."""
    shape = geometry(attrs, weight.shape[2:])
    count, channels, *spatial = x.shape
    seen = windows_real(xp, x.reshape(count, channels, *(1, *spatial)[-2:]), shape)
    rows, columns = seen.shape[2:4]
    groups, inner, outputs = shape.groups, channels // shape.groups, weight.shape[0]
    depth = inner * math.prod(shape.kernel)
    split = seen.reshape(count, groups, inner, *seen.shape[2:])
    stacked = xp.moveaxis(split, (1, 2), (0, 4)).reshape(groups, count * rows * columns, depth)
    y = stacked @ weight.reshape(groups, outputs // groups, depth).swapaxes(1, 2)
    y = xp.moveaxis(y.reshape(groups, count, rows, columns, outputs // groups), (0, 4), (1, 2))
    y = y.reshape(count, outputs, *(rows, columns)[2 - len(spatial) :])
    y = y if bias is None else y + bias.reshape(outputs, *[1] * len(spatial))
    return (activate(xp, attrs, y),)


def reference(
    signature: Signature,
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray,
    multiplier: np.ndarray,
    shift: np.ndarray,
) -> Arrays:
    """One position at a time, in Python integers; its window is read tap by tap."""
    shape = geometry(signature.attrs, weight.shape[2:])
    image = x.reshape(*x.shape[:2], *(1, *x.shape[2:])[-2:])
    positions = shape.size(*image.shape[2:])
    table = rows_reference(weight, signature.input(1).zero_point, bias, multiplier, shift)
    per_group, zero_x = len(weight) // shape.groups, signature.input(0).zero_point
    out = np.empty((len(x), len(weight), *positions), storage(signature.outputs[0].dtype))
    for n, row, column in np.ndindex(len(x), *positions):
        for g in range(shape.groups):
            first = g * weight.shape[1]
            taps = window_reference(shape, image[n, first : first + weight.shape[1]], row, column, zero_x)
            chosen = slice(g * per_group, (g + 1) * per_group)
            out[n, chosen, row, column] = outputs_reference(signature, taps, table[chosen])
    return (out.reshape(len(x), len(weight), *positions[4 - x.ndim :]),)


def window_reference(shape: Geometry, image: np.ndarray, row: int, column: int, zero_x: int) -> list[int]:
    """x - z_x under the window at a position of an image [C,H,W]; 0 where the window leaves the image."""
    taps = []
    for c, i, j in np.ndindex(len(image), *shape.kernel):
        y = row * shape.stride[0] - shape.padding[0] + i * shape.dilation[0]
        x = column * shape.stride[1] - shape.padding[1] + j * shape.dilation[1]
        inside = 0 <= y < image.shape[1] and 0 <= x < image.shape[2]
        taps.append(int(image[c, y, x]) - zero_x if inside else 0)
    return taps


def load(signature: Signature, operands: tuple[Any, ...]) -> Kernel:
    """The same codes from compiled loops."""
    weight, scales = operands[1], scales_of(*operands[2:])
    kind_x, kind_w = signature.input(0), signature.input(1)
    shape, made = geometry(signature.attrs, weight.shape[2:]), storage(signature.outputs[0].dtype)
    behind = CODES[str(signature.attrs["rounding"])], *output_range(signature)
    order = order_of(kind_x, kind_w, signature.attrs)
    layer = Layer(weight, kind_w.zero_point, shape.groups, scales, order, behind, byte_zero(kind_x, order))
    planned = lru_cache(maxsize=4)(partial(plan_of, shape, int(weight.shape[1])))

    def call(x: np.ndarray, *_: Any) -> Arrays:
        image = np.ascontiguousarray(x).reshape(*x.shape[:2], *(1, *x.shape[2:])[-2:])
        plan = planned(*image.shape[2:])
        positions = plan.grid.height, plan.grid.width
        out = np.empty((len(x), len(weight), *positions), made)
        if out.size:
            layer.run(image, kind_x.zero_point, plan, out, out)
        return (out.reshape(*out.shape[:2], *positions[4 - x.ndim :]),)

    def bound(x: np.ndarray, *_: Any) -> tuple[Arrays, Callable[[], object]]:
        image = x.reshape(*x.shape[:2], *(1, *x.shape[2:])[-2:])
        plan = planned(*image.shape[2:])
        place = np.empty((len(x), len(weight), plan.grid.height, plan.grid.width), made)
        run = bind_layer(layer, image, kind_x.zero_point, plan, place)
        return (place.reshape(*place.shape[:2], *place.shape[6 - x.ndim :]),), run

    return Bindable(bound, call)


def plan_of(shape: Geometry, inner: int, height: int, width: int) -> Plan:
    """Where the windows over an image of a size find their entries; inner: channels of a group."""
    positions, extents = shape.size(height, width), shape.extents
    sizes = [max(p - 1, 0) * s + e for p, s, e in zip(positions, shape.stride, extents, strict=True)]
    frame = frame_of((sizes[0], sizes[1]), shape.stride, shape.padding[:2])
    plane, phase = frame.plane, frame.phase
    taps = (np.arange(k) * d for k, d in zip(shape.kernel, shape.dilation, strict=True))
    (row, row_phase), (column, column_phase) = map(np.divmod, taps, shape.stride)
    depth, offsets = even_offsets(
        np.arange(inner) * plane,
        row * frame.pitch + row_phase * shape.stride[1] * phase,
        column + column_phase * phase,
    )
    channels, size = inner * shape.groups, math.prod(positions)
    grid = Grid(*positions, frame.pitch, 0, channels * plane, inner * plane, 0, positions[1], 1, size)
    return Plan(frame, channels, depth, offsets, grid)


def work(signature: Signature) -> Work:
    """One product per tap and input channel of a group for every result, and one requantisation."""
    outputs = math.prod(bind(signature.outputs[0].shape, {}))
    depth = math.prod(bind(signature.input(1).shape[1:], {}))
    return Work(macs=outputs * depth, elementwise=outputs)


for _name, _rank in (("conv1d", 1), ("conv2d", 2)):
    register(
        Op(
            _name,
            ("x", "weight", "bias?"),
            layer_forms(),
            partial(infer, _name, _rank),
            real,
            prepare_layer(_name),
            reference,
            at_once(load),
            work,
            "y[o] = saturate(requantize(bias[o] + Σ weight[o,c,k]*(x - z_x), multiplier[o], shift[o]) + z_y)",
            weights={1: 0},
            reals=(2,),
            packed=(1,),
            load=load,
        )
    )
