"""Requantisation in standard operators: the formulas of `nnaq.kernels.fixedpoint`, word for word.

A `Rescaler` holds what depends on multiplier and shift alone, worked out once before any loop.
A narrow x (32 bits) is multiplied directly: |x * q + 2^(30-s)| < 2^63. A wide x (48 bits) is
split into hi * 2^16 + lo as in the kernels.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from nnaq.export.body_builder import Body
from nnaq.ir.op import Signature
from nnaq.ir.types import TensorType, bounds

Apply = Callable[[Body, str], str]


def prepare_scaled(body: Body, q: str, offset: str | None, n: str, wide: bool) -> Apply:
    """floor((x * q + offset) / 2^n); the returned function applies it to an x."""
    power = body.power(body.sub(n, body.constant(16)) if wide else n)
    mask = body.sub(power, body.constant(1))

    def shift(inner: Body, x: str) -> str:
        return inner.apply("Div", inner.sub(x, inner.apply("BitwiseAnd", x, mask)), power)

    def narrow(inner: Body, x: str) -> str:
        product = inner.mul(x, q)
        return shift(inner, product if offset is None else inner.add(product, offset))

    def split(inner: Body, x: str) -> str:
        low = inner.apply("BitwiseAnd", x, inner.constant(0xFFFF))
        high = inner.apply("Div", inner.sub(x, low), inner.constant(1 << 16))
        product = inner.mul(low, q)
        carry = inner.shift_right_by(product if offset is None else inner.add(product, offset), 16)
        return shift(inner, inner.add(inner.mul(high, q), carry))

    return split if wide else narrow


def _single(body: Body, q: str, s: str, wide: bool) -> Apply:
    offset = body.power(body.sub(body.constant(30), s))
    return prepare_scaled(body, q, offset, body.sub(body.constant(31), s), wide)


def _floor(body: Body, q: str, s: str, wide: bool) -> Apply:
    return prepare_scaled(body, q, None, body.sub(body.constant(31), s), wide)


def _truncate(body: Body, q: str, s: str, wide: bool) -> Apply:
    size = _floor(body, q, s, wide)
    return lambda inner, x: inner.mul(inner.apply("Sign", x), size(inner, inner.apply("Abs", x)))


def _pot_shift(body: Body, q: str, s: str, wide: bool) -> Apply:
    """x itself for s == 1: no bits to shift, nothing to add."""
    right = body.apply("Max", body.apply("Neg", s), body.constant(0))
    offset = body.mul(body.power(right), body.flag("Less", s, body.constant(1)))
    power = body.power(body.sub(body.constant(1), s))
    return lambda inner, x: inner.shift_right(inner.add(x, offset), power)


def _double_m16(body: Body, q: str, s: str, wide: bool) -> Apply:
    rounded = body.shift_right_by(body.add(q, body.constant(1 << 15)), 16)
    narrow = body.apply("Min", rounded, body.constant(0x7FFF))
    offset = body.power(body.sub(body.constant(14), s))
    return prepare_scaled(body, narrow, offset, body.sub(body.constant(15), s), False)


def _high(body: Body, q: str, s: str, wide: bool) -> tuple[Apply, str, str]:
    """h of the two-step modes, r = max(-s, 0), and 2^r."""
    left = body.apply("Max", s, body.constant(0))
    offset = body.power(body.sub(body.constant(30), left))
    high = prepare_scaled(body, q, offset, body.sub(body.constant(31), left), wide)
    right = body.apply("Max", body.apply("Neg", s), body.constant(0))
    return high, right, body.power(right)


def _double(body: Body, q: str, s: str, wide: bool) -> Apply:
    high, _, power = _high(body, q, s, wide)
    mask = body.sub(power, body.constant(1))
    half = body.shift_right_by(mask, 1)

    def apply(inner: Body, x: str) -> str:
        h = high(inner, x)
        low = inner.apply("BitwiseAnd", h, mask)
        threshold = inner.add(half, inner.flag("Less", h, inner.constant(0)))
        floor = inner.apply("Div", inner.sub(h, low), power)
        return inner.add(floor, inner.flag("Greater", low, threshold))

    return apply


def _half_up_shift(body: Body, q: str, s: str, wide: bool) -> Apply:
    high, _, power = _high(body, q, s, wide)
    half = body.shift_right_by(power, 1)  # 2^(r-1), and 0 for r == 0
    return lambda inner, x: inner.shift_right(inner.add(high(inner, x), half), power)


def _half_even(body: Body, q: str, s: str, wide: bool) -> Apply:
    """f32(M) from its bits: (1.mantissa as a whole number) * 2^(exponent - 150)."""
    fraction = body.apply("BitwiseAnd", q, body.constant((1 << 23) - 1))
    exponent = body.shift_right_by(q, 23)
    powers = body.constant(np.ldexp(np.float32(1), np.arange(256) - 150).astype(np.float32))
    whole = body.codes(body.add(fraction, body.constant(1 << 23)), "f32")
    scale = body.mul(whole, body.take(powers, exponent, 0))
    return lambda inner, x: inner.wide(inner.apply("Round", inner.mul(inner.codes(x, "f32"), scale)))


_MODES = {
    "single": _single,
    "double": _double,
    "half_even": _half_even,
    "half_up_shift": _half_up_shift,
    "pot_shift": _pot_shift,
    "floor": _floor,
    "truncate": _truncate,
    "double_m16": _double_m16,
}


@dataclass(frozen=True)
class Rescaler:
    """A multiplier and a shift made ready: `requantize` of an INT64 value."""

    apply: Apply

    def requantize(self, body: Body, x: str) -> str:
        """x * M, INT64 in and out."""
        return self.apply(body, x)

    def to_codes(self, body: Body, x: str, kind: TensorType, relu: bool = False) -> str:
        """x * M saturated to codes of `kind`, still INT64."""
        return saturate(body, self.requantize(body, x), kind, relu)


def rescaler(body: Body, multiplier: str, shift: str, rounding: object, wide: bool = False) -> Rescaler:
    """What requantises by `multiplier` and `shift`, which broadcast against the last axes of x.

    wide: x may take 48 bits instead of 32.
    """
    return Rescaler(_MODES[str(rounding)](body, body.wide(multiplier), body.wide(shift), wide))


def saturate(body: Body, y: str, kind: TensorType, relu: bool = False) -> str:
    """Clamp to [low - zero_point, high - zero_point], then add zero_point; relu clamps below at 0."""
    low, high = bounds(kind.dtype)
    zero_point = kind.zero_point
    limited = body.clip(y, 0 if relu else low - zero_point, high - zero_point)
    return limited if zero_point == 0 else body.add(limited, body.constant(zero_point))


def fused_relu(signature: Signature) -> bool:
    """Whether a relu is fused into the node's rescale."""
    return signature.attrs.get("activation", "none") == "relu"
