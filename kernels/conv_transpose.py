"""Transposed convolutions over one and two spatial dimensions: what upsamples by learned weights.

    acc[n,o,p] = bias[o] + Σ_{c,k} (weight[c,j,k] - z_w) * (x[n,c,i] - z_x)
                 over all k for which i = (p + begin - k*dilation) / stride is an entry of x
    y[n,o,p]   = saturate(requantize(acc[n,o,p], multiplier[o], shift[o]) + z_y)

with G groups, o = g * (O/G) + j, c over the C/G inputs of group g, weight [C, O/G, *kernel], padding
(begin of every axis, then end of every axis) and, in each spatial dimension,

    size of y = (size of x - 1)*stride + (kernel - 1)*dilation + 1 + output_padding - begin - end

Entries of y that no tap meets hold the bias. acc is i32 for i8 activations and i48 (held in int64)
for i16, proved wrap-free from the constants: only taps with equal k*dilation mod stride (a phase) meet in
one entry, so the bound is the largest over phases and outputs of Σ |weight - z_w| max|q - z_x| + |bias|.
A narrow accumulator (kernels/narrow.py) sums over c, then over all k in the order of the weight; a tap that
brings no entry to y keeps its place and adds 0.
per_channel scales stand along axis 1 of the weight; groups share them: s_w[o] = s_w[j]. A fused
relu clamps low at z_y. The bound on |y - real| is that of fully_connected (kernels/matmul.py).

The fast form is an ordinary convolution per phase (kernels/conv_phases.py); for a narrow accumulator it
copies what all taps bring to each position into rows.
"""

import math
from collections.abc import Mapping
from functools import lru_cache, partial
from typing import Any

import numpy as np

from nnaq.errors import GraphError, LoweringError
from nnaq.ir.dims import Shape, bind, show
from nnaq.ir.numerics import Numerics
from nnaq.ir.op import Arrays, Attr, Constant, Kernel, Op, Prepared, Signature, Work, at_once, register
from nnaq.ir.types import TensorType, storage
from nnaq.kernels.accumulate import (
    accumulator,
    activate,
    channel_multipliers,
    layer_forms,
    order_of,
    output_range,
    outputs_reference,
    prepare_bias,
    proved_reach,
    shift_bound,
)
from nnaq.kernels.boundary import largest_distance, multiplier_constants
from nnaq.kernels.conv import numbers_of
from nnaq.kernels.conv_layer import Layer, Plan
from nnaq.kernels.conv_phases import Axis as Axis
from nnaq.kernels.conv_phases import Pair, codes_of, phases_of, plan_of
from nnaq.kernels.fixedpoint import CODES
from nnaq.kernels.multiply import requantize_rows, scales_of
from nnaq.kernels.narrow import contract, narrow_of
from nnaq.kernels.weight_panels import byte_zero, rows_of, weights_of

WHO = "transposed convolution"
Types = tuple[TensorType | None, ...]
Attrs = Mapping[str, Attr]


def geometry(attrs: Attrs, kernel: Shape) -> tuple[Axis, ...]:
    """The spatial axes of a node."""
    rank = len(kernel)
    ones, zeros = (1,) * rank, (0,) * rank
    padding = numbers_of(attrs, "padding", zeros + zeros, WHO)
    numbers = (
        tuple(map(int, kernel)),
        numbers_of(attrs, "stride", ones, WHO),
        numbers_of(attrs, "dilation", ones, WHO),
        padding[:rank],
        padding[rank:],
        numbers_of(attrs, "output_padding", zeros, WHO),
    )
    return tuple(Axis(*axis) for axis in zip(*numbers, strict=True))


def groups_of(attrs: Attrs) -> int:
    return numbers_of(attrs, "groups", (1,), WHO)[0]


def infer(name: str, rank: int, inputs: Types, attrs: Attrs) -> tuple[Shape, ...]:
    """x[N,C,*spatial], weight[C,O/groups,*kernel] -> [N,O,*positions]; N and spatial may be symbolic."""
    x, weight = inputs[0], inputs[1]
    assert x is not None and weight is not None
    if x.rank != rank + 2 or weight.rank != rank + 2:
        raise GraphError(
            f"{name}: x {show(x.shape)} and weight {show(weight.shape)} must have rank {rank + 2}"
        )
    axes, groups = geometry(attrs, weight.shape[2:]), groups_of(attrs)
    channels = x.shape[1]
    if not isinstance(channels, int) or channels != weight.shape[0] or channels % groups:
        raise GraphError(
            f"{name}: {channels} channels of x {show(x.shape)} do not fit weight {show(weight.shape)} with "
            f"{groups} groups; a weight is [C, outputs / groups, ...] with C a multiple of groups"
        )
    outputs, bias = int(weight.shape[1]) * groups, inputs[2] if len(inputs) > 2 else None
    if bias is not None and bias.shape != (outputs,):
        raise GraphError(
            f"{name}: bias {show(bias.shape)} does not fit weight {show(weight.shape)} with {groups} groups; "
            "one per output"
        )
    activation = attrs.get("activation", "none")
    if activation not in ("none", "relu"):
        raise GraphError(f"{name}: no activation {activation!r}; there are none, relu")
    return ((x.shape[0], outputs, *(axis.over(dim) for axis, dim in zip(axes, x.shape[2:], strict=True))),)


# --- sums: over the reals, and over whole numbers in float64


def sums(xp: Any, attrs: Attrs, x: Any, weight: Any) -> Any:
    """Σ weight * x in the dtype of both: products of all entries by all taps, each added where it belongs."""
    axes, groups = geometry(attrs, tuple(weight.shape[2:])), groups_of(attrs)
    count, channels, *spatial = x.shape
    per_group, kernel = weight.shape[1], tuple(weight.shape[2:])
    entries, taps = math.prod(spatial), math.prod(kernel)
    columns = weight.reshape(groups, channels // groups, per_group * taps).swapaxes(1, 2)
    made = columns @ x.reshape(count, groups, channels // groups, entries)
    products = made.reshape(count, groups * per_group, taps, *spatial)
    sizes = tuple(axis.size(n) for axis, n in zip(axes, spatial, strict=True))
    lengths = [
        max(axis.begin + size, max(n - 1, 0) * axis.stride + axis.extent)
        for axis, size, n in zip(axes, sizes, spatial, strict=True)
    ]
    total = xp.zeros((count, groups * per_group, *lengths), dtype=x.dtype, device=x.device)
    for number, tap in enumerate(np.ndindex(*kernel)):
        # With no entries a slice of step `stride` still has to be empty.
        met = (
            slice(k * axis.dilation, k * axis.dilation + max((n - 1) * axis.stride + 1, 0), axis.stride)
            for k, axis, n in zip(tap, axes, spatial, strict=True)
        )
        total[(slice(None), slice(None), *met)] += products[:, :, number]
    cut = (slice(axis.begin, axis.begin + size) for axis, size in zip(axes, sizes, strict=True))
    return total[(slice(None), slice(None), *cut)]


def real(xp: Any, attrs: Attrs, x: Any, weight: Any, bias: Any = None) -> tuple[Any, ...]:
    """activation(transposed convolution + bias)."""
    y = sums(xp, attrs, x, weight)
    y = y if bias is None else y + bias.reshape(-1, *[1] * (len(x.shape) - 2))
    return (activate(xp, attrs, y),)


# --- the crossing


def output_scales(weight: TensorType, groups: int) -> np.ndarray:
    """Weight scales (float64) [O]: one, or one per entry of axis 1 for every group."""
    assert weight.quant is not None
    if weight.quant.axis not in (None, 1):
        raise LoweringError(
            f"weights of a transposed convolution are quantised per_channel along axis 1, "
            f"found axis {weight.quant.axis}"
        )
    per_group = int(weight.shape[1])
    scales = np.broadcast_to(np.array(weight.quant.scale, np.float64), (per_group,))
    return np.tile(scales, groups)


def accumulator_bound(codes: np.ndarray, x: TensorType, bias: np.ndarray, attrs: Attrs, zero_w: int) -> int:
    """The largest |acc| that any input can cause, over outputs and phases."""
    axes, groups = geometry(attrs, codes.shape[2:]), groups_of(attrs)
    centred = np.abs(codes.astype(np.int64) - zero_w)
    split = centred.reshape(groups, len(codes) // groups, *codes.shape[1:]).sum(axis=1)
    per_output = split.reshape(-1, *codes.shape[2:])  # [O, *kernel]
    phases: dict[tuple[int, ...], np.ndarray] = {}
    for tap in np.ndindex(*codes.shape[2:]):
        phase = tuple(k * axis.dilation % axis.stride for k, axis in zip(tap, axes, strict=True))
        phases[phase] = phases.get(phase, np.zeros(len(per_output), np.int64)) + per_output[:, *tap]
    reach = largest_distance(x)
    return max(
        (int(s) * reach + abs(int(b)) for phase in phases.values() for s, b in zip(phase, bias, strict=True)),
        default=0,
    )


def prepare(
    who: str, signature: Signature, constants: tuple[np.ndarray | None, ...], numerics: Numerics
) -> Prepared:
    """bias, multiplier and shift per output; the proof that no accumulator wraps."""
    x, weight, y = signature.input(0), signature.input(1), signature.outputs[0]
    codes, bias = constants[1], constants[2] if len(constants) > 2 else None
    if codes is None:
        raise LoweringError(f"{who}: the weight is computed; a layer needs a constant weight")
    dtype, scales = accumulator(x), output_scales(weight, groups_of(signature.attrs))
    whole = prepare_bias(who, bias, x.scale * scales, dtype)
    bound = accumulator_bound(codes, x, whole, signature.attrs, weight.zero_point)
    bound = shift_bound(dtype, proved_reach(who, bound, dtype, numerics))
    multiplier, shift = channel_multipliers(x.scale, scales, y.scale, numerics.rounding, bound)
    made = Constant("bias", TensorType(dtype, whole.shape), whole.astype(storage(dtype)))
    attrs = {**signature.attrs, "rounding": numerics.rounding, **contract(numerics)}
    return Prepared((0, 1, made, *multiplier_constants(multiplier, shift)), attrs)


# --- over codes


def reference(
    signature: Signature,
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray,
    multiplier: np.ndarray,
    shift: np.ndarray,
) -> Arrays:
    """One position at a time, in Python integers, tap by tap."""
    axes, groups = geometry(signature.attrs, weight.shape[2:]), groups_of(signature.attrs)
    inner, per_group = len(weight) // groups, weight.shape[1]
    zero_x, zero_w = signature.input(0).zero_point, signature.input(1).zero_point
    sizes = tuple(axis.size(n) for axis, n in zip(axes, x.shape[2:], strict=True))
    out = np.empty((len(x), groups * per_group, *sizes), storage(signature.outputs[0].dtype))
    for n, o, *position in np.ndindex(*out.shape):
        group, j = divmod(o, per_group)
        entries, weights = [], []
        for c, *tap in np.ndindex(inner, *weight.shape[2:]):
            places = [a.source(p, k, m) for a, p, k, m in zip(axes, position, tap, x.shape[2:], strict=True)]
            channel = group * inner + c
            entries.append(0 if None in places else int(x[(n, channel, *places)]) - zero_x)
            weights.append(int(weight[(channel, j, *tap)]) - zero_w)
        row = (weights, int(bias[o]), int(multiplier[o]), int(shift[o]))
        (out[(n, o, *position)],) = outputs_reference(signature, entries, [row])
    return (out,)


def load(signature: Signature, operands: tuple[Any, ...]) -> Kernel:
    """The same codes, a convolution per phase; what a narrow accumulator sums goes tap by tap."""
    weight, scales = operands[1], scales_of(*operands[2:])
    kind_x, kind_w = signature.input(0), signature.input(1)
    if narrow_of(signature.attrs, kind_x) is not None:
        return lambda x, *_: _fast_narrow(signature, x, weight, *scales)
    axes, groups = geometry(signature.attrs, weight.shape[2:]), groups_of(signature.attrs)
    axes = (Axis(1, 1, 1, 0, 0, 0), *axes)[-2:]
    taps = weight.reshape(*weight.shape[:2], *(axis.kernel for axis in axes))
    order, made = order_of(kind_x, kind_w, signature.attrs), storage(signature.outputs[0].dtype)
    behind = CODES[str(signature.attrs["rounding"])], *output_range(signature)
    zero_w, outputs = kind_w.zero_point, groups * int(weight.shape[1])
    layer = partial(
        Layer, zero_point=zero_w, groups=groups, scales=scales, order=order, behind=behind,
        zero_x=byte_zero(kind_x, order),
    )  # fmt: skip
    layers = [(phase, layer(codes_of(taps, phase, groups, zero_w))) for phase in phases_of(axes)]

    @lru_cache(maxsize=4)
    def planned(height: int, width: int) -> list[tuple[Layer, Plan, tuple[slice, ...]]]:
        return [
            (layer, plan_of(axes, phase, len(weight), groups, (height, width)), _places(axes, phase))
            for phase, layer in layers
            if phase[0].count(height) and phase[1].count(width)
        ]

    def call(x: np.ndarray, *_: Any) -> Arrays:
        image = np.ascontiguousarray(x).reshape(*x.shape[:2], *(1, *x.shape[2:])[-2:])
        sizes = [axis.size(n) for axis, n in zip(axes, image.shape[2:], strict=True)]
        out = np.empty((len(x), outputs, *sizes), made)
        for layer, plan, places in planned(*image.shape[2:]) if out.size else ():
            layer.run(image, kind_x.zero_point, plan, out[:, :, *places], out)
        return (out.reshape(len(x), outputs, *sizes[4 - x.ndim :]),)

    return call


def _places(axes: tuple[Axis, ...], phase: Pair) -> tuple[slice, ...]:
    """The positions of a phase in a result."""
    return tuple(slice(p.position, None, axis.stride) for p, axis in zip(phase, axes, strict=True))


def _fast_narrow(
    signature: Signature,
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray,
    multiplier: np.ndarray,
    shift: np.ndarray,
) -> Arrays:
    """The codes of a narrow accumulator: a row of taps per position, group by group."""
    axes, groups = geometry(signature.attrs, weight.shape[2:]), groups_of(signature.attrs)
    kind_x, kind_w = signature.input(0), signature.input(1)
    inner, per_group = len(weight) // groups, weight.shape[1]
    seen = _rows_of_taps(axes, np.subtract(x, kind_x.zero_point, dtype=np.int16))
    count, _, *sizes = seen.shape[: 2 + len(axes)]
    taps = math.prod(weight.shape[2:])
    rows = np.moveaxis(seen, 1, 1 + len(axes)).reshape(count * math.prod(sizes), groups, inner * taps)
    columns = weight.reshape(groups, inner, per_group, taps).swapaxes(1, 2)
    out = np.empty((groups, len(rows), per_group), storage(signature.outputs[0].dtype))
    for g in range(groups):
        chosen = slice(g * per_group, (g + 1) * per_group)
        requantize_rows(
            rows_of(rows[:, g], 0),
            weights_of(columns[g].reshape(per_group, inner * taps), kind_w.zero_point),
            0,
            bias[chosen],
            multiplier[chosen],
            shift[chosen],
            order_of(kind_x, kind_w, signature.attrs),
            CODES[str(signature.attrs["rounding"])],
            *output_range(signature),
            out[g],
        )
    codes = np.moveaxis(out, 1, -1).reshape(groups * per_group, count, *sizes)
    return (np.ascontiguousarray(np.moveaxis(codes, 0, 1)),)


def _rows_of_taps(axes: tuple[Axis, ...], x: np.ndarray) -> np.ndarray:
    """What every tap brings to every position of y, or 0: [N,C,*positions,*kernel] of x [N,C,*spatial]."""
    for i, axis in enumerate(axes):
        entries = x.shape[2 + i]
        sources = [
            [axis.source(p, k, entries) for k in range(axis.kernel)] for p in range(axis.size(entries))
        ]
        index = np.array([[entries if s is None else s for s in row] for row in sources], np.int64)
        padded = np.pad(x, [(0, int(a == 2 + i)) for a in range(x.ndim)])
        taken = np.take(padded, index.reshape(-1, axis.kernel), 2 + i)
        x = np.moveaxis(taken, 3 + i, -1)
    return x


def work(signature: Signature) -> Work:
    """One product per entry of x, tap and output of its group; one requantisation per result."""
    entries = math.prod(bind(signature.input(0).shape, {}))
    taps = math.prod(bind(signature.input(1).shape[1:], {}))
    return Work(macs=entries * taps, elementwise=math.prod(bind(signature.outputs[0].shape, {})))


for _name, _rank in (("conv_transpose1d", 1), ("conv_transpose2d", 2)):
    register(
        Op(
            _name,
            ("x", "weight", "bias?"),
            layer_forms(),
            partial(infer, _name, _rank),
            real,
            partial(prepare, _name),
            reference,
            at_once(load),
            work,
            "y[o] = saturate(requantize(bias[o] + Σ weight[c,j,k]*(x - z_x), multiplier[o], shift[o]) + z_y)",
            weights={1: 1},
            reals=(2,),
            load=load,
        )
    )
