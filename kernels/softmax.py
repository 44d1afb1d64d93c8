"""Softmax over the last axis; its integer form is the one of gemmlowp and TensorFlow Lite.

Over the reals y = exp(x - m) / Σ exp(x - m) with m the maximum, both over the entries that the mask
keeps; an entry that is not kept has y = 0, and so has a whole row without any.

Over integers, row by row: d = x - max x <= 0 over kept entries; whatever is not kept has e = 0.
z_x does not matter. high(a, b) = (a*b + 2^30) >> 31; R is the requantisation `double` of
`fixedpoint`; >>r is a shift with rounding, (v + 2^(n-1)) >> n. The algorithm has these roundings of
its own, whatever the contract of the target says. Sums are saturated to 2^31 - 1.

i8 operand, exponentials in Q0.31 (gemmlowp's exp_on_negative_values), their sum in Q12.19:

    multiplier 2^(shift-31) = min(max(s_x 2^26, 1), 2^31 - 1)
    e = 0 where d < -(31 * 2^26 >> shift), else with a = high(d << shift, multiplier), in Q5.26:
        u = (a mod 2^24) - 2^24;  v = (u << 5) + 2^28                 a = u - w, v around -1/8
        v2 = high(v, v);  v3 = high(v2, v);  v4 = high(v2, v2)
        t = high((v4 >>r 2) + v3, 1/3) + v2
        e = C + high(C, v + (t >>r 1)),  C = exp(-1/8)
        for k = 24 … 30: e = high(e, exp(-2^(k-26))) where bit k of w = u - a is set
        e = 2^31 - 1 where a = 0
    S = Σ e >>r 12;  l = leading zeros of S in 32 bits;  h = S << (l-1)         2^30 <= h < 2^31
    r = 48/17 + high(h, -32/17) in Q2.29; three times r = r + (high(r, 2^29 - high(h, r)) << 2)
    y = min(high(min(r << 1, 2^31 - 1), e) >>r (43 - l - bits), top) + z_y

i16 operand, exponentials in Q0.15, tables E of exp on [-10, 0] and I of 1 / (1 + x) on [0, 1]:

    multiplier 2^(shift-31) = min(max(s_x / (10 / 65535), 2^-31), 2^16)
    a = R(max(d << max(shift, 0), -2^31), multiplier, min(shift, 0))
    e = look(E, max(a + 32767, -2^15));  look(T, i) = T[j] + ((T[j+1] - T[j])*(i & 127) >>r 7),
                                         j = (i >> 7) + 256
    S = Σ e;  l = leading zeros of S in 32 bits
    r = look(I, min((S << (l-1) >>r 14) - 98304, 2^15 - 1))
    y = min(e*r >>r (46 - l - bits), top) + z_y

i8 results have scale 2^-8 and zero_point -128 (bits 8, top 255), i16 results scale 2^-15 and
zero_point 0 (bits 15, top 2^15 - 1). A table has 513 entries, made in float64 by TensorFlow Lite's
rule, which halves the error in the middle of a segment: with f_j = 2^15 f(x_j), R half away,

    T[j] = R(f_j) - R((R((f_(j+1) + R(f_j)) / 2) - R(2^15 f(x_j + step/2))) / 2),  T[512] = R(f_512)

i8 to i8 equals tflite-micro bit for bit; i16 to i16 does with tflite-micro's own tables. Both are
primitives: no other operator's graph gives these roundings.

Errors against the reals p, for rows of n kept entries, in codes and where y < top + z_y:

    i8 operand    1/2 + 2^-12 + 2^(bits-20) p (1 + 1.01 n / S)       with S the real Σ exp(x - m) >= 1
    i16 operand   1/2 + 2^(bits-15) (5 + (3 + 5 n) p)

2^-20 is half a unit of the Q12.19 sum; 5 is what an exponential of [-10, 0] on 2^-15 can miss, 3 the
reciprocal. A probability of 1 saturates one code below. With an i16 operand nothing is below exp(-10):
every kept entry adds about 2 * 2^-15 to the sum, which dilutes rows of hundreds of entries; i8 operands
do not. Sums saturate beyond 4,095 (i8) or 65,536 (i16 operand) entries at the maximum, whose
probabilities are then below 2^-12 or 2^-16 anyway.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from nnaq.errors import GraphError, LoweringError
from nnaq.ir.dims import Shape, bind, show
from nnaq.ir.numerics import Numerics
from nnaq.ir.op import (
    Arrays,
    Attr,
    Bindable,
    Constant,
    Kernel,
    Op,
    Prepared,
    Signature,
    Work,
    at_once,
    register,
)
from nnaq.ir.types import Quant, TensorType, bounds, storage
from nnaq.jit import jit
from nnaq.kernels.bound import Bound, Run, bound, together
from nnaq.kernels.boundary import multiplier_constants, when_constant
from nnaq.kernels.elementwise import broadcast_shape
from nnaq.kernels.fixedpoint import (
    requantize_reference,
    shift_right_round,
    shift_right_round_reference,
)
from nnaq.kernels.machine.maps import exponential_map, rescale_map
from nnaq.kernels.machine.rescaling import HALF, TWICE, WHOLE
from nnaq.kernels.requantize_lanes import lanes_of, limit_rows, stage_rows, twice
from nnaq.kernels.softmax_numbers import (
    EIGHTH,
    EXP_OF_MINUS_EIGHTH,
    FACTORS,
    FIRST_BIT,
    NEWTON_32_17,
    NEWTON_48_17,
    NEWTON_ONE,
    NEWTON_STEPS,
    ONE,
    QUARTER,
    REACH,
    SHARES,
    THIRD,
    input_multiplier,
    table_constants,
)

VECTOR_OPERATIONS = 4  # maximum, difference, sum, product


def infer(inputs: tuple[TensorType | None, ...], attrs: Mapping[str, Attr]) -> tuple[Shape, ...]:
    """The shape of x, to which the mask must broadcast."""
    x, mask = inputs[0], inputs[1] if len(inputs) > 1 else None
    assert x is not None
    if x.rank < 1:
        raise GraphError("softmax: x has no axis, but needs at least one; reshape it")
    if mask is not None and broadcast_shape(x.shape, mask.shape, "softmax") != x.shape:
        raise GraphError(
            f"softmax: the mask {show(mask.shape)} is larger than x {show(x.shape)}; it must broadcast to x"
        )
    return (x.shape,)


# --- over the reals


def real(xp: Any, attrs: Mapping[str, Attr], x: Any, mask: Any = None, *constants: Any) -> tuple[Any, ...]:
    """exp(x - m) / Σ exp(x - m) over kept entries, 0 for the others; differentiable in torch."""
    share = _softmax_numpy if xp is np else xp.softmax
    if mask is None:
        return (share(x, -1),)
    kept = mask != 0
    # The lowest number instead of -inf: a row without kept entries stays finite, and so do gradients.
    filled = xp.where(kept, x, xp.full_like(x, xp.finfo(x.dtype).min))
    return (share(filled, -1) * xp.where(kept, xp.ones_like(x), xp.zeros_like(x)),)


def _softmax_numpy(x: np.ndarray, axis: int) -> np.ndarray:
    powers = np.exp(below_maximum(x, axis))
    return np.asarray(powers / powers.sum(axis=axis, keepdims=True))


def below_maximum(x: np.ndarray, axis: int) -> np.ndarray:
    """x - max x along an axis, which may be empty."""
    with np.errstate(over="ignore"):  # a difference beyond the reals has the exponential 0
        return np.asarray(x - x.max(axis=axis, keepdims=True, initial=np.finfo(x.dtype).min))


# --- the crossing


def prepare(signature: Signature, constants: tuple[np.ndarray | None, ...], numerics: Numerics) -> Prepared:
    """multiplier and shift of the scale; without a mask, one flag for all; for i16 x, the two tables."""
    x, y = signature.input(0), signature.outputs[0]
    if y.dtype not in SHARES or y.quant != SHARES[y.dtype][1]:
        raise LoweringError(
            f"softmax: the result must be i8 with scale 2^-8 and zero_point -128, or i16 with scale 2^-15 "
            f"and zero_point 0, found {y}"
        )
    everything = Constant("mask", TensorType("i8", (), Quant((1.0,))), np.array(1, np.int8))
    mask: int | Constant = 1 if signature.has(1) else everything
    multiplier, shift = input_multiplier(x)
    rescale = multiplier_constants(np.array(multiplier, np.int32), np.array(shift, np.int8))
    return Prepared((0, mask, *rescale, *(table_constants() if x.dtype == "i16" else ())), {})


# --- reference


def reference(
    signature: Signature,
    x: np.ndarray,
    mask: np.ndarray,
    multiplier: np.ndarray,
    shift: np.ndarray,
    *tables: np.ndarray,
) -> Arrays:
    """One row at a time, in Python integers."""
    y = signature.outputs[0]
    exponential, shares = _algorithm(int(multiplier), int(shift), tables)
    flags = np.broadcast_to(mask, x.shape)
    count, zero_mask, top = math.prod(x.shape[:-1]), signature.input(1).zero_point, bounds(y.dtype)[1]
    codes = []
    for row, keeps in zip(*(v.reshape(count, x.shape[-1]) for v in (x, flags)), strict=True):
        kept = [int(q) != zero_mask for q in keeps]
        highest = max((int(q) for q, keep in zip(row, kept, strict=True) if keep), default=0)
        powers = [exponential(int(q) - highest) if keep else 0 for q, keep in zip(row, kept, strict=True)]
        made = shares(powers, SHARES[y.dtype][0])
        codes.append([min(share, top - y.zero_point) + y.zero_point for share in made])
    return (np.array(codes, storage(y.dtype)).reshape(x.shape),)


def _algorithm(
    multiplier: int, shift: int, tables: Sequence[np.ndarray]
) -> tuple[Callable[[int], int], Callable[[list[int], int], list[int]]]:
    """d -> e, and (all e of a row, bits) -> y - z_y before saturation."""
    if not tables:
        return lambda d: exponential_8(d, multiplier, shift), shares_8
    exponents, reciprocals = ([int(entry) for entry in table] for table in tables)
    return (
        lambda d: exponential_16(d, multiplier, shift, exponents),
        lambda powers, bits: shares_16(powers, bits, reciprocals),
    )


def high_reference(a: int, b: int) -> int:
    """The rounded high half of a doubled product, half up."""
    return (a * b + (1 << 30)) >> 31


def exponential_8(d: int, multiplier: int, shift: int) -> int:
    """e of an i8 operand's difference, Q0.31."""
    if d < -(REACH >> shift):
        return 0
    a = high_reference(d << shift, multiplier)
    if a == 0:
        return ONE
    part = (a & (QUARTER - 1)) - QUARTER
    v = (part << 5) + EIGHTH
    square = high_reference(v, v)
    cube, fourth = high_reference(square, v), high_reference(square, square)
    tail = high_reference(shift_right_round_reference(fourth, 2) + cube, THIRD) + square
    tail = shift_right_round_reference(tail, 1)
    e = EXP_OF_MINUS_EIGHTH + high_reference(EXP_OF_MINUS_EIGHTH, v + tail)
    for k, factor in enumerate(FACTORS, FIRST_BIT):
        if (part - a) >> k & 1:
            e = high_reference(e, factor)
    return e


def shares_8(powers: list[int], bits: int) -> list[int]:
    """Probabilities in units of 2^-bits of the exponentials of an i8 row."""
    total = min(sum(shift_right_round_reference(e, 12) for e in powers), ONE)
    if total == 0:
        return powers
    zeros = 32 - total.bit_length()
    half = total << (zeros - 1)
    r = NEWTON_48_17 + high_reference(half, NEWTON_32_17)
    for _ in range(NEWTON_STEPS):
        r += high_reference(r, NEWTON_ONE - high_reference(half, r)) << 2
    r = min(r << 1, ONE)
    return [shift_right_round_reference(high_reference(r, e), 43 - zeros - bits) for e in powers]


def look_reference(table: list[int], i: int) -> int:
    """Interpolation in 513 entries, rounded to the entries' own unit."""
    j = (i >> 7) + 256
    return table[j] + (((table[j + 1] - table[j]) * (i & 127) + 64) >> 7)


def exponential_16(d: int, multiplier: int, shift: int, table: list[int]) -> int:
    """e of an i16 operand's difference, Q0.15."""
    a = requantize_reference(max(d << max(shift, 0), -(2**31)), multiplier, min(shift, 0), "double")
    return look_reference(table, max(a + 32767, -(2**15)))


def shares_16(powers: list[int], bits: int, table: list[int]) -> list[int]:
    """Probabilities in units of 2^-bits of the exponentials of an i16 row."""
    total = min(sum(powers), ONE)
    if total == 0:
        return powers
    zeros = 32 - total.bit_length()
    mantissa = shift_right_round_reference(total << (zeros - 1), 14)
    r = look_reference(table, min(mantissa - 98304, 2**15 - 1))
    return [shift_right_round_reference(e * r, 46 - zeros - bits) for e in powers]


# --- fast


def load(signature: Signature, operands: tuple[Any, ...]) -> Kernel:
    """The same codes from compiled loops; i8 differences look their exponential up among 256."""
    _, constant_mask, multiplier, shift, *tables = operands
    y, zero_mask = signature.outputs[0], signature.input(1).zero_point
    made, bits, top = storage(y.dtype), SHARES[y.dtype][0], bounds(y.dtype)[1]
    q, s = int(multiplier), int(shift)
    whole = constant_mask is not None and bool(np.all(np.asarray(constant_mask) != zero_mask))
    everything = np.ones((1, 1), np.bool_)
    limits = limit_rows(y.zero_point, y.zero_point, top)
    share, numbers = lanes_of([0] * 11 + limits), (bits, y.zero_point)
    if tables:
        left, stage = max(s, 0), stage_rows(q, min(s, 0), "double", 2**31)
        assert stage is not None  # a factor below 1
        exponent = lanes_of([0, twice(-(2**31 >> left)), twice(left), *stage])
        exponentials = (*map(np.ascontiguousarray, tables), exponent)
    else:
        entries = np.empty(256, np.int32)
        _exponentials(q, s, entries)
        exponentials = (entries,)
    loop: Callable[..., None] = _rows_16 if tables else _rows_8

    def bind(x: np.ndarray, mask: np.ndarray, *_: Any) -> Bound:
        rows, kept = (math.prod(x.shape[:-1]), x.shape[-1]), everything
        runs: list[Run] = []
        if not whole:
            kept = np.empty(rows, np.bool_)
            flags = np.broadcast_to(mask, x.shape)
            runs.append(partial(np.not_equal, flags, zero_mask, out=kept.reshape(x.shape)))
        given = kept, whole, exponentials, share.copy(), *numbers
        results, run = bound(loop, ((x, x.dtype),), x.shape, (made, made), *given, grid=rows)
        return results, together([*runs, run])

    return Bindable(bind)


@jit
def _highest(row, kept, whole):  # type: ignore[no-untyped-def]
    highest = np.int32(-(2**15))
    if whole:
        for q in row:
            highest = max(highest, np.int32(q))
    else:
        for i in range(row.size):
            highest = max(highest, np.int32(row[i]) if kept[i] else np.int32(-(2**15)))
    return highest


@jit
def _high(a, b):  # type: ignore[no-untyped-def]
    return (np.int64(a) * np.int64(b) + (np.int64(1) << 30)) >> 31


@jit
def _exponential(d, multiplier, shift):  # type: ignore[no-untyped-def]
    if d < -(np.int64(REACH) >> shift):
        return np.int64(0)
    a = _high(np.int64(d) << shift, multiplier)
    if a == 0:
        return np.int64(ONE)
    part = (a & (QUARTER - 1)) - QUARTER
    v = (part << 5) + EIGHTH
    square = _high(v, v)
    cube, fourth = _high(square, v), _high(square, square)
    tail = _high(shift_right_round(fourth, 2) + cube, THIRD) + square
    e = EXP_OF_MINUS_EIGHTH + _high(EXP_OF_MINUS_EIGHTH, v + shift_right_round(tail, 1))
    for k in range(len(FACTORS)):
        if (part - a) >> (FIRST_BIT + k) & 1:
            e = _high(e, FACTORS[k])
    return e


@jit
def _leading_zeros(total):  # type: ignore[no-untyped-def]
    """Leading zeros in 32 bits of 0 < total < 2^31."""
    zeros = np.int64(1)
    while np.int64(total) << zeros < np.int64(1) << 31:
        zeros += 1
    return zeros


@jit
def _exponentials(multiplier, shift, entries):  # type: ignore[no-untyped-def]
    """e of every difference of i8 codes."""
    for d in range(entries.size):
        entries[d] = _exponential(-d, multiplier, shift)


@jit
def _set_row(rows, index, value, words):  # type: ignore[no-untyped-def]
    """A number in every lane of a row; words: of 32 bits, twice in each lane of 64."""
    number = np.int64(value)
    if words:
        number = (number << 32) | (number & 0xFFFFFFFF)
    rows[index * HALF : (index + 1) * HALF] = number


@jit
def _rows_8(x, out, kept, whole, exponentials, share, bits, zero_y):  # type: ignore[no-untyped-def]
    """Row by row; the row of `share` are those of a rescale with one stage of `half_up_shift`."""
    powers, entries = np.empty(x.shape[1], np.int32), exponentials[0]
    for number, value in ((2, np.int64(1) << 30), (4, np.int64(31)), (5, np.int64(1))):
        _set_row(share, number, value, False)
    for i in range(x.shape[0]):
        highest, total = _highest(x[i], kept[i % kept.shape[0]], whole), np.int64(0)
        for c in range(x.shape[1]):
            powers[c] = entries[(highest - x[i, c]) & 255]
        if not whole:
            for c in range(x.shape[1]):
                powers[c] = powers[c] if kept[i, c] else 0
        for c in range(x.shape[1]):
            total += (np.int64(powers[c]) + (np.int64(1) << 11)) >> 12
        total = min(total, np.int64(ONE))
        zeros = _leading_zeros(max(total, np.int64(1)))
        right = 43 - zeros - bits
        if total == 0 or right > 31:
            out[i] = zero_y
            continue
        half = total << (zeros - 1)
        r = NEWTON_48_17 + _high(half, NEWTON_32_17)
        for _ in range(NEWTON_STEPS):
            r += _high(r, NEWTON_ONE - _high(half, r)) << 2
        mask = (np.int64(1) << right) - 1
        _set_row(share, 1, min(r << 1, np.int64(ONE)), True)
        _set_row(share, 7, right, True)
        _set_row(share, 8, mask, True)
        _set_row(share, 9, mask >> 1, True)
        rescale_map(powers, out[i], share, TWICE)


@jit
def _look(table, i):  # type: ignore[no-untyped-def]
    j = (i >> 7) + 256
    left = np.int64(table[j])
    return left + (((np.int64(table[j + 1]) - left) * (i & 127) + 64) >> 7)


@jit
def _rows_16(x, out, kept, whole, exponentials, share, bits, zero_y):  # type: ignore[no-untyped-def]
    """Row by row; the rows of `share` are those of a rescale with one stage of `single`."""
    table, reciprocals, exponent = exponentials
    powers, exponent = np.empty(x.shape[1], np.int32), exponent.copy()
    for i in range(x.shape[0]):
        highest, total = _highest(x[i], kept[i % kept.shape[0]], whole), np.int64(0)
        _set_row(exponent, 0, highest, True)
        exponential_map(x[i], table, powers, exponent, TWICE)
        if not whole:
            for c in range(x.shape[1]):
                powers[c] = powers[c] if kept[i, c] else 0
        for c in range(x.shape[1]):
            total += powers[c]
        total = min(max(total, np.int64(1)), np.int64(ONE))
        zeros = _leading_zeros(total)
        mantissa = shift_right_round(total << (zeros - 1), 14)
        right = 46 - zeros - bits
        first = min(right, np.int64(32))
        _set_row(share, 1, _look(reciprocals, min(mantissa - 98304, np.int64(2**15 - 1))), True)
        _set_row(share, 2, np.int64(1) << (right - 1), False)
        _set_row(share, 4, first, False)
        _set_row(share, 5, 32 - first, False)
        _set_row(share, 6, right - first, True)
        rescale_map(powers, out[i], share, WHOLE)


def work(signature: Signature) -> Work:
    """Per entry one exponential as a look-up, a maximum, a difference, a sum and a product."""
    size = math.prod(bind(signature.outputs[0].shape, {}))
    return Work(elementwise=VECTOR_OPERATIONS * size, lookups=size)


register(
    Op(
        "softmax",
        ("x", "mask?"),
        (
            *(f"i8 i8 i32 i8 -> {y}" for y in SHARES),
            *(f"i16 i8 i32 i8 i16 i16 -> {y}" for y in SHARES),
        ),
        infer,
        real,
        prepare,
        reference,
        at_once(load),
        work,
        "y = e / Σ e, e = exp(x - max x) over what the mask keeps; gemmlowp's for i8, two tables for i16",
        demands={1: "flag", ~0: "probability"},
        load=when_constant(2, load),
    )
)
