"""Activations made of straight pieces: exact where they bend, which interpolation would not be.

i8 operand: 256 entries, as in `nnaq.kernels.lut`. i16 operand (zero_point 0), with d = q, R the
requantisation of `fixedpoint` and sat its saturation, products of at most 32 bits:

    leaky_relu        y = sat(R(d, s_x / s_y) + z_y) where d > t, else
    thresholded_relu      sat(R(sign d, |alpha| s_x / s_y) + z_y)
    hard_sigmoid      y = sat(min(max(R(sign d, |alpha| s_x / s_y) + offset, 0), one) + z_y)
    hard_swish        g = min(max(R(d, 2^15 s_x / 6) + 2^14, 0), 2^15)          the gate, in Q0.15
                      y = sat(R(d g, s_x / (2^15 s_y)) + z_y)

leaky_relu has t = 0 and sign = sign(alpha); thresholded_relu t = floor(alpha / s_x) and sign = 0.
offset = round_half_away(beta / s_y), one = round_half_away(1 / s_y). Operands of any width:

    prelu             y = sat(R(a - z_a, s_a / s_y) + z_y) where a > z_a, else
                          sat(R((a - z_a)(b - z_b), s_a s_b / s_y) + z_y)       b the slope

Errors against the reals, in units of the result with rounding `single`: leaky_relu, prelu and
thresholded_relu 0.5 + 2^-10; hard_sigmoid 1.5 + 2^-10 (1/2 each for line, offset and one);
hard_swish 0.5 + |x| / (2^16 s_y) + 2^-10.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from nnaq.ir.numerics import Numerics
from nnaq.ir.op import Arrays, Attr, Constant, Op, Prepared, Signature, Work, register
from nnaq.ir.types import bounds, storage
from nnaq.jit import jit
from nnaq.kernels import lut
from nnaq.kernels.boundary import elementwise_work, largest_distance, round_real, same_shape
from nnaq.kernels.elementwise import infer_binary, rescale_constants
from nnaq.kernels.fixedpoint import (
    CODES,
    requantize,
    requantize_reference,
    saturate,
    saturate_reference,
)

SLOPES, LINE, GATE = range(3)
WIDEST = 2**15  # of an i16 code
NO_SLOPE = 2.0**-31  # stands where a slope is 0; its operand is multiplied by the sign 0
Pieces = tuple[list[Constant], dict[str, Attr]]

# --- over the reals


def leaky_relu_function(xp: Any, x: Any, alpha: float = 0.01) -> Any:
    return xp.where(x > 0, x, alpha * x)


def thresholded_relu_function(xp: Any, x: Any, alpha: float = 1.0) -> Any:
    return xp.where(x > alpha, x, xp.zeros_like(x))


def hard_sigmoid_function(xp: Any, x: Any, alpha: float = 0.2, beta: float = 0.5) -> Any:
    return xp.clip(alpha * x + beta, 0.0, 1.0)


def hard_swish_function(xp: Any, x: Any) -> Any:
    return x * xp.clip(x / 6.0 + 0.5, 0.0, 1.0)


# --- the crossing of i16 operands


def _number(signature: Signature, name: str, default: float) -> float:
    return float(signature.attrs.get(name, default))  # type: ignore[arg-type]


def _scaled(signature: Signature, rounding: str, slope: float, prefix: str = "") -> tuple[Constant, ...]:
    """multiplier and shift of |slope| s_x / s_y."""
    ratio = abs(slope) * signature.input(0).scale / signature.outputs[0].scale
    return rescale_constants(ratio or NO_SLOPE, WIDEST, rounding, prefix)


def _sign(value: float) -> int:
    return (value > 0) - (value < 0)


def leaky_pieces(signature: Signature, rounding: str) -> Pieces:
    alpha = _number(signature, "alpha", 0.01)
    constants = [*_scaled(signature, rounding, 1.0), *_scaled(signature, rounding, alpha, "below_")]
    return constants, {"threshold": 0, "sign": _sign(alpha)}


def thresholded_pieces(signature: Signature, rounding: str) -> Pieces:
    codes = _number(signature, "alpha", 1.0) / signature.input(0).scale
    constants = [*_scaled(signature, rounding, 1.0), *_scaled(signature, rounding, 0.0, "below_")]
    return constants, {"threshold": math.floor(min(max(codes, -WIDEST - 1), WIDEST)), "sign": 0}


def hard_sigmoid_pieces(signature: Signature, rounding: str) -> Pieces:
    alpha, beta = _number(signature, "alpha", 0.2), _number(signature, "beta", 0.5)
    scale = signature.outputs[0].scale
    offset, one = (int(round_real(np, np.float64(v / scale), "half_away")) for v in (beta, 1.0))
    attrs: dict[str, Attr] = {"sign": _sign(alpha), "offset": offset, "one": one}
    return [*_scaled(signature, rounding, alpha)], attrs


def hard_swish_pieces(signature: Signature, rounding: str) -> Pieces:
    scale = signature.input(0).scale
    gate = rescale_constants(2.0**15 * scale / 6.0, WIDEST, rounding, "gate_")
    return [
        *gate,
        *rescale_constants(scale / (2.0**15 * signature.outputs[0].scale), 2**30, rounding),
    ], {}


def prepare_pieces(
    function: lut.Function, pieces: Callable[[Signature, str], Pieces]
) -> Callable[..., Prepared]:
    """The crossing: a table for i8 operands, multipliers and whole numbers for i16."""
    table = lut.prepare_table(function)

    def prepare(
        signature: Signature, constants: tuple[np.ndarray | None, ...], numerics: Numerics
    ) -> Prepared:
        if signature.input(0).dtype == "i8":
            return table(signature, constants, numerics)
        made, attrs = pieces(signature, numerics.rounding)
        return Prepared((0, *made), {**attrs, "rounding": numerics.rounding})

    return prepare


# --- the kernels


def whole_attrs(signature: Signature, shape: int) -> tuple[int, int, int]:
    """The whole numbers of a shape, in a fixed order: threshold or offset, one, sign."""
    attrs = signature.attrs
    if shape == SLOPES:
        return int(attrs["threshold"]), 0, int(attrs["sign"])  # type: ignore[arg-type]
    if shape == LINE:
        return int(attrs["offset"]), int(attrs["one"]), int(attrs["sign"])  # type: ignore[arg-type]
    return 0, 0, 0


def pieces_reference(shape: int) -> Callable[..., Arrays]:
    """The reference of one shape."""

    def reference(signature: Signature, x: np.ndarray, *constants: np.ndarray) -> Arrays:
        if len(constants) == 1:
            return lut.reference(signature, x, *constants)
        rounding, c = str(signature.attrs["rounding"]), [int(v) for v in constants]
        first, one, sign = whole_attrs(signature, shape)

        def code(d: int) -> int:
            if shape == SLOPES and d <= first:
                return requantize_reference(sign * d, c[2], c[3], rounding)
            if shape == LINE:
                return min(max(requantize_reference(sign * d, c[0], c[1], rounding) + first, 0), one)
            y = requantize_reference(d, c[0], c[1], rounding)
            if shape == SLOPES:
                return y
            return requantize_reference(d * min(max(y + 2**14, 0), 2**15), c[2], c[3], rounding)

        return (_saturated(signature, (code(int(q)) for q in x.ravel()), x.shape),)

    return reference


def _saturated(signature: Signature, values: Iterable[int], shape: tuple[int, ...]) -> np.ndarray:
    y = signature.outputs[0]
    codes = [saturate_reference(v, y.zero_point, *bounds(y.dtype)) for v in values]
    return np.array(codes, storage(y.dtype)).reshape(shape)


def pieces_fast(shape: int) -> Callable[..., Arrays]:
    """The fast kernel of one shape."""

    def fast(signature: Signature, x: np.ndarray, *constants: np.ndarray) -> Arrays:
        if len(constants) == 1:
            return lut.fast(signature, x, *constants)
        y = signature.outputs[0]
        out = np.empty(x.shape, storage(y.dtype))
        scalings = [int(c) for c in constants] + [0] * (4 - len(constants))
        limits = (CODES[str(signature.attrs["rounding"])], y.zero_point, *bounds(y.dtype))
        numbers = [shape, *scalings, *whole_attrs(signature, shape), *limits]
        _pieces_loop(np.ascontiguousarray(x).reshape(-1), out.reshape(-1), *numbers)
        return (out,)

    return fast


@jit
def _pieces_loop(  # type: ignore[no-untyped-def]
    x, out, shape, q_0, s_0, q_1, s_1, first, one, sign, rounding, zero_y, low, high
):
    for i in range(x.size):
        d = np.int64(x[i])
        if shape == SLOPES:
            y = requantize(d, q_0, s_0, rounding) if d > first else requantize(sign * d, q_1, s_1, rounding)
        elif shape == LINE:
            y = min(max(requantize(sign * d, q_0, s_0, rounding) + first, 0), one)
        else:
            gate = min(max(requantize(d, q_0, s_0, rounding) + 2**14, 0), 2**15)
            y = requantize(d * gate, q_1, s_1, rounding)
        out[i] = saturate(y, zero_y, low, high)


def prepare_prelu(
    signature: Signature, constants: tuple[np.ndarray | None, ...], numerics: Numerics
) -> Prepared:
    """Two rescales: of x alone, and of its product with the slope."""
    x, slope = signature.input(0), signature.input(1)
    ratio, bound = x.scale / signature.outputs[0].scale, largest_distance(x)
    product = bound * largest_distance(slope)
    above = rescale_constants(ratio, bound, numerics.rounding)
    below = rescale_constants(ratio * slope.scale, product, numerics.rounding, "below_")
    return Prepared((0, 1, *above, *below), {"rounding": numerics.rounding})


def prelu_reference(signature: Signature, x: np.ndarray, slope: np.ndarray, *scaling: np.ndarray) -> Arrays:
    rounding, c = str(signature.attrs["rounding"]), [int(v) for v in scaling]
    zero_x, zero_slope = signature.input(0).zero_point, signature.input(1).zero_point

    def code(d: int, m: int) -> int:
        if d > 0:
            return requantize_reference(d, c[0], c[1], rounding)
        return requantize_reference(d * m, c[2], c[3], rounding)

    pairs = np.broadcast(x, slope)
    values = [code(int(p) - zero_x, int(q) - zero_slope) for p, q in pairs]
    return (_saturated(signature, values, pairs.shape),)


def prelu_fast(signature: Signature, x: np.ndarray, slope: np.ndarray, *scaling: np.ndarray) -> Arrays:
    y = signature.outputs[0]
    out = np.empty(np.broadcast_shapes(x.shape, slope.shape), storage(y.dtype))
    flat = [np.ascontiguousarray(np.broadcast_to(v, out.shape)).reshape(-1) for v in (x, slope)]
    zeros = (signature.input(0).zero_point, signature.input(1).zero_point, y.zero_point)
    rounding = CODES[str(signature.attrs["rounding"])]
    numbers = [*(int(c) for c in scaling), rounding, *zeros, *bounds(y.dtype)]
    _prelu_loop(flat[0], flat[1], out.reshape(-1), *numbers)
    return (out,)


@jit
def _prelu_loop(  # type: ignore[no-untyped-def]
    x, slope, out, q_0, s_0, q_1, s_1, rounding, zero_x, zero_slope, zero_y, low, high
):
    for i in range(out.size):
        d = np.int64(x[i]) - zero_x
        if d > 0:
            y = requantize(d, q_0, s_0, rounding)
        else:
            y = requantize(d * (np.int64(slope[i]) - zero_slope), q_1, s_1, rounding)
        out[i] = saturate(y, zero_y, low, high)


# --- registration


def work(signature: Signature) -> Work:
    """A look-up for i8 codes, a vector operation or two for wider ones."""
    if signature.input(0).dtype == "i8":
        return lut.work(signature)
    return Work(elementwise=2 * elementwise_work(signature).elementwise)


def piecewise_op(
    name: str, function: lut.Function, pieces: Callable[[Signature, str], Pieces], shape: int, doc: str
) -> Op:
    """Register an activation of straight pieces; hard_sigmoid alone has one rescale."""
    rescales = "i32 i8" if shape == LINE else "i32 i8 i32 i8"
    return register(
        Op(
            name,
            ("x",),
            (*lut.FORMS_8, f"i16 {rescales} -> i8", f"i16 {rescales} -> i16"),
            same_shape,
            lut.real_function(function),
            prepare_pieces(function, pieces),
            pieces_reference(shape),
            pieces_fast(shape),
            work,
            f"i8: 256-entry table; i16: y = saturate({doc})",
        )
    )


leaky_relu = piecewise_op(
    "leaky_relu", leaky_relu_function, leaky_pieces, SLOPES, "x > 0: R(x), else R(alpha x)"
)
thresholded_relu = piecewise_op(
    "thresholded_relu", thresholded_relu_function, thresholded_pieces, SLOPES, "x > alpha: R(x), else 0"
)
hard_sigmoid = piecewise_op(
    "hard_sigmoid", hard_sigmoid_function, hard_sigmoid_pieces, LINE, "clip(R(alpha x) + beta, 0, 1)"
)
hard_swish = piecewise_op(
    "hard_swish", hard_swish_function, hard_swish_pieces, GATE, "R(x clip(R(x / 6) + 1/2, 0, 1))"
)
prelu = register(
    Op(
        "prelu",
        ("x", "slope"),
        tuple(
            f"{x} {m} i32 i8 i32 i8 -> {y}"
            for x in ("i8", "i16")
            for m in ("i8", "i16")
            for y in ("i8", "i16")
        ),
        infer_binary("prelu"),
        lambda xp, attrs, x, slope: (xp.where(x > 0, x, slope * x),),
        prepare_prelu,
        prelu_reference,
        prelu_fast,
        elementwise_work,
        "y = saturate(x > 0: R(x - z_x), else R((x - z_x)(slope - z_slope)) + z_y)",
    )
)
