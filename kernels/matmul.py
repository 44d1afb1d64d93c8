"""Products of matrices: a layer with constant weights, and a product of two activations.

    fully_connected  acc[n] = bias[n] + Σ_k (weight[n,k] - z_w) * (x[...,k] - z_x)
                     y[...,n] = saturate(requantize(acc[n], multiplier[n], shift[n]) + z_y)
    matmul           acc = Σ_k (a[...,m,k] - z_a) * (b[...,k,n] - z_b)
                     y[...,m,n] = saturate(requantize(acc, multiplier, shift) + z_y)

An i32 result of fully_connected is acc itself, with scale s_x * s_w[n] and zero_point 0: what decoding
on the host reads before the last requantisation. It takes i8 activations, whose acc has 32 bits, and no
fused activation; multiplier and shift are absent.

acc is i32 for i8 activations and i48 (in int64) for i16, proved wrap-free when prepared: from the
weights and biases of a layer (kernels/accumulate.py), and for a product of two activations from

    K * max|a - z_a| * max|b - z_b|  <  2^31  or  2^47

An open K (attention over cached frames) is proved for the longest sum that keeps this (over 33000
products of i8 codes); a run that sums over more raises OpError. Under a narrow contract there is no
proof: acc may overflow by the rules of kernels/narrow.py, over any K.

multiplier and shift stand for s_x * s_w[n] / s_y and gain * s_a * s_b / s_y: matmul means gain * (a b),
with 1 / sqrt(K) in attention, and the gain costs nothing. A fused relu clamps low at z_y. Under `single`,
|y - z_y - M * acc| <= 1/2 + 2^-31 * M * |acc| with M that real quotient, wherever y does not saturate;
acc itself is exact but for the bias, rounded by half a step of s_x * s_w[n].
"""

import math
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from nnaq.errors import GraphError, LoweringError, OpError
from nnaq.ir.dims import Dim, Shape, bind, show
from nnaq.ir.numerics import Numerics
from nnaq.ir.op import Arrays, Attr, Bindable, Op, Prepared, Signature, Work, at_once, register
from nnaq.ir.types import Quant, TensorType, bits, storage
from nnaq.kernels.accumulate import (
    accumulator,
    activate,
    bias_constant,
    channel_multipliers,
    check_layer,
    layer_forms,
    order_of,
    output_range,
    outputs_reference,
    prepare_layer,
    proved_reach,
    rows_reference,
)
from nnaq.kernels.bound import Bound, Copy, Run, together
from nnaq.kernels.boundary import largest_distance, multiplier_constants, when_constant
from nnaq.kernels.fixedpoint import CODES
from nnaq.kernels.multiply import scales_of, sum_products
from nnaq.kernels.multiply_bound import (
    bind_columns,
    bind_requantized,
    bind_rows,
    bind_stack,
    bind_stack_of_products,
)
from nnaq.kernels.narrow import contract, narrow_of, sum_reference
from nnaq.kernels.weight_panels import byte_zero, weights_of

Types = tuple[TensorType | None, ...]

requantized_layer = prepare_layer("fully_connected")


def infer_fully_connected(inputs: Types, attrs: Mapping[str, Attr]) -> tuple[Shape, ...]:
    """x[...,K], weight[N,K], bias[N] -> [...,N]; leading dimensions may be symbolic."""
    x, weight = inputs[0], inputs[1]
    assert x is not None and weight is not None
    if weight.rank != 2 or x.rank < 1 or x.shape[-1] != weight.shape[1]:
        raise GraphError(
            f"fully_connected: x {show(x.shape)} does not fit weight {show(weight.shape)}; "
            "the last dimension of x must equal the second of a weight [N,K]"
        )
    check_layer("fully_connected", inputs, attrs)
    return ((*x.shape[:-1], weight.shape[0]),)


def fully_connected_real(
    xp: Any, attrs: Mapping[str, Attr], x: Any, weight: Any, bias: Any = None
) -> tuple[Any, ...]:
    """activation(x weight^T + bias)."""
    y = x @ weight.T
    return (activate(xp, attrs, y if bias is None else y + bias),)


def sums_of_fully_connected(signature: Signature) -> tuple[TensorType, ...] | None:
    """The type of the accumulator as a result: i32, one scale s_x * s_w[n] per entry of the last axis.

    None where there is none: i16 activations, a fused activation.
    """
    x, weight, y = signature.input(0), signature.input(1), signature.outputs[0]
    if x.dtype != "i8" or signature.attrs.get("activation", "none") != "none" or weight.quant is None:
        return None
    scales = tuple(x.scale * scale for scale in weight.quant.scale)
    axis = None if weight.quant.axis is None else y.rank - 1
    return (TensorType("i32", y.shape, Quant(scales, 0, axis)),)


def prepare_fully_connected(
    signature: Signature, constants: tuple[np.ndarray | None, ...], numerics: Numerics
) -> Prepared:
    """Bias, multiplier and shift per output; the bias alone where the result is the accumulator."""
    y, codes = signature.outputs[0], constants[1]
    if y.dtype != "i32" or codes is None:
        return requantized_layer(signature, constants, numerics)
    if sums_of_fully_connected(signature) != (y,):
        raise LoweringError(
            f"fully_connected: an i32 result is the accumulator of i8 activations, without a fused "
            f"activation, at scale s_x * s_w and zero_point 0; found x {signature.input(0)} and result {y}"
        )
    bias = constants[2] if len(constants) > 2 else None
    whole = bias_constant("fully_connected", signature.input(0), signature.input(1), codes, bias, numerics)
    return Prepared((0, 1, whole), {**signature.attrs, **contract(numerics)})


def fully_connected_reference(
    signature: Signature, x: np.ndarray, weight: np.ndarray, bias: np.ndarray, *rescale: np.ndarray
) -> Arrays:
    """One position at a time, in Python integers."""
    zero_x, zero_w = signature.input(0).zero_point, signature.input(1).zero_point
    positions = x.reshape(math.prod(x.shape[:-1]), x.shape[-1])
    columns = [[int(q) - zero_x for q in column] for column in positions]
    if rescale:
        multiplier, shift = rescale
        rows = rows_reference(weight, zero_w, bias, multiplier, shift)
        codes = [outputs_reference(signature, column, rows) for column in columns]
    else:
        narrow = narrow_of(signature.attrs, signature.input(0))
        layers = [(int(b), [int(w) - zero_w for w in row]) for row, b in zip(weight, bias, strict=True)]
        codes = [[sum_reference(narrow, b, row, column) for b, row in layers] for column in columns]
    shape = (*x.shape[:-1], len(weight))
    return (np.array(codes, storage(signature.outputs[0].dtype)).reshape(shape),)


def load_fully_connected(signature: Signature, operands: tuple[Any, ...]) -> Bindable:
    """The same codes from compiled tiles; the weight is put into panels once."""
    kind_x, kind_w = signature.input(0), signature.input(1)
    _, weight, bias, *rescale = operands
    order = order_of(kind_x, kind_w, signature.attrs)
    weights = weights_of(weight, kind_w.zero_point, zero_x=byte_zero(kind_x, order))
    made, outputs = storage(signature.outputs[0].dtype), len(weight)
    if rescale:
        rounding = CODES[str(signature.attrs["rounding"])]
        behind = *scales_of(bias, *rescale), order, rounding, *output_range(signature)
    else:
        wide = bias.astype(np.int64)

    def product(rows: np.ndarray, out: np.ndarray) -> Run:
        if rescale:
            return bind_requantized(rows, weights, behind, out)
        return partial(sum_products, rows, weights, 0, wide, order, out)

    def bind(x: np.ndarray, *_: Any) -> Bound:
        rows, runs = bind_rows(
            x.reshape(math.prod(x.shape[:-1]), x.shape[-1]), kind_x.zero_point, weights[-1]
        )
        y = np.empty((len(rows), outputs), made)
        sums = np.empty(y.shape, np.int64) if not (rescale or order.fits) else y
        runs.append(product(rows, sums))
        if sums is not y:
            runs.append(Copy(y, sums))
        return (y.reshape(*x.shape[:-1], outputs),), together(runs)

    return Bindable(bind)


def fully_connected_work(signature: Signature) -> Work:
    """K products per result, and one requantisation unless the result is the accumulator."""
    y = signature.outputs[0]
    outputs = math.prod(bind(y.shape, {}))
    macs = outputs * int(signature.input(1).shape[1])
    return Work(macs=macs, elementwise=0 if y.dtype == "i32" else outputs)


def infer_matmul(inputs: Types, attrs: Mapping[str, Attr]) -> tuple[Shape, ...]:
    """a[...,M,K], b[...,K,N] -> [...,M,N]; leading dimensions broadcast."""
    a, b = inputs[0], inputs[1]
    assert a is not None and b is not None
    if a.rank < 2 or b.rank < 2 or a.shape[-1] != b.shape[-2]:
        raise GraphError(
            f"matmul: a {show(a.shape)} does not fit b {show(b.shape)}; "
            "the last dimension of a [...,M,K] must equal the last but one of b [...,K,N]"
        )
    gain = gain_of(attrs)
    if not (math.isfinite(gain) and gain > 0):
        raise GraphError(f"matmul: the gain must be a positive number, found {gain}")
    batch = _broadcast(a.shape[:-2], b.shape[:-2])
    return ((*batch, a.shape[-2], b.shape[-1]),)


def gain_of(attrs: Mapping[str, Attr]) -> float:
    """What multiplies the product of matrices, over the reals."""
    return float(attrs.get("gain", 1.0))  # type: ignore[arg-type]


def _broadcast(left: Shape, right: Shape) -> Shape:
    rank = max(len(left), len(right))
    padded = [(1,) * (rank - len(shape)) + tuple(shape) for shape in (left, right)]
    return tuple(_common(one, other) for one, other in zip(*padded, strict=True))


def _common(one: Dim, other: Dim) -> Dim:
    if one == other or other == 1:
        return one
    if one == 1:
        return other
    raise GraphError(
        f"matmul: leading dimensions {one} and {other} do not broadcast; they must be equal or 1"
    )


def matmul_real(xp: Any, attrs: Mapping[str, Attr], a: Any, b: Any) -> tuple[Any, ...]:
    """gain * (a b)."""
    gain = gain_of(attrs)
    return (a @ b if gain == 1 else gain * (a @ b),)


def prepare_matmul(
    signature: Signature, constants: tuple[np.ndarray | None, ...], numerics: Numerics
) -> Prepared:
    """One multiplier for the product and its gain; the accumulator is proved wrap-free from K alone."""
    a, b, y = signature.input(0), signature.input(1), signature.outputs[0]
    dtype, depth = accumulator(a), a.shape[-1]
    accumulator(b)
    depth = depth if isinstance(depth, int) else longest_sum(a, b)
    reach = depth * largest_distance(a) * largest_distance(b)
    bound = proved_reach("matmul", reach, dtype, numerics)
    scale_a = a.scale * gain_of(signature.attrs)
    multiplier, shift = channel_multipliers(scale_a, np.array(b.scale), y.scale, numerics.rounding, bound)
    attrs = {"rounding": numerics.rounding, **contract(numerics)}
    return Prepared((0, 1, *multiplier_constants(multiplier, shift)), attrs)


def longest_sum(a: TensorType, b: TensorType) -> int:
    """The largest K whose sums of products cannot wrap, whatever the codes."""
    limit: int = 2 ** (bits(accumulator(a)) - 1) - 1
    return limit // (largest_distance(a) * largest_distance(b))


def check_sum(signature: Signature, a: np.ndarray) -> None:
    """Raise OpError where an open K is longer in a run than its wide accumulator was proved for."""
    if narrow_of(signature.attrs, signature.input(0)) is not None:
        return
    kind, longest = signature.input(0), longest_sum(signature.input(0), signature.input(1))
    if not isinstance(kind.shape[-1], int) and a.shape[-1] > longest:
        raise OpError(
            f"matmul sums over {kind.shape[-1]!r} = {a.shape[-1]} products, but its accumulator was proved "
            f"for {longest}; feed a shorter stretch"
        )


def _stacked(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray, tuple[int, ...]]:
    """Operands as stacks of matrices [S,M,K] and [S,N,K] (b transposed), and the result's shape."""
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    count, turned = math.prod(batch), np.swapaxes(b, -1, -2)
    left = np.broadcast_to(a, batch + a.shape[-2:]).reshape(count, *a.shape[-2:])
    right = np.broadcast_to(turned, batch + turned.shape[-2:]).reshape(count, *turned.shape[-2:])
    return left, right, (*batch, a.shape[-2], b.shape[-1])


def matmul_reference(
    signature: Signature, a: np.ndarray, b: np.ndarray, multiplier: np.ndarray, shift: np.ndarray
) -> Arrays:
    """One row of a at a time, in Python integers."""
    check_sum(signature, a)
    zero_a, zero_b = signature.input(0).zero_point, signature.input(1).zero_point
    left, right, shape = _stacked(a, b)
    codes = []
    for rows_a, rows_b in zip(left, right, strict=True):
        n = len(rows_b)
        rows = rows_reference(rows_b, zero_b, np.zeros(n, int), np.repeat(multiplier, n), np.repeat(shift, n))
        codes.append([outputs_reference(signature, [int(q) - zero_a for q in row], rows) for row in rows_a])
    return (np.array(codes, storage(signature.outputs[0].dtype)).reshape(shape),)


def load_matmul(signature: Signature, operands: tuple[Any, ...]) -> Bindable:
    """The same codes from compiled loops: the columns of b are put into panels at every run."""
    kind_a, kind_b, made = signature.input(0), signature.input(1), storage(signature.outputs[0].dtype)
    rounding = CODES[str(signature.attrs["rounding"])]
    order = order_of(kind_a, kind_b, signature.attrs)
    behind, zero_x = (order, rounding, *output_range(signature)), byte_zero(kind_a, order)

    def bind(a: np.ndarray, b: np.ndarray, multiplier: np.ndarray, shift: np.ndarray) -> Bound:
        check_sum(signature, a)
        batch, width = np.broadcast_shapes(a.shape[:-2], b.shape[:-2]), b.shape[-1]
        left, runs = bind_stack(a, batch)
        positions = left.reshape(math.prod(left.shape[:-1]), left.shape[-1])
        stack = np.ascontiguousarray(b).reshape(math.prod(b.shape[:-2]), *b.shape[-2:])
        panels, pack = bind_columns(stack, kind_b.zero_point, zero_x)
        rows, fill = bind_rows(positions, kind_a.zero_point, panels[-1])
        parts = np.arange(len(stack)).reshape(b.shape[:-2])
        y = np.empty((*batch, a.shape[-2], width), made)
        given = np.zeros(width, np.int64), np.repeat(multiplier, width), np.repeat(shift, width), *behind
        which, out = np.broadcast_to(parts, batch).flatten(), y.reshape(len(rows), width)
        product = bind_stack_of_products(rows, panels, which, given, out)
        return (y,), together([*runs, *fill, pack, product])

    return Bindable(bind)


def matmul_work(signature: Signature) -> Work:
    """K products per result, and one requantisation."""
    outputs = math.prod(bind(signature.outputs[0].shape, {}))
    return Work(macs=outputs * int(signature.input(0).shape[-1]), elementwise=outputs)


register(
    Op(
        "fully_connected",
        ("x", "weight", "bias?"),
        (*layer_forms(), *(f"i8 {weight} i32 -> i32" for weight in ("i8", "i4"))),
        infer_fully_connected,
        fully_connected_real,
        prepare_fully_connected,
        fully_connected_reference,
        at_once(load_fully_connected),
        fully_connected_work,
        "y[n] = saturate(requantize(bias[n] + Σ_k weight[n,k]*(x[k] - z_x), multiplier[n], shift[n]) + z_y)",
        weights={1: 0},
        reals=(2,),
        accumulator=sums_of_fully_connected,
        packed=(1,),
        load=load_fully_connected,
    )
)
register(
    Op(
        "matmul",
        ("a", "b"),
        tuple(f"{dtype} {dtype} i32 i8 -> {y}" for dtype in ("i8", "i16") for y in ("i8", "i16")),
        infer_matmul,
        matmul_real,
        prepare_matmul,
        matmul_reference,
        at_once(load_matmul),
        matmul_work,
        "y = saturate(requantize(Σ_k (a - z_a)*(b - z_b), multiplier, shift) + z_y)",
        load=when_constant(2, load_matmul),
    )
)
