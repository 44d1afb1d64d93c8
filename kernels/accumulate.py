"""Sums of products: what every operator with weights prepares before it runs.

    acc[o] = bias[o] + Σ_k (w[o,k] - z_w) * (x[k] - z_x)
    y[o]   = saturate(requantize(acc[o], multiplier[o], shift[o]) + z_y)

acc is i32 for i8 activations and i48 (held in int64) for i16 activations. It is proved wrap-free
when the operator is prepared, from the constants themselves:

    max_o (Σ_k |w[o,k] - z_w| * max|q - z_x| + |bias[o]|)  <  2^31  (i8)  or  2^47  (i16)

Under a narrow contract it may overflow instead, by the rules of kernels/narrow.py.

bias[o] = round_half_even(bias_real[o] / (s_x * s_w[o])) and the multipliers stand for
s_x * s_w[o] / s_y, both in float64; under half_even for f32(f32(s_x * s_w[o]) / s_y), which is
what ONNX Runtime computes.

The compiled form is kernels/multiply.py.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from nnaq.errors import GraphError, LoweringError
from nnaq.ir.dims import show
from nnaq.ir.numerics import Numerics
from nnaq.ir.op import Attr, Constant, Prepared, Signature
from nnaq.ir.types import TensorType, bits, bounds
from nnaq.jit import jit
from nnaq.kernels.boundary import largest_distance, multiplier_constants
from nnaq.kernels.fixedpoint import quantize_multipliers, requantize_reference, saturate_reference
from nnaq.kernels.narrow import Order, contract, narrow_of, sum_reference

Prepare = Callable[[Signature, tuple[np.ndarray | None, ...], Numerics], Prepared]
Row = tuple[Sequence[int], int, int, int]

ACCUMULATORS = {"i8": "i32", "i16": "i48"}
WIDE = Numerics()


def accumulator(x: TensorType) -> str:
    """The dtype that sums products of activations of type `x`; i16 activations are symmetric."""
    if x.dtype not in ACCUMULATORS:
        raise LoweringError(f"activations must be i8 or i16, found {x.dtype}")
    if x.dtype == "i16" and x.zero_point != 0:
        raise LoweringError(f"i16 activations are symmetric, found zero_point {x.zero_point}; set it to 0")
    return ACCUMULATORS[x.dtype]


def accumulator_bound(
    weight_codes: np.ndarray, input_type: TensorType, bias: np.ndarray, weight_zero_point: int = 0
) -> int:
    """The largest |acc| that any input can cause: weights [O, ...] and bias [O] as integers."""
    rows = np.ascontiguousarray(weight_codes).reshape(len(weight_codes), math.prod(weight_codes.shape[1:]))
    sums = np.empty(len(rows), np.int64)
    _row_sizes(rows, weight_zero_point, sums)
    reaches = sums * largest_distance(input_type) + np.abs(bias.astype(np.int64))
    return int(reaches.max(initial=0))


@jit
def _row_sizes(rows, zero_point, sums):  # type: ignore[no-untyped-def]
    """Σ_k |w[o,k] - zero_point| per row."""
    for o in range(len(rows)):
        total = np.int64(0)
        for code in rows[o]:
            total += np.int64(abs(np.int32(code) - np.int32(zero_point)))
        sums[o] = total


def prove_wrap_free(who: str, bound: int, dtype: str) -> None:
    """Raise LoweringError if an accumulator of `dtype` could wrap at |acc| = `bound`."""
    if bound >= 2 ** (bits(dtype) - 1):
        raise LoweringError(
            f"{who}: the accumulator can reach {bound}, {dtype} holds less than 2^{bits(dtype) - 1}; "
            "use smaller weights, fewer inputs per output or i16 activations"
        )


def proved_reach(who: str, bound: int, dtype: str, numerics: Numerics) -> int:
    """The largest |acc| to expect: `bound`, proved to fit; a narrow accumulator needs no proof."""
    if numerics.is_narrow:
        return min(bound, 1 << (bits(dtype) - 1))
    prove_wrap_free(who, bound, dtype)
    return bound


def channel_scales(weight: TensorType, channels: int) -> np.ndarray:
    """Weight scales (float64) [channels], for per-tensor and per-channel (axis 0) codes alike."""
    assert weight.quant is not None
    if weight.quant.axis not in (None, 0):
        raise LoweringError(f"weights are quantised per_channel along axis 0, found axis {weight.quant.axis}")
    return np.broadcast_to(np.array(weight.quant.scale, np.float64), (channels,))


def prepare_bias(who: str, bias: np.ndarray | None, scales: np.ndarray, dtype: str) -> np.ndarray:
    """round_half_even(bias / scales) as int64 [O]; zeros for no bias.

    scales: s_x * s_w per channel. Raises LoweringError where a bias is no number or leaves `dtype`.
    """
    if bias is None:
        return np.zeros(scales.shape, np.int64)
    codes = np.rint(bias.astype(np.float64) / scales)
    low, high = bounds(dtype)
    wrong = np.flatnonzero(~((codes >= low) & (codes <= high)))
    if wrong.size:
        o = int(wrong[0])
        raise LoweringError(
            f"{who}: the bias {bias[o]} of channel {o} is {codes[o]:.0f} steps of {scales[o]}, which "
            f"does not fit {dtype}; use a larger weight scale for this channel"
        )
    whole: np.ndarray = codes.astype(np.int64)
    return whole


def shift_bound(dtype: str, bound: int) -> int:
    """The bound that limits left shifts of an accumulator: its own for i32; an i48 has bits to spare."""
    return bound if dtype == "i32" else 2**47


def channel_multipliers(
    scale_x: float, weight_scales: np.ndarray, scale_y: float, rounding: str, bound: int = 2**31
) -> tuple[np.ndarray, np.ndarray]:
    """Multipliers (int32) and shifts (int8) of s_x * s_w[o] / s_y for accumulators up to `bound`."""
    if rounding == "half_even":
        scales = np.float32(scale_x) * weight_scales.astype(np.float32) / np.float32(scale_y)
        return quantize_multipliers(scales, rounding)
    return quantize_multipliers(scale_x * weight_scales / scale_y, rounding, bound)


def bias_constant(
    who: str,
    x: TensorType,
    weight: TensorType,
    codes: np.ndarray,
    bias: np.ndarray | None,
    numerics: Numerics = WIDE,
) -> Constant:
    """The integer bias [O] of an operator with weight `codes` [O, ...], its accumulator proved wrap-free.

    A narrow contract needs no proof: the accumulator may overflow.
    """
    dtype = accumulator(x)
    scales = x.scale * channel_scales(weight, len(codes))
    whole = prepare_bias(who, bias, scales, dtype)
    proved_reach(who, accumulator_bound(codes, x, whole, weight.zero_point), dtype, numerics)
    return Constant(
        "bias", TensorType(dtype, whole.shape), whole.astype("int32" if dtype == "i32" else "int64")
    )


def check_layer(who: str, inputs: Sequence[TensorType | None], attrs: Mapping[str, Attr]) -> None:
    """Raise GraphError for a bias that is not [O] or an activation nobody knows."""
    weight, bias = inputs[1], inputs[2] if len(inputs) > 2 else None
    assert weight is not None
    if bias is not None and bias.shape != weight.shape[:1]:
        raise GraphError(
            f"{who}: bias {show(bias.shape)} does not fit weight {show(weight.shape)}; one per output"
        )
    activation = attrs.get("activation", "none")
    if activation not in ("none", "relu"):
        raise GraphError(f"{who}: no activation {activation!r}; there are none, relu")


def prepare_layer(who: str) -> Prepare:
    """The crossing of a layer with constant weights: bias, multiplier and shift per output."""

    def prepare(
        signature: Signature, constants: tuple[np.ndarray | None, ...], numerics: Numerics
    ) -> Prepared:
        x, weight, y = signature.input(0), signature.input(1), signature.outputs[0]
        codes, bias = constants[1], constants[2] if len(constants) > 2 else None
        if codes is None:
            raise LoweringError(
                f"{who}: the weight is computed; a layer needs a constant weight, else use matmul"
            )
        scales = channel_scales(weight, len(codes))
        whole = bias_constant(who, x, weight, codes, bias, numerics)
        bound = accumulator_bound(codes, x, whole.value, weight.zero_point)
        dtype = whole.type.dtype
        bound = shift_bound(dtype, proved_reach(who, bound, dtype, numerics))
        multiplier, shift = channel_multipliers(x.scale, scales, y.scale, numerics.rounding, bound)
        attrs = {**signature.attrs, "rounding": numerics.rounding, **contract(numerics)}
        return Prepared((0, 1, whole, *multiplier_constants(multiplier, shift)), attrs)

    return prepare


def layer_forms() -> tuple[str, ...]:
    """Integer forms of a layer: activations, weight, bias, multiplier and shift to the result."""
    return tuple(
        f"{x} {weight} {bias} i32 i8 -> {y}"
        for x, bias in ACCUMULATORS.items()
        for weight in ("i8", "i4")
        for y in ("i8", "i16")
    )


def activate(xp: Any, attrs: Mapping[str, Attr], y: Any) -> Any:
    """The fused activation over the reals."""
    return xp.clip(y, 0, None) if attrs.get("activation", "none") == "relu" else y


def output_range(signature: Signature) -> tuple[int, int, int]:
    """zero_point, lowest and highest code of the result; a fused relu lifts the lowest to zero_point."""
    y = signature.outputs[0]
    low, high = bounds(y.dtype)
    relu = signature.attrs.get("activation", "none") == "relu"
    return y.zero_point, max(low, y.zero_point) if relu else low, high


def order_of(x: TensorType, weight: TensorType, attrs: Mapping[str, Attr]) -> Order:
    """How a node sums products of two types; a stretch that fits 32 bits has 1 product for i16 by i16."""
    span = (2**31 - 1) // (largest_distance(x) * largest_distance(weight))
    narrow = narrow_of(attrs, x)
    return Order(span, fits=accumulator(x) == "i32") if narrow is None else narrow.order(span)


def outputs_reference(
    signature: Signature,
    column: Sequence[int],
    rows: Iterable[Row],
) -> list[int]:
    """The codes of one position in Python integers.

    column: x - z_x; rows: per output its weights - z_w, bias, multiplier and shift.
    """
    zero_point, low, high = output_range(signature)
    rounding = str(signature.attrs["rounding"])
    codes, narrow = [], narrow_of(signature.attrs, signature.input(0))
    for weights, bias, multiplier, shift in rows:
        total = sum_reference(narrow, bias, weights, column)
        codes.append(
            saturate_reference(
                requantize_reference(total, multiplier, shift, rounding), zero_point, low, high
            )
        )
    return codes


def rows_reference(
    weight: np.ndarray, zero_point: int, bias: np.ndarray, multiplier: np.ndarray, shift: np.ndarray
) -> list[Row]:
    """Per output, in Python integers: weights - zero_point, bias, multiplier and shift."""
    centred = [[int(w) - zero_point for w in row.ravel()] for row in weight]
    return list(zip(centred, *(list(map(int, part)) for part in (bias, multiplier, shift)), strict=True))
