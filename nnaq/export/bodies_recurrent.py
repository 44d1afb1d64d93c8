"""The body of lstm: the input projection of every frame first, then a Scan over frames.

Inside the Scan h stands as h - z_h and everything is INT64; what depends on constants alone is
worked out before it. The formula is that of `nnaq.kernels.recurrent`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from nnaq.export.bodies_fixedpoint import Rescaler, rescaler
from nnaq.export.bodies_narrow import matrix_product
from nnaq.export.bodies_norm import group_norm
from nnaq.export.body_builder import Body
from nnaq.ir.op import Attr, Signature
from nnaq.ir.types import Quant, TensorType, bounds
from nnaq.kernels.internals import grid_of
from nnaq.kernels.lstm_numbers import (
    C0,
    H0,
    NORM_CONSTANTS,
    W_INPUT,
    W_PROJECTION,
    W_RECURRENT,
    X,
    by_name,
    cell_fraction,
    gate_count,
    is_coupled,
    is_normed,
    norm_epsilon,
    operand_names,
    power_multipliers,
    unprojected,
)
from nnaq.kernels.narrow import Narrow, narrow_of
from nnaq.kernels.recurrent_numbers import GATE_FRACTION, GATE_SCALE, HIGH, LOW, Pair, product_rounding

NORM_OPERANDS = ("norm_weight", "norm_bias", *NORM_CONSTANTS)


@dataclass(frozen=True)
class Curve:
    """A table made ready: entries times 128, and for 513 entries the steps between them."""

    left: str
    steps: str | None
    scaling: Rescaler
    attrs: Mapping[str, Attr]

    @classmethod
    def of(
        cls, body: Body, table: str, entries: int, scaling: Rescaler, attrs: Mapping[str, Attr]
    ) -> "Curve":
        wide = body.wide(table)
        left = body.mul(wide, body.constant(128))
        if entries == 65536:
            return cls(left, None, scaling, attrs)
        right = body.apply("Slice", wide, body.constant([1]), body.constant([513]))
        steps = body.sub(right, body.apply("Slice", wide, body.constant([0]), body.constant([512])))
        return cls(left, steps, scaling, attrs)

    def value(self, body: Body, q: str) -> str:
        """The Q0.15 value of the table at INT64 codes q."""
        return fitted(body, self.scaling.requantize(body, self._interpolated(body, q)), self.attrs)

    def _interpolated(self, body: Body, q: str) -> str:
        if self.steps is None:
            return body.take(self.left, body.add(q, body.constant(32768)), 0)
        low = body.apply("BitwiseAnd", q, body.constant(127))
        cell = body.apply("Div", body.sub(q, low), body.constant(128))
        i = body.add(cell, body.constant(256))
        return body.add(body.take(self.left, i, 0), body.mul(body.take(self.steps, i, 0), low))


@dataclass(frozen=True)
class Layer:
    """A constant weight made ready: its columns less zero_point, bias and rescale."""

    columns: str
    bias: str | None
    scaling: Rescaler
    depth: int
    narrow: Narrow | None

    @classmethod
    def of(
        cls, body: Body, names: Mapping[str, str], who: str, kinds: tuple[TensorType, TensorType],
        attrs: Mapping[str, Attr], bias: str = "",
    ) -> "Layer":  # fmt: skip
        """The layer of operands `w_…`, `…_multiplier`, `…_shift`; kinds: types of activation and weight."""
        x, weight = kinds
        columns = body.transpose(body.centred(names[f"w_{who}"], weight.zero_point), (1, 0))
        multiplier, shift = names[f"{who}_multiplier"], names[f"{who}_shift"]
        scaling = rescaler(body, multiplier, shift, attrs["rounding"], wide=x.dtype != "i8")
        wide_bias = body.wide(names[bias]) if bias else None
        return cls(columns, wide_bias, scaling, int(weight.shape[1]), narrow_of(attrs, x))

    def sums(self, body: Body, x: str) -> str:
        """requantize(W x + bias) of INT64 x - z_x, along the last axis."""
        total = matrix_product(body, self.narrow, x, self.columns, self.depth, self.bias)
        return self.scaling.requantize(body, total)


def sat16(body: Body, x: str) -> str:
    return body.clip(x, LOW, HIGH)


def fitted(body: Body, x: str, attrs: Mapping[str, Attr]) -> str:
    """coarse_k(sat16(x))."""
    return coarse(body, sat16(body, x), attrs)


def coarse(body: Body, x: str, attrs: Mapping[str, Attr]) -> str:
    """coarse_k of `nnaq.kernels.internals`; x itself for internals of 16 bits."""
    grid = grid_of(attrs)
    if grid is None:
        return x
    half, mask = grid
    limited = body.apply("Min", body.add(x, body.constant(half)), body.constant(HIGH))
    return body.apply("BitwiseAnd", limited, body.constant(mask))


def scaling_of(body: Body, pair: Pair, rounding: str) -> Rescaler:
    """A multiplier and a shift that the formula fixes."""
    return rescaler(body, body.constant(pair[0]), body.constant(pair[1]), rounding)


def centred_codes(body: Body, y: str, kind: TensorType) -> str:
    """y saturated to codes of `kind`, less the zero_point."""
    low, high = bounds(kind.dtype)
    return body.clip(y, low - kind.zero_point, high - kind.zero_point)


class _Cell:
    """The constants of one node, made ready before the Scan, and the formula of a frame."""

    def __init__(self, body: Body, signature: Signature, names: Mapping[str, str]) -> None:
        self.hidden, self.fraction = signature.input(H0), cell_fraction(signature.input(C0))
        self.attrs, after = signature.attrs, product_rounding(str(signature.attrs["rounding"]))
        self.coupled, self.made = is_coupled(signature.attrs), self.hidden
        kinds = self.hidden, signature.input(W_RECURRENT)
        self.recurrent, self.projection = Layer.of(body, names, "recurrent", kinds, signature.attrs), None
        if "w_projection" in names:
            self.made = unprojected(self.hidden)
            kinds = self.made, signature.input(W_PROJECTION)
            self.projection = Layer.of(body, names, "projection", kinds, signature.attrs)
        self.norm = _norm_signature(signature, after) if is_normed(signature.attrs) else None
        self.norm_names = [names[name] for name in NORM_OPERANDS] if self.norm else []
        self.squash = rescaler(body, names["hidden_multiplier"], names["hidden_shift"], after)
        curves, self.keep, self.new, self.lower = (
            scaling_of(body, pair, after) for pair in power_multipliers(self.fraction, after)
        )
        self.sigmoid, self.tanh, self.cell = (
            Curve.of(body, names[name], _entries(signature, name), curves, self.attrs)
            if name in names
            else None
            for name in ("sigmoid_table", "tanh_table", "cell_table")
        )

    def step(self, body: Body, driven: str, h: str, c: str) -> tuple[str, str]:
        """The next h - z_h and c, from the frame's projection."""
        a = sat16(body, body.add(driven, sat16(body, self.recurrent.sums(body, h))))
        if self.norm is not None:
            a = body.wide(group_norm(body, self.norm, a, *self.norm_names)[0])
        i, f, g, o = self.gates(body, coarse(body, a, self.attrs))
        kept = sat16(body, self.keep.requantize(body, body.mul(f, c)))
        new = sat16(body, self.new.requantize(body, body.mul(i, g)))
        c = fitted(body, body.add(kept, new), self.attrs)
        squashed = self.squash.requantize(body, body.mul(self.tanh_of_cell(body, c), o))
        h = centred_codes(body, squashed, self.made)
        if self.projection is not None:
            h = centred_codes(body, self.projection.sums(body, h), self.hidden)
        return h, c

    def gates(self, body: Body, a: str) -> tuple[str, str, str, str]:
        """i, f, g, o in Q0.15."""
        assert self.sigmoid is not None and self.tanh is not None
        parts = body.split(a, 3 if self.coupled else 4)
        *sharp, g, last = parts
        levels = body.split(
            self.sigmoid.value(body, body.apply("Concat", *sharp, last, axis=-1)), len(parts) - 1
        )
        f, o = levels[-2:]
        i = fitted(body, body.sub(body.constant(HIGH), f), self.attrs) if self.coupled else levels[0]
        return i, f, self.tanh.value(body, g), o

    def tanh_of_cell(self, body: Body, c: str) -> str:
        assert self.tanh is not None
        if self.cell is not None:
            return self.cell.value(body, c)
        if self.fraction > GATE_FRACTION:
            return self.tanh.value(body, sat16(body, self.lower.requantize(body, c)))
        if self.fraction < GATE_FRACTION:
            c = sat16(body, body.mul(c, body.constant(2 ** (GATE_FRACTION - self.fraction))))
        return self.tanh.value(body, c)


def _norm_signature(signature: Signature, after: str) -> Signature:
    """What group_norm is told about the gates of a frame: a group per gate, Q3.12 to Q3.12."""
    shape = (signature.input(C0).shape[0], signature.input(W_INPUT).shape[0])
    gates = TensorType("i16", shape, Quant((GATE_SCALE,)))
    order = operand_names(signature.attrs)
    kinds = (signature.input(order.index(name)) for name in NORM_OPERANDS)
    attrs: dict[str, Attr] = {"groups": gate_count(signature.attrs), "rounding": after}
    attrs["epsilon"] = norm_epsilon(signature.attrs)
    return Signature((gates, *kinds), (gates,), attrs)


def _entries(signature: Signature, name: str) -> int:
    return int(signature.input(operand_names(signature.attrs).index(name)).shape[0])


def lstm(body: Body, signature: Signature, *operands: str) -> tuple[str, ...]:
    """y, h and c of a stretch of time."""
    hidden, names = signature.input(H0), by_name(signature.attrs, operands)
    cell = _Cell(body, signature, names)
    inner = Body(body)
    ports = [inner.fresh(word) for word in ("h", "c", "driven")]
    h, c = cell.step(inner, ports[2], ports[0], ports[1])
    graph = inner.graph("frame", ports, [h, c, inner.apply("Identity", h)])
    starts = (body.centred(names["h0"], hidden.zero_point), body.wide(names["c0"]))
    kinds = signature.input(X), signature.input(W_INPUT)
    driven = driven_by(body, names, kinds, signature.attrs)
    h_last, c_last, y = body.several("Scan", 3, *starts, driven, body=graph, num_scan_inputs=1)
    codes = (body.codes(body.centred(v, -hidden.zero_point), hidden.dtype) for v in (y, h_last))
    return (*codes, body.codes(c_last, "i16"))


def driven_by(
    body: Body, names: Mapping[str, str], kinds: tuple[TensorType, TensorType], attrs: Mapping[str, Attr]
) -> str:
    """What x adds to the pre-activations of every frame, [T, B, gates * H] in Q3.12."""
    layer = Layer.of(body, names, "input", kinds, attrs, "bias")
    return sat16(body, layer.sums(body, body.centred(names["x"], kinds[0].zero_point)))
