"""The natural logarithm in integers: normalisation, a table with quadratic interpolation, one rescale.

i8 operand: 256 entries, as in `nnaq.kernels.lut`. i16 and i32 operands, with d = max(q - z_x, 1), R
the requantisation of `fixedpoint`, sat its saturation, and T of 513 entries in Q.30:

    k = 32 - bit_length(d);  m = d << k               a CLZ; f = m / 2^31 in [1, 2), d = f 2^(31 - k)
    T[j] = round_half_away(2^30 ln(1 + j / 512))
    i = min((m >> 22) - 512, 510);  u = m - ((512 + i) << 22)         u / 2^22 in [0, 2): past T[i]
    p = T[i+1] - T[i];  r = T[i+2] - 2 T[i+1] + T[i]                  first and second difference
    L = T[i] + ((p u + ((r (u (u - 2^22))) >> 23) + 2^21) >> 22)      ln f in Q.30, by three entries
    v = (L + (31 - k) N + offset + 8) >> 4                            ln x in Q.26, at most 38 bits
    y = sat(R(v, multiplier, shift) + z_y)

N = round(2^30 ln 2), offset = round_half_away(2^30 ln s_x), held as i48; multiplier and shift stand for
2^-26 / s_y, so that powers of two may serve as s_y under pot_shift. What is not positive counts as
d = 1: the value at the smallest positive code. Every product stays below 2^63. A result scale above
2^6 makes the multiplier 0 and y = z_y: any float32's logarithm is then within two codes of it.

L is within 2^-29 of ln f (2^-30 for the cubic that three entries leave, the rest for their rounding),
v / 2^26 within 2^-26 of ln x; y is within 0.5 + 2^-15 + 2^-26 / s_y of the reals, in units of the
result, with rounding `single`, wherever it does not saturate. Over the reals the logarithm of what is
not positive is -infinity, with a gradient of 0.
"""

import math
from typing import Any

import numpy as np

from nnaq.ir.numerics import Numerics
from nnaq.ir.op import Arrays, Constant, Op, Prepared, Signature, Work, register
from nnaq.ir.types import TensorType, bounds, storage
from nnaq.jit import jit
from nnaq.kernels import lut
from nnaq.kernels.boundary import elementwise_work, multiplier_constants, same_shape
from nnaq.kernels.fixedpoint import (
    CODES,
    quantize_multipliers,
    requantize,
    requantize_reference,
    saturate,
    saturate_reference,
)
from nnaq.kernels.inverses import spare_bits
from nnaq.kernels.roots import guarded

CELL = 22  # bits of m below the number of its cell
LAST = 510  # the last entry with two after it
LN_2 = round(2**30 * math.log(2.0))  # N
VECTOR_OPERATIONS = 6  # normalise, three products of the interpolation, the exponent, the rescale

narrow = lut.prepare_table(lambda xp, x: xp.log(x))


def logarithm_table() -> np.ndarray:
    """T: ln(1 + j / 512) in Q.30 for j = 0 … 512."""
    return np.floor(2.0**30 * np.log1p(np.arange(513) / 512.0) + 0.5).astype(np.int32)


def real(xp: Any, attrs: Any, x: Any) -> tuple[Any, ...]:
    """ln x; -infinity without a slope where x is not positive."""
    return (guarded(xp, x > 0, xp.log, x, -math.inf),)


def prepare(signature: Signature, constants: tuple[np.ndarray | None, ...], numerics: Numerics) -> Prepared:
    """A table for i8 operands; table, offset and the rescale of 2^-26 / s_y for wider ones."""
    x, y = signature.input(0), signature.outputs[0]
    if x.dtype == "i8":
        return narrow(signature, constants, numerics)
    rescale = quantize_multipliers(np.array(2.0**-26 / y.scale), numerics.rounding, 2**47)
    table = Constant("table", TensorType("i32", (513,)), logarithm_table())
    shift = np.array(math.floor(2.0**30 * math.log(x.scale) + 0.5), np.int64)
    offset = Constant("offset", TensorType("i48", ()), shift)
    return Prepared((0, table, offset, *multiplier_constants(*rescale)), {"rounding": numerics.rounding})


def logarithm_reference(d: int, table: list[int]) -> int:
    """ln d in Q.30 of a positive d of at most 32 bits, in Python integers."""
    k = 32 - d.bit_length()
    m = d << k
    i = min((m >> CELL) - 512, LAST)
    u = m - ((512 + i) << CELL)
    p, r = table[i + 1] - table[i], table[i + 2] - 2 * table[i + 1] + table[i]
    bent = p * u + ((r * (u * (u - (1 << CELL)))) >> (CELL + 1))
    return table[i] + ((bent + (1 << (CELL - 1))) >> CELL) + (31 - k) * LN_2


def reference(signature: Signature, x: np.ndarray, table: np.ndarray, *scaling: np.ndarray) -> Arrays:
    """One code at a time, in Python integers."""
    if not scaling:
        return lut.reference(signature, x, table)
    y, entries, zero_x = signature.outputs[0], [int(t) for t in table], signature.input(0).zero_point
    offset, q, s = (int(c) for c in scaling)
    rounding, codes = str(signature.attrs["rounding"]), []
    for code in x.ravel():
        v = (logarithm_reference(max(int(code) - zero_x, 1), entries) + offset + 8) >> 4
        value = requantize_reference(v, q, s, rounding)
        codes.append(saturate_reference(value, y.zero_point, *bounds(y.dtype)))
    return (np.array(codes, storage(y.dtype)).reshape(x.shape),)


def fast(signature: Signature, x: np.ndarray, table: np.ndarray, *scaling: np.ndarray) -> Arrays:
    """The same codes from a compiled loop."""
    if not scaling:
        return lut.fast(signature, x, table)
    y = signature.outputs[0]
    out = np.empty(x.shape, storage(y.dtype))
    numbers = [*(int(c) for c in scaling), CODES[str(signature.attrs["rounding"])]]
    numbers += [signature.input(0).zero_point, y.zero_point, *bounds(y.dtype)]
    _logarithm_loop(np.ascontiguousarray(x).reshape(-1), out.reshape(-1), table, *numbers)
    return (out,)


@jit
def logarithm_of(d, table):  # type: ignore[no-untyped-def]
    """ln d in Q.30 of a positive d of at most 32 bits; every product stays below 2^63."""
    k = spare_bits(d)
    m = d << k
    i = min((m >> CELL) - 512, np.int64(LAST))
    u = m - ((512 + i) << CELL)
    left, middle, right = np.int64(table[i]), np.int64(table[i + 1]), np.int64(table[i + 2])
    p, r = middle - left, right - 2 * middle + left
    bent = p * u + ((r * (u * (u - (np.int64(1) << CELL)))) >> (CELL + 1))
    return left + ((bent + (np.int64(1) << (CELL - 1))) >> CELL) + (31 - k) * LN_2


@jit
def _logarithm_loop(  # type: ignore[no-untyped-def]
    x, out, table, offset, q, s, rounding, zero_x, zero_y, low, high
):
    for i in range(x.size):
        d = max(np.int64(x[i]) - zero_x, np.int64(1))
        v = (logarithm_of(d, table) + offset + 8) >> 4
        out[i] = saturate(requantize(v, q, s, rounding), zero_y, low, high)


def work(signature: Signature) -> Work:
    """A look-up for i8 codes; three and a handful of vector operations for wider ones."""
    if signature.input(0).dtype == "i8":
        return lut.work(signature)
    size = elementwise_work(signature).elementwise
    return Work(elementwise=VECTOR_OPERATIONS * size, lookups=3 * size)


log = register(
    Op(
        "log",
        ("x",),
        (*lut.FORMS_8, *(f"{x} i32 i48 i32 i8 -> {y}" for x in ("i16", "i32") for y in ("i8", "i16"))),
        same_shape,
        real,
        prepare,
        reference,
        fast,
        work,
        "y = ln(x): 256-entry table for i8; CLZ, 513 entries with quadratic interpolation for wider codes",
    )
)
