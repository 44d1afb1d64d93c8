"""Bodies of abs, neg, sign and the whole parts: the formulas of `nnaq.kernels.signs`."""

from collections.abc import Callable

from nnaq.export.bodies_fixedpoint import rescaler, saturate
from nnaq.export.body_builder import Body
from nnaq.ir.op import Signature
from nnaq.kernels.signs import CEIL_PART, FLOOR_PART


def signed(op: str) -> Callable[..., tuple[str, ...]]:
    """The body of abs (`Abs`) or neg (`Neg`)."""

    def make(body: Body, signature: Signature, x: str, *scaling: str) -> tuple[str, ...]:
        kind = signature.outputs[0]
        value = body.apply(op, body.centred(x, signature.input(0).zero_point))
        if scaling:
            rescale = rescaler(body, scaling[0], scaling[1], signature.attrs["rounding"])
            value = rescale.requantize(body, value)
        return (body.codes(saturate(body, value, kind), kind.dtype),)

    return make


def sign(body: Body, signature: Signature, x: str) -> tuple[str, ...]:
    return (body.codes(body.apply("Sign", body.centred(x, signature.input(0).zero_point)), "i32"),)


def part(which: int) -> Callable[..., tuple[str, ...]]:
    """The body of floor, ceil or round."""

    def make(body: Body, signature: Signature, x: str, multiplier: str, shift: str) -> tuple[str, ...]:
        d = body.centred(x, signature.input(0).zero_point)
        halves = rescaler(body, multiplier, shift, "floor")
        if which == FLOOR_PART:
            whole = body.shift_right_by(halves.requantize(body, d), 1)
        else:
            below = halves.requantize(body, body.apply("Neg", d))
            if which == CEIL_PART:
                whole = body.apply("Neg", body.shift_right_by(below, 1))
            else:
                whole = _half_even(body, halves.requantize(body, d), body.apply("Neg", below))
        return (body.codes(saturate(body, whole, signature.outputs[0]), "i32"),)

    return make


def _half_even(body: Body, up: str, down: str) -> str:
    """h - 1 where F(d) = -F(-d) and F(d) and h are odd, else h."""
    one = body.constant(1)
    h = body.shift_right_by(body.add(up, one), 1)
    odd = body.apply("BitwiseAnd", body.apply("BitwiseAnd", up, h), one)
    return body.sub(h, body.mul(odd, body.flag("Equal", up, down)))
