"""The integers inside a recurrent layer, found again from its states: what its gradient is taken at.

Every state y_t is known once the node has run, so that the sums of products, the pre-activations and the
gates of all frames are made at once, and only an LSTM's cell is stepped through. These are the integers of
`nnaq.kernels.recurrent` and `nnaq.kernels.gru`, made by their own helpers. Beside every value that may
saturate stands whether it did: whether clamping changed it.

Compiled functions of the training stand in this file, or in `kernels/gradient_passes.py`: the cache of
`nnaq.jit` notices an edit of any kernel, elsewhere only of the file that a function is in.
"""

# mypy: disable-error-code="no-untyped-call"
# Numba, not mypy, types the compiled loops.

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from nnaq.ir.op import Attr
from nnaq.ir.types import TensorType
from nnaq.jit import jit
from nnaq.kernels.accumulate import order_of
from nnaq.kernels.boundary import largest_distance
from nnaq.kernels.fixedpoint import CODES, requantize, saturate
from nnaq.kernels.internals import fitted_16, passes_16
from nnaq.kernels.multiply import sum_products
from nnaq.kernels.narrow import Order
from nnaq.kernels.recurrent_loops import level_16, scaled_16
from nnaq.kernels.recurrent_numbers import HIGH, LOW, Pair
from nnaq.kernels.weight_panels import rows_of, weights_of

Limits = tuple[int, int, int]  # zero_point, lowest and highest code
Grid = tuple[int, int] | None  # of the internals; None: 16 bits
GATE_LIMITS = 0, LOW, HIGH
EVERY_ROW = slice(None)
BLOCK = 2048  # positions whose sums are held at a time


class Codes(NamedTuple):
    """Codes (int16) and where clamping changed them (bool), in one shape."""

    values: np.ndarray
    clipped: np.ndarray

    @classmethod
    def empty(cls, shape: tuple[int, ...]) -> "Codes":
        return cls(np.empty(shape, np.int16), np.empty(shape, np.bool_))

    def columns(self, cut: slice) -> "Codes":
        """A part of the last axis."""
        return Codes(self.values[..., cut], self.clipped[..., cut])

    def beside(self, other: "Codes") -> "Codes":
        """Both, one after the other along the last axis."""
        return Codes(*(np.concatenate(pair, axis=-1) for pair in zip(self, other, strict=True)))


class Layer(NamedTuple):
    """One sum of products of a node: its types, and where its arrays are found."""

    x: TensorType
    weight: TensorType
    name: str  # of w_…, …_multiplier and …_shift
    bias: str = ""


def before(states: np.ndarray, first: np.ndarray) -> np.ndarray:
    """What each frame started from: `first`, then the states [T, ...] but the last."""
    return np.concatenate([first[None], states])[: len(states)]


def layer_codes(
    layer: Layer, arrays: Mapping[str, np.ndarray], attrs: Mapping[str, Attr], x: np.ndarray,
    limits: Limits = GATE_LIMITS, rows: slice = EVERY_ROW,
) -> Codes:  # fmt: skip
    """saturate(requantize(Σ (w - z_w) * (x - z_x) + bias) + z_y) for codes x [T, B, K], as [T, B, rows].

    rows: those of the weight that are asked for.
    """
    multiplier, shift = (arrays[f"{layer.name}_{part}"][rows] for part in ("multiplier", "shift"))
    weight = np.subtract(arrays[f"w_{layer.name}"][rows], layer.weight.zero_point, dtype=np.int16)
    bias = arrays[layer.bias][rows].astype(np.int64) if layer.bias else np.zeros(len(shift), np.int64)
    columns = np.ascontiguousarray(np.subtract(x, layer.x.zero_point, dtype=np.int16))
    columns = columns.reshape(math.prod(x.shape[:-1]), x.shape[-1])
    made = Codes.empty((len(columns), len(shift)))
    order, reach = order_of(layer.x, layer.weight, attrs), largest_distance(layer.x)
    is_exact = order.block == 0 and reach * int(np.abs(weight, dtype=np.int64).sum(1).max(initial=0)) < 2**24
    for start in range(0, len(columns), BLOCK):
        cut = slice(start, start + BLOCK)
        sums = _real_sums(columns[cut], weight) if is_exact else _sums(columns[cut], weight, bias, order)
        _requantize_rows(
            sums, bias if is_exact else np.zeros_like(bias), multiplier, shift, CODES[str(attrs["rounding"])],
            *limits, made.values[cut], made.clipped[cut],
        )  # fmt: skip
    return Codes(*(array.reshape(*x.shape[:-1], len(shift)) for array in made))


def known_codes(
    layer: Layer,
    arrays: Mapping[str, np.ndarray],
    attrs: Mapping[str, Attr],
    x: np.ndarray,
    codes: np.ndarray,
) -> Codes:
    """`layer_codes` of gates whose codes are known: only rows with a code at an end are summed again."""
    if codes.size == 0 or (codes.min() > LOW and codes.max() < HIGH):
        return unclipped(codes)
    rows = np.flatnonzero(((codes == LOW) | (codes == HIGH)).any(-1))
    made, flat = Codes(codes, np.zeros(codes.shape, np.bool_)), x.reshape(-1, x.shape[-1])
    again = layer_codes(layer, arrays, attrs, flat[rows][None])
    made.clipped.reshape(-1, codes.shape[-1])[rows] = again.clipped[0]
    return made


def _real_sums(columns: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Σ weight * columns in float32, which is exact while every partial sum is below 2^24."""
    sums: np.ndarray = columns.astype(np.float32) @ weight.astype(np.float32).T
    return sums


def _sums(columns: np.ndarray, weight: np.ndarray, bias: np.ndarray, order: Order) -> np.ndarray:
    """bias + Σ weight * columns in int64."""
    sums = np.empty((len(columns), len(weight)), np.int64)
    sum_products(rows_of(columns, 0), weights_of(weight, 0), 0, bias, order, sums)
    return sums


def added(a: Codes, b: Codes) -> Codes:
    """sat16(a + b)."""
    made = Codes.empty(a.values.shape)
    parts = (np.ascontiguousarray(array).reshape(-1) for array in (a.values, b.values, *made))
    _added(*parts)
    return made


def clamped(values: np.ndarray) -> Codes:
    """sat16(values)."""
    made = np.clip(values, LOW, HIGH)
    return Codes(made.astype(np.int16), made != values)


def coarse(codes: Codes, grid: Grid) -> Codes:
    """coarse_k of codes (`nnaq.kernels.internals`), clipped where they were or are now."""
    if grid is None:
        return codes
    half, mask = grid
    values = np.minimum(np.add(codes.values, half, dtype=np.int32), HIGH) & mask
    return Codes(values.astype(np.int16), codes.clipped | (codes.values > HIGH - half))


def curve(table: np.ndarray, pair: Pair, rounding: str, grid: Grid) -> Codes:
    """The Q0.15 values of a table at the codes -32768 … 32767, coarse_k of them: what `at` reads."""
    made = np.empty(2**16, np.int16)
    _curve(table, pair, CODES[rounding], made)
    return coarse(unclipped(made), grid)


def at(codes: np.ndarray, curve: Codes) -> Codes:
    """What a curve has for codes."""
    made = np.empty(codes.shape, np.int16)
    _at(np.ascontiguousarray(codes).reshape(-1), curve.values, made.reshape(-1))
    if not curve.clipped.any():
        return unclipped(made)
    return Codes(made, curve.clipped[np.add(codes, 2**15, dtype=np.int32)])


def unclipped(values: np.ndarray) -> Codes:
    """Codes that no clamp changed; all their marks are one."""
    return Codes(values, np.broadcast_to(np.False_, values.shape))


def rescaled(values: np.ndarray, pair: Pair, rounding: str, limits: Limits = GATE_LIMITS) -> Codes:
    """saturate(requantize(values) + zero_point)."""
    made, wide = Codes.empty(values.shape), np.ascontiguousarray(values, np.int64)
    flat = made.values.reshape(-1), made.clipped.reshape(-1)
    _rescaled(wide.reshape(-1), pair, CODES[rounding], *limits, *flat)
    return made


def cells(
    f: np.ndarray, new: np.ndarray, c: np.ndarray, powers: tuple[Pair, Pair], rounding: str, grid: Grid
) -> Codes:
    """c_t = sat16(sat16(requantize(f*c, keep)) + sat16(requantize(new, fresh))) [T, B, H], from c [B, H] on.

    new: i*g in int32. powers: keep and fresh. coarse_k follows.
    """
    shape = len(f), c.size
    made, state = Codes.empty(shape), c.astype(np.int16, order="C").reshape(-1)
    _cells(f.reshape(shape), new.reshape(shape), *made, state, powers, CODES[rounding], grid)
    return Codes(*(array.reshape(f.shape) for array in made))


# Compiled


@jit
def _requantize_rows(  # type: ignore[no-untyped-def]
    sums, bias, q, s, rounding, zero_y, low, high, out, clipped
):
    count, outputs = out.shape
    for p in range(count):
        for o in range(outputs):
            y = requantize(np.int64(sums[p, o]) + bias[o], q[o], s[o], rounding)
            code = saturate(y, zero_y, low, high)
            out[p, o] = code
            clipped[p, o] = code != y + zero_y


@jit
def _added(a, b, out, clipped):  # type: ignore[no-untyped-def]
    for i in range(out.size):
        total = np.int32(a[i]) + np.int32(b[i])
        code = min(max(total, np.int32(-32768)), np.int32(32767))
        out[i] = code
        clipped[i] = total != code


@jit
def _curve(table, pair, rounding, out):  # type: ignore[no-untyped-def]
    for i in range(out.size):
        out[i] = level_16(i - 32768, table, pair, rounding, None)


@jit
def _at(codes, values, out):  # type: ignore[no-untyped-def]
    for i in range(out.size):
        out[i] = values[np.int64(codes[i]) + 32768]


@jit
def _rescaled(values, pair, rounding, zero_y, low, high, out, clipped):  # type: ignore[no-untyped-def]
    for i in range(values.size):
        y = requantize(values[i], pair[0], pair[1], rounding)
        code = saturate(y, zero_y, low, high)
        out[i] = code
        clipped[i] = code != y + zero_y


@jit
def _cells(f, new, out, clipped, c, powers, rounding, grid):  # type: ignore[no-untyped-def]
    frames, count = f.shape
    keep, fresh = powers
    for t in range(frames):
        for i in range(count):
            kept = scaled_16(np.int64(f[t, i]) * c[i], keep, rounding)
            total = kept + scaled_16(np.int64(new[t, i]), fresh, rounding)
            c[i] = fitted_16(total, grid)
            out[t, i] = c[i]
            clipped[t, i] = passes_16(total, grid)
