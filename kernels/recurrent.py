"""The LSTM: one node for a whole stretch of time, its state handed in and out.

Over the reals, gates in the order i, f, g, o, for every frame t:

    a = W_x x_t + W_h h + b;  i, f, o = sigmoid(a_i, a_f, a_o);  g = tanh(a_g)
    c = f*c + i*g;  h = tanh(c)*o;  y_t = h

Over integers (x and h: i8 or i16; c: i16 with scale 2^-n, 9 <= n <= 15; same structure as
tflite-micro's UNIDIRECTIONAL_SEQUENCE_LSTM 8x8_16 and 16x8_16), per frame and unit:

    A    = sat16(requantize(Σ (w_x - z_wx) * (x - z_x) + bias, input_multiplier))       gates in Q3.12
    R    = sat16(requantize(Σ (w_h - z_wh) * (h - z_h), recurrent_multiplier))
    a    = sat16(A + R)
    gate = sat16(requantize(u(a), 2^-7))       Q0.15; u: the 23-bit table value of lut.py
    c    = sat16(sat16(requantize(f*c, 2^-15)) + sat16(requantize(i*g, 2^(n-30))))
    d    = sat16(c * 2^(12-n))  if n <= 12  else  sat16(requantize(c, 2^(12-n)))        Q3.12
    h    = saturate(requantize(gate_tanh(d) * o, hidden_multiplier) + z_h)

The accumulators are i32 for i8 and i48 for i16 operands, proved wrap-free when the node is
prepared; the multipliers stand for s_x * s_wx[j] / 2^-12, s_h * s_wh[j] / 2^-12 and 2^-30 / s_h,
and bias[j] = round(b[j] / (s_x * s_wx[j])). A gate's pre-activation is finer than the
accumulator more often than elsewhere, so its multiplier may need more than one bit of left shift:
s is admitted while |acc| * 2^s <= 2^30 (i32; TOSA's precondition of RESCALE) or s <= 14 (i48).
Every requantisation follows the node's `rounding`; `double_m16` holds for the two accumulators,
everything after them is `double`, as in tflite-micro.

Tables have 513 or 65,536 entries. The optional last operand `cell_table` (65,536 entries, by the
code of c itself) takes the place of d and tanh_table: a runtime that interpolates its tanh on a
grid finer than Q3.12 is met bit for bit through it. Over no frames the states come back as they are.
"""

from collections.abc import Mapping
from itertools import product
from typing import Any

import numpy as np

from nnaq.errors import LoweringError, OpError
from nnaq.ir.dims import Shape, show
from nnaq.ir.numerics import Numerics
from nnaq.ir.op import Arrays, Attr, Constant, Op, Prepared, Signature, Work, register
from nnaq.ir.types import TensorType, bounds, storage
from nnaq.jit import jit
from nnaq.kernels.accumulate import (
    ACCUMULATORS,
    bias_constant,
    centred_rows,
    requantize_rows,
    span_of,
)
from nnaq.kernels.fixedpoint import (
    CODES,
    quantize_multipliers,
    requantize,
    requantize_reference,
    saturate,
    saturate_reference,
)
from nnaq.kernels.lstm_numbers import (
    BIAS,
    C0,
    CONSTANTS,
    GATE_FRACTION,
    H0,
    HIGH,
    LOW,
    OPERANDS,
    W_INPUT,
    W_RECURRENT,
    Pair,
    X,
    cell_fraction,
    curve_tables,
    gate_multipliers,
    power_multipliers,
    product_rounding,
)
from nnaq.kernels.lstm_step import primitives
from nnaq.kernels.lut import lookup, lookup_reference


def infer(inputs: tuple[TensorType | None, ...], attrs: Mapping[str, Attr]) -> tuple[Shape, ...]:
    """y [T, B, H], h [B, H], c [B, H]; T and B may be symbolic. Raises OpError where shapes disagree."""
    x, h, c, w_input, w_recurrent = (_shape(inputs, position) for position in range(5))
    if len(x) != 3 or len(h) != 2:
        raise OpError(f"lstm takes x [T,B,I] and h0 [B,H], found {show(x)} and {show(h)}")
    units = h[1]
    if not isinstance(units, int):
        raise OpError(f"lstm needs a whole number of units, found {units!r} in h0 {show(h)}")
    expected: dict[str, tuple[Shape, Shape]] = {"h0": (h, (x[1], units)), "c0": (c, (x[1], units))}
    expected |= {"w_input": (w_input, (4 * units, x[2])), "w_recurrent": (w_recurrent, (4 * units, units))}
    if len(inputs) > BIAS and inputs[BIAS] is not None:
        expected["bias"] = (_shape(inputs, BIAS), (4 * units,))
    for name, (found, wanted) in expected.items():
        if found != wanted:
            raise OpError(f"lstm: {name} has shape {show(found)}, x {show(x)} and h0 make it {show(wanted)}")
    return (x[0], x[1], units), h, c


def _shape(inputs: tuple[TensorType | None, ...], position: int) -> Shape:
    found = inputs[position] if position < len(inputs) else None
    if found is None:
        raise OpError(f"lstm: operand {OPERANDS[position]} is missing")
    return found.shape


# Over the reals


def real(
    xp: Any, attrs: Mapping[str, Attr], x: Any, h: Any, c: Any, w_input: Any, w_recurrent: Any,
    bias: Any = None, *constants: Any,
) -> tuple[Any, Any, Any]:  # fmt: skip
    """y, h, c; in torch by its own differentiable LSTM, which has the same gate order."""
    if xp is np:
        return _real_numpy(x, h, c, w_input, w_recurrent, bias)
    if x.shape[0] == 0:
        return x.new_zeros((0, *h.shape)), h, c
    biases = () if bias is None else (bias, xp.zeros_like(bias))
    state = (h[None].contiguous(), c[None].contiguous())
    y, h, c = xp.lstm(
        x, state, (w_input, w_recurrent, *biases), bias is not None, 1, 0.0, False, False, False
    )
    return y, h[0], c[0]


def _real_numpy(
    x: np.ndarray, h: np.ndarray, c: np.ndarray, w_input: np.ndarray, w_recurrent: np.ndarray,
    bias: np.ndarray | None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # fmt: skip
    """All gates by one tanh: sigmoid(a) = tanh(a/2)/2 + 1/2, the halves folded into the weights."""
    units = h.shape[1]
    gain = np.repeat(np.array([0.5, 0.5, 1.0, 0.5], x.dtype), units)
    lift = 1 - gain
    projected = x @ (w_input * gain[:, None]).T
    if bias is not None:
        projected += bias * gain
    recurrent = np.ascontiguousarray((w_recurrent * gain[:, None]).T)
    y = np.empty((len(x), *h.shape), projected.dtype)
    for t in range(len(x)):
        gates = np.tanh(projected[t] + h @ recurrent) * gain + lift
        i, f, g, o = (gates[:, k * units : (k + 1) * units] for k in range(4))
        c = f * c + i * g
        h = np.tanh(c) * o
        y[t] = h
    return y, h, c


# The crossing to integers


def prepare(signature: Signature, constants: tuple[np.ndarray | None, ...], numerics: Numerics) -> Prepared:
    """Bias, multipliers and tables; both accumulators proved wrap-free.

    Raises LoweringError: weights that are no constants, states that do not share the codes of the
    results, a cell scale that is no 2^-9 … 2^-15, an accumulator that could wrap, a multiplier out
    of reach.
    """
    x, h = signature.input(X), signature.input(H0)
    w_input, w_recurrent = signature.input(W_INPUT), signature.input(W_RECURRENT)
    cell_fraction(signature.input(C0))
    _check_states(signature)
    codes = [constants[W_INPUT], constants[W_RECURRENT]]
    if codes[0] is None or codes[1] is None:
        raise LoweringError("lstm: w_input and w_recurrent must be constants; fold what makes them")
    rounding = numerics.rounding
    real_bias = constants[BIAS] if signature.has(BIAS) else None
    bias = bias_constant("lstm w_input", x, w_input, codes[0], real_bias)
    input_multipliers = gate_multipliers("input", x, w_input, codes[0], bias.value, rounding)
    no_bias = np.zeros(len(codes[1]), np.int64)
    recurrent_multipliers = gate_multipliers("recurrent", h, w_recurrent, codes[1], no_bias, rounding)
    hidden = quantize_multipliers(np.array(2.0**-30 / h.scale), product_rounding(rounding))
    arrays = (*input_multipliers, *recurrent_multipliers, *curve_tables(), *hidden)
    made = (Constant(n, _constant_type(n, a), a) for n, a in zip(CONSTANTS[:-1], arrays, strict=True))
    return Prepared((X, H0, C0, W_INPUT, W_RECURRENT, bias, *made), {"rounding": rounding})


def _check_states(signature: Signature) -> None:
    h, c = signature.input(H0), signature.input(C0)
    for name, kind, state in zip("yhc", signature.outputs, (h, h, c), strict=True):
        if (kind.dtype, kind.quant) != (state.dtype, state.quant):
            raise LoweringError(
                f"lstm: result {name} is {kind}, its state before it {state}; give both one code type"
            )


def _constant_type(name: str, array: np.ndarray) -> TensorType:
    dtype = "i16" if name.endswith("table") else "i32" if name.endswith("multiplier") else "i8"
    return TensorType(dtype, array.shape)


# Plain Python integers


def reference(signature: Signature, *operands: np.ndarray) -> Arrays:
    """One frame, one row of the batch and one unit at a time."""
    cell = _ReferenceCell(signature, operands)
    x, h, c = (array.astype(object) for array in operands[:3])
    y = np.empty((len(x), *h.shape), object)
    for t, b in product(range(x.shape[0]), range(x.shape[1])):
        h[b], c[b] = cell.step(list(x[t, b]), list(h[b]), list(c[b]))
        y[t, b] = h[b]
    narrow = storage(signature.outputs[0].dtype)
    return y.astype(narrow), h.astype(narrow), c.astype(np.int16)


class _ReferenceCell:
    """The integers of a node as Python lists, and the module's formula over them."""

    def __init__(self, signature: Signature, operands: tuple[np.ndarray, ...]) -> None:
        kinds = signature.inputs
        self.zero_x, self.zero_h = signature.input(X).zero_point, signature.input(H0).zero_point
        self.low, self.high = bounds(signature.input(H0).dtype)
        self.fraction = cell_fraction(signature.input(C0))
        self.rounding = str(signature.attrs["rounding"])
        after = product_rounding(self.rounding)
        self.after, self.powers = after, power_multipliers(self.fraction, after)
        lists = [operand.tolist() for operand in operands[W_INPUT:]]
        self.w_input, self.w_recurrent = (
            [[w - kind.zero_point for w in row] for row in rows]
            for rows, kind in zip(lists[:2], kinds[W_INPUT:BIAS], strict=True)
            if kind is not None
        )
        self.bias, *multipliers = lists[2:7]
        self.input_multipliers = list(zip(*multipliers[:2], strict=True))
        self.recurrent_multipliers = list(zip(*multipliers[2:], strict=True))
        self.sigmoid, self.tanh, *self.hidden = lists[7:11]
        self.cell_table = lists[11] if len(lists) > 11 else None

    def step(self, x: list[int], h: list[int], c: list[int]) -> tuple[list[int], list[int]]:
        """The next h and c of one row of the batch."""
        x, h = [q - self.zero_x for q in x], [q - self.zero_h for q in h]
        a = [self.pre_activation(j, x, h) for j in range(len(self.bias))]
        units = len(h)
        made = [self.unit(a[j::units], c[j]) for j in range(units)]
        return [code for code, _ in made], [cell for _, cell in made]

    def pre_activation(self, j: int, x: list[int], h: list[int]) -> int:
        driven = sum(w * v for w, v in zip(self.w_input[j], x, strict=True)) + self.bias[j]
        carried = sum(w * v for w, v in zip(self.w_recurrent[j], h, strict=True))
        parts = ((driven, self.input_multipliers[j]), (carried, self.recurrent_multipliers[j]))
        return _sat16(sum(_sat16(requantize_reference(v, q, s, self.rounding)) for v, (q, s) in parts))

    def unit(self, a: list[int], c: int) -> tuple[int, int]:
        """The next h and c of one unit from its four gates."""
        i, f, o = (self.curve(a[k], self.sigmoid) for k in (0, 1, 3))
        g = self.curve(a[2], self.tanh)
        c = _sat16(self.scaled(f * c, self.powers.keep) + self.scaled(i * g, self.powers.new))
        h = requantize_reference(self.tanh_of_cell(c) * o, self.hidden[0], self.hidden[1], self.after)
        return saturate_reference(h, self.zero_h, self.low, self.high), c

    def scaled(self, value: int, multiplier: Pair) -> int:
        return _sat16(requantize_reference(value, multiplier[0], multiplier[1], self.after))

    def curve(self, a: int, table: list[int]) -> int:
        return self.scaled(lookup_reference(a, table), self.powers.curve)

    def tanh_of_cell(self, c: int) -> int:
        if self.cell_table is not None:
            return self.curve(c, self.cell_table)
        if self.fraction > GATE_FRACTION:
            return self.curve(self.scaled(c, self.powers.cell), self.tanh)
        return self.curve(_sat16(c * 2 ** (GATE_FRACTION - self.fraction)), self.tanh)


def _sat16(value: int) -> int:
    return min(max(value, LOW), HIGH)


# Compiled


def fast(signature: Signature, *operands: np.ndarray) -> Arrays:
    """The same codes: the input projection of every frame first, then the recurrence."""
    return _run(signature, *operands)[:3]


def count_cell_saturations(signature: Signature, *operands: np.ndarray) -> int:
    """How many values of c were clamped to 16 bits, over all frames, rows and units."""
    return _run(signature, *operands)[3]


def _run(
    signature: Signature, x: np.ndarray, h: np.ndarray, c: np.ndarray, w_input: np.ndarray,
    w_recurrent: np.ndarray, bias: np.ndarray, input_multiplier: np.ndarray, input_shift: np.ndarray,
    recurrent_multiplier: np.ndarray, recurrent_shift: np.ndarray, sigmoid: np.ndarray, tanh: np.ndarray,
    hidden_multiplier: np.ndarray, hidden_shift: np.ndarray, cell_table: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:  # fmt: skip
    kind_x, kind_h = signature.input(X), signature.input(H0)
    kind_wx, kind_wh = signature.input(W_INPUT), signature.input(W_RECURRENT)
    fraction, word = cell_fraction(signature.input(C0)), str(signature.attrs["rounding"])
    after = product_rounding(word)
    powers = (*power_multipliers(fraction, after), (int(hidden_multiplier), int(hidden_shift)))
    frames, batch, width = x.shape
    gates = np.empty((frames * batch, len(w_input)), np.int16)
    requantize_rows(
        centred_rows(x.reshape(frames * batch, width), kind_x.zero_point),
        centred_rows(w_input, kind_wx.zero_point), bias, input_multiplier, input_shift,
        span_of(kind_x, kind_wx), CODES[word], 0, LOW, HIGH, gates,
    )  # fmt: skip
    y = np.empty((frames, *h.shape), h.dtype)
    h, c = np.array(h, order="C"), np.array(c, order="C")
    saturations = _recur(
        gates.reshape(frames, batch, len(w_input)), h, c, y, kind_h.zero_point,
        centred_rows(w_recurrent, kind_wh.zero_point), recurrent_multiplier, recurrent_shift,
        span_of(kind_h, kind_wh), CODES[word], sigmoid, tanh, tanh if cell_table is None else cell_table,
        fraction if cell_table is None else GATE_FRACTION, powers, CODES[after], *bounds(kind_h.dtype),
    )  # fmt: skip
    return y, h, c, int(saturations)


@jit
def _recur(  # type: ignore[no-untyped-def]
    gates, h, c, y, zero_h, w, q, s, span, rounding, sigmoid, tanh, cell_table, fraction, powers, after,
    low, high,
):  # fmt: skip
    """Advance h and c in place, frame by frame; returns how many values of c were clamped."""
    frames, batch, units = y.shape
    centred = np.empty((batch, units), np.int16)
    carried = np.empty((batch, 4 * units), np.int16)
    no_bias = np.zeros(4 * units, np.int64)
    saturations = 0
    for t in range(frames):
        for b in range(batch):
            for j in range(units):
                centred[b, j] = np.int64(h[b, j]) - zero_h
        requantize_rows(centred, w, no_bias, q, s, span, rounding, 0, -32768, 32767, carried)
        for b in range(batch):
            saturations += _update(
                gates[t, b], carried[b], h[b], c[b], zero_h, sigmoid, tanh, cell_table, fraction, powers,
                after, low, high,
            )  # fmt: skip
        y[t] = h
    return saturations


@jit
def _update(  # type: ignore[no-untyped-def]
    driven, carried, h, c, zero_h, sigmoid, tanh, cell_table, fraction, powers, rounding, low, high
):
    """The next h and c of one row of the batch, in place; returns how many values of c were clamped."""
    curve, keep, new, cell, hidden = powers
    units = h.size
    saturations = 0
    for j in range(units):
        a_i, a_f, a_g, a_o = (
            _clamp(np.int64(driven[j]) + carried[j]),
            _clamp(np.int64(driven[units + j]) + carried[units + j]),
            _clamp(np.int64(driven[2 * units + j]) + carried[2 * units + j]),
            _clamp(np.int64(driven[3 * units + j]) + carried[3 * units + j]),
        )
        added = _curve(a_i, sigmoid, curve, rounding) * _curve(a_g, tanh, curve, rounding)
        kept = _curve(a_f, sigmoid, curve, rounding) * np.int64(c[j])
        total = _scaled(kept, keep, rounding) + _scaled(added, new, rounding)
        state = _clamp(total)
        saturations += total != state
        c[j] = state
        lifted = _scaled(state, cell, rounding) if fraction > 12 else _clamp(state << (12 - fraction))
        squashed = _curve(lifted, cell_table, curve, rounding) * _curve(a_o, sigmoid, curve, rounding)
        h[j] = saturate(requantize(squashed, hidden[0], hidden[1], rounding), zero_h, low, high)
    return saturations


@jit
def _clamp(value):  # type: ignore[no-untyped-def]
    return min(max(value, np.int64(-32768)), np.int64(32767))


@jit
def _scaled(value, multiplier, rounding):  # type: ignore[no-untyped-def]
    """sat16(requantize(value))."""
    return _clamp(requantize(value, multiplier[0], multiplier[1], rounding))


@jit
def _curve(a, table, multiplier, rounding):  # type: ignore[no-untyped-def]
    """The Q0.15 value of a table at a."""
    return _scaled(lookup(a, table), multiplier, rounding)


def work(signature: Signature) -> Work:
    """Per unit: 9 vector operations (4 sums of gates, 3 products, 1 sum, 1 rescale of c), 5 look-ups."""
    frames, batch, units = signature.outputs[0].shape
    width = signature.input(X).shape[2]
    steps = int(frames) * int(batch) * int(units)
    return Work(macs=steps * 4 * (int(width) + int(units)), elementwise=9 * steps, lookups=5 * steps)


def _forms() -> tuple[str, ...]:
    """x and h i8 or i16, weights i8 or i4, with and without a cell_table."""
    constants = "i32 i8 i32 i8 i16 i16 i32 i8"
    activations, weights = ("i8", "i16"), ("i8", "i4")
    return tuple(
        f"{x} {h} i16 {w_input} {w_recurrent} {ACCUMULATORS[x]} {constants}{cell_table} -> {h} {h} i16"
        for x, h, w_input, w_recurrent in product(activations, activations, weights, weights)
        for cell_table in ("", " i16")
    )


register(
    Op(
        "lstm", OPERANDS, _forms(), infer, real, prepare, reference, fast, work,
        "a = sat16(sat16(W_x x + b) + sat16(W_h h)) in Q3.12; c = sat16(f*c + i*g); h = sat(tanh(c)*o + z_h)",
        primitives=primitives, weights={W_INPUT: 0, W_RECURRENT: 0}, reals=(BIAS,),
        ties=((H0, ~0, ~1), (C0, ~2)), demands={C0: "i16 power_of_two"},
    )
)  # fmt: skip
