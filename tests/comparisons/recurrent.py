"""Comparisons of the LSTM with tflite-micro and with the TOSA reference model, every bit."""

from collections.abc import Iterator

import numpy as np

from comparisons.table import Case, Pair, Vectors, compares
from nnaq.ir.op import Signature, lookup
from nnaq.ir.types import Quant, TensorType

LSTM, GRU = lookup("lstm"), lookup("gru")
CODES = {"int8": "i8", "int16": "i16", "int32": "i32", "int64": "i48"}


def signature(case: Case, rounding: str, constants: list[np.ndarray]) -> Signature:
    """Types of a case; weights, biases and tables by their arrays."""
    x, y = case["x"].swapaxes(0, 1), case["y"].swapaxes(0, 1)
    x_quant = Quant((float(case.get("x_scale", 1.0)),), int(case["x_zero_point"]))
    h_quant = Quant((float(case["h_scale"]),), int(case["h_zero_point"]))
    hidden = TensorType(CODES[y.dtype.name], y.shape, h_quant)
    cell = TensorType("i16", y.shape[1:], Quant((2.0 ** -int(case["cell_fraction_bits"]),)))
    x_type = TensorType(CODES[x.dtype.name], x.shape, x_quant)
    others = [TensorType(CODES[array.dtype.name], array.shape, Quant((1.0,))) for array in constants]
    state = hidden.with_shape(y.shape[1:])
    return Signature((x_type, state, cell, *others), (hidden, state, cell), {"rounding": rounding})


def weights(case: Case) -> list[np.ndarray]:
    """Weights and bias with the four gates end to end."""
    bias = case["bias"].reshape(-1)
    rows = [case[f"{name}_weights"] for name in ("input", "recurrent")]
    return [*(part.reshape(len(bias), -1) for part in rows), bias]


def initial(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """h0 = z_h, c0 = 0."""
    shape = (case["y"].shape[0], case["y"].shape[2])
    return np.full(shape, case["h_zero_point"], case["y"].dtype), np.zeros(shape, np.int16)


def tanh_of_cell(fraction: int, table: np.ndarray) -> np.ndarray:
    """tflite-micro's tanh at every code of a cell with `fraction` fraction bits, in Q0.15.

    It interpolates its table of sigmoid(i / 24) on a grid of 3 * 2^12 steps per unit.
    """
    right = max(fraction - 12, 0)
    grid = (3 * np.arange(-32768, 32768) * 2 ** max(12 - fraction, 0) + ((1 << right) >> 1)) >> right
    size = np.minimum(np.abs(grid), 255 << 8)
    entries = table.astype(np.int64)
    i = np.minimum(size >> 8, 254)
    level = (entries[i] << 8) + (size & 255) * (entries[i + 1] - entries[i])
    level = np.where(size >> 8 == 255, 0xFFFF << 8, level) - (1 << 23)
    return (np.where(grid >= 0, level + 128, 127 - level) >> 8).astype(np.int16)


def tflm_operands(case: Case, curves: Case, cell_table: bool) -> list[np.ndarray]:
    """Constants of the node; `curves` holds the runtime's maps, read out of it."""
    units = case["y"].shape[2]
    multipliers = [
        np.repeat(case[f"{who}_{part}"], units).astype(dtype)
        for who in ("input", "recurrent")
        for part, dtype in (("multiplier", np.int32), ("shift", np.int8))
    ]
    maps = [curves["sigmoid_q3_12"], curves["tanh_q3_12"]]
    hidden = [case["hidden_multiplier"], case["hidden_shift"].astype(np.int8)]
    table = [tanh_of_cell(int(case["cell_fraction_bits"]), curves["table"])] if cell_table else []
    return [*weights(case), *multipliers, *maps, *hidden, *table]


def run_tflm(case: Case, curves: Case, rounding: str, cell_table: bool, kernel: str = "fast") -> np.ndarray:
    """All hidden states of a case."""
    constants = tflm_operands(case, curves, cell_table)
    call = LSTM.fast if kernel == "fast" else LSTM.reference
    arrays = (case["x"].swapaxes(0, 1), *initial(case), *constants)
    y, _, _ = call(signature(case, rounding, constants), *arrays)
    return y.swapaxes(0, 1)


@compares("tflm__lstm_8x8_16", "double")
@compares("tflm__lstm_16x8_16", "double_m16")
def tflm_lstm(vectors: Vectors, mode: str, kernel: str) -> Iterator[Pair]:
    curves = vectors.neighbour("tflm__gate_curves").constants
    assert {int(case["cell_fraction_bits"]) for case in vectors.cases} == set(range(9, 16))
    for case in vectors.cases:
        yield run_tflm(case, curves, mode, True, kernel), case["y"]


@compares("tosa__lstm_int8", "single")
def tosa_lstm(vectors: Vectors, mode: str, kernel: str) -> Iterator[Pair]:
    """The LSTM of TOSA primitives, frame by frame, outputs and cells; TOSA's shift is 31 - s."""
    call = LSTM.fast if kernel == "fast" else LSTM.reference
    for case in vectors.cases:
        operands = tosa_operands(case, vectors.constants)
        typed = signature(case, mode, operands)
        h, c = initial(case)
        for t in range(case["x"].shape[1]):
            y, h, c = call(typed, case["x"].swapaxes(0, 1)[t : t + 1], h, c, *operands)
            yield y[0], case["y"][:, t]
            yield c, case["cell"][:, t]


def tosa_operands(case: Case, tables: Case) -> list[np.ndarray]:
    """Constants of the node; TOSA's shift is 31 - s."""
    scaling = [
        part
        for who in ("input", "recurrent", "hidden")
        for part in (
            case[f"{who}_multiplier"],
            (31 - case[f"{who}_shift"].astype(np.int64)).astype(np.int8),
        )
    ]
    gates = [np.reshape(part, -1) for part in scaling[:4]]
    return [*weights(case), *gates, tables["sigmoid_table"], tables["tanh_table"], *scaling[4:]]


@compares("tosa__gru_int8", "single")
def tosa_gru(vectors: Vectors, mode: str, kernel: str) -> Iterator[Pair]:
    """The GRU of TOSA primitives, the reset before and after the recurrent product."""
    for case in vectors.cases:
        x, y = case["x"].swapaxes(0, 1), case["y"].swapaxes(0, 1)
        hidden = TensorType("i8", y.shape, Quant((float(case["h_scale"]),), int(case["h_zero_point"])))
        state = hidden.with_shape(y.shape[1:])
        x_type = TensorType("i8", x.shape, Quant((1.0,), int(case["x_zero_point"])))
        operands = gru_operands(case, vectors.constants)
        others = [TensorType(CODES[array.dtype.name], array.shape, Quant((1.0,))) for array in operands]
        attrs = {"linear_before_reset": bool(case["linear_before_reset"]), "rounding": mode}
        typed = Signature((x_type, state, *others), (hidden, state), attrs)
        h = np.full(state.shape, case["h_zero_point"], np.int8)
        found = (GRU.fast if kernel == "fast" else GRU.reference)(typed, x, h, *operands)
        yield found[0], y
        yield found[1], y[-1]


def gru_operands(case: Case, tables: Case) -> list[np.ndarray]:
    """Constants of the node; TOSA's shift is 31 - s."""
    shifts = {
        who: (31 - case[f"{who}_shift"].astype(np.int64)).astype(np.int8)
        for who in ("input", "recurrent", "state", "hidden")
    }
    rows = [case[f"{who}_{part}"] for part in ("weights", "bias") for who in ("input", "recurrent")]
    gates = [part for who in ("input", "recurrent") for part in (case[f"{who}_multiplier"], shifts[who])]
    state = [case["state_factor"].astype(np.int16), case["state_multiplier"], shifts["state"]]
    curves = [tables["sigmoid_table"], tables["tanh_table"]]
    return [*rows, *gates, *curves, *state, case["hidden_multiplier"], shifts["hidden"]]
