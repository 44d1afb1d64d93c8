"""The body of lstm: the input projection of every frame first, then a Scan over frames.

Inside the Scan h stands as h - z_h and everything is INT64; what depends on constants alone is
worked out before it. The formula is that of `nnaq.kernels.recurrent`.
"""

from dataclasses import dataclass

from nnaq.export.bodies_fixedpoint import Rescaler, rescaler
from nnaq.export.body_builder import Body
from nnaq.ir.op import Signature
from nnaq.ir.types import bounds
from nnaq.kernels.lstm_numbers import (
    BIAS,
    C0,
    GATE_FRACTION,
    H0,
    HIGH,
    LOW,
    W_INPUT,
    W_RECURRENT,
    X,
    cell_fraction,
    power_multipliers,
    product_rounding,
)

SIGMOID, TANH, CELL = 10, 11, 14


@dataclass(frozen=True)
class Curve:
    """A table made ready: entries times 128, and for 513 entries the steps between them."""

    left: str
    steps: str | None
    scaling: Rescaler

    def value(self, body: Body, q: str) -> str:
        """The Q0.15 value of the table at INT64 codes q."""
        return _sat16(body, self.scaling.requantize(body, self._interpolated(body, q)))

    def _interpolated(self, body: Body, q: str) -> str:
        if self.steps is None:
            return body.take(self.left, body.add(q, body.constant(32768)), 0)
        low = body.apply("BitwiseAnd", q, body.constant(127))
        cell = body.apply("Div", body.sub(q, low), body.constant(128))
        i = body.add(cell, body.constant(256))
        return body.add(body.take(self.left, i, 0), body.mul(body.take(self.steps, i, 0), low))


class _Cell:
    """The constants of one node, made ready before the Scan, and the formula of a frame."""

    def __init__(self, body: Body, signature: Signature, operands: tuple[str, ...]) -> None:
        self.kind_h, self.fraction = signature.input(H0), cell_fraction(signature.input(C0))
        rounding = str(signature.attrs["rounding"])
        after = product_rounding(rounding)
        wide = self.kind_h.dtype != "i8"
        weight = body.centred(operands[W_RECURRENT], signature.input(W_RECURRENT).zero_point)
        self.columns = body.transpose(weight, (1, 0))
        self.carried = rescaler(body, operands[8], operands[9], rounding, wide)
        self.hidden = rescaler(body, operands[12], operands[13], after)
        self.curves, self.keep, self.new, self.lower = (
            rescaler(body, body.constant(q), body.constant(s), after)
            for q, s in power_multipliers(self.fraction, after)
        )
        self.sigmoid = self._curve(body, signature, operands, SIGMOID)
        self.tanh = self._curve(body, signature, operands, TANH)
        self.cell = self._curve(body, signature, operands, CELL) if len(operands) > CELL else None

    def _curve(self, body: Body, signature: Signature, operands: tuple[str, ...], position: int) -> Curve:
        table = body.wide(operands[position])
        left = body.mul(table, body.constant(128))
        if signature.input(position).shape[0] == 65536:
            return Curve(left, None, self.curves)
        right = body.apply("Slice", table, body.constant([1]), body.constant([513]))
        steps = body.sub(right, body.apply("Slice", table, body.constant([0]), body.constant([512])))
        return Curve(left, steps, self.curves)

    def step(self, body: Body, driven: str, h: str, c: str) -> tuple[str, str]:
        """The next h - z_h and c, from the frame's projection."""
        sums = body.apply("MatMul", h, self.columns)
        a = _sat16(body, body.add(driven, _sat16(body, self.carried.requantize(body, sums))))
        gates = body.split(a, 4)
        i, f, o = body.split(self.sigmoid.value(body, body.apply("Concat", *gates[:2], gates[3], axis=-1)), 3)
        g = self.tanh.value(body, gates[2])
        kept = _sat16(body, self.keep.requantize(body, body.mul(f, c)))
        new = _sat16(body, self.new.requantize(body, body.mul(i, g)))
        c = _sat16(body, body.add(kept, new))
        squashed = body.mul(self.tanh_of_cell(body, c), o)
        low, high = bounds(self.kind_h.dtype)
        zero_point = self.kind_h.zero_point
        h = body.clip(self.hidden.requantize(body, squashed), low - zero_point, high - zero_point)
        return h, c

    def tanh_of_cell(self, body: Body, c: str) -> str:
        if self.cell is not None:
            return self.cell.value(body, c)
        if self.fraction > GATE_FRACTION:
            return self.tanh.value(body, _sat16(body, self.lower.requantize(body, c)))
        if self.fraction < GATE_FRACTION:
            c = _sat16(body, body.mul(c, body.constant(2 ** (GATE_FRACTION - self.fraction))))
        return self.tanh.value(body, c)


def _sat16(body: Body, x: str) -> str:
    return body.clip(x, LOW, HIGH)


def lstm(body: Body, signature: Signature, *operands: str) -> tuple[str, ...]:
    """y, h and c of a stretch of time."""
    kind_h = signature.input(H0)
    cell = _Cell(body, signature, operands)
    inner = Body(body)
    names = [inner.fresh(word) for word in ("h", "c", "driven")]
    h, c = cell.step(inner, names[2], names[0], names[1])
    graph = inner.graph("frame", names, [h, c, inner.apply("Identity", h)])
    starts = (body.centred(operands[H0], kind_h.zero_point), body.wide(operands[C0]))
    h_last, c_last, y = body.several(
        "Scan", 3, *starts, _driven(body, signature, operands), body=graph, num_scan_inputs=1
    )
    codes = (body.codes(body.centred(v, -kind_h.zero_point), kind_h.dtype) for v in (y, h_last))
    return (*codes, body.codes(c_last, "i16"))


def _driven(body: Body, signature: Signature, operands: tuple[str, ...]) -> str:
    """What x adds to the pre-activations of every frame, [T, B, 4H] in Q3.12."""
    kind_x = signature.input(X)
    columns = body.transpose(body.centred(operands[W_INPUT], signature.input(W_INPUT).zero_point), (1, 0))
    sums = body.apply("MatMul", body.centred(operands[X], kind_x.zero_point), columns)
    total = body.add(sums, body.wide(operands[BIAS]))
    wide = kind_x.dtype != "i8"
    scaling = rescaler(body, operands[6], operands[7], signature.attrs["rounding"], wide)
    return _sat16(body, scaling.requantize(body, total))
