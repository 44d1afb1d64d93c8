"""Reductions: many codes along some axes of x become one.

With S = Σ (q - z_x) over the n entries along `axes`, exact, and A = S saturated to the accumulator
(i32 for i8 codes, i48 for i16 and i32 codes; both held in 64 bits, saturated once, after the sum),
R the requantisation of `fixedpoint` and sat its saturation,

    reduce_sum    i32 result, scale s_x, zero_point 0:    y = sat32(S)
                  i8 and i16 results:                     y = sat(R(A, s_x / s_y) + z_y)
    reduce_mean   n known when prepared:                  y = sat(R(A, s_x / (n s_y)) + z_y)
                  n open (a symbolic axis):               T = R(A, 2^g s_x / s_y)
                                                          y = sat(half_away(T / (n 2^g)) + z_y)
    reduce_max    y = max of the codes                    reduce_min    y = min of the codes

half_away(t / d) = sign(t) * ((|t| + d // 2) // d). g, the guard bits, is 8, or as many as leave
2^g s_x / s_y below 2^14 (below 2 under pot_shift). A sum of n entries reaches the end of its
accumulator only from n = 2^31 / 255 = 8421504 entries (i8) or 2^32 (i16) on; an i32 result of i16
codes from n = 65536 on. Where n is known, the bound n * max|q - z_x| limits the left shift of R.

No entries at all (n = 0): the sum and the mean are real 0, the maximum is the lowest code, the
minimum the highest. attributes: axes, counted from either end; keepdims, whether they stay as 1.

Errors against the reals in units of the result, rounding `single`: i32 sums, max and min none;
else 1/2 + |y| 2^-31, for an open n and 2^-(g+1)/n on top. A machine without a divider multiplies
by a tabled ceil(2^(46+l) / d), l = ceil(log2 d), and shifts right by 46+l: the same quotient for
all numerators below 2^46.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from nnaq.errors import GraphError, LoweringError
from nnaq.ir.dims import Dim, Shape
from nnaq.ir.numerics import Numerics
from nnaq.ir.op import Arrays, Op, Prepared, Signature, Work, as_is, register
from nnaq.ir.types import Quant, TensorType, bounds, storage
from nnaq.jit import jit
from nnaq.kernels.boundary import largest_distance, multiplier_constants
from nnaq.kernels.fixedpoint import (
    CODES,
    LARGEST_LEFT_SHIFT,
    quantize_multipliers,
    requantize,
    requantize_reference,
    saturate,
    saturate_reference,
)
from nnaq.kernels.machine.norms import row_sums
from nnaq.kernels.movement import Attrs, Types, axis_of, operand
from nnaq.kernels.pool import half_away_reference

GUARD_BITS = 8
LONGEST_ROW = 2**16  # of vector sums
SUM_TYPES = {"i8": "i32", "i16": "i48", "i32": "i48"}


def reduced_axes(attrs: Attrs, rank: int, who: str) -> tuple[int, ...]:
    """The axes to reduce, from the front and in order. Raises GraphError for one that is not there."""
    axes = attrs.get("axes")
    if not isinstance(axes, tuple):
        raise GraphError(f"{who} needs a tuple of whole numbers as 'axes', found {axes!r}")
    found = sorted(axis_of(axis, rank, who) for axis in axes)
    if len(set(found)) != len(found):
        raise GraphError(f"{who} names an axis twice: {axes}")
    return tuple(found)


def infer(who: str) -> Callable[[Types, Attrs], tuple[Shape, ...]]:
    """The shape without the reduced axes, or with 1 in their place."""

    def inferred(inputs: Types, attrs: Attrs) -> tuple[Shape, ...]:
        shape = operand(inputs).shape
        axes = reduced_axes(attrs, len(shape), who)
        if attrs.get("keepdims", False):
            return (tuple(1 if axis in axes else dim for axis, dim in enumerate(shape)),)
        return (tuple(dim for axis, dim in enumerate(shape) if axis not in axes),)

    return inferred


def entries(shape: tuple[Dim, ...], axes: tuple[int, ...]) -> int | None:
    """How many entries become one; None while an axis is open."""
    sizes = [shape[axis] for axis in axes]
    return math.prod(int(n) for n in sizes) if all(isinstance(n, int) for n in sizes) else None


# --- over the reals


def _along(x: Any, attrs: Attrs) -> tuple[tuple[int, ...], bool]:
    return reduced_axes(attrs, len(x.shape), "a reduction"), bool(attrs.get("keepdims", False))


def real_sum(xp: Any, attrs: Attrs, x: Any) -> tuple[Any, ...]:
    axes, keep = _along(x, attrs)
    return (xp.sum(x, axis=axes, keepdims=keep) if axes else x,)


def real_mean(xp: Any, attrs: Attrs, x: Any) -> tuple[Any, ...]:
    """The sum over its number of entries; 0 where there are none."""
    axes, _ = _along(x, attrs)
    (total,) = real_sum(xp, attrs, x)
    return (total / max(math.prod(x.shape[axis] for axis in axes), 1),)


def real_extreme(name: str, empty: float) -> Callable[..., tuple[Any, ...]]:
    """The largest (`amax`) or smallest (`amin`) entry; `empty` where there is none."""

    def real(xp: Any, attrs: Attrs, x: Any) -> tuple[Any, ...]:
        axes, keep = _along(x, attrs)
        if not axes:
            return (x,)
        if any(x.shape[axis] == 0 for axis in axes):
            # The sum over nothing is 0 in the shape of the result.
            return (xp.sum(x, axis=axes, keepdims=keep) + empty,)
        return (getattr(xp, name)(x, axis=axes, keepdims=keep),)

    return real


# --- the crossing


def follow_sum(signature: Signature) -> tuple[TensorType, ...] | None:
    """i32 with the scale of the operand where no sum can leave it; over an open axis from i8 codes only."""
    x = signature.input(0)
    n = entries(x.shape, reduced_axes(signature.attrs, x.rank, "reduce_sum"))
    return exact_total(x, n, signature.outputs[0].shape)


def exact_total(x: TensorType, n: int | None, shape: Shape) -> tuple[TensorType, ...] | None:
    """The type of exact sums of at most `n` codes (None: of any number), if i32 holds them."""
    holds = x.dtype == "i8" if n is None else max(n, 1) * largest_distance(x) < 2**31
    return (TensorType("i32", shape, Quant((x.scale,))),) if holds else None


def prepare_sum(
    signature: Signature, constants: tuple[np.ndarray | None, ...], numerics: Numerics
) -> Prepared:
    """Nothing for an i32 result, else multiplier and shift of s_x / s_y."""
    x = signature.input(0)
    n = entries(x.shape, reduced_axes(signature.attrs, x.rank, "reduce_sum"))
    return prepare_total(signature, numerics, n)


def prepare_total(signature: Signature, numerics: Numerics, n: int | None) -> Prepared:
    """The crossing of a sum of at most `n` codes (None: of any number)."""
    x, y = signature.input(0), signature.outputs[0]
    if y.dtype == "i32":
        if x.scale != y.scale or y.zero_point != 0:
            raise LoweringError(
                f"a sum into i32 keeps the scale of its operand and zero_point 0, found {x} -> {y}; "
                "choose i8 or i16 for it"
            )
        return Prepared((0,), signature.attrs)
    return _scaled(signature, x.scale / y.scale, sum_bound(x, n), numerics)


def prepare_mean(
    signature: Signature, constants: tuple[np.ndarray | None, ...], numerics: Numerics
) -> Prepared:
    """multiplier and shift of s_x / (n s_y), or of 2^g s_x / s_y where n is known at run time only."""
    x, y = signature.input(0), signature.outputs[0]
    n = entries(x.shape, reduced_axes(signature.attrs, x.rank, "reduce_mean"))
    if n is not None:
        return _scaled(signature, x.scale / (max(n, 1) * y.scale), sum_bound(x, n), numerics)
    return prepare_divided(signature, numerics)


def prepare_divided(signature: Signature, numerics: Numerics) -> Prepared:
    """The crossing of a mean whose number of entries is known at run time only."""
    ratio = signature.input(0).scale / signature.outputs[0].scale
    guard = guard_bits(ratio, numerics.rounding)
    made = _scaled(signature, ratio * 2.0**guard, 2**47, numerics)
    return Prepared(made.operands, {**made.attrs, "guard_bits": guard})


def sum_bound(x: TensorType, n: int | None) -> int:
    """The largest |A| of n codes of type x."""
    accumulator = 2**31 if SUM_TYPES[x.dtype] == "i32" else 2**47
    return accumulator if n is None else min(max(n, 1) * largest_distance(x), accumulator)


def guard_bits(ratio: float, rounding: str) -> int:
    """Bits below the last one that a sum keeps until it is divided by a count."""
    room = 1 if rounding == "pot_shift" else LARGEST_LEFT_SHIFT
    return max(min(GUARD_BITS, room - math.frexp(ratio)[1]), 0)


def _scaled(signature: Signature, ratio: float, bound: int, numerics: Numerics) -> Prepared:
    multiplier, shift = quantize_multipliers(np.array(ratio), numerics.rounding, bound)
    attrs = {**signature.attrs, "rounding": numerics.rounding}
    return Prepared((0, *multiplier_constants(multiplier, shift)), attrs)


# --- over codes


def total_codes_reference(
    signature: Signature, totals: list[int], rescale: list[int], counts: list[int] | None = None
) -> list[int]:
    """Codes of exact sums S in Python integers; counts: what each is divided by, for an open mean."""
    x, y = signature.input(0), signature.outputs[0]
    low, high = bounds(y.dtype)
    if not rescale:
        return [saturate_reference(total, 0, low, high) for total in totals]
    least, most = bounds(SUM_TYPES[x.dtype])
    guard, codes = int(signature.attrs.get("guard_bits", 0)), []  # type: ignore[arg-type]
    for i, total in enumerate(totals):
        value = min(max(total, least), most)
        value = requantize_reference(value, rescale[0], rescale[1], str(signature.attrs["rounding"]))
        if counts is not None:
            value = half_away_reference(value, max(counts[i], 1) << guard)
        codes.append(saturate_reference(value, y.zero_point, low, high))
    return codes


def total_codes(
    signature: Signature,
    totals: np.ndarray,
    rescale: tuple[np.ndarray, ...],
    counts: np.ndarray | None = None,
) -> np.ndarray:
    """Codes of exact sums S (int64); counts (broadcast to them): what each is divided by."""
    y = signature.outputs[0]
    if not rescale:
        return np.asarray(np.clip(totals, *bounds("i32")).astype(np.int32))
    limited = np.clip(totals, *bounds(SUM_TYPES[signature.input(0).dtype]))
    out = np.empty(totals.shape, np.int64)
    divisors = np.zeros(1, np.int64)
    if counts is not None:
        divisors = np.maximum(counts, 1) << int(signature.attrs["guard_bits"])  # type: ignore[arg-type]
        divisors = np.ascontiguousarray(np.broadcast_to(divisors, totals.shape), np.int64)
    _codes_loop(
        np.ascontiguousarray(limited, np.int64).reshape(-1),
        divisors.reshape(-1),
        counts is not None,
        int(rescale[0]),
        int(rescale[1]),
        CODES[str(signature.attrs["rounding"])],
        y.zero_point,
        *bounds(y.dtype),
        out.reshape(-1),
    )
    return out.astype(storage(y.dtype))


@jit
def _codes_loop(totals, divisors, divide, q, s, rounding, zero_point, low, high, out):  # type: ignore[no-untyped-def]
    for i in range(out.size):
        value = requantize(totals[i], q, s, rounding)
        if divide:
            value = divided(value, divisors[i])
        out[i] = saturate(value, zero_point, low, high)


@jit
def divided(value, divisor):  # type: ignore[no-untyped-def]
    """value / divisor, halves away from 0; the divisor is positive."""
    size = (abs(value) + divisor // 2) // divisor
    return size if value >= 0 else -size


def _groups(signature: Signature, x: np.ndarray) -> tuple[tuple[int, ...], list[list[int]]]:
    """The result's shape, and the codes that meet in each of its entries."""
    axes = reduced_axes(signature.attrs, x.ndim, "a reduction")
    kept = [axis for axis in range(x.ndim) if axis not in axes]
    found: list[list[int]] = []
    for index in np.ndindex(*(x.shape[axis] for axis in kept)):
        place: list[int | slice] = [slice(None)] * x.ndim
        for axis, position in zip(kept, index, strict=True):
            place[axis] = position
        found.append([int(q) for q in np.ravel(x[tuple(place)])])
    keep = signature.attrs.get("keepdims", False)
    shape = [1 if axis in axes else n for axis, n in enumerate(x.shape) if keep or axis not in axes]
    return tuple(shape), found


def reference_total(signature: Signature, x: np.ndarray, *rescale: np.ndarray) -> Arrays:
    """reduce_sum and reduce_mean, one result at a time."""
    shape, groups = _groups(signature, x)
    zero_point = signature.input(0).zero_point
    totals = [sum(q - zero_point for q in group) for group in groups]
    counts = [len(group) for group in groups] if "guard_bits" in signature.attrs else None
    codes = total_codes_reference(signature, totals, [int(c) for c in rescale], counts)
    return (np.array(codes, storage(signature.outputs[0].dtype)).reshape(shape),)


def fast_total(signature: Signature, x: np.ndarray, *rescale: np.ndarray) -> Arrays:
    axes, keep = _along(x, signature.attrs)
    n = math.prod(x.shape[axis] for axis in axes)
    totals = _totals(x, axes, keep, n) - n * signature.input(0).zero_point
    counts = np.array(n) if "guard_bits" in signature.attrs else None
    return (total_codes(signature, np.asarray(totals), rescale, counts),)


def _totals(x: np.ndarray, axes: tuple[int, ...], keep: bool, n: int) -> np.ndarray:
    """Exact sums of codes, int64; along the last axes in vector lanes."""
    first = x.ndim - len(axes)
    if not axes or axes[0] != first or x.dtype == np.int32 or n >= LONGEST_ROW:
        return np.asarray(x.sum(axis=axes, dtype=np.int64, keepdims=keep))
    kept = x.shape[:first]
    totals = np.empty(math.prod(kept), np.int64)
    _row_totals(np.ascontiguousarray(x).reshape(-1), n, totals)
    return totals.reshape((*kept, *[1] * len(axes)) if keep else kept)


@jit
def _row_totals(x, count, totals):  # type: ignore[no-untyped-def]
    sums = np.empty(2, np.int64)
    for r in range(totals.size):
        row_sums(x, r * count, count, sums)
        totals[r] = sums[0]


def reference_extreme(largest: bool) -> Callable[..., Arrays]:
    def reference(signature: Signature, x: np.ndarray) -> Arrays:
        shape, groups = _groups(signature, x)
        low, high = bounds(signature.input(0).dtype)
        codes = [max(g, default=low) if largest else min(g, default=high) for g in groups]
        return (np.array(codes, x.dtype).reshape(shape),)

    return reference


def fast_extreme(largest: bool) -> Callable[..., Arrays]:
    def fast(signature: Signature, x: np.ndarray) -> Arrays:
        axes, keep = _along(x, signature.attrs)
        low, high = bounds(signature.input(0).dtype)
        reduced = (
            np.max(x, axis=axes, keepdims=keep, initial=low)
            if largest
            else np.min(x, axis=axes, keepdims=keep, initial=high)
        )
        return (np.asarray(reduced),)

    return fast


def work(signature: Signature) -> Work:
    """One vector operation per entry that is read."""
    return Work(elementwise=math.prod(signature.input(0).shape))  # type: ignore[arg-type]


# --- registration

SCALED_FORMS = tuple(f"{x} i32 i8 -> {y}" for x in SUM_TYPES for y in ("i8", "i16"))
SUM_FORMS = (*SCALED_FORMS, *(f"{x} -> i32" for x in SUM_TYPES))
register(
    Op(
        "reduce_sum",
        ("x",),
        SUM_FORMS,
        infer("reduce_sum"),
        real_sum,
        prepare_sum,
        reference_total,
        fast_total,
        work,
        "S = Σ (q - z_x);  y = sat32(S), or saturate(requantize(S, multiplier, shift) + z_y)",
        follow=follow_sum,
    )
)
register(
    Op(
        "reduce_mean",
        ("x",),
        SCALED_FORMS,
        infer("reduce_mean"),
        real_mean,
        prepare_mean,
        reference_total,
        fast_total,
        work,
        "y = saturate(requantize(Σ (q - z_x), multiplier, shift) + z_y), divided by n where n is open",
    )
)
for _name, _largest, _numpy, _empty in (
    ("reduce_max", True, "amax", -math.inf),
    ("reduce_min", False, "amin", math.inf),
):
    register(
        Op(
            _name,
            ("x",),
            ("i8 -> i8", "i16 -> i16", "i32 -> i32"),
            infer(_name),
            real_extreme(_numpy, _empty),
            as_is,
            reference_extreme(_largest),
            fast_extreme(_largest),
            work,
            f"y = {_name[-3:]} of the codes along the axes",
            moves=True,
        )
    )
