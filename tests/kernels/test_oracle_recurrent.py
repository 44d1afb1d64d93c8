"""The LSTM against golden vectors of tflite-micro and of the TOSA reference model: every bit."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from oracles.vectors import load_vectors

from nnaq.ir.numerics import Numerics
from nnaq.ir.op import Signature, lookup
from nnaq.ir.types import Quant, TensorType
from nnaq.kernels.lstm_numbers import BIAS, power_multipliers

LSTM = lookup("lstm")
GOLDEN = Path(__file__).parents[1] / "golden" / "oracles"
Case = dict[str, np.ndarray]
DTYPES = {"int8": "i8", "int16": "i16"}


@cache
def load(name: str) -> tuple[dict[str, object], list[Case], Case]:
    return load_vectors(GOLDEN / f"{name}.npz")


def signature(case: Case, rounding: str, constants: list[np.ndarray]) -> Signature:
    """Types of a golden case; weights, biases and tables by their arrays."""
    x, y = case["x"].swapaxes(0, 1), case["y"].swapaxes(0, 1)
    x_quant = Quant((float(case.get("x_scale", 1.0)),), int(case["x_zero_point"]))
    h_quant = Quant((float(case["h_scale"]),), int(case["h_zero_point"]))
    hidden = TensorType(DTYPES[y.dtype.name], y.shape, h_quant)
    cell = TensorType("i16", y.shape[1:], Quant((2.0 ** -int(case["cell_fraction_bits"]),)))
    x_type = TensorType(DTYPES[x.dtype.name], x.shape, x_quant)
    names = {"int8": "i8", "int16": "i16", "int32": "i32", "int64": "i48"}
    others = [TensorType(names[array.dtype.name], array.shape, Quant((1.0,))) for array in constants]
    state = hidden.with_shape(y.shape[1:])
    return Signature((x_type, state, cell, *others), (hidden, state, cell), {"rounding": rounding})


def weights(case: Case, prefix: str) -> list[np.ndarray]:
    """Weights and bias with the four gates end to end."""
    bias = case["bias"].reshape(-1)
    rows = [case[f"{name}_{prefix}"] for name in ("input", "recurrent")]
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


def tflm_operands(case: Case, cell_table: bool) -> list[np.ndarray]:
    units = case["y"].shape[2]
    curves = load("tflm__gate_curves")[2]
    scalars = [case["hidden_multiplier"], case["hidden_shift"].astype(np.int8)]
    table = curves["table"]
    return [
        *weights(case, "weights"),
        *(
            np.repeat(case[f"{who}_{part}"], units).astype(dtype)
            for who in ("input", "recurrent")
            for part, dtype in (("multiplier", np.int32), ("shift", np.int8))
        ),
        curves["sigmoid_q3_12"],
        curves["tanh_q3_12"],
        *scalars,
        *([tanh_of_cell(int(case["cell_fraction_bits"]), table)] if cell_table else []),
    ]


def run_tflm(case: Case, rounding: str, cell_table: bool, kernel: str = "fast") -> np.ndarray:
    constants = tflm_operands(case, cell_table)
    sign = signature(case, rounding, constants)
    call = LSTM.fast if kernel == "fast" else LSTM.reference
    y, _, _ = call(sign, case["x"].swapaxes(0, 1), *initial(case), *constants)
    return y.swapaxes(0, 1)


@pytest.mark.parametrize("name", ["lstm_8x8_16", "lstm_16x8_16"])
def test_equals_tflite_micro(name: str) -> None:
    header, cases, _ = load(f"tflm__{name}")
    for number, case in enumerate(cases):
        y = run_tflm(case, str(header["mode"]), cell_table=True)
        np.testing.assert_array_equal(y, case["y"], f"case {number}")
    assert {int(case["cell_fraction_bits"]) for case in cases} == set(range(9, 16))


@pytest.mark.parametrize("name", ["lstm_8x8_16", "lstm_16x8_16"])
def test_a_coarse_cell_needs_no_table_of_its_own(name: str) -> None:
    """Up to 12 fraction bits the cell reaches Q3.12 without rounding."""
    header, cases, _ = load(f"tflm__{name}")
    coarse = [case for case in cases if case["cell_fraction_bits"] <= 12]
    assert coarse
    for case in coarse:
        np.testing.assert_array_equal(run_tflm(case, str(header["mode"]), cell_table=False), case["y"])


@pytest.mark.parametrize("name", ["lstm_8x8_16", "lstm_16x8_16"])
def test_reference_equals_tflite_micro(name: str) -> None:
    header, cases, _ = load(f"tflm__{name}")
    for case in sorted(cases, key=lambda c: c["input_weights"].size * c["x"].shape[1])[:8]:
        np.testing.assert_array_equal(run_tflm(case, str(header["mode"]), True, "reference"), case["y"])


@pytest.mark.parametrize("name", ["lstm_8x8_16", "lstm_16x8_16"])
def test_prepare_makes_the_multipliers_of_tflite_micro(name: str) -> None:
    """From the same scales the crossing makes the multipliers, shifts and biases of the runtime."""
    header, cases, _ = load(f"tflm__{name}")
    for case in cases:
        constants = tflm_operands(case, cell_table=False)
        sign = signature(case, "", constants)
        scales = [
            np.repeat(case[f"{w}_weights_scale_f64"], case["y"].shape[2]) for w in ("input", "recurrent")
        ]
        kinds = [
            TensorType("i8", codes.shape, Quant(tuple(s.tolist()), 0, 0))
            for codes, s in zip(constants[:2], scales, strict=True)
        ]
        bias = constants[2] * (float(case["x_scale"]) * scales[0])
        real = Signature((*sign.inputs[:3], *kinds, TensorType("f32", bias.shape)), sign.outputs)
        values = (None, None, None, *constants[:2], bias)
        prepared = LSTM.prepare(real, values, Numerics(str(header["mode"])))  # type: ignore[arg-type]
        made = {o.name: o.value for o in prepared.operands[BIAS:] if not isinstance(o, int)}
        names = ("bias", "input_multiplier", "input_shift", "recurrent_multiplier", "recurrent_shift")
        for wanted, array in zip(names, constants[2:7], strict=True):
            np.testing.assert_array_equal(made[wanted], array, wanted)
        assert made["hidden_multiplier"] == case["hidden_multiplier"]
        assert made["hidden_shift"] == case["hidden_shift"]
        powers = power_multipliers(int(case["cell_fraction_bits"]), "double")
        assert powers.keep == (case["forget_cell_multiplier"], case["forget_cell_shift"])
        assert powers.new == (case["input_cell_multiplier"], case["input_cell_shift"])


def test_equals_the_tosa_reference_model() -> None:
    """The LSTM of TOSA primitives, frame by frame, outputs and cells; TOSA's shift is 31 - s."""
    header, cases, constants = load("tosa__lstm_int8")
    for number, case in enumerate(cases):
        shifts = [
            (31 - case[f"{who}_shift"].astype(np.int64)).astype(np.int8)
            for who in ("input", "recurrent", "hidden")
        ]
        operands = [
            *weights(case, "weights"),
            case["input_multiplier"].reshape(-1), shifts[0].reshape(-1),
            case["recurrent_multiplier"].reshape(-1), shifts[1].reshape(-1),
            constants["sigmoid_table"], constants["tanh_table"], case["hidden_multiplier"], shifts[2],
        ]  # fmt: skip
        sign = signature(case, str(header["mode"]), operands)
        h, c = initial(case)
        for t in range(case["x"].shape[1]):
            frame = case["x"].swapaxes(0, 1)[t : t + 1]
            y, h, c = LSTM.fast(sign, frame, h, c, *operands)
            np.testing.assert_array_equal(y[0], case["y"][:, t], f"case {number}, frame {t}")
            np.testing.assert_array_equal(c, case["cell"][:, t], f"case {number}, frame {t}")
