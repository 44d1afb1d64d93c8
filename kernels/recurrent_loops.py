"""What compiled recurrent kernels share: the product with every frame, rescales and curves of gates."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from nnaq.ir.op import Attr
from nnaq.ir.types import TensorType, storage
from nnaq.jit import jit
from nnaq.kernels.accumulate import order_of
from nnaq.kernels.bound import Copy, Run
from nnaq.kernels.fixedpoint import CODES, requantize
from nnaq.kernels.internals import fitted_16
from nnaq.kernels.lut import lookup
from nnaq.kernels.machine.curves import GRID
from nnaq.kernels.multiply import scales_of
from nnaq.kernels.multiply_bound import bind_requantized, bind_rows
from nnaq.kernels.recurrent_numbers import HIGH, LOW, Pair
from nnaq.kernels.weight_panels import byte_zero, even, weights_of

# Of the type that a state has not.
NO_STATES: dict[str, np.ndarray] = {"i8": np.empty((0, 0, 0), np.int16), "i16": np.empty((0, 0, 0), np.int8)}


def in_rows(arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Operands as compiled loops read them: arrays contiguous, all else as it is."""
    return {
        name: np.ascontiguousarray(array) if isinstance(array, np.ndarray) and array.ndim else array
        for name, array in arrays.items()
    }


def pair_of(arrays: Mapping[str, np.ndarray], name: str) -> Pair:
    """Multiplier and shift of a rescale that is the same for every unit."""
    return int(arrays[f"{name}_multiplier"]), int(arrays[f"{name}_shift"])


def load_driven_gates(
    arrays: Mapping[str, np.ndarray], kind_x: TensorType, kind_w: TensorType, attrs: Mapping[str, Attr]
) -> Callable[[np.ndarray], tuple[np.ndarray, list[Run]]]:
    """x -> room for what it adds to the pre-activations of every frame, [T, B, gates * H] in Q3.12, and what
    fills it."""
    w_input, zero_x = arrays["w_input"], kind_x.zero_point
    order, outputs = order_of(kind_x, kind_w, attrs), len(w_input)
    weights = weights_of(w_input, kind_w.zero_point, zero_x=byte_zero(kind_x, order))
    behind = (
        *scales_of(arrays["bias"], arrays["input_multiplier"], arrays["input_shift"]), order,
        CODES[str(attrs["rounding"])], 0, LOW, HIGH,
    )  # fmt: skip

    def bind(x: np.ndarray) -> tuple[np.ndarray, list[Run]]:
        frames, batch, width = x.shape
        gates = np.empty((frames * batch, outputs), np.int16)
        rows, runs = bind_rows(x.reshape(frames * batch, width), zero_x, weights[-1])
        runs.append(bind_requantized(rows, weights, behind, gates))
        return gates.reshape(frames, batch, outputs), runs

    return bind


def bind_state(h0: np.ndarray) -> tuple[np.ndarray, list[Run]]:
    """Codes as i16, and what fills them: nothing where they are."""
    codes = np.ascontiguousarray(h0)
    if codes.dtype == np.int16:
        return codes, []
    place = np.empty(codes.shape, np.int16)
    return place, [Copy(place, codes)]


def bind_last(y: np.ndarray, h0: np.ndarray) -> tuple[np.ndarray, Run]:
    """Room for the state behind the last frame, and what fills it."""
    place = np.empty(h0.shape, h0.dtype)
    return place, Copy(place, y[-1] if len(y) else h0)


def empty_states(dtype: str, *shape: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """An array of states over all frames, itself or nothing as i8, and itself or nothing as i16."""
    y: np.ndarray = np.empty(shape, storage(dtype))
    nothing = NO_STATES[dtype]
    return (y, y, nothing) if dtype == "i8" else (y, nothing, y)


@jit
def clamp_16(value):  # type: ignore[no-untyped-def]
    return min(max(value, np.int64(-32768)), np.int64(32767))


@jit
def scaled_16(value, multiplier, rounding):  # type: ignore[no-untyped-def]
    """sat16(requantize(value)); multiplier: (q, s)."""
    return clamp_16(requantize(value, multiplier[0], multiplier[1], rounding))


@jit
def level_16(a, table, multiplier, rounding, grid):  # type: ignore[no-untyped-def]
    """The Q0.15 value of a table at a, as coarse as the internals of the node."""
    return fitted_16(requantize(lookup(a, table), multiplier[0], multiplier[1], rounding), grid)


@jit
def centred_rows(h, zero_h):  # type: ignore[no-untyped-def]
    """h - z_h as rows that tiles read."""
    batch, width = h.shape
    rows = np.zeros((batch, even(width)), np.int16)
    for b in range(batch):
        for j in range(width):
            rows[b, j] = np.int64(h[b, j]) - zero_h
    return rows


@jit
def write_codes(centred, zero_h, t, y_8, y_16):  # type: ignore[no-untyped-def]
    """Frame t of y, of which one holds codes, from h - z_h."""
    for b in range(y_8.shape[1]):
        for j in range(y_8.shape[2]):
            y_8[t, b, j] = np.int64(centred[b, j]) + zero_h
    for b in range(y_16.shape[1]):
        for j in range(y_16.shape[2]):
            y_16[t, b, j] = np.int64(centred[b, j]) + zero_h


@jit
def complement(one, levels, numbers, out):  # type: ignore[no-untyped-def]
    """sat16(one - level) on the grid of the levels."""
    half, mask = numbers[GRID], numbers[GRID + 1]
    for j in range(out.size):
        out[j] = min(max(one - np.int64(levels[j]) + half, np.int64(-32768)), np.int64(32767)) & mask
