"""The GRU: one node for a whole stretch of time, its state handed in and out.

Over the reals, gates in the order r, z, n, for every frame t:

    r, z = sigmoid(W x_t + b + R h + rb)
    n    = tanh(W_n x_t + b_n + r * (R_n h + rb_n))         linear_before_reset (torch, cuDNN)
    n    = tanh(W_n x_t + b_n + R_n (r * h) + rb_n)         else (the paper; ONNX's default)
    h    = (1 - z)*n + z*h;  y_t = h

Over integers (x and h: i8 or i16; the formats are those of the LSTM), per frame and unit:

    A    = sat16(requantize(Σ (w - z_w) * (x - z_x) + bias, input_multiplier))          gates in Q3.12
    C(v) = sat16(requantize(Σ (w_h - z_wh) * v + recurrent_bias, recurrent_multiplier))
    r, z = sat16(requantize(u(sat16(A + C(h - z_h))), 2^-7))     Q0.15; u: the 23-bit value of lut.py
    a_n  = sat16(A_n + sat16(requantize(r * C_n(h - z_h), 2^-15)))          linear_before_reset
    a_n  = sat16(A_n + C_n(k - z_h)),  k = saturate(requantize(r * (h - z_h), 2^-15) + z_h)      else
    n    = sat16(requantize(u(a_n), 2^-7))
    p    = sat16(requantize((h - z_h) * state_factor, state_multiplier))       h in Q0.15
    h    = saturate(requantize(sat16(2^15 - z) * n + z * p, hidden_multiplier) + z_h)

The new state is rounded once, from the exact sum of both products: |sum| < 2^31. The weights of n
and p add up to 2^15 (z >= 1 in every table of sigmoid), so that a state that equals n stays. p is
exact where s_h is 2^-15 times a power of two not below 1 (2^-7, 2^-15 …), elsewhere within 2^-16;
what lies beyond ±1 is read as ±1: no GRU makes such a state. state_factor is 2^L and
state_multiplier stands for s_h * 2^(15-L), in (1/2, 1] unless s_h < 2^-15; hidden_multiplier
stands for 2^-30 / s_h, the others for s_x * s_w[j] / 2^-12 and s_h * s_wh[j] / 2^-12. Accumulators
are i32 for i8 and i48 for i16 operands, proved wrap-free when prepared, or narrow (narrow.py); left
shifts are admitted as for the LSTM. Every requantisation follows the node's `rounding`; `double_m16`
holds for the accumulators of weights, everything after them is `double`.

A target may ask for internals of fewer than 16 bits (internals.py; attribute `internal_bits`): coarse_k
then follows the sat16 of the arguments of u, of r, z, n and of 2^15 - z; both weights of n and p add up to
2^15 still, but where z rounds to 0 that of n ends below it.

A state sticks where a frame would move it by less than half a code: (1 - z) * |n - h| < s_h / 2.
With i8 codes and z = 0.98 that is every |n - h| < 0.2; a slow GRU needs h in i16, where the same z
sticks within 2^-10. Against the reals a frame adds at most half a code of h (and of k), and the
errors of the gates; z < 1 shrinks what earlier frames left. Over no frames the state comes back.
"""

from collections.abc import Mapping
from functools import partial
from itertools import product
from typing import Any

import numpy as np

from nnaq.errors import OpError
from nnaq.ir.dims import Shape, show
from nnaq.ir.numerics import Numerics
from nnaq.ir.op import Attr, Bindable, Op, Prepared, Signature, Work, at_once, register
from nnaq.ir.types import TensorType, bounds
from nnaq.kernels.accumulate import ACCUMULATORS, order_of
from nnaq.kernels.bound import Bound, together
from nnaq.kernels.cell_numbers import curve_numbers, joined, matrix_of, product_numbers
from nnaq.kernels.fixedpoint import CODES, quantize_multipliers
from nnaq.kernels.gru_loops import HIDDEN, PRODUCT, SIGMOID, STATE, TANH, recur
from nnaq.kernels.gru_numbers import (
    BIAS,
    CONSTANTS,
    H0,
    OPERANDS,
    RECURRENT_BIAS,
    W_INPUT,
    W_RECURRENT,
    X,
    by_name,
    level_multipliers,
    resets_first,
    state_constants,
)
from nnaq.kernels.gru_reference import reference
from nnaq.kernels.gru_step import primitives
from nnaq.kernels.internals import grid_of, internals
from nnaq.kernels.lut import sigmoid_function
from nnaq.kernels.multiply import scales_of
from nnaq.kernels.narrow import contract
from nnaq.kernels.recurrent_loops import (
    bind_last,
    bind_state,
    empty_states,
    in_rows,
    load_driven_gates,
    pair_of,
)
from nnaq.kernels.recurrent_numbers import (
    HIGH,
    LOW,
    check_states,
    constant_codes,
    constants_of,
    curve_tables,
    gate_constants,
    product_rounding,
)
from nnaq.kernels.weight_panels import byte_zero, weights_of

Types = tuple[TensorType | None, ...]
# z_h, whether h is reset before its product, what takes h - z_h to Q0.15, tables, and numbers of passes
Cell = tuple[int, bool, int, np.ndarray, np.ndarray]
GATES = 3


def infer(inputs: Types, attrs: Mapping[str, Attr]) -> tuple[Shape, ...]:
    """y [T, B, H], h [B, H]; T and B may be symbolic. Raises OpError where shapes disagree."""
    x, h, w_input, w_recurrent = (_shape(inputs, position) for position in range(4))
    if len(x) != 3 or len(h) != 2:
        raise OpError(f"gru takes x [T,B,I] and h0 [B,H], found {show(x)} and {show(h)}")
    units = h[1]
    if not isinstance(units, int):
        raise OpError(f"gru needs a whole number of units, found {units!r} in h0 {show(h)}")
    rows = GATES * units
    expected: dict[str, tuple[Shape, Shape]] = {"h0": (h, (x[1], units))}
    expected |= {"w_input": (w_input, (rows, x[2])), "w_recurrent": (w_recurrent, (rows, units))}
    for position, name in ((BIAS, "bias"), (RECURRENT_BIAS, "recurrent_bias")):
        if len(inputs) > position and inputs[position] is not None:
            expected[name] = (_shape(inputs, position), (rows,))
    for name, (found, wanted) in expected.items():
        if found != wanted:
            raise OpError(f"gru: {name} has shape {show(found)}, x {show(x)} and h0 make it {show(wanted)}")
    return (x[0], x[1], units), h


def _shape(inputs: Types, position: int) -> Shape:
    found = inputs[position] if position < len(inputs) else None
    if found is None:
        raise OpError(f"gru: operand {OPERANDS[position]} is missing")
    return found.shape


# Over the reals


def real(
    xp: Any, attrs: Mapping[str, Attr], x: Any, h: Any, w_input: Any, w_recurrent: Any, bias: Any = None,
    recurrent_bias: Any = None,
) -> tuple[Any, Any]:  # fmt: skip
    """y and h; differentiable in torch, whose own GRU has the same gate order and resets last."""
    if xp is np or resets_first(attrs):
        return _step_by_step(xp, attrs, x, h, w_input, w_recurrent, bias, recurrent_bias)
    if x.shape[0] == 0:
        return x.new_zeros((0, *h.shape)), h
    given = [b for b in (bias, recurrent_bias) if b is not None]
    biases = [xp.zeros_like(given[0]) if b is None else b for b in (bias, recurrent_bias)] if given else []
    weights = (w_input, w_recurrent, *biases)
    y, h = xp.gru(x, h[None].contiguous(), weights, bool(given), 1, 0.0, False, False, False)
    return y, h[0]


def _step_by_step(
    xp: Any, attrs: Mapping[str, Attr], x: Any, h: Any, w_input: Any, w_recurrent: Any, bias: Any,
    recurrent_bias: Any,
) -> tuple[Any, Any]:  # fmt: skip
    """The formula, in numpy or torch."""
    units, made = h.shape[1], []
    driven = x @ w_input.T if bias is None else x @ w_input.T + bias
    zeros = w_recurrent[:, 0] * 0 if recurrent_bias is None else recurrent_bias
    for a in driven:
        gates = a[:, : 2 * units] + h @ w_recurrent[: 2 * units].T + zeros[: 2 * units]
        r, z = sigmoid_function(xp, gates[:, :units]), sigmoid_function(xp, gates[:, units:])
        kept = r * h if resets_first(attrs) else h
        carried = kept @ w_recurrent[2 * units :].T + zeros[2 * units :]
        n = xp.tanh(a[:, 2 * units :] + (carried if resets_first(attrs) else r * carried))
        h = (1 - z) * n + z * h
        made.append(h)
    return (xp.stack(made) if made else driven[:, :, :units]), h


# The crossing to integers


def prepare(signature: Signature, constants: tuple[np.ndarray | None, ...], numerics: Numerics) -> Prepared:
    """Biases, multipliers and tables; every accumulator proved wrap-free.

    Raises LoweringError: weights that are no constants, a state that does not share the codes of the
    results, an accumulator that could wrap, a multiplier out of reach.
    """
    h, rounding = signature.input(H0), numerics.rounding
    check_states("gru", signature, {"y": H0, "h": H0})
    codes = constant_codes("gru", {"w_input": constants[W_INPUT], "w_recurrent": constants[W_RECURRENT]})
    made = []
    for name, x, weight, found, bias in zip(
        ("bias", "recurrent_bias"),
        (X, H0),
        (W_INPUT, W_RECURRENT),
        codes,
        (BIAS, RECURRENT_BIAS),
        strict=True,
    ):
        kinds, real_bias = (
            (signature.input(x), signature.input(weight)),
            constants[bias] if signature.has(bias) else None,
        )
        made.append(gate_constants(f"gru {OPERANDS[weight]}", name, *kinds, found, real_bias, numerics))
    (bias_codes, *driven), (recurrent_codes, *carried) = made
    after = product_rounding(rounding)
    hidden = quantize_multipliers(np.array(2.0**-30 / h.scale), after)
    arrays = (*driven, *carried, *curve_tables(numerics.lut_entries), *state_constants(h, after), *hidden)
    operands = (X, H0, W_INPUT, W_RECURRENT, bias_codes, recurrent_codes)
    attrs: dict[str, Attr] = {"linear_before_reset": not resets_first(signature.attrs), "rounding": rounding}
    attrs |= {**contract(numerics), **internals(numerics)}
    return Prepared((*operands, *constants_of(dict(zip(CONSTANTS, arrays, strict=True)))), attrs)


# Compiled


def load(signature: Signature, operands: tuple[Any, ...]) -> Bindable:
    """The same codes: the input product of every frame first, then the recurrence."""
    arrays, hidden = in_rows(by_name(operands)), signature.input(H0)
    driven_gates = load_driven_gates(arrays, signature.input(X), signature.input(W_INPUT), signature.attrs)
    behind = _recurrent_rows(signature, arrays), _cell(signature, arrays)

    def bind(x: np.ndarray, h0: np.ndarray, *_: Any) -> Bound:
        y, y_8, y_16 = empty_states(hidden.dtype, len(x), *h0.shape)
        (gates, drive), (begin, bring), (h, leave) = driven_gates(x), bind_state(h0), bind_last(y, h0)
        recurrence = partial(recur, gates, begin, y_8, y_16, *behind)
        return (y, h), together([*drive, *bring, recurrence, leave])

    return Bindable(bind)


def _recurrent_rows(signature: Signature, arrays: dict[str, np.ndarray]) -> tuple[Any, ...]:
    """Weight, bias, multiplier, shift, order and rounding of the gates r, z, n."""
    kind, rounding = signature.input(W_RECURRENT), CODES[str(signature.attrs["rounding"])]
    order = order_of(signature.input(H0), kind, signature.attrs)
    zero_x = byte_zero(signature.input(H0), order)
    weights = weights_of(arrays["w_recurrent"], kind.zero_point, GATES, zero_x)
    parts = scales_of(*(arrays[f"recurrent_{part}"] for part in ("bias", "multiplier", "shift")))
    return weights, *parts, order, rounding


def _cell(signature: Signature, arrays: dict[str, np.ndarray]) -> Cell:
    """What a frame is computed with behind its products."""
    hidden, first = signature.input(H0), resets_first(signature.attrs)
    after, grid = product_rounding(str(signature.attrs["rounding"])), grid_of(signature.attrs)
    curve, product_pair = level_multipliers(after)
    limits = tuple(limit - hidden.zero_point for limit in bounds(hidden.dtype))
    curves = arrays["sigmoid_table"], arrays["tanh_table"]
    tables, begins = joined(curves)
    sigmoid, tanh = (
        curve_numbers(curve, after, grid, table.size, begin, grid)
        for table, begin in zip(curves, begins, strict=True)
    )
    numbers = {
        SIGMOID: sigmoid, TANH: tanh,
        PRODUCT: product_numbers(product_pair, after, *(limits if first else (LOW, HIGH))),
        STATE: product_numbers(pair_of(arrays, "state"), after),
        HIDDEN: product_numbers(pair_of(arrays, "hidden"), after, *limits),
    }  # fmt: skip
    return hidden.zero_point, first, int(arrays["state_factor"]), tables, matrix_of(numbers)


def work(signature: Signature) -> Work:
    """Per unit: 3 look-ups and 9 vector operations (3 sums of gates, 3 products, 2 sums, 1 rescale of h)."""
    frames, batch, units = (int(n) for n in signature.outputs[0].shape)
    steps, features = frames * batch * units, int(signature.input(X).shape[2])
    return Work(macs=steps * GATES * (features + units), elementwise=9 * steps, lookups=3 * steps)


def _forms() -> tuple[str, ...]:
    """x and h i8 or i16, weights i8 or i4."""
    constants = "i32 i8 i32 i8 i16 i16 i16 i32 i8 i32 i8"
    activations, weights = ("i8", "i16"), ("i8", "i4")
    return tuple(
        f"{x} {h} {w_input} {w_recurrent} {ACCUMULATORS[x]} {ACCUMULATORS[h]} {constants} -> {h} {h}"
        for x, h, w_input, w_recurrent in product(activations, activations, weights, weights)
    )


register(
    Op(
        "gru", OPERANDS, _forms(), infer, real, prepare, reference, at_once(load), work,
        "a = sat16(sat16(W x + b) + sat16(R h + rb)) in Q3.12; h = sat((1 - z)*n + z*h + z_h)",
        primitives=primitives, weights={W_INPUT: 0, W_RECURRENT: 0}, reals=(BIAS, RECURRENT_BIAS),
        ties=((H0, ~0, ~1),), packed=(W_INPUT, W_RECURRENT), load=load,
    )
)  # fmt: skip
