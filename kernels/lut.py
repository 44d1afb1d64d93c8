"""Functions of one variable through tables.

i8 operand: 256 entries by code, T[q + 128] = saturate(round_half_away(f(s_x * (q - z_x)) / s_y) + z_y),
computed once in float64 and stored in the graph; the result may be i8 or i16.

i16 operand (zero_point 0): TOSA TABLE with 513 entries and linear interpolation,

    T[j] = clamp(round_half_away(f(s_x * 128 * (j - 256)) / s_t), -2^15, 2^15 - 1),  0 <= j <= 512
    i = (q >> 7) + 256,  u = (T[i] << 7) + (T[i+1] - T[i]) * (q & 127)     (23 bits)
    y = saturate(requantize(u, multiplier, shift) + z_y)

with s_t the scale that spreads the table's largest entry over 15 bits; multiplier and shift stand
for s_t / (128 * s_y). For an i16 result s_t = s_y, and the rescale is TOSA's RESCALE(2^30, 37).
A table of 65,536 entries, T[q + 32768] = clamp(round_half_away(f(s_x * q) / s_t), -2^15, 2^15 - 1) with
u = T << 7, is read directly: a contract's lut_entries asks for it, and importers of other runtimes' tables.

A function that is not finite at some code of its operand (log of i8 codes at 0) takes the nearest finite
entry, of two equally near the one to the right. The result is the correctly rounded value for i8
operands. For i16 operands it is, in codes of the result, within

    1 + max |f''| (128 s_x)^2 / (8 s_y)

(1/2 for the entries, 1/2 for the rescale, and what a chord may leave of a curve, which is nothing for
65,536 entries), as long as the result does not saturate; the tests measure it per function. Attributes
of the operator are parameters of f: the table holds them, the integer form has none.
"""

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from nnaq.errors import LoweringError
from nnaq.ir.numerics import Numerics
from nnaq.ir.op import (
    Arrays,
    Attr,
    Bindable,
    Constant,
    Kernel,
    Op,
    Prepared,
    Signature,
    Work,
    at_once,
    register,
)
from nnaq.ir.types import TensorType, bounds, storage
from nnaq.jit import jit
from nnaq.kernels.bound import Bound, bound
from nnaq.kernels.boundary import by_code, multiplier_constants, round_real, same_shape, when_constant
from nnaq.kernels.fixedpoint import (
    CODES,
    quantize_multipliers,
    requantize,
    requantize_reference,
    saturate,
    saturate_reference,
)
from nnaq.kernels.machine.maps import interpolation_map
from nnaq.kernels.requantize_lanes import kind_of, limit_rows, rescaling_rows, stage_rows

Function = Callable[..., Any]  # (xp, x, **parameters)


WIDEST_VALUE = 2**22  # of an interpolation
FORMS_8 = ("i8 i8 -> i8", "i8 i16 -> i16")


def finite_values(function: Function, x: np.ndarray) -> np.ndarray:
    """f at x in float64; where it is not finite, its value at the nearest finite entry."""
    with np.errstate(all="ignore"):
        y = np.asarray(function(np, x.astype(np.float64)), np.float64)
    good = np.flatnonzero(np.isfinite(y))
    if not good.size:
        raise LoweringError(
            f"no code of the operand has a finite value; its codes reach from {x[0]} to {x[-1]}: "
            "give the operand codes that meet the domain of the function"
        )
    index = np.arange(y.size)
    at = np.searchsorted(good, index)
    right, left = good[np.minimum(at, good.size - 1)], good[np.maximum(at - 1, 0)]
    return np.asarray(y[np.where(np.abs(right - index) <= np.abs(index - left), right, left)])


def table_8(function: Function, x: TensorType, y: TensorType) -> np.ndarray:
    """The 256 entries for an i8 operand of type `x` and a result of type `y`."""
    reals = x.scale * (np.arange(-128, 128) - x.zero_point)
    low, high = bounds(y.dtype)
    codes = round_real(np, finite_values(function, reals) / y.scale, "half_away") + y.zero_point
    return np.asarray(np.clip(codes, low, high), storage(y.dtype))


def table_16(
    function: Function, x: TensorType, y: TensorType, entries: int = 513
) -> tuple[np.ndarray, float]:
    """The 513 or 65,536 entries for an i16 operand of type `x`, and their scale."""
    step = 128 if entries == 513 else 1
    reals = x.scale * step * (np.arange(entries) - 32768 // step)
    values = finite_values(function, reals)
    scale = y.scale if y.dtype == "i16" else max(float(np.abs(values).max()) / 32767, y.scale / 256)
    codes = np.clip(round_real(np, values / scale, "half_away"), -(2**15), 2**15 - 1)
    return codes.astype(np.int16), scale


def lookup_reference(q: int, table: list[int]) -> int:
    """u, the 23-bit value of a 513-entry table at q; a full table's entry, shifted likewise."""
    if len(table) == 65536:
        return table[q + 32768] << 7
    i = (q >> 7) + 256
    return (table[i] << 7) + (table[i + 1] - table[i]) * (q & 127)


@jit
def lookup(q, table):  # type: ignore[no-untyped-def]
    """u, the 23-bit value of a 513-entry table at q; a full table's entry, shifted likewise."""
    if table.size == 65536:
        return np.int64(table[np.int64(q) + 32768]) << 7
    i = (np.int64(q) >> 7) + 256
    left = np.int64(table[i])
    return (left << 7) + (np.int64(table[i + 1]) - left) * (np.int64(q) & 127)


def prepare_table(function: Function) -> Callable[..., Prepared]:
    """The crossing of a table operator: its table, and for i16 operands the rescale of the table."""

    def prepare(
        signature: Signature, constants: tuple[np.ndarray | None, ...], numerics: Numerics
    ) -> Prepared:
        x, y = signature.input(0), signature.outputs[0]
        curve = partial(function, **signature.attrs)
        if x.dtype == "i8":
            table = table_8(curve, x, y)
            return Prepared((0, Constant("table", TensorType(y.dtype, (256,)), table)), {})
        table, scale = table_16(curve, x, y, numerics.lut_entries)
        multiplier, shift = quantize_multipliers(np.array(scale / (128.0 * y.scale)), numerics.rounding)
        constant = Constant("table", TensorType("i16", table.shape), table)
        return Prepared(
            (0, constant, *multiplier_constants(multiplier, shift)), {"rounding": numerics.rounding}
        )

    return prepare


def reference(signature: Signature, x: np.ndarray, table: np.ndarray, *rescale: np.ndarray) -> Arrays:
    """One code at a time, in Python integers."""
    kind, entries = signature.outputs[0], [int(t) for t in table]
    low, high = bounds(kind.dtype)
    if not rescale:
        codes = [entries[int(q) + 128] for q in x.ravel()]
    else:
        q, s, rounding = int(rescale[0]), int(rescale[1]), str(signature.attrs["rounding"])
        values = (requantize_reference(lookup_reference(int(c), entries), q, s, rounding) for c in x.ravel())
        codes = [saturate_reference(v, kind.zero_point, low, high) for v in values]
    return (np.array(codes, storage(kind.dtype)).reshape(x.shape),)


def load(signature: Signature, operands: tuple[Any, ...]) -> Kernel:
    """The same codes from compiled loops: 256 entries by byte, 513 in vector lanes, 65,536 one by one."""
    _, table, *rescale = operands
    if not rescale:
        return by_code(table)
    y, q, s = signature.outputs[0], int(rescale[0]), int(rescale[1])
    made, limits = storage(y.dtype), (y.zero_point, *bounds(y.dtype))
    rounding = str(signature.attrs["rounding"])
    rows = rescaling_rows((), (stage_rows(q, s, rounding, WIDEST_VALUE),), limit_rows(*limits))
    lanes, kind, code = rows is not None and table.size == 513, kind_of(rounding), CODES[rounding]
    table = np.ascontiguousarray(table)

    def bind(x: np.ndarray, *_: Any) -> Bound:
        given = ((x, np.int16),), x.shape, (made, made), table
        return (
            bound(_table_lanes, *given, rows, kind)
            if lanes
            else bound(_table_loop, *given, q, s, code, *limits)
        )

    return Bindable(bind)


fast = at_once(load)


@jit
def _table_lanes(x, out, table, rows, kind):  # type: ignore[no-untyped-def]
    interpolation_map(x, table, out, rows, kind)


@jit
def _table_loop(x, out, table, q, s, rounding, zero_y, low, high):  # type: ignore[no-untyped-def]
    for i in range(x.size):
        out[i] = saturate(requantize(lookup(x[i], table), q, s, rounding), zero_y, low, high)


def work(signature: Signature) -> Work:
    """One look-up per result."""
    return Work(lookups=math.prod(signature.outputs[0].shape))  # type: ignore[arg-type]


def table_op(name: str, function: Function) -> Op:
    """Register the operator `name`: `function(xp, x, **attrs)` over the reals."""
    forms = (*FORMS_8, "i16 i16 i32 i8 -> i8", "i16 i16 i32 i8 -> i16")
    doc = f"y = {name}(x): 256-entry table for i8; for i16 513 entries with interpolation, or 65,536"
    prepare, loaded = prepare_table(function), when_constant(1, load)
    verbs = (real_function(function), prepare, reference, fast, work, doc)
    return register(Op(name, ("x",), forms, same_shape, *verbs, load=loaded))


def real_function(function: Function) -> Callable[..., tuple[Any, ...]]:
    """The verb `real` of a function of one variable; attributes are its parameters."""

    def real(xp: Any, attrs: Mapping[str, Attr], x: Any) -> tuple[Any, ...]:
        return (function(xp, x, **attrs),)

    real.__module__ = function.__module__  # the family that means it
    return real


def sigmoid_function(xp: Any, x: Any) -> Any:
    """1 / (1 + exp(-x)) by tanh, which cannot overflow."""
    return 0.5 * xp.tanh(0.5 * x) + 0.5


sigmoid = table_op("sigmoid", sigmoid_function)
tanh = table_op("tanh", lambda xp, x: xp.tanh(x))
exp = table_op("exp", lambda xp, x: xp.exp(x))
