"""Normalising rows of codes in integers: exact sums, one reciprocal root per row, one product per entry.

A row has n entries q; D = n, or D = 1 for l2_normalize, which divides by no count:

    v = q (layer_norm, group_norm: zero_point and mean cancel) or q - z_x (rms_norm, l2_normalize)
    S = Σ v,  Q = Σ v^2                                    exact, int64
    d = D*v - S  (S = 0 without a mean)                    |d| < 2^32
    U = D*Q - S^2                                          exact, D^2 times the variance in codes
    V = (U << 2h) + E_n,  or max(U << 2h, E_n) for l2_normalize;  V = max(V, 2^2h)        V < 2^62
    k = (32 - bit_length(V)) >> 1;  m = V * 2^2k           2^30 <= m < 2^32, low bits dropped
    b = 1 / sqrt(m / 2^30) in Q1.30                        table and one Newton step, see `roots`
    z = (d*b + half) >> (45 - f - k - h)                   d / sqrt(V) 2^h in Q.f, half up

f = 16, or 24 for l2_normalize, whose quotients stay within 1. Where every d is 0 (equal entries, or
zeros if no mean is taken away) z is 0 whatever epsilon is; V >= 2^2h only keeps the root defined.

Epsilon joins V with h spare bits of headroom, because next to a variance of less than one code a
whole number would be too coarse. e = epsilon / s_x^2 (epsilon^2 / s_x^2 for l2_normalize) is the
real number it is in squared codes, c the smallest whole number with reach^2 + e <= 4^c (reach: half
the span of the codes, or the largest |q - z_x|), and with n < 2^B (l2_normalize: n < 4^B)

    epsilon, epsilon_shift:  e = epsilon * 4^c * 2^-(31 + epsilon_shift), 31 bits of it
    room = 31 - c;  h = room - B;  N = D << (24 - B)
    E_n = floor(floor(N^2 * epsilon / 2^17) / 2^epsilon_shift) = floor(e D^2 2^2h)

all of which needs n only at run time; n may be a matter of time. Bounds: U < 2^(2B + 2c), so
V < 2^62 as long as B <= room; d*b < 2^63 as long as B <= 24. With i8 codes that is n < 2^24
(rms_norm 2^23), with i16 codes n < 2^16 (rms_norm of the code -2^15: 2^15), less where epsilon
outgrows the codes; larger rows are refused. |z| <= 2^16 sqrt(n) < 2^28.

z is within 1/2 + |z| (2^-26 + 1/(2V)) steps of the real quotient; the last term is the floor of E_n,
at most 2^-16 (next to equal entries in the longest rows of i16) and as a rule out of sight.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from nnaq.errors import LoweringError
from nnaq.ir.op import Constant, Signature
from nnaq.ir.types import TensorType, bounds, storage
from nnaq.jit import jit
from nnaq.kernels.bound import Bound, bound
from nnaq.kernels.boundary import largest_distance
from nnaq.kernels.fixedpoint import CODES
from nnaq.kernels.machine.norms import row_codes, row_sums
from nnaq.kernels.machine.rescaling import LANES
from nnaq.kernels.norm_affine import FORM, affine, affine_reference, channel_of_entries, tail_reference
from nnaq.kernels.norm_floats import real_tail
from nnaq.kernels.roots import reciprocal_root, reciprocal_root_reference, reciprocal_root_table

COUNT_BITS = 24
EPSILON_BITS = 17  # of the product with epsilon, taken away first
FORMS = tuple(f"{x} {FORM} i16 i32 i8 i8 -> {y}" for x in ("i8", "i16") for y in ("i8", "i16"))


@dataclass(frozen=True)
class Rule:
    """What is divided by what. centred: the mean is taken away; counted: squares are averaged."""

    name: str
    centred: bool
    counted: bool
    fraction: int

    def square_of_epsilon(self, epsilon: float) -> float:
        """Epsilon among the squares: l2_normalize compares it with the root."""
        return epsilon if self.counted else epsilon * epsilon

    def bits_of_count(self, count: int) -> int:
        """B: n < 2^B, or 4^B where squares are summed only."""
        return count.bit_length() if self.counted else (count.bit_length() + 1) >> 1


@dataclass(frozen=True)
class View:
    """x as [rows, parts, span]; the channel of part p in row r is (r % groups) * parts + p."""

    rows: int
    groups: int
    parts: int
    span: int

    @property
    def count(self) -> int:
        return self.parts * self.span


def row_constants(rule: Rule, x: TensorType, epsilon: float) -> tuple[Constant, ...]:
    """The table of the reciprocal root; epsilon, its shift, and the room for the count."""
    low, high = bounds(x.dtype)
    reach = (high - low) / 2 if rule.centred else float(largest_distance(x))
    e = rule.square_of_epsilon(epsilon) / x.scale**2
    limit = next((c for c in range(31) if reach**2 + e <= 4.0**c), None)
    if limit is None:
        raise LoweringError(
            f"{rule.name}: epsilon {epsilon} is {e:.3g} squared codes of scale {x.scale}, at most 4^30 "
            "can be added in 64 bits; use a smaller epsilon or coarser codes"
        )
    mantissa, exponent = math.frexp(e / 4.0**limit)
    whole, right = (math.floor(mantissa * 2.0**31), -exponent) if -exponent <= 62 else (0, 0)
    scalars = (("epsilon", "i32", whole), ("epsilon_shift", "i8", right), ("room", "i8", 31 - limit))
    return (
        Constant("table", TensorType("i16", (513,)), reciprocal_root_table()),
        *(Constant(name, TensorType(kind, ()), np.array(n, storage(kind))) for name, kind, n in scalars),
    )


def check_count(rule: Rule, count: int, room: int) -> None:
    """Raise LoweringError where rows of `count` entries could leave 64 bits."""
    largest = min(room, COUNT_BITS)
    if rule.bits_of_count(count) > largest:
        limit = 2 ** (largest if rule.counted else 2 * largest)
        raise LoweringError(
            f"{rule.name}: the sums over {count} entries can leave 64 bits, expected fewer than {limit} "
            "entries for these codes and this epsilon; normalise over fewer entries or use i8 codes"
        )


def row_numbers(rule: Rule, count: int, epsilon: int, shift: int, room: int) -> tuple[int, int, int]:
    """D, h and E_n of rows of `count` entries, in Python integers; the same for every row."""
    check_count(rule, count, room)
    size = rule.bits_of_count(count)
    divisor = count if rule.counted else 1
    square = (divisor << (COUNT_BITS - size)) ** 2
    return divisor, room - size, ((square * epsilon) >> EPSILON_BITS) >> shift


def reference(
    rule: Rule, view: View, signature: Signature, x: np.ndarray, *constants: np.ndarray
) -> np.ndarray:
    """One row at a time, in Python integers."""
    tail, table = tail_reference(*constants[:4]), [int(t) for t in constants[4]]
    numbers = row_numbers(rule, view.count, *(int(n) for n in constants[5:]))
    zero = 0 if rule.centred else signature.input(0).zero_point
    y, rounding = signature.outputs[0], str(signature.attrs["rounding"])
    codes = []
    for r, row in enumerate(x.reshape(view.rows, view.count)):
        first = r % view.groups * view.parts
        for j, z in enumerate(row_reference(rule, [int(q) - zero for q in row], table, *numbers)):
            codes.append(affine_reference(z, first + j // view.span, tail, y, rounding))
    return np.array(codes, storage(y.dtype)).reshape(x.shape)


def row_reference(
    rule: Rule, row: list[int], table: list[int], divisor: int, h: int, epsilon: int
) -> list[int]:
    """z of every entry v of a row, in Python integers."""
    total = sum(row) if rule.centred else 0
    u = divisor * sum(v * v for v in row) - total * total
    joined = (u << (2 * h)) + epsilon if rule.counted else max(u << (2 * h), epsilon)
    joined = max(joined, 1 << (2 * h))
    k = (32 - joined.bit_length()) >> 1
    b = reciprocal_root_reference(joined << (2 * k) if k >= 0 else joined >> (-2 * k), table)
    right = 45 - rule.fraction - k - h
    return [((divisor * v - total) * b + (1 << (right - 1))) >> right for v in row]


def load(rule: Rule, signature: Signature, operands: tuple[Any, ...]) -> Callable[[View, np.ndarray], Bound]:
    """The same codes from a compiled loop, bound to x as some view of rows; see `norm_floats`."""
    kind_x, y = signature.input(0), signature.outputs[0]
    tail = tuple(np.ravel(part) for part in operands[:4])
    table, epsilon = operands[4], tuple(int(n) for n in operands[5:])
    zero_x = 0 if rule.centred else kind_x.zero_point
    rounding, limits = str(signature.attrs["rounding"]), (y.zero_point, *bounds(y.dtype))
    stored = np.int8 if kind_x.dtype == y.dtype == "i8" else np.int16
    farthest = max(abs(end - y.zero_point) for end in limits[1:])
    dtype = np.float32 if stored is np.int8 else np.float64
    factors, offsets, margins = real_tail(tail, rounding, farthest, dtype)
    after = CODES[rounding], *limits

    @lru_cache(maxsize=4)
    def ready(view: View) -> tuple[Any, ...]:
        channel = channel_of_entries(view.groups, view.parts, view.span, tail[0].size)
        reals = factors[channel].reshape(-1), offsets[channel].reshape(-1), margins
        numbers = row_numbers(rule, view.count, *epsilon)
        rule_numbers = zero_x, rule.fraction, rule.centred, rule.counted, -bounds(kind_x.dtype)[0]
        return channel, tail, reals, (*numbers, *rule_numbers), after

    def bind(view: View, x: np.ndarray) -> Bound:
        dtypes, grid = (stored, storage(y.dtype)), (view.rows, view.count)
        return bound(normalise_rows, ((x, stored),), x.shape, dtypes, table, *ready(view), grid=grid)

    return bind


@jit
def normalise_rows(x, out, table, channel, tail, reals, numbers, limits):  # type: ignore[no-untyped-def]
    """The codes of x [rows, entries], contiguous: in floats, then in integers where those are in doubt."""
    rows, count = x.shape
    divisor, h, epsilon, zero_x, fraction, centred, counted, reach = numbers
    factors, offsets, (margin, growth, per_step, step) = reals
    _, zero_y, low, high = limits
    near, sums = np.empty(count // LANES + 2, np.int64), np.empty(2, np.int64)
    for r in range(rows):
        row_sums(x, r * count, count, sums)
        squares = sums[1] - 2 * zero_x * sums[0] + count * zero_x * zero_x
        total = sums[0] if centred else np.int64(0)
        scaled = (divisor * squares - total * total) << (2 * h)
        joined = scaled + epsilon if counted else max(scaled, epsilon)
        b, k = _reciprocal_root(max(joined, np.int64(1) << (2 * h)), table)
        right = 45 - fraction - k - h
        group = r % channel.shape[0]
        if count < LANES:
            _entries(x[r], out[r], channel[group], tail, 0, count, zero_x, divisor, total, b, right, limits)
            continue
        unit = b / 2.0**right
        alpha, beta = divisor * unit, -(divisor * zero_x + total) * unit
        largest = reach * alpha + abs(beta)
        found = row_codes(
            x, r * count, count, factors, offsets, group * count, out, alpha, beta, largest * 2.0**-50,
            margin + per_step * (growth * largest + step), float(low - zero_y), float(high - zero_y),
            zero_y, near,
        )  # fmt: skip
        for i in range(found):
            first, last = near[i], near[i] + LANES
            _entries(
                x[r], out[r], channel[group], tail, first, last, zero_x, divisor, total, b, right, limits
            )


@jit
def _entries(  # type: ignore[no-untyped-def]
    row, out, channel, tail, first, last, zero_x, divisor, total, b, right, limits
):
    """The codes of some entries of a row, in integers."""
    weight, bias, multiplier, shift = tail
    rounding, zero_y, low, high = limits
    half = np.int64(1) << (right - 1)
    for i in range(first, last):
        c = channel[i]
        z = ((divisor * (np.int64(row[i]) - zero_x) - total) * b + half) >> right
        out[i] = affine(z, weight[c], bias[c], multiplier[c], shift[c], rounding, zero_y, low, high)


@jit
def _reciprocal_root(v, table):  # type: ignore[no-untyped-def]
    """b and k of a V from 1 to 2^62."""
    length, left = np.int64(1), v
    for step in (32, 16, 8, 4, 2, 1):
        if left >> step:
            left >>= step
            length += step
    k = (32 - length) >> 1
    return reciprocal_root(v << (2 * k) if k >= 0 else v >> (-2 * k), table), k
