"""Sign and whole part of codes.

With d = q - z_x, R the requantisation of `fixedpoint` and sat its saturation,

    abs, neg    y = sat(R(|d|, s_x / s_y) + z_y),  sat(R(-d, s_x / s_y) + z_y)
                i32 -> i32 of one scale: y = sat(|d|), sat(-d), exact in 64 bits
    sign        y = -1, 0, 1                                        whole numbers: i32, scale 1
    floor       y = sat32(F(d) >> 1)         F(d) = floor(2 s_x d) = (d multiplier) >> (31 - shift)
    ceil        y = sat32(-(F(-d) >> 1))
    round       h = (F(d) + 1) >> 1;  y = sat32(h - 1) where F(d) = -F(-d), F(d) and h are odd, else sat32(h)

multiplier and shift of F stand for 2 s_x. A scale with a mantissa of at most 31 bits, so every
float32, has its exact multiplier, and then floor, ceil and round (half to even) are those of the
reals the codes stand for: no error. F is what `floor` is among the roundings, whatever the node's
contract rounds otherwise; F(d) has at most 48 bits. abs and neg are within 0.5 + 2^-10 of the
reals, in units of the result, with rounding `single`.

Gradients of the real forms are those of the array namespace: none through sign and whole parts.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from nnaq.errors import LoweringError
from nnaq.ir.numerics import Numerics
from nnaq.ir.op import Arrays, Op, Prepared, Signature, as_is, register
from nnaq.ir.types import Quant, TensorType, bounds, storage
from nnaq.jit import jit
from nnaq.kernels.boundary import elementwise_work, largest_distance, same_shape
from nnaq.kernels.elementwise import rescale_constants
from nnaq.kernels.fixedpoint import (
    CODES,
    FLOOR,
    requantize,
    requantize_reference,
    saturate,
    saturate_reference,
)

WIDTHS = ("i8", "i16", "i32")
WIDEST = 2**32  # of F's operand: its 48-bit result leaves room for every left shift
ABS, NEG = range(2)
FLOOR_PART, CEIL_PART, ROUND_PART = range(3)


# --- abs and neg


def prepare_signed(
    signature: Signature, constants: tuple[np.ndarray | None, ...], numerics: Numerics
) -> Prepared:
    """multiplier and shift of s_x / s_y; none between i32 codes of one scale."""
    x, y = signature.input(0), signature.outputs[0]
    if x.dtype == y.dtype == "i32" and x.scale == y.scale:
        return Prepared((0,), {})
    rescale = rescale_constants(x.scale / y.scale, largest_distance(x), numerics.rounding)
    return Prepared((0, *rescale), {"rounding": numerics.rounding})


def follow_signed(signature: Signature) -> tuple[TensorType, ...] | None:
    """i32 codes keep their scale: nothing is rounded."""
    x = signature.input(0)
    if x.dtype != "i32":
        return None
    return (TensorType("i32", signature.outputs[0].shape, Quant((x.scale,))),)


def signed_reference(change: Callable[[int], int]) -> Callable[..., Arrays]:
    """The reference of abs or neg."""

    def reference(signature: Signature, x: np.ndarray, *rescale: np.ndarray) -> Arrays:
        y, zero_x = signature.outputs[0], signature.input(0).zero_point
        values = [change(int(q) - zero_x) for q in x.ravel()]
        if rescale:
            q, s, rounding = int(rescale[0]), int(rescale[1]), str(signature.attrs["rounding"])
            values = [requantize_reference(v, q, s, rounding) for v in values]
        codes = [saturate_reference(v, y.zero_point, *bounds(y.dtype)) for v in values]
        return (np.array(codes, storage(y.dtype)).reshape(x.shape),)

    return reference


def signed_fast(change: int) -> Callable[..., Arrays]:
    """The fast kernel of abs or neg."""

    def fast(signature: Signature, x: np.ndarray, *rescale: np.ndarray) -> Arrays:
        y, zero_x = signature.outputs[0], signature.input(0).zero_point
        low, high = bounds(y.dtype)
        if not rescale:
            centred = x.astype(np.int64) - zero_x
            signed = np.abs(centred) if change == ABS else -centred
            return (np.asarray(np.clip(signed, low, high), np.int32),)
        out = np.empty(x.shape, storage(y.dtype))
        q, s, rounding = int(rescale[0]), int(rescale[1]), CODES[str(signature.attrs["rounding"])]
        flat = np.ascontiguousarray(x).reshape(-1)
        _signed_loop(flat, out.reshape(-1), change, q, s, rounding, zero_x, y.zero_point, low, high)
        return (out,)

    return fast


@jit
def _signed_loop(x, out, change, q, s, rounding, zero_x, zero_y, low, high):  # type: ignore[no-untyped-def]
    for i in range(x.size):
        d = np.int64(x[i]) - zero_x
        value = abs(d) if change == ABS else -d
        out[i] = saturate(requantize(value, q, s, rounding), zero_y, low, high)


# --- sign and the whole parts


def sign_reference(signature: Signature, x: np.ndarray) -> Arrays:
    zero_point = signature.input(0).zero_point
    signs = [(int(q) > zero_point) - (int(q) < zero_point) for q in x.ravel()]
    return (np.array(signs, np.int32).reshape(x.shape),)


def sign_fast(signature: Signature, x: np.ndarray) -> Arrays:
    return (np.asarray(np.sign(x.astype(np.int64) - signature.input(0).zero_point), np.int32),)


def prepare_part(
    signature: Signature, constants: tuple[np.ndarray | None, ...], numerics: Numerics
) -> Prepared:
    """multiplier and shift of 2 s_x; under pot_shift it must be a power of two."""
    scale = 2.0 * signature.input(0).scale
    if numerics.rounding == "pot_shift" and math.frexp(scale)[0] != 0.5:
        raise LoweringError(f"rounding pot_shift needs powers of two, found the scale {scale / 2.0}")
    return Prepared((0, *rescale_constants(scale, WIDEST, "floor")), {})


def part_reference(part: int) -> Callable[..., Arrays]:
    """The reference of floor, ceil or round."""

    def reference(signature: Signature, x: np.ndarray, multiplier: np.ndarray, shift: np.ndarray) -> Arrays:
        zero_x = signature.input(0).zero_point

        def halves(d: int) -> int:
            return requantize_reference(d, int(multiplier), int(shift), "floor")

        def whole(d: int) -> int:
            if part == FLOOR_PART:
                return halves(d) >> 1
            if part == CEIL_PART:
                return -(halves(-d) >> 1)
            up = (halves(d) + 1) >> 1
            is_tie = halves(d) == -halves(-d) and halves(d) % 2 == 1
            return up - 1 if is_tie and up % 2 == 1 else up

        codes = [saturate_reference(whole(int(q) - zero_x), 0, *bounds("i32")) for q in x.ravel()]
        return (np.array(codes, np.int32).reshape(x.shape),)

    return reference


def part_fast(part: int) -> Callable[..., Arrays]:
    """The fast kernel of floor, ceil or round."""

    def fast(signature: Signature, x: np.ndarray, multiplier: np.ndarray, shift: np.ndarray) -> Arrays:
        out = np.empty(x.shape, np.int32)
        flat, zero_x = np.ascontiguousarray(x).reshape(-1), signature.input(0).zero_point
        _part_loop(flat, out.reshape(-1), part, int(multiplier), int(shift), zero_x, *bounds("i32"))
        return (out,)

    return fast


@jit
def _part_loop(x, out, part, q, s, zero_x, low, high):  # type: ignore[no-untyped-def]
    for i in range(x.size):
        d = np.int64(x[i]) - zero_x
        up, down = requantize(d, q, s, FLOOR), -requantize(-d, q, s, FLOOR)
        if part == FLOOR_PART:
            y = up >> 1
        elif part == CEIL_PART:
            y = -(-down >> 1)
        else:
            y = (up + 1) >> 1
            y -= np.int64(up == down) & up & y & 1
        out[i] = saturate(y, 0, low, high)


# --- registration


def signed_op(name: str, change: int, of_code: Callable[[int], int], real: Callable[..., Any]) -> Op:
    """Register abs or neg."""
    narrow = tuple(f"{x} i32 i8 -> {y}" for x in WIDTHS for y in WIDTHS)
    return register(
        Op(
            name,
            ("x",),
            (*narrow, "i32 -> i32"),
            same_shape,
            real,
            prepare_signed,
            signed_reference(of_code),
            signed_fast(change),
            elementwise_work,
            f"y = saturate(requantize({name}(q - z_x), multiplier, shift) + z_y)",
            follow=follow_signed,
        )
    )


def part_op(name: str, part: int) -> Op:
    """Register floor, ceil or round, which NumPy and torch call by these names too."""
    return register(
        Op(
            name,
            ("x",),
            tuple(f"{x} i32 i8 -> i32" for x in WIDTHS),
            same_shape,
            lambda xp, attrs, x: (getattr(xp, name)(x),),
            prepare_part,
            part_reference(part),
            part_fast(part),
            elementwise_work,
            f"y = {name}((q - z_x) s_x), exact, a whole number",
            demands={~0: "whole"},
        )
    )


abs_ = signed_op("abs", ABS, abs, lambda xp, attrs, x: (xp.abs(x),))
neg = signed_op("neg", NEG, lambda d: -d, lambda xp, attrs, x: (-x,))
floor = part_op("floor", FLOOR_PART)
ceil = part_op("ceil", CEIL_PART)
round_ = part_op("round", ROUND_PART)
sign = register(
    Op(
        "sign",
        ("x",),
        tuple(f"{x} -> i32" for x in WIDTHS),
        same_shape,
        lambda xp, attrs, x: (xp.sign(x),),
        as_is,
        sign_reference,
        sign_fast,
        elementwise_work,
        "y = -1, 0 or 1, the sign of q - z_x",
        demands={~0: "whole"},
    )
)
