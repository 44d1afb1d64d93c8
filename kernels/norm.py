"""Normalisations: layer, RMS, group, batch and L2.

Over the reals, with the mean and variance (divided by n) of each row of n entries,

    layer_norm    y = (x - mean) / sqrt(variance + epsilon) * weight + bias     rows: axis … last
    group_norm    the same with one row per group of channels of x[N,C,*S] and weight[C], bias[C];
                  groups = C is the instance norm
    rms_norm      y = x / sqrt(mean of x^2 + epsilon) * weight                  rows: axis … last
    l2_normalize  y = x / max(sqrt(sum of x^2), epsilon)                        rows: the last axis
    batch_norm    y = x * factor + offset, per channel of x[N,C,*S]             (folded statistics)

A row whose divisor is 0 (equal entries and epsilon 0) becomes 0, then weight and bias.

Over integers z comes from `norm_rows` (for batch_norm z = q - z_x) and the code from `norm_affine`:

    y = sat(R(w[c] * z + B[c], multiplier[c], shift[c]) + z_y)

Against the real result, rounding `single`, in codes of the result:

    |y - real| <= 1/2 + 2^-10 + |weight[c]| / s_y * (2^-(f+1) + |z_real| * 2^-26),  f = 16 (l2_normalize 24)

so that it is never more than one code from the correctly rounded one while |weight[c]| < 2^16 s_y.
Measured over results that use their codes' range, n >= 16: off by one in at most 0.02 % of i8 and
3 % of i16 codes (about 0.01 % and 2 %) after a normalisation, almost all of it from z in steps of
2^-16; 0.02 % and 1 % after l2_normalize; 0.05 % after batch_norm, whose bound is 1/2 + 2^-12.
"""

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from nnaq.errors import GraphError, LoweringError
from nnaq.ir.dims import Shape, bind, show
from nnaq.ir.numerics import Numerics
from nnaq.ir.op import Arrays, Attr, Bindable, Kernel, Op, Prepared, Signature, Work, at_once, register
from nnaq.ir.types import TensorType, bounds, storage
from nnaq.jit import jit
from nnaq.kernels import norm_rows
from nnaq.kernels.boundary import when_constant
from nnaq.kernels.fixedpoint import CODES
from nnaq.kernels.norm_affine import (
    FORM,
    affine,
    affine_constants,
    affine_reference,
    channel_of_entries,
    tail_reference,
)
from nnaq.kernels.norm_rows import FORMS, Rule, View, check_count, row_constants

Attrs = Mapping[str, Attr]
Types = tuple[TensorType | None, ...]
Constants = tuple[np.ndarray | None, ...]
Look = Callable[[Attrs, tuple[int, ...]], View]

LAYER = Rule("layer_norm", centred=True, counted=True, fraction=16)
GROUP = Rule("group_norm", centred=True, counted=True, fraction=16)
RMS = Rule("rms_norm", centred=False, counted=True, fraction=16)
L2 = Rule("l2_normalize", centred=False, counted=False, fraction=24)
VECTOR_OPERATIONS = 5  # sum, sum of squares, the difference, its product, the rescale


# --- shapes


def first_axis(who: str, attrs: Attrs, rank: int) -> int:
    """The first normalised axis, counted from the front."""
    axis = attrs.get("axis", -1)
    if not isinstance(axis, int) or not -rank <= axis < rank:
        raise GraphError(f"{who}: axis must be from {-rank} to {rank - 1}, found {axis}")
    return axis % rank


def view_last(attrs: Attrs, shape: tuple[int, ...]) -> View:
    """Rows over axis … last, each entry with a weight of its own."""
    axis = first_axis("normalisation", attrs, len(shape))
    return View(math.prod(shape[:axis]), 1, math.prod(shape[axis:]), 1)


def view_groups(attrs: Attrs, shape: tuple[int, ...]) -> View:
    """Rows over the channels of a group and everything behind them."""
    groups = int(attrs["groups"])  # type: ignore[arg-type]
    return View(shape[0] * groups, groups, shape[1] // groups, math.prod(shape[2:]))


def check_epsilon(who: str, attrs: Attrs) -> float:
    """The attribute epsilon. Raises GraphError where it is no number from 0 up."""
    epsilon = attrs["epsilon"]
    if not isinstance(epsilon, (int, float)) or not 0 <= epsilon < math.inf:
        raise GraphError(f"{who}: epsilon must be a finite number from 0 up, found {epsilon}")
    return float(epsilon)


def check_parameters(who: str, inputs: Types, expected: Shape) -> None:
    """Raise GraphError for a weight or bias that is neither one number nor of the expected shape."""
    for name, kind in zip(("weight", "bias"), inputs[1:3], strict=False):
        if kind is not None and kind.shape not in ((), expected):
            raise GraphError(f"{who}: {name} has shape {show(kind.shape)}, expected {show(expected)}")


def infer_last(who: str, inputs: Types, attrs: Attrs) -> tuple[Shape, ...]:
    """The shape of x; the normalised axes must be whole numbers."""
    x = inputs[0]
    assert x is not None
    normalised = x.shape[first_axis(who, attrs, x.rank) :]
    if not all(isinstance(dim, int) for dim in normalised):
        raise GraphError(
            f"{who}: the normalised axes of x {show(x.shape)} must have whole sizes; use a later axis"
        )
    check_epsilon(who, attrs)
    if who == "l2_normalize" and len(normalised) != 1:
        raise GraphError(f"{who} works along the last axis, found axis {attrs['axis']}; transpose before it")
    if who != "l2_normalize":
        check_parameters(who, inputs, normalised)
    return (x.shape,)


def infer_channels(who: str, inputs: Types, attrs: Attrs) -> tuple[Shape, ...]:
    """The shape of x [N,C,*S]; N and S may be symbolic."""
    x = inputs[0]
    assert x is not None
    if x.rank < 2 or not isinstance(x.shape[1], int):
        raise GraphError(f"{who} takes x [N,C,...] with a whole number of channels, found {show(x.shape)}")
    check_parameters(who, inputs, (x.shape[1],))
    if who == "group_norm":
        groups = attrs["groups"]
        check_epsilon(who, attrs)
        if not isinstance(groups, int) or groups < 1 or x.shape[1] % groups:
            raise GraphError(
                f"{who}: {x.shape[1]} channels do not divide into {groups} groups; choose a divisor"
            )
    return (x.shape,)


# --- over the reals


def standardised(xp: Any, rows: Any, rule: Rule, epsilon: float) -> Any:
    """Rows [..., n] divided by their root; a row whose divisor is 0 stays what it is: zeros."""
    if 0 in rows.shape:
        return rows
    v = rows - rows.mean(-1, keepdims=True) if rule.centred else rows
    if rule.counted:
        squares = (v * v).mean(-1, keepdims=True) + epsilon
    else:
        squares = xp.clip((v * v).sum(-1, keepdims=True), rule.square_of_epsilon(epsilon), None)
    return v / xp.sqrt(squares + (squares == 0))


def real_last(rule: Rule, xp: Any, attrs: Attrs, x: Any, weight: Any = None, bias: Any = None) -> tuple[Any]:
    """Rows over axis … last."""
    axis = first_axis(rule.name, attrs, len(x.shape))
    rows = x.reshape(*x.shape[:axis], math.prod(x.shape[axis:]))
    y = standardised(xp, rows, rule, check_epsilon(rule.name, attrs)).reshape(x.shape)
    y = y if weight is None else y * weight
    return (y if bias is None else y + bias,)


def real_group(xp: Any, attrs: Attrs, x: Any, weight: Any = None, bias: Any = None) -> tuple[Any]:
    """Rows over the channels of a group and everything behind them."""
    view = view_groups(attrs, x.shape)
    y = standardised(xp, x.reshape(view.rows, view.count), GROUP, check_epsilon("group_norm", attrs))
    y = y.reshape(x.shape)
    y = y if weight is None else y * along_channels(weight, x)
    return (y if bias is None else y + along_channels(bias, x),)


def along_channels(parameter: Any, x: Any) -> Any:
    """A parameter [C] or () against x [N,C,*S]."""
    return parameter.reshape(*parameter.shape, *[1] * (len(x.shape) - 2))


def real_batch(xp: Any, attrs: Attrs, x: Any, factor: Any, offset: Any) -> tuple[Any]:
    return (x * along_channels(factor, x) + along_channels(offset, x),)


# --- the crossing


def parameter(who: str, signature: Signature, constants: Constants, position: int) -> np.ndarray | None:
    """A real weight or bias, None where the node has none. Raises LoweringError where it is computed."""
    if not signature.has(position):
        return None
    found = constants[position]
    if found is None:
        raise LoweringError(
            f"{who}: operand {position} is computed, expected a constant; multiply and add after the node"
        )
    return np.asarray(found, np.float64)


def prepare_rows(
    rule: Rule, look: Look, signature: Signature, constants: Constants, numerics: Numerics
) -> Prepared:
    """Weight, bias and their rescale, then what the rows need; the count is proved where it is known."""
    x, y = signature.input(0), signature.outputs[0]
    weight, bias = (parameter(rule.name, signature, constants, i) for i in (1, 2))
    expected = (x.shape[1],) if rule is GROUP else x.shape[first_axis(rule.name, signature.attrs, x.rank) :]
    unit = 2.0**-rule.fraction
    tail = affine_constants(rule.name, expected, weight, bias, unit, y.scale, numerics.rounding)
    rows = row_constants(rule, x, check_epsilon(rule.name, signature.attrs))
    if all(isinstance(dim, int) for dim in x.shape):
        check_count(rule, look(signature.attrs, bind(x.shape, {})).count, int(rows[-1].value))
    return Prepared((0, *tail, *rows), {**signature.attrs, "rounding": numerics.rounding})


def prepare_batch(signature: Signature, constants: Constants, numerics: Numerics) -> Prepared:
    """factor and offset as weight and bias of q - z_x, in steps of s_x."""
    x, y = signature.input(0), signature.outputs[0]
    factor, offset = (parameter("batch_norm", signature, constants, i) for i in (1, 2))
    scales = (x.scale, y.scale)
    tail = affine_constants("batch_norm", x.shape[1:2], factor, offset, *scales, numerics.rounding)
    return Prepared((0, *tail), {"rounding": numerics.rounding})


# --- over codes


def reference_rows(
    rule: Rule, look: Look, signature: Signature, x: np.ndarray, *constants: np.ndarray
) -> Arrays:
    return (norm_rows.reference(rule, look(signature.attrs, x.shape), signature, x, *constants),)


def load_rows(rule: Rule, look: Look, signature: Signature, operands: tuple[Any, ...]) -> Kernel:
    codes = norm_rows.load(rule, signature, operands[1:])
    return Bindable(lambda x, *_: codes(look(signature.attrs, x.shape), x))


def reference_batch(signature: Signature, x: np.ndarray, *constants: np.ndarray) -> Arrays:
    """One code at a time, in Python integers."""
    tail, zero_x = tail_reference(*constants), signature.input(0).zero_point
    y, rounding = signature.outputs[0], str(signature.attrs["rounding"])
    codes = [affine_reference(int(q) - zero_x, place[1], tail, y, rounding) for place, q in np.ndenumerate(x)]
    return (np.array(codes, storage(y.dtype)).reshape(x.shape),)


def fast_batch(signature: Signature, x: np.ndarray, *constants: np.ndarray) -> Arrays:
    """The same codes from a compiled loop over [N, C, S]."""
    y = signature.outputs[0]
    rows = np.ascontiguousarray(x, np.int16).reshape(*x.shape[:2], math.prod(x.shape[2:]))
    out = np.empty(rows.shape, np.int16)
    low, high = bounds(y.dtype)
    weight, bias, multiplier, shift = constants
    _batch_loop(
        rows,
        out,
        weight,
        bias,
        multiplier,
        shift,
        CODES[str(signature.attrs["rounding"])],
        signature.input(0).zero_point,
        y.zero_point,
        low,
        high,
    )
    return (out.astype(storage(y.dtype), copy=False).reshape(x.shape),)


@jit
def _batch_loop(  # type: ignore[no-untyped-def]
    x, out, weight, bias, multiplier, shift, rounding, zero_x, zero_y, low, high
):
    count, parts, span = x.shape
    channel = channel_of_entries(1, parts, span, weight.size)[0]
    codes, made = x.reshape(count, channel.size), out.reshape(count, channel.size)
    for n in range(count):
        for i in range(channel.size):
            c, z = channel[i], np.int64(codes[n, i]) - zero_x
            made[n, i] = affine(z, weight[c], bias[c], multiplier[c], shift[c], rounding, zero_y, low, high)


# --- work and registration


def work_rows(look: Look, signature: Signature) -> Work:
    """A handful of vector operations per entry, one look-up per row."""
    view = look(signature.attrs, bind(signature.input(0).shape, {}))
    return Work(elementwise=VECTOR_OPERATIONS * view.rows * view.count, lookups=view.rows)


def work_batch(signature: Signature) -> Work:
    """A product with its sum, and a rescale, per entry."""
    return Work(elementwise=2 * math.prod(bind(signature.outputs[0].shape, {})))


def rows_op(rule: Rule, operands: tuple[str, ...], look: Look, doc: str) -> Op:
    """Register a normalisation over rows."""
    infer = infer_channels if rule is GROUP else infer_last
    load_op = partial(load_rows, rule, look)
    return register(
        Op(
            rule.name,
            operands,
            FORMS,
            partial(infer, rule.name),
            real_group if rule is GROUP else partial(real_last, rule),
            partial(prepare_rows, rule, look),
            partial(reference_rows, rule, look),
            at_once(load_op),
            partial(work_rows, look),
            doc,
            load=when_constant(1, load_op),
            reals=tuple(range(1, len(operands))),
        )
    )


_TAIL = "y = saturate(requantize(w[c]*z + B[c], multiplier[c], shift[c]) + z_y), z = "
layer_norm = rows_op(
    LAYER, ("x", "weight?", "bias?"), view_last, _TAIL + "(n*q - Σq) / sqrt(n*Σq^2 - (Σq)^2 + E_n) in Q.16"
)
rms_norm = rows_op(RMS, ("x", "weight?"), view_last, _TAIL + "n*v / sqrt(n*Σv^2 + E_n) in Q.16, v = q - z_x")
group_norm = rows_op(
    GROUP, ("x", "weight?", "bias?"), view_groups, _TAIL + "(n*q - Σq) / sqrt(n*Σq^2 - (Σq)^2 + E_n) in Q.16"
)
l2_normalize = rows_op(L2, ("x",), view_last, _TAIL + "v / sqrt(max(Σv^2, E)) in Q.24, v = q - z_x")
batch_norm = register(
    Op(
        "batch_norm",
        ("x", "factor", "offset"),
        tuple(f"{x} {FORM} -> {y}" for x in ("i8", "i16") for y in ("i8", "i16")),
        partial(infer_channels, "batch_norm"),
        real_batch,
        prepare_batch,
        reference_batch,
        fast_batch,
        work_batch,
        _TAIL + "q - z_x",
        reals=(1, 2),
    )
)
