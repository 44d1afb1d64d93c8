"""Bodies of the arithmetic between values of equal or broadcast shape."""

from collections.abc import Callable

from nnaq.export.bodies_fixedpoint import rescaler, saturate
from nnaq.export.body_builder import Body
from nnaq.ir.op import Signature
from nnaq.kernels.elementwise import HIGH_16, INPUT_SHIFT, LOW_16


def sum_body(op: str) -> Callable[..., tuple[str, ...]]:
    """The body of add (`Add`) or sub (`Sub`): the standard operator between the rescaled operands."""

    def make(body: Body, signature: Signature, a: str, b: str, *rescales: str) -> tuple[str, ...]:
        kind, rounding = signature.outputs[0], signature.attrs.get("rounding")
        sides = [body.centred(v, signature.input(i).zero_point) for i, v in enumerate((a, b))]
        if len(rescales) == 6:
            sides = [body.mul(side, body.constant(1 << INPUT_SHIFT)) for side in sides]
        if rescales:
            scalings = (rescaler(body, rescales[i], rescales[i + 1], rounding) for i in (0, 2))
            sides = [s.requantize(body, side) for s, side in zip(scalings, sides, strict=True)]
        if len(rescales) == 4:
            sides = [body.clip(side, LOW_16, HIGH_16) for side in sides]
        total = body.apply(op, *sides)
        if len(rescales) == 6:
            total = rescaler(body, rescales[4], rescales[5], rounding).requantize(body, total)
        return (body.codes(saturate(body, total, kind), kind.dtype),)

    return make


def mul(body: Body, signature: Signature, a: str, b: str, *rescale: str) -> tuple[str, ...]:
    """y = saturate(requantize((a - z_a)(b - z_b)) + z_y); without the rescale between whole numbers."""
    kind = signature.outputs[0]
    sides = (body.centred(v, signature.input(i).zero_point) for i, v in enumerate((a, b)))
    if not rescale:
        return (body.codes(saturate(body, body.mul(*sides), kind), kind.dtype),)
    scaling = rescaler(body, rescale[0], rescale[1], signature.attrs["rounding"])
    return (body.codes(scaling.to_codes(body, body.mul(*sides), kind), kind.dtype),)


def square(body: Body, signature: Signature, x: str) -> tuple[str, ...]:
    centred = body.centred(x, signature.input(0).zero_point)
    return (body.codes(body.mul(centred, centred), signature.outputs[0].dtype),)


def relu(body: Body, signature: Signature, x: str) -> tuple[str, ...]:
    kind = signature.input(0)
    return (body.codes(body.apply("Max", body.wide(x), body.constant(kind.zero_point)), kind.dtype),)
