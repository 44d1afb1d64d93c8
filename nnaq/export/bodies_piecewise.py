"""Bodies of the activations made of straight pieces: the formulas of `nnaq.kernels.piecewise`."""

from collections.abc import Callable

from nnaq.export import bodies_lut
from nnaq.export.bodies_fixedpoint import rescaler, saturate
from nnaq.export.body_builder import Body
from nnaq.ir.op import Signature
from nnaq.kernels.piecewise import GATE, LINE, SLOPES, whole_attrs


def pieces(shape: int) -> Callable[..., tuple[str, ...]]:
    """The body of one shape; i8 operands read a table."""

    def make(body: Body, signature: Signature, x: str, *constants: str) -> tuple[str, ...]:
        if len(constants) == 1:
            return bodies_lut.table(body, signature, x, *constants)
        kind = signature.outputs[0]
        y = SHAPES[shape](body, signature, body.wide(x), *constants)
        return (body.codes(saturate(body, y, kind), kind.dtype),)

    return make


def _slopes(body: Body, signature: Signature, d: str, *scaling: str) -> str:
    threshold, _, sign = whole_attrs(signature, SLOPES)
    rounding = signature.attrs["rounding"]
    above = rescaler(body, scaling[0], scaling[1], rounding).requantize(body, d)
    signed = body.mul(d, body.constant(sign))
    below = rescaler(body, scaling[2], scaling[3], rounding).requantize(body, signed)
    return body.apply("Where", body.apply("Greater", d, body.constant(threshold)), above, below)


def _line(body: Body, signature: Signature, d: str, *scaling: str) -> str:
    offset, one, sign = whole_attrs(signature, LINE)
    scaled = rescaler(body, scaling[0], scaling[1], signature.attrs["rounding"])
    y = scaled.requantize(body, body.mul(d, body.constant(sign)))
    return body.clip(body.add(y, body.constant(offset)), 0, one)


def _gate(body: Body, signature: Signature, d: str, *scaling: str) -> str:
    rounding = signature.attrs["rounding"]
    y = rescaler(body, scaling[0], scaling[1], rounding).requantize(body, d)
    gate = body.clip(body.add(y, body.constant(2**14)), 0, 2**15)
    return rescaler(body, scaling[2], scaling[3], rounding).requantize(body, body.mul(d, gate))


SHAPES = {SLOPES: _slopes, LINE: _line, GATE: _gate}


def prelu(body: Body, signature: Signature, x: str, slope: str, *scaling: str) -> tuple[str, ...]:
    kind, rounding = signature.outputs[0], signature.attrs["rounding"]
    d, m = (body.centred(v, signature.input(i).zero_point) for i, v in enumerate((x, slope)))
    above = rescaler(body, scaling[0], scaling[1], rounding).requantize(body, d)
    below = rescaler(body, scaling[2], scaling[3], rounding).requantize(body, body.mul(d, m))
    y = body.apply("Where", body.apply("Greater", d, body.constant(0)), above, below)
    return (body.codes(saturate(body, y, kind), kind.dtype),)
