"""The body of resize: gathered entries, weighted by whole numbers and divided once.

Places are constant along an axis of whole size and worked out at run time along an open one. They
are limited to the axis before they are rounded, which changes no result and keeps them positive.
"""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from nnaq.export.bodies_reduce import half_away
from nnaq.export.body_builder import Body
from nnaq.ir.dims import Dim
from nnaq.ir.op import Signature
from nnaq.kernels.resize import Rule, factors, linear_entries, nearest_entries, rule


@dataclass(frozen=True)
class Places:
    """Where the entries of an axis stand: a, d and the last entry of x, as names."""

    a: str
    d: str
    last: str


def _places(body: Body, how: Rule, size: str, factor: Fraction) -> Places:
    """a (limited to the axis) and d of the module `nnaq.kernels.resize`, at run time."""
    one, m, k = body.constant(1), body.constant(factor.numerator), body.constant(factor.denominator)
    count = body.apply("Div", body.mul(size, m), k)
    i = body.apply("Range", body.constant(0), count, one)
    last = body.sub(size, one)
    if how.coordinates == "align_corners":
        a, d = body.mul(i, last), body.apply("Max", body.sub(count, one), one)
    elif how.coordinates == "asymmetric":
        a, d = body.mul(i, k), m
    else:
        odd = body.add(body.mul(i, body.constant(2)), one)
        a, d = body.sub(body.mul(odd, k), m), body.constant(2 * factor.numerator)
    if how.coordinates == "pytorch_half_pixel":
        a = body.mul(a, body.flag("Greater", count, one))
    limited = body.apply("Min", body.apply("Max", a, body.constant(0)), body.mul(last, d))
    return Places(limited, d, last)


def _nearest(body: Body, how: Rule, size: str, dim: Dim, factor: Fraction) -> str:
    """The entry of x for every entry of the result."""
    if isinstance(dim, int):
        return body.constant(nearest_entries(how, dim, factor))
    at, one = _places(body, how, size, factor), body.constant(1)
    two, twice = body.constant(2), body.add(at.a, at.a)
    if how.nearest == "floor":
        return body.apply("Div", at.a, at.d)
    if how.nearest == "ceil":
        return body.apply("Div", body.sub(body.add(at.a, at.d), one), at.d)
    up = body.add(twice, at.d)
    up = body.sub(up, one) if how.nearest == "round_prefer_floor" else up
    return body.apply("Div", up, body.mul(at.d, two))


def _linear(body: Body, how: Rule, size: str, dim: Dim, factor: Fraction) -> tuple[str, str, str, str]:
    """j, the entry after it, r, and d."""
    if isinstance(dim, int):
        *entries, denominator = linear_entries(how, dim, factor)
        near, far, weight = (body.constant(part) for part in entries)
        return near, far, weight, body.constant(denominator)
    at = _places(body, how, size, factor)
    first = body.apply("Div", at.a, at.d)
    second = body.apply("Min", body.add(first, body.constant(1)), at.last)
    return first, second, body.sub(at.a, body.mul(first, at.d)), at.d


def resize(body: Body, signature: Signature, x: str) -> tuple[str, ...]:
    """nearest moves codes; linear sums them with whole weights."""
    kind, how = signature.input(0), rule(signature.attrs)
    if how.mode == "nearest":
        return (_moved(body, signature, x),)
    total, divisor = body.centred(x, kind.zero_point), body.constant(1)
    for axis, factor in factors(signature.attrs, kind.rank).items():
        size = body.size(x, axis, kind.shape[axis])
        first, second, r, d = _linear(body, how, size, kind.shape[axis], factor)
        weight = body.reshape(r, (-1, *[1] * (kind.rank - 1 - axis)))
        near = body.mul(body.sub(d, weight), body.take(total, first, axis))
        total = body.add(near, body.mul(weight, body.take(total, second, axis)))
        divisor = body.mul(divisor, d)
    codes = body.add(half_away(body, total, divisor), body.constant(kind.zero_point))
    return (body.codes(codes, kind.dtype),)


def _moved(body: Body, signature: Signature, x: str) -> str:
    kind, how, y = signature.input(0), rule(signature.attrs), body.apply("Identity", x)
    for axis, factor in factors(signature.attrs, kind.rank).items():
        size = body.size(x, axis, kind.shape[axis])
        y = body.take(y, _nearest(body, how, size, kind.shape[axis], factor), axis)
    return y


def real_resize(body: Body, signature: Signature, x: str) -> tuple[str, ...]:
    """nearest as for codes; linear: (1 - r / d) x_j + r / d x_j+1, axis by axis."""
    kind, how = signature.input(0), rule(signature.attrs)
    if how.mode == "nearest":
        return (_moved(body, signature, x),)
    y, one = body.apply("Identity", x), body.constant(np.array(1, np.float32))
    for axis, factor in factors(signature.attrs, kind.rank).items():
        size = body.size(x, axis, kind.shape[axis])
        first, second, r, d = _linear(body, how, size, kind.shape[axis], factor)
        share = body.apply("Div", body.codes(r, "f32"), body.codes(d, "f32"))
        weight = body.reshape(share, (-1, *[1] * (kind.rank - 1 - axis)))
        near = body.mul(body.sub(one, weight), body.take(y, first, axis))
        y = body.add(near, body.mul(weight, body.take(y, second, axis)))
    return (y,)
