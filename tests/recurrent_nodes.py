"""Integer nodes of recurrent operators for tests: random types, codes anywhere in their range."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st

import nnaq.kernels  # noqa: F401  (fills the operator table)
from nnaq import interpret
from nnaq.ir.numerics import ROUNDINGS, Numerics
from nnaq.ir.op import Attr, Op, Prepared, Signature, lookup
from nnaq.ir.types import Quant, TensorType, bounds, storage
from nnaq.kernels.gru_numbers import NAMES
from nnaq.kernels.lstm_numbers import operand_names, unprojected
from nnaq.kernels.recurrent_numbers import GATE_SCALE

LSTM, GRU = lookup("lstm"), lookup("gru")
Arrays = tuple[np.ndarray, ...]


@dataclass(frozen=True)
class Sizes:
    frames: int = 3
    batch: int = 2
    width: int = 4
    units: int = 3


@dataclass(frozen=True)
class Choice:
    """What a drawn node is made of; `gain` is the reach of weights and bias in real units.

    projection: size of an LSTM's projected state, 0 for none. normed: layer norm of its gates.
    """

    sizes: Sizes = Sizes()
    x: str = "i8"
    h: str = "i8"
    weight: str = "i8"
    zero_points: tuple[int, int] = (0, 0)
    weight_zero_point: int = 0
    fraction: int = 11
    rounding: str = "single"
    gain: float = 1.0
    extreme: bool = False
    full_cell_table: bool = False
    cifg: bool = False
    projection: int = 0
    normed: bool = False
    linear_before_reset: bool = True
    contract: tuple[tuple[str, Any], ...] = ()
    h_span: float = 1.0
    seed: int = 0

    @property
    def state(self) -> int:
        """The size of h."""
        return self.projection or self.sizes.units

    @property
    def rows(self) -> int:
        """Rows of an LSTM's weights."""
        return (3 if self.cifg else 4) * self.sizes.units


def choices(**fixed: Any) -> st.SearchStrategy[Choice]:
    sizes = st.builds(
        Sizes, st.integers(0, 4), st.integers(1, 3), st.sampled_from([1, 2, 5, 9]), st.sampled_from([1, 2, 5])
    )
    drawn = {
        "sizes": sizes,
        "x": st.sampled_from(["i8", "i16"]),
        "h": st.sampled_from(["i8", "i16"]),
        "weight": st.sampled_from(["i8", "i4"]),
        "zero_points": st.tuples(*[st.sampled_from([-128, -7, 0, 127])] * 2),
        "weight_zero_point": st.sampled_from([0, 0, 3]),
        "fraction": st.integers(9, 15),
        "rounding": st.sampled_from(ROUNDINGS),
        "gain": st.sampled_from([0.25, 2.0, 12.0]),
        "extreme": st.booleans(),
        "full_cell_table": st.booleans(),
        "cifg": st.booleans(),
        "projection": st.sampled_from([0, 0, 1, 3, 7]),
        "normed": st.booleans(),
        "linear_before_reset": st.booleans(),
        "h_span": st.sampled_from([0.1, 1.0, 1.0, 1.5]),
        "seed": st.integers(0, 2**32 - 1),
    }
    return st.builds(Choice, **{**drawn, **{name: st.just(value) for name, value in fixed.items()}})


def power_of_two(value: float) -> float:
    return float(2.0 ** np.round(np.log2(value)))


def activation(dtype: str, shape: tuple[int, ...], span: float, zero_point: int) -> TensorType:
    """Codes that span about -span..span; i16 codes are symmetric."""
    low, high = bounds(dtype)
    scale = power_of_two(2 * span / (high - low))
    return TensorType(dtype, shape, Quant((scale,), zero_point if dtype == "i8" else 0))


def state_type(choice: Choice, shape: tuple[int, ...]) -> TensorType:
    """Codes of h; their scale is a power of two only where the rounding knows no other."""
    kind = activation(choice.h, shape, choice.h_span, choice.zero_points[1])
    if choice.h_span == 1.0 or choice.rounding == "pot_shift":
        return kind
    scale = 2 * choice.h_span / (bounds(choice.h)[1] - bounds(choice.h)[0])
    return TensorType(choice.h, shape, Quant((scale,), kind.zero_point))


def weight_type(
    random: np.random.Generator, choice: Choice, shape: tuple[int, int], scale: float, result: float
) -> TensorType:
    """Per-channel scales under which full codes sum to about `gain` over a row.

    pot_shift knows no left shift, so there the products, of activations with `scale`, must not be
    coarser than the `result`.
    """
    _, high = bounds(choice.weight)
    scales = choice.gain / (high * np.sqrt(shape[1])) * random.uniform(0.6, 1.6, shape[0])
    if choice.rounding == "pot_shift":
        scales = np.array([min(power_of_two(s), result / scale) for s in scales])
    return TensorType(choice.weight, shape, Quant(tuple(scales.tolist()), choice.weight_zero_point, 0))


def codes(random: np.random.Generator, kind: TensorType, extreme: bool) -> np.ndarray:
    """Codes of the whole range, or only its two ends."""
    low, high = bounds(kind.dtype)
    drawn = random.choice([low, high], kind.shape) if extreme else random.integers(low, high + 1, kind.shape)
    return drawn.astype(storage(kind.dtype))


def lstm_types(choice: Choice) -> Signature:
    """The signature that `prepare` of an LSTM is given."""
    random, sizes = np.random.default_rng(choice.seed), choice.sizes
    x = activation(choice.x, (sizes.frames, sizes.batch, sizes.width), 4.0, choice.zero_points[0])
    h = state_type(choice, (sizes.batch, choice.state))
    c = TensorType("i16", (sizes.batch, sizes.units), Quant((2.0**-choice.fraction,)))
    layers = [
        weight_type(random, choice, (choice.rows, int(kind.shape[-1])), kind.scale, GATE_SCALE)
        for kind in (x, h)
    ]
    vector = TensorType("f32", (choice.rows,))
    kinds: tuple[TensorType | None, ...] = (x, h, c, *layers, vector)
    if choice.projection:
        shape = (choice.projection, sizes.units)
        kinds += (weight_type(random, choice, shape, unprojected(h).scale, h.scale),)
    if choice.normed:
        kinds += (*([] if choice.projection else [None]), vector, vector)
    attrs: dict[str, Attr] = {"cifg": True} if choice.cifg else {}
    return Signature(kinds, (h.with_shape((sizes.frames, *h.shape)), h, c), attrs)


def gru_types(choice: Choice) -> Signature:
    """The signature that `prepare` of a GRU is given."""
    random, sizes = np.random.default_rng(choice.seed), choice.sizes
    x = activation(choice.x, (sizes.frames, sizes.batch, sizes.width), 4.0, choice.zero_points[0])
    h = state_type(choice, (sizes.batch, sizes.units))
    rows = 3 * sizes.units
    layers = [
        weight_type(random, choice, (rows, int(kind.shape[-1])), kind.scale, GATE_SCALE) for kind in (x, h)
    ]
    kinds = (x, h, *layers, *[TensorType("f32", (rows,))] * 2)
    attrs: dict[str, Attr] = {"linear_before_reset": choice.linear_before_reset}
    return Signature(kinds, (h.with_shape((sizes.frames, *h.shape)), h), attrs)


def lstm_node(choice: Choice) -> tuple[Signature, Arrays]:
    """An integer LSTM and all its arrays, states anywhere in their range."""
    return crossed(LSTM, lstm_types(choice), choice)


def gru_node(choice: Choice) -> tuple[Signature, Arrays]:
    """An integer GRU and all its arrays, its state anywhere in its range."""
    return crossed(GRU, gru_types(choice), choice)


def crossed(op: Op, types: Signature, choice: Choice) -> tuple[Signature, Arrays]:
    """The integer form over random codes and biases; its form must be a listed one."""
    random, arrays = np.random.default_rng(choice.seed + 1), dict[int, Any]()
    for position, kind in enumerate(types.inputs):
        if kind is None:
            continue
        real = position in op.reals
        arrays[position] = (
            random.normal(0, choice.gain / 2, kind.shape) if real else codes(random, kind, choice.extreme)
        )
    made = prepared(op, types, arrays, choice.rounding, **dict(choice.contract))
    signature, operands = complete(types, made, arrays)
    if op is LSTM and choice.full_cell_table:
        reals = np.tanh(np.arange(-32768, 32768) * 2.0**-choice.fraction)
        operands += (np.clip(np.rint(reals * 32768), -32768, 32767).astype(np.int16),)
        kinds = (*signature.inputs, TensorType("i16", (65536,)))
        signature = Signature(kinds, signature.outputs, signature.attrs)
    form = " ".join(kind.dtype if kind else "_" for kind in signature.inputs)
    assert f"{form} -> {' '.join(kind.dtype for kind in signature.outputs)}" in op.forms
    return signature, operands


def prepared(
    op: Op, types: Signature, arrays: Mapping[int, np.ndarray], rounding: str, **contract: Any
) -> Prepared:
    """What the crossing makes of constant weights and biases; arrays by position."""
    constant = {*op.weights, *op.reals}
    values = tuple(arrays.get(i) if i in constant else None for i in range(len(types.inputs)))
    return op.prepare(types, values, Numerics(rounding, **contract))  # type: ignore[arg-type]


def complete(types: Signature, made: Prepared, arrays: Mapping[int, np.ndarray]) -> tuple[Signature, Arrays]:
    """The integer form out of what `prepare` made; an absent operand is None, in types and arrays."""
    kinds = [types.inputs[part] if isinstance(part, int) else part.type for part in made.operands]
    operands = tuple(arrays.get(part) if isinstance(part, int) else part.value for part in made.operands)
    return Signature(tuple(kinds), types.outputs, made.attrs), operands


def assert_equal(found: Sequence[np.ndarray], expected: Sequence[np.ndarray]) -> None:
    for position, (one, other) in enumerate(zip(found, expected, strict=True)):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other, f"result {position}")


def in_chunks(op: Op, signature: Signature, arrays: Arrays, size: int) -> Arrays:
    """The results over chunks of `size` frames, the states carried from each to the next."""
    count = len(signature.outputs) - 1
    x, states, constants = arrays[0], arrays[1 : 1 + count], arrays[1 + count :]
    pieces = []
    for start in range(0, len(x), size):
        y, *states = op.fast(signature, x[start : start + size], *states, *constants)  # type: ignore[assignment]
        pieces.append(y)
    return (np.concatenate(pieces), *states)


def in_frames(op: Op, signature: Signature, arrays: Arrays) -> Arrays:
    """The results of the operator's graph of primitives, frame by frame."""
    count = len(signature.outputs) - 1
    graph, states, ys = op.primitives(signature), list(arrays[1 : 1 + count]), []
    assert graph is not None
    names = operand_names(signature.attrs)[3:] if op is LSTM else NAMES[2:]
    constants = {n: v for n, v in zip(names, arrays[1 + count :], strict=False) if v is not None}
    for frame in arrays[0]:
        values = {"x": frame, **dict(zip("hc", states, strict=False)), **constants}
        step = interpret.run(graph, values, mode="reference").outputs
        states = [step[f"{name}_next"] for name in "hc"[:count]]
        ys.append(states[0])
    return (np.stack(ys), *states)


def dequantised(signature: Signature, arrays: Arrays) -> dict[int, np.ndarray]:
    """What the codes of activations and weights stand for, in float64, by position."""
    return {
        position: (array.astype(np.float64) - kind.zero_point) * kind.quant.scales(array.ndim)
        for position, (kind, array) in enumerate(zip(signature.inputs, arrays, strict=False))
        if kind is not None and kind.quant is not None
    }
