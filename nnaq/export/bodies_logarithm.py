"""The body of log: the formulas of `nnaq.kernels.logarithm`, and of the island it leaves."""

import numpy as np

from nnaq.export import bodies_lut
from nnaq.export.bodies_division import spare_bits
from nnaq.export.bodies_fixedpoint import rescaler
from nnaq.export.body_builder import Body
from nnaq.ir.op import Signature
from nnaq.kernels.logarithm import CELL, LAST, LN_2


def log(body: Body, signature: Signature, x: str, table: str, *scaling: str) -> tuple[str, ...]:
    """y = saturate(requantize(v) + z_y), with d = 1 in the place of what is less."""
    if not scaling:
        return bodies_lut.table(body, signature, x, table)
    kind, (offset, multiplier, shift) = signature.outputs[0], scaling
    d = body.apply("Max", body.centred(x, signature.input(0).zero_point), body.constant(1))
    total = body.add(body.add(_logarithm(body, d, table), body.wide(offset)), body.constant(8))
    scale = rescaler(body, multiplier, shift, signature.attrs["rounding"], wide=True)
    return (body.codes(scale.to_codes(body, body.shift_right_by(total, 4), kind), kind.dtype),)


def _logarithm(body: Body, d: str, table: str) -> str:
    """ln d in Q.30."""
    k = spare_bits(body, d)
    m = body.mul(d, body.power(k))
    cell = body.sub(body.shift_right_by(m, CELL), body.constant(512))
    i = body.apply("Min", cell, body.constant(LAST))
    u = body.sub(m, body.mul(body.add(i, body.constant(512)), body.constant(1 << CELL)))
    entries = body.wide(table)
    left, middle, right = (body.take(entries, body.add(i, body.constant(n)), 0) for n in range(3))
    p = body.sub(middle, left)
    r = body.sub(body.sub(right, middle), p)
    square = body.mul(u, body.sub(u, body.constant(1 << CELL)))
    bent = body.add(body.mul(p, u), body.shift_right_by(body.mul(r, square), CELL + 1))
    part = body.shift_right_by(body.add(bent, body.constant(1 << (CELL - 1))), CELL)
    whole = body.mul(body.sub(body.constant(31), k), body.constant(LN_2))
    return body.add(body.add(left, part), whole)


def real_log(body: Body, signature: Signature, x: str) -> tuple[str, ...]:
    """ln x; -infinity where x is not positive."""
    return (body.apply("Log", body.apply("Max", x, body.constant(np.array(0, np.float32)))),)
