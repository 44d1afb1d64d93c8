"""The LSTM: one node for a whole stretch of time, its state handed in and out.

Over the reals, gates in the order i, f, g, o, for every frame t:

    a = W_x x_t + W_h h + b;  i, f, o = sigmoid(a_i, a_f, a_o);  g = tanh(a_g)
    c = f*c + i*g;  m = tanh(c)*o;  h = m, or W_p m with a projection;  y_t = h

With the attribute `cifg` the input gate is coupled, i = 1 - f, and there are three gates f, g, o.
With norm_weight or norm_bias every gate of a is normalised over its units (layer norm with the
attribute `epsilon`, 1e-5 by default), a = norm(W_x x_t + W_h h + b) * norm_weight + norm_bias; what
other texts call the bias of a layer-norm LSTM is norm_bias.

Over integers (x and h: i8 or i16; c: i16 with scale 2^-n, 9 <= n <= 15; same structure as
tflite-micro's UNIDIRECTIONAL_SEQUENCE_LSTM 8x8_16 and 16x8_16), per frame and unit:

    A    = sat16(requantize(Σ (w_x - z_wx) * (x - z_x) + bias, input_multiplier))       gates in Q3.12
    R    = sat16(requantize(Σ (w_h - z_wh) * (h - z_h), recurrent_multiplier))
    a    = sat16(A + R)
    a    = the code of group_norm with one group per gate over a, Q3.12 to Q3.12       with a norm only
    gate = sat16(requantize(u(a), 2^-7))       Q0.15; u: the 23-bit table value of lut.py
    i    = sat16(2^15 - 1 - f)                 cifg only, as in TFLite's 16-bit LSTM
    c    = sat16(sat16(requantize(f*c, 2^-15)) + sat16(requantize(i*g, 2^(n-30))))
    d    = sat16(c * 2^(12-n))  if n <= 12  else  sat16(requantize(c, 2^(12-n)))        Q3.12
    m    = saturate(requantize(gate_tanh(d) * o, hidden_multiplier) + z_m)
    h    = m, or saturate(requantize(Σ (w_p - z_wp) * (m - z_m), projection_multiplier) + z_h)

The accumulators are i32 for i8 and i48 for i16 operands, proved wrap-free when the node is
prepared, or narrow (narrow.py); the multipliers stand for s_x * s_wx[j] / 2^-12, s_h * s_wh[j] / 2^-12
and 2^-30 / s_m, and bias[j] = round(b[j] / (s_x * s_wx[j])). A gate's pre-activation is finer than the
accumulator more often than elsewhere, so its multiplier may need more than one bit of left shift:
s is admitted while |acc| * 2^s <= 2^30 (i32; TOSA's precondition of RESCALE) or s <= 14 (i48).
Every requantisation follows the node's `rounding`; `double_m16` holds for the accumulators,
everything after them is `double`, as in tflite-micro.

Without a projection m has the codes of h. Before a projection it has the dtype of h, zero_point 0
and the scale 2^-7 (i8) or 2^-15 (i16): |tanh(c)*o| < 1, so these codes need no calibration, and only
products that round to 1 itself are clamped to the highest code. projection_multiplier stands for
s_m * s_wp[p] / s_h. The integer node carries the attribute `projected`.

A normalisation (norm.py, norm_rows.py, norm_affine.py; attribute `normed`) reads sums that were
clamped to -8 … 8 and rounded to 2^-12, though it would undo any factor: weights whose sums leave
that range, or keep far below it, are to be scaled by the model. Its rescale rounds like everything
behind the accumulators.

A target may ask for internals of fewer than 16 bits (internals.py; attribute `internal_bits`): coarse_k
then follows the sat16 of a, behind the normalisation, of the gates, of gate_tanh(d) and of c.

Tables have 513 or 65,536 entries. The optional last operand `cell_table` (65,536 entries, by the
code of c itself) takes the place of d and tanh_table: a runtime that interpolates its tanh on a
grid finer than Q3.12 is met bit for bit through it. Over no frames the states come back as they are.
"""

from collections.abc import Callable, Mapping
from functools import partial
from itertools import product
from typing import Any

import numpy as np

from nnaq.errors import OpError
from nnaq.ir.dims import Shape, show
from nnaq.ir.numerics import Numerics
from nnaq.ir.op import Arrays, Attr, Bindable, Constant, Op, Prepared, Signature, Work, at_once, register
from nnaq.ir.types import TensorType, bounds
from nnaq.kernels import tflite_curves
from nnaq.kernels.accumulate import ACCUMULATORS, channel_scales, order_of
from nnaq.kernels.bound import Bound, Copy, Run, together
from nnaq.kernels.cell_numbers import blend_numbers, curve_numbers, joined, matrix_of, product_numbers
from nnaq.kernels.fixedpoint import CODES, quantize_multipliers
from nnaq.kernels.internals import grid_of, internals
from nnaq.kernels.lstm_loops import BLEND, HIDDEN, LIFT, SIGMOID, SQUASH, TANH, recur
from nnaq.kernels.lstm_norm import no_norm, norm_arguments, prepare_norm
from nnaq.kernels.lstm_numbers import (
    BIAS,
    C0,
    CONSTANTS,
    H0,
    NORM_BIAS,
    NORM_WEIGHT,
    OPERANDS,
    PROJECTION_CONSTANTS,
    W_INPUT,
    W_PROJECTION,
    W_RECURRENT,
    Sums,
    X,
    by_name,
    cell_fraction,
    gate_count,
    is_coupled,
    is_normed,
    is_projected,
    norm_epsilon,
    power_multipliers,
    unprojected,
)
from nnaq.kernels.lstm_real import real
from nnaq.kernels.lstm_reference import reference
from nnaq.kernels.lstm_step import primitives
from nnaq.kernels.narrow import Order, contract
from nnaq.kernels.norm import VECTOR_OPERATIONS
from nnaq.kernels.recurrent_loops import (
    bind_last,
    bind_state,
    empty_states,
    in_rows,
    load_driven_gates,
    pair_of,
)
from nnaq.kernels.recurrent_numbers import (
    GATE_FRACTION,
    check_states,
    constant_codes,
    constants_of,
    curve_tables,
    gate_constants,
    product_rounding,
    row_multipliers,
)
from nnaq.kernels.weight_panels import Weights, byte_zero, weights_of

Types = tuple[TensorType | None, ...]
Projection = tuple[bool, Weights, np.ndarray, np.ndarray, Order, int, int]
# z_h, whether the input gate is coupled, what lifts c to Q3.12 (0: nothing), tables, and numbers of passes
Cell = tuple[int, bool, int, np.ndarray, np.ndarray]


def infer(inputs: Types, attrs: Mapping[str, Attr]) -> tuple[Shape, ...]:
    """y [T, B, P], h [B, P], c [B, H], P = H without a projection; T and B may be symbolic.

    Raises OpError where shapes disagree.
    """
    x, h, c, w_input, w_recurrent = (_shape(inputs, position) for position in range(5))
    if len(x) != 3 or len(h) != 2 or len(c) != 2:
        raise OpError(
            f"lstm takes x [T,B,I], h0 [B,H] and c0 [B,H], found {show(x)}, {show(h)} and {show(c)}"
        )
    projected = _is_projected(inputs, attrs)
    width, units = h[1], c[1] if projected else h[1]
    if not isinstance(units, int) or not isinstance(width, int):
        raise OpError(f"lstm needs a whole number of units, found {units!r} in h0 {show(h)}, c0 {show(c)}")
    rows = gate_count(attrs) * units
    expected: dict[str, tuple[Shape, Shape]] = {"h0": (h, (x[1], width)), "c0": (c, (x[1], units))}
    expected |= {"w_input": (w_input, (rows, x[2])), "w_recurrent": (w_recurrent, (rows, width))}
    if len(inputs) > BIAS and inputs[BIAS] is not None:
        expected["bias"] = (_shape(inputs, BIAS), (rows,))
    if projected:
        expected["w_projection"] = (_shape(inputs, W_PROJECTION), (width, units))
    for position in (NORM_WEIGHT, NORM_BIAS):
        if _is_normed(inputs, attrs) and len(inputs) > position and inputs[position] is not None:
            expected[OPERANDS[position].rstrip("?")] = (_shape(inputs, position), (rows,))
    for name, (found, wanted) in expected.items():
        if found != wanted:
            raise OpError(f"lstm: {name} has shape {show(found)}, x {show(x)} and h0 make it {show(wanted)}")
    return (x[0], x[1], width), h, c


def _is_projected(inputs: Types, attrs: Mapping[str, Attr]) -> bool:
    """Operand 6 of the real form is a projection; in the integer form an attribute says what it is."""
    if "rounding" in attrs:
        return is_projected(attrs)
    return len(inputs) > W_PROJECTION and inputs[W_PROJECTION] is not None


def _is_normed(inputs: Types, attrs: Mapping[str, Attr]) -> bool:
    """Operands 7 and 8 of the real form ask for a normalisation."""
    return is_normed(attrs) if "rounding" in attrs else any(kind is not None for kind in inputs[NORM_WEIGHT:])


def _shape(inputs: Types, position: int) -> Shape:
    found = inputs[position] if position < len(inputs) else None
    if found is None:
        raise OpError(f"lstm: operand {OPERANDS[position]} is missing")
    return found.shape


# The crossing to integers


def prepare(signature: Signature, constants: tuple[np.ndarray | None, ...], numerics: Numerics) -> Prepared:
    """Bias, multipliers and tables; every accumulator proved wrap-free.

    Raises LoweringError: weights that are no constants, states that do not share the codes of the
    results, a cell scale that is no 2^-9 … 2^-15, an accumulator that could wrap, a multiplier out
    of reach.
    """
    x, h = signature.input(X), signature.input(H0)
    w_input, w_recurrent = signature.input(W_INPUT), signature.input(W_RECURRENT)
    fraction = cell_fraction(signature.input(C0))
    check_states("lstm", signature, {"y": H0, "h": H0, "c": C0})
    codes = constant_codes("lstm", {"w_input": constants[W_INPUT], "w_recurrent": constants[W_RECURRENT]})
    rounding, projected = numerics.rounding, _is_projected(signature.inputs, signature.attrs)
    real_bias = constants[BIAS] if signature.has(BIAS) else None
    bias, *driven = gate_constants("lstm w_input", "bias", x, w_input, codes[0], real_bias, numerics)
    _, *carried = gate_constants("lstm w_recurrent", "", h, w_recurrent, codes[1], None, numerics)
    own_curves = numerics.curves == "rounded"
    if not own_curves:
        scales = channel_scales(w_recurrent, len(codes[1]))
        carried = list(tflite_curves.recurrent_multipliers(h, scales))
    scale = unprojected(h).scale if projected else h.scale
    hidden = quantize_multipliers(np.array(2.0**-30 / scale), product_rounding(rounding))
    tables = curve_tables(numerics.lut_entries) if own_curves else tflite_curves.gate_tables()
    made = dict(zip(CONSTANTS, (*driven, *carried, *tables, *hidden), strict=True))
    cell = {} if own_curves else {"cell_table": tflite_curves.curve_of_cell(fraction)}
    own: dict[str, Attr] = {"rounding": rounding, **contract(numerics), **internals(numerics)}
    own |= {"cifg": True} if is_coupled(signature.attrs) else {}
    operands: tuple[int | Constant, ...] = (X, H0, C0, W_INPUT, W_RECURRENT, bias)
    if projected:
        rescale = _projection_multipliers(signature, constants[W_PROJECTION], numerics)
        made |= dict(zip(PROJECTION_CONSTANTS, rescale, strict=True))
        own, operands = {**own, "projected": True}, (*operands, W_PROJECTION)
    if not _is_normed(signature.inputs, signature.attrs):
        return Prepared((*operands, *constants_of(made | cell)), own)
    weights, rest = prepare_norm(signature, constants, rounding)
    own |= {"normed": True, "epsilon": norm_epsilon(signature.attrs)}
    return Prepared(
        (*operands[:6], W_PROJECTION, *weights, *constants_of(made), *rest, *constants_of(cell)), own
    )


def _projection_multipliers(
    signature: Signature, codes: np.ndarray | None, numerics: Numerics
) -> tuple[np.ndarray, np.ndarray]:
    """Multipliers and shifts [P] of s_m * s_wp[p] / s_h."""
    h, weight = signature.input(H0), signature.input(W_PROJECTION)
    (found,) = constant_codes("lstm", {"w_projection": codes})
    no_bias = np.zeros(len(found), np.int64)
    return row_multipliers("lstm w_projection", unprojected(h), weight, found, no_bias, h.scale, numerics)


# Compiled


def load(signature: Signature, operands: tuple[Any, ...]) -> Bindable:
    """The same codes: the input projection of every frame first, then the recurrence."""
    bind = _load(signature, operands)

    def bound(x: np.ndarray, h0: np.ndarray, c0: np.ndarray, *_: Any) -> Bound:
        results, before, recurrence, after, _ = bind(x, h0, c0)
        return results, together([*before, recurrence, after])

    return Bindable(bound)


def run_with_sums(signature: Signature, *operands: np.ndarray | None) -> tuple[Arrays, Sums]:
    """The same codes, and what their gradient asks for."""
    results, before, recurrence, after, sums = _load(signature, operands)(*operands[:3], keeps=True)
    together([*before, recurrence, after])()
    return results, sums


def count_cell_saturations(signature: Signature, *operands: np.ndarray | None) -> int:
    """How many values of c were clamped, over all frames, rows and units."""
    _, before, recurrence, *_ = _load(signature, operands)(*operands[:3])
    together(before)()
    return int(recurrence())


def _load(
    signature: Signature, operands: tuple[Any, ...]
) -> Callable[..., tuple[Arrays, list[Run], Callable[[], Any], Run, Sums]]:
    """x, h0, c0 -> y, h, c, and what fills them: in turn some runs, the recurrence, and one more; and the
    sums, of all frames with `keeps`.

    The recurrence tells how many values of c were clamped.
    """
    arrays, attrs = in_rows(by_name(signature.attrs, operands)), signature.attrs
    hidden, kind_w, word = signature.input(H0), signature.input(W_RECURRENT), str(attrs["rounding"])
    driven_gates = load_driven_gates(arrays, signature.input(X), signature.input(W_INPUT), attrs)
    rescale = arrays["recurrent_multiplier"], arrays["recurrent_shift"]
    order = order_of(hidden, kind_w, attrs)
    weights = weights_of(arrays["w_recurrent"], kind_w.zero_point, zero_x=byte_zero(hidden, order))
    behind = (
        (weights, *rescale, order, CODES[word]),
        _cell(signature, arrays),
        _projection(signature, arrays),
        norm_arguments(signature, arrays) if is_normed(attrs) else no_norm(),
    )

    def bind(
        x: np.ndarray, h0: np.ndarray, c0: np.ndarray, keeps: bool = False
    ) -> tuple[Arrays, list[Run], Callable[[], Any], Run, Sums]:
        y, y_8, y_16 = empty_states(hidden.dtype, len(x), *h0.shape)
        (gates, drive), (begin, bring), (h, leave) = driven_gates(x), bind_state(h0), bind_last(y, h0)
        c: np.ndarray = np.empty(c0.shape, np.int16)
        carried = np.empty((len(x) if keeps else 1, *gates.shape[1:]), np.int16)
        before: list[Run] = [*drive, *bring, Copy(c, c0)]
        recurrence = partial(recur, gates, carried, begin, c, y_8, y_16, *behind)
        return (y, h, c), before, recurrence, leave, Sums(gates, carried)

    return bind


def _cell(signature: Signature, arrays: dict[str, np.ndarray]) -> Cell:
    """What a frame is computed with behind its product."""
    hidden, attrs = signature.input(H0), signature.attrs
    fraction, after = cell_fraction(signature.input(C0)), product_rounding(str(attrs["rounding"]))
    powers, grid = power_multipliers(fraction, after), grid_of(attrs)
    own = arrays.get("cell_table")
    squash = arrays["tanh_table"] if own is None else own
    sizes = [table.size for table in (arrays["sigmoid_table"], arrays["tanh_table"], squash)]
    tables, begins = joined([arrays["sigmoid_table"], arrays["tanh_table"], squash])
    factor = 2 ** max(GATE_FRACTION - fraction, 0)
    zero_m = unprojected(hidden).zero_point if is_projected(attrs) else hidden.zero_point
    low, high = bounds(hidden.dtype)
    curves = [
        curve_numbers(powers.curve, after, grid, size, begin, code_grid)
        for size, begin, code_grid in zip(sizes, begins, (grid, grid, None), strict=True)
    ]
    numbers = {
        SIGMOID: curves[0], TANH: curves[1], SQUASH: curves[2],
        LIFT: product_numbers(powers.cell, after),
        BLEND: blend_numbers(powers.keep, powers.new, after, grid),
        HIDDEN: product_numbers(pair_of(arrays, "hidden"), after, low - zero_m, high - zero_m),
    }  # fmt: skip
    lifts = own is None and fraction != GATE_FRACTION
    return hidden.zero_point, is_coupled(attrs), factor if lifts else 0, tables, matrix_of(numbers)


def _projection(signature: Signature, arrays: dict[str, np.ndarray]) -> Projection:
    """Whether there is one; its rows, multipliers, shifts and the order of its sums; limits of h - z_h."""
    hidden = signature.input(H0)
    low, high = (limit - hidden.zero_point for limit in bounds(hidden.dtype))
    if "w_projection" not in arrays:
        rows = weights_of(np.empty((0, 0), np.int8), 0)
        return False, rows, np.empty(0, np.int32), np.empty(0, np.int8), Order(1), low, high
    weight, kind = signature.input(W_PROJECTION), unprojected(hidden)
    order = order_of(kind, weight, signature.attrs)
    rows = weights_of(arrays["w_projection"], weight.zero_point, zero_x=byte_zero(kind, order))
    rescale = arrays["projection_multiplier"], arrays["projection_shift"]
    return True, rows, *rescale, order, low, high


def work(signature: Signature) -> Work:
    """Per unit: 5 look-ups and 9 vector operations (4 sums of gates, 3 products, 1 sum, 1 rescale of c).

    A coupled input gate saves a look-up, and its sum becomes the subtraction; a projection adds its
    products, and one rescale per result; a normalisation what layer_norm does over the gates.
    """
    frames, batch, width = (int(n) for n in signature.outputs[0].shape)
    rows, units = (int(n) for n in (signature.input(W_INPUT).shape[0], signature.input(C0).shape[1]))
    steps, features = frames * batch, int(signature.input(X).shape[2])
    own = Work(
        steps * rows * (features + width),
        9 * steps * units,
        (4 if is_coupled(signature.attrs) else 5) * steps * units,
    )
    if _is_projected(signature.inputs, signature.attrs):
        own += Work(steps * units * width, steps * width)
    if _is_normed(signature.inputs, signature.attrs):
        own += Work(0, VECTOR_OPERATIONS * steps * rows, steps * gate_count(signature.attrs))
    return own


def _forms() -> tuple[str, ...]:
    """x and h i8 or i16, weights i8 or i4; with and without a projection, a norm and a cell_table."""
    constants = "i32 i8 i32 i8 i16 i16 i32 i8"
    activations, weights = ("i8", "i16"), ("i8", "i4")
    return tuple(
        f"{x} {h} i16 {w_input} {w_recurrent} {ACCUMULATORS[x]} {before}{constants}{behind}{cell_table} "
        f"-> {h} {h} i16"
        for before, behind in _optional_forms()
        for x, h, w_input, w_recurrent in product(activations, activations, weights, weights)
        for cell_table in ("", " i16")
    )


def _optional_forms() -> tuple[tuple[str, str], ...]:
    """What stands before and behind the eight constants of every LSTM."""
    norm = " i32 i8 i16 i32 i8 i8"
    projected = [(f"{w} ", " i32 i8") for w in ("i8", "i4")]
    normed = [(f"{before}i32 i48 ", f"{behind}{norm}") for before, behind in [("_ ", ""), *projected]]
    return (("", ""), *projected, *normed)


register(
    Op(
        "lstm", OPERANDS, _forms(), infer, real, prepare, reference, at_once(load), work,
        "a = sat16(sat16(W_x x + b) + sat16(W_h h)) in Q3.12; c = sat16(f*c + i*g); h = sat(tanh(c)*o + z_h)",
        primitives=primitives, weights={W_INPUT: 0, W_RECURRENT: 0, W_PROJECTION: 0},
        reals=(BIAS, NORM_WEIGHT, NORM_BIAS),
        ties=((H0, ~0, ~1), (C0, ~2)), demands={C0: "i16 power_of_two"},
        packed=(W_INPUT, W_RECURRENT, W_PROJECTION), load=load,
    )
)  # fmt: skip
