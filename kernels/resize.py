"""Resizing along any axes of x: images, and time.

Along an axis of `size` entries the factor is the fraction m / k nearest to the scale (k up to 1024), and
the result has size * m // k entries. Entry i stands at the place p = a / d of x, exact in integers:

    coordinates            a                       d
    half_pixel             (2 i + 1) k - m         2 m
    pytorch_half_pixel     the same, but a = 0 where the result has one entry
    asymmetric             i k                     m
    align_corners          i (size - 1)            result size - 1; a = 0, d = 1 where that is no number

    mode nearest    y = the code at p rounded to a whole number, limited to 0 … size - 1. `nearest`:
                    round_prefer_floor   (the default)   -((d - 2 a) // (2 d))
                    round_prefer_ceil                    (2 a + d) // (2 d)
                    floor                                a // d
                    ceil                                 -(-a // d)
    mode linear     a is limited to 0 … (size - 1) d;  j = a // d;  r = a - j d;  along one axis
                    S = (d - r) (q_j - z) + r (q_min(j+1, size-1) - z);  the next axis takes S for q - z;
                    y = half_away(S / D) + z,  D the product of all d,  rounded once, after the last axis

Operand and result share one code type: an interpolated value never leaves the range of its neighbours,
so nothing saturates. |S| <= D max|q - z| < 2^46, because D below 2^30 is demanded (align_corners: the
product of the result's sizes). nearest is exact, linear within 1/2 code of the reals. A machine
divides by the constant D with a reciprocal; where m is a power of two (2x, 4x) it is a shift.
attributes: scales, one per axis of x (1 leaves it alone), mode, coordinates, nearest.
"""

import math
from collections.abc import Iterator
from fractions import Fraction
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from nnaq.errors import GraphError
from nnaq.ir.dims import Dim, Shape, bind, floor_divide, multiply
from nnaq.ir.op import Arrays, Op, Signature, Work, as_is, register
from nnaq.kernels.movement import Attrs, Types, operand
from nnaq.kernels.pool import half_away_reference

MODES = ("nearest", "linear")
COORDINATES = ("half_pixel", "pytorch_half_pixel", "asymmetric", "align_corners")
NEAREST = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
LARGEST_DENOMINATOR = 1024


class Rule(NamedTuple):
    """How entries of the result find their places."""

    mode: str
    coordinates: str
    nearest: str


@cache
def fraction(scale: float) -> Fraction:
    """The factor m / k that a scale stands for."""
    return Fraction(scale).limit_denominator(LARGEST_DENOMINATOR)


def factors(attrs: Attrs, rank: int) -> dict[int, Fraction]:
    """The factor of every axis that changes. Raises GraphError for scales that make no sense."""
    scales = attrs.get("scales")
    if not isinstance(scales, tuple) or len(scales) != rank:
        raise GraphError(f"resize needs one scale per axis, {rank} of them, found {scales!r}")
    found = {}
    for axis, scale in enumerate(scales):
        if not isinstance(scale, int | float) or not math.isfinite(scale) or fraction(scale) <= 0:
            raise GraphError(f"resize needs scales of at least 1/{LARGEST_DENOMINATOR}, found {scale!r}")
        if fraction(scale) != 1:
            found[axis] = fraction(scale)
    return found


def rule(attrs: Attrs) -> Rule:
    """mode, coordinates and nearest. Raises GraphError for a word nobody knows."""
    words = []
    for key, known in (("mode", MODES), ("coordinates", COORDINATES), ("nearest", NEAREST)):
        word = attrs.get(key, known[0])
        if word not in known:
            raise GraphError(f"resize has no {key} {word!r}; there are {', '.join(known)}")
        words.append(str(word))
    return Rule(*words)


def resized(dim: Dim, factor: Fraction) -> Dim:
    """size * m // k."""
    return floor_divide(multiply(dim, factor.numerator), factor.denominator)


def infer(inputs: Types, attrs: Attrs) -> tuple[Shape, ...]:
    shape = operand(inputs).shape
    found, how = factors(attrs, len(shape)), rule(attrs)
    if how.mode == "linear" and math.prod(2 * factor.numerator for factor in found.values()) >= 2**30:
        raise GraphError(f"resize: the scales {attrs['scales']} need weights of more than 30 bits")
    return (tuple(resized(dim, found[a]) if a in found else dim for a, dim in enumerate(shape)),)


def places(how: Rule, size: int, factor: Fraction) -> tuple[list[int], int]:
    """a of every entry of the result, and d."""
    count, m, k = size * factor.numerator // factor.denominator, factor.numerator, factor.denominator
    if how.coordinates == "align_corners":
        return ([i * (size - 1) for i in range(count)], count - 1) if count > 1 else ([0] * count, 1)
    if how.coordinates == "asymmetric":
        return [i * k for i in range(count)], m
    if how.coordinates == "pytorch_half_pixel" and count == 1:
        return [0], 2 * m
    return [(2 * i + 1) * k - m for i in range(count)], 2 * m


def nearest_entry(word: str, a: int, d: int, size: int) -> int:
    """The entry of x that stands nearest to a / d."""
    found = {
        "round_prefer_floor": -((d - 2 * a) // (2 * d)),
        "round_prefer_ceil": (2 * a + d) // (2 * d),
        "floor": a // d,
        "ceil": -(-a // d),
    }[word]
    return min(max(found, 0), size - 1)


def neighbours(a: int, d: int, size: int) -> tuple[int, int, int]:
    """j, the entry after it, and r, for linear interpolation at a / d."""
    limited = min(max(a, 0), (size - 1) * d)
    return limited // d, min(limited // d + 1, size - 1), limited % d


@cache
def nearest_entries(how: Rule, size: int, factor: Fraction) -> np.ndarray:
    """The entry of x for every entry of the result."""
    numbers, d = places(how, size, factor)
    return np.array([nearest_entry(how.nearest, a, d, size) for a in numbers], np.int64)


@cache
def linear_entries(how: Rule, size: int, factor: Fraction) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """j, the entry after it, and r for every entry of the result; d."""
    numbers, d = places(how, size, factor)
    table = np.array([neighbours(a, d, size) for a in numbers], np.int64).reshape(-1, 3)
    return table[:, 0], table[:, 1], table[:, 2], d


def _along(values: np.ndarray, axis: int, rank: int) -> np.ndarray:
    return values.reshape([-1 if a == axis else 1 for a in range(rank)])


def _linear(x: np.ndarray, attrs: Attrs) -> tuple[np.ndarray, int]:
    """S for centred codes x (int64), and D."""
    how, total = rule(attrs), 1
    for axis, factor in factors(attrs, x.ndim).items():
        first, second, r, d = linear_entries(how, x.shape[axis], factor)
        weight = _along(r, axis, x.ndim)
        x = (d - weight) * x.take(first, axis) + weight * x.take(second, axis)
        total *= d
    return x, total


def real(xp: Any, attrs: Attrs, x: Any) -> tuple[Any, ...]:
    """Gathered entries, or the means of two of them weighted by r / d."""
    how, rank = rule(attrs), len(x.shape)
    for axis, factor in factors(attrs, rank).items():
        if how.mode == "nearest":
            x = _take(xp, x, nearest_entries(how, x.shape[axis], factor), axis)
            continue
        first, second, r, d = linear_entries(how, x.shape[axis], factor)
        weight = xp.asarray(_along(r / d, axis, rank), dtype=x.dtype, device=x.device)
        x = (1 - weight) * _take(xp, x, first, axis) + weight * _take(xp, x, second, axis)
    return (x,)


def _take(xp: Any, x: Any, entries: np.ndarray, axis: int) -> Any:
    index = (slice(None),) * axis
    return x[(*index, xp.asarray(entries, device=x.device))]


# --- over codes


def fast(signature: Signature, x: np.ndarray) -> Arrays:
    if rule(signature.attrs).mode == "nearest":
        (moved,) = real(np, signature.attrs, x)
        return (np.ascontiguousarray(moved).reshape(moved.shape),)
    zero_point = signature.input(0).zero_point
    total, divisor = _linear(x.astype(np.int64) - zero_point, signature.attrs)
    size = (np.abs(total) + divisor // 2) // divisor
    return (np.asarray(np.sign(total) * size + zero_point, x.dtype),)


def reference(signature: Signature, x: np.ndarray) -> Arrays:
    """One entry of the result at a time, in Python integers."""
    how, found = rule(signature.attrs), factors(signature.attrs, x.ndim)
    shape = tuple(
        n * found[a].numerator // found[a].denominator if a in found else n for a, n in enumerate(x.shape)
    )
    zero_point, codes = signature.input(0).zero_point, []
    for index in np.ndindex(*shape):
        total, divisor = 0, math.prod(places(how, x.shape[a], f)[1] for a, f in found.items())
        for place, weight in _corners(how, found, x.shape, index):
            total += weight * (int(x[place]) - zero_point)
        divisor = divisor if how.mode == "linear" else 1
        codes.append(half_away_reference(total, divisor) + zero_point)
    return (np.array(codes, x.dtype).reshape(shape),)


def _corners(
    how: Rule, found: dict[int, Fraction], sizes: tuple[int, ...], index: tuple[int, ...]
) -> Iterator[tuple[tuple[int, ...], int]]:
    """The entries of x that an entry of the result is made of, with their weights."""
    corners: list[tuple[tuple[int, ...], int]] = [((), 1)]
    for axis, i in enumerate(index):
        parts = [(i, 1)]
        if axis in found:
            numbers, d = places(how, sizes[axis], found[axis])
            if how.mode == "nearest":
                parts = [(nearest_entry(how.nearest, numbers[i], d, sizes[axis]), 1)]
            else:
                first, second, r = neighbours(numbers[i], d, sizes[axis])
                parts = [(first, d - r), (second, r)]
        corners = [((*place, j), weight * w) for place, weight in corners for j, w in parts]
    return iter(corners)


def work(signature: Signature) -> Work:
    """One vector operation per entry that a result is made of."""
    count = math.prod(bind(signature.outputs[0].shape, {}))
    axes = len(factors(signature.attrs, signature.input(0).rank))
    return Work(elementwise=count * (2**axes if rule(signature.attrs).mode == "linear" else 1))


register(
    Op(
        "resize",
        ("x",),
        ("i8 -> i8", "i16 -> i16"),
        infer,
        real,
        as_is,
        reference,
        fast,
        work,
        "nearest: y = a code of x;  linear: y = half_away(Σ weight * (q - z) / D) + z, whole weights",
        ties=((0, ~0),),
    )
)
