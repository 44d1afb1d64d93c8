"""Bodies of the functions of one variable: 256 entries by code, or 513 entries with interpolation."""

from nnaq.export.bodies_fixedpoint import rescaler
from nnaq.export.body_builder import Body
from nnaq.ir.op import Signature


def interpolate(body: Body, q: str, table: str, entries: int) -> str:
    """u, the 23-bit value of a table at INT64 codes q; a full table's entry, shifted likewise.

    table: the entries as INT64; `entries` says how many there are (513 or 65536).
    """
    if entries == 65536:
        entry = body.take(table, body.add(q, body.constant(32768)), 0)
        return body.mul(entry, body.constant(128))
    low = body.apply("BitwiseAnd", q, body.constant(127))
    cell = body.apply("Div", body.sub(q, low), body.constant(128))
    left = body.take(table, body.add(cell, body.constant(256)), 0)
    right = body.take(table, body.add(cell, body.constant(257)), 0)
    return body.add(body.mul(left, body.constant(128)), body.mul(body.sub(right, left), low))


def table(body: Body, signature: Signature, x: str, table: str, *scaling: str) -> tuple[str, ...]:
    """Any operator of one variable: its table is an operand."""
    kind = signature.outputs[0]
    if not scaling:
        return (body.take(table, body.add(body.wide(x), body.constant(128)), 0),)
    entries = signature.input(1).shape[0]
    assert isinstance(entries, int)
    value = interpolate(body, body.wide(x), body.wide(table), entries)
    codes = rescaler(body, scaling[0], scaling[1], signature.attrs["rounding"]).to_codes(body, value, kind)
    return (body.codes(codes, kind.dtype),)
