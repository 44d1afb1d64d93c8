"""Bodies of products of matrices: MatMul in INT64, which no accumulator of nnaq leaves."""

from nnaq.export.bodies_fixedpoint import fused_relu, rescaler
from nnaq.export.body_builder import Body
from nnaq.ir.op import Signature


def fully_connected(
    body: Body, signature: Signature, x: str, weight: str, bias: str, multiplier: str, shift: str
) -> tuple[str, ...]:
    """acc = (x - z_x) (weight - z_w)^T + bias, requantised per output."""
    kind_x, kind_w, kind_y = signature.input(0), signature.input(1), signature.outputs[0]
    rows = body.centred(x, kind_x.zero_point)
    columns = body.transpose(body.centred(weight, kind_w.zero_point), (1, 0))
    total = body.add(body.apply("MatMul", rows, columns), body.wide(bias))
    scaling = rescaler(body, multiplier, shift, signature.attrs["rounding"], wide=kind_x.dtype != "i8")
    return (body.codes(scaling.to_codes(body, total, kind_y, fused_relu(signature)), kind_y.dtype),)


def matmul(body: Body, signature: Signature, a: str, b: str, multiplier: str, shift: str) -> tuple[str, ...]:
    """acc = (a - z_a) (b - z_b), requantised by one scale."""
    kind_a, kind_b, kind_y = signature.input(0), signature.input(1), signature.outputs[0]
    total = body.apply("MatMul", body.centred(a, kind_a.zero_point), body.centred(b, kind_b.zero_point))
    wide = "i8" not in (kind_a.dtype, kind_b.dtype)
    scaling = rescaler(body, multiplier, shift, signature.attrs["rounding"], wide=wide)
    return (body.codes(scaling.to_codes(body, total, kind_y), kind_y.dtype),)
