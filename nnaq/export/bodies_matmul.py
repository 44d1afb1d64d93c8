"""Bodies of products of matrices: MatMul in INT64, in the accumulator of the node's contract."""

import numpy as np

from nnaq.export.bodies_fixedpoint import fused_relu, rescaler
from nnaq.export.bodies_narrow import matrix_product, open_product
from nnaq.export.body_builder import Body
from nnaq.ir.op import Signature
from nnaq.kernels.matmul import gain_of
from nnaq.kernels.narrow import narrow_of


def fully_connected(
    body: Body, signature: Signature, x: str, weight: str, bias: str, *rescale: str
) -> tuple[str, ...]:
    """acc = (x - z_x) (weight - z_w)^T + bias, requantised per output or, for i32 results, as it is."""
    kind_x, kind_w, kind_y = signature.input(0), signature.input(1), signature.outputs[0]
    rows = body.centred(x, kind_x.zero_point)
    columns = body.transpose(body.centred(weight, kind_w.zero_point), (1, 0))
    narrow, depth = narrow_of(signature.attrs, kind_x), int(kind_w.shape[1])
    total = matrix_product(body, narrow, rows, columns, depth, body.wide(bias))
    if not rescale:
        return (body.codes(total, kind_y.dtype),)
    multiplier, shift = rescale
    scaling = rescaler(body, multiplier, shift, signature.attrs["rounding"], wide=kind_x.dtype != "i8")
    return (body.codes(scaling.to_codes(body, total, kind_y, fused_relu(signature)), kind_y.dtype),)


def matmul(body: Body, signature: Signature, a: str, b: str, multiplier: str, shift: str) -> tuple[str, ...]:
    """acc = (a - z_a) (b - z_b), requantised by one scale."""
    kind_a, kind_b, kind_y = signature.input(0), signature.input(1), signature.outputs[0]
    operands = body.centred(a, kind_a.zero_point), body.centred(b, kind_b.zero_point)
    narrow, depth = narrow_of(signature.attrs, kind_a), kind_a.shape[-1]
    if isinstance(depth, int):
        total = matrix_product(body, narrow, *operands, depth)
    else:
        total = open_product(body, narrow, *operands)
    wide = "i8" not in (kind_a.dtype, kind_b.dtype)
    scaling = rescaler(body, multiplier, shift, signature.attrs["rounding"], wide=wide)
    return (body.codes(scaling.to_codes(body, total, kind_y), kind_y.dtype),)


def real_matmul(body: Body, signature: Signature, a: str, b: str) -> tuple[str, ...]:
    """gain * (a b), in float32 on the host."""
    product, gain = body.apply("MatMul", a, b), gain_of(signature.attrs)
    return (product if gain == 1 else body.mul(body.constant(np.array(gain, np.float32)), product),)
