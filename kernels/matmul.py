"""Products of matrices: a layer with constant weights, and a product of two activations.

    fully_connected  acc[n] = bias[n] + Σ_k (weight[n,k] - z_w) * (x[...,k] - z_x)
                     y[...,n] = saturate(requantize(acc[n], multiplier[n], shift[n]) + z_y)
    matmul           acc = Σ_k (a[...,m,k] - z_a) * (b[...,k,n] - z_b)
                     y[...,m,n] = saturate(requantize(acc, multiplier, shift) + z_y)

acc is i32 for i8 activations and i48 (in int64) for i16, proved wrap-free when prepared: from the
weights and biases of a layer (kernels/accumulate.py), and for a product of two activations from

    K * max|a - z_a| * max|b - z_b|  <  2^31  or  2^47

multiplier and shift stand for s_x * s_w[n] / s_y and s_a * s_b / s_y. A fused relu clamps low at
z_y. Under `single`, |y - z_y - M * acc| <= 1/2 + 2^-31 * M * |acc| with M that real quotient,
wherever y does not saturate; acc itself is exact but for the bias, rounded by half a step of
s_x * s_w[n].
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from nnaq.errors import GraphError, LoweringError
from nnaq.ir.dims import Dim, Shape, bind, show
from nnaq.ir.numerics import Numerics
from nnaq.ir.op import Arrays, Attr, Op, Prepared, Signature, Work, register
from nnaq.ir.types import TensorType, storage
from nnaq.kernels.accumulate import (
    accumulator,
    activate,
    centred_rows,
    channel_multipliers,
    check_layer,
    layer_forms,
    output_range,
    outputs_reference,
    prepare_layer,
    prove_wrap_free,
    requantize_rows,
    rows_reference,
    span_of,
)
from nnaq.kernels.boundary import largest_distance, multiplier_constants
from nnaq.kernels.fixedpoint import CODES

Types = tuple[TensorType | None, ...]


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


def fully_connected_reference(
    signature: Signature,
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray,
    multiplier: np.ndarray,
    shift: np.ndarray,
) -> Arrays:
    """One position at a time, in Python integers."""
    rows = rows_reference(weight, signature.input(1).zero_point, bias, multiplier, shift)
    zero_x = signature.input(0).zero_point
    positions = x.reshape(math.prod(x.shape[:-1]), x.shape[-1])
    codes = [outputs_reference(signature, [int(q) - zero_x for q in column], rows) for column in positions]
    shape = (*x.shape[:-1], len(weight))
    return (np.array(codes, storage(signature.outputs[0].dtype)).reshape(shape),)


def fully_connected(
    signature: Signature,
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray,
    multiplier: np.ndarray,
    shift: np.ndarray,
) -> Arrays:
    """The same codes from compiled loops."""
    kind_x, kind_w = signature.input(0), signature.input(1)
    rows = centred_rows(x.reshape(math.prod(x.shape[:-1]), x.shape[-1]), kind_x.zero_point)
    out = np.empty((len(rows), len(weight)), storage(signature.outputs[0].dtype))
    requantize_rows(
        rows,
        centred_rows(weight, kind_w.zero_point),
        bias,
        multiplier,
        shift,
        span_of(kind_x, kind_w),
        CODES[str(signature.attrs["rounding"])],
        *output_range(signature),
        out,
    )
    return (out.reshape(*x.shape[:-1], len(weight)),)


def fully_connected_work(signature: Signature) -> Work:
    """K products per result, and one requantisation."""
    outputs = math.prod(bind(signature.outputs[0].shape, {}))
    return Work(macs=outputs * int(signature.input(1).shape[1]), elementwise=outputs)


def infer_matmul(inputs: Types, attrs: Mapping[str, Attr]) -> tuple[Shape, ...]:
    """a[...,M,K], b[...,K,N] -> [...,M,N]; leading dimensions broadcast."""
    a, b = inputs[0], inputs[1]
    assert a is not None and b is not None
    if a.rank < 2 or b.rank < 2 or a.shape[-1] != b.shape[-2]:
        raise GraphError(
            f"matmul: a {show(a.shape)} does not fit b {show(b.shape)}; "
            "the last dimension of a [...,M,K] must equal the last but one of b [...,K,N]"
        )
    batch = _broadcast(a.shape[:-2], b.shape[:-2])
    return ((*batch, a.shape[-2], b.shape[-1]),)


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
    """a b."""
    return (a @ b,)


def prepare_matmul(
    signature: Signature, constants: tuple[np.ndarray | None, ...], numerics: Numerics
) -> Prepared:
    """One multiplier for the product; the accumulator is proved wrap-free from K alone."""
    a, b, y = signature.input(0), signature.input(1), signature.outputs[0]
    dtype, depth = accumulator(a), a.shape[-1]
    accumulator(b)
    if not isinstance(depth, int):
        raise LoweringError(
            f"matmul: sums over {depth} products, but a bound on the sum needs a whole number"
        )
    bound = depth * largest_distance(a) * largest_distance(b)
    prove_wrap_free("matmul", bound, dtype)
    multiplier, shift = channel_multipliers(a.scale, np.array(b.scale), y.scale, numerics.rounding, bound)
    return Prepared(
        (0, 1, *multiplier_constants(multiplier, shift)), {**signature.attrs, "rounding": numerics.rounding}
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
    zero_a, zero_b = signature.input(0).zero_point, signature.input(1).zero_point
    left, right, shape = _stacked(a, b)
    codes = []
    for rows_a, rows_b in zip(left, right, strict=True):
        n = len(rows_b)
        rows = rows_reference(rows_b, zero_b, np.zeros(n, int), np.repeat(multiplier, n), np.repeat(shift, n))
        codes.append([outputs_reference(signature, [int(q) - zero_a for q in row], rows) for row in rows_a])
    return (np.array(codes, storage(signature.outputs[0].dtype)).reshape(shape),)


def matmul(
    signature: Signature, a: np.ndarray, b: np.ndarray, multiplier: np.ndarray, shift: np.ndarray
) -> Arrays:
    """The same codes from compiled loops, one matrix of the stack after the other."""
    kind_a, kind_b = signature.input(0), signature.input(1)
    left, right, shape = _stacked(a, b)
    out = np.empty((len(left), *shape[-2:]), storage(signature.outputs[0].dtype))
    count = out.shape[-1]
    constants = np.zeros(count, np.int64), np.repeat(multiplier, count), np.repeat(shift, count)
    for rows, columns, result in zip(left, right, out, strict=True):
        requantize_rows(
            centred_rows(rows, kind_a.zero_point),
            centred_rows(columns, kind_b.zero_point),
            *constants,
            span_of(kind_a, kind_b),
            CODES[str(signature.attrs["rounding"])],
            *output_range(signature),
            result,
        )
    return (out.reshape(shape),)


def matmul_work(signature: Signature) -> Work:
    """K products per result, and one requantisation."""
    outputs = math.prod(bind(signature.outputs[0].shape, {}))
    return Work(macs=outputs * int(signature.input(0).shape[-1]), elementwise=outputs)


register(
    Op(
        "fully_connected",
        ("x", "weight", "bias?"),
        layer_forms(),
        infer_fully_connected,
        fully_connected_real,
        prepare_layer("fully_connected"),
        fully_connected_reference,
        fully_connected,
        fully_connected_work,
        "y[n] = saturate(requantize(bias[n] + Σ_k weight[n,k]*(x[k] - z_x), multiplier[n], shift[n]) + z_y)",
        weights={1: 0},
        reals=(2,),
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
        matmul,
        matmul_work,
        "y = saturate(requantize(Σ_k (a - z_a)*(b - z_b), multiplier, shift) + z_y)",
    )
)
