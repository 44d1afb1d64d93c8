"""The LSTM against golden vectors of tflite-micro and of the TOSA reference model: every bit."""

import numpy as np
import pytest
from comparisons import GOLDEN, KERNELS, Key, Measured, keys_of, measure
from comparisons.recurrent import LSTM, run_tflm, signature, tflm_operands
from comparisons.table import Case, Vectors, read_vectors

from nnaq.ir.numerics import Numerics
from nnaq.ir.op import Signature
from nnaq.ir.types import Quant, TensorType
from nnaq.kernels.lstm_numbers import BIAS, power_multipliers

TFLM = [key for key in keys_of("recurrent") if key.oracle == "tflm"]


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("key", keys_of("recurrent"), ids=str)
def test_golden_vectors(key: Key, kernel: str) -> None:
    found = measure(key, kernel=kernel)
    assert found == Measured(found.values, 0)


def load(key: Key) -> tuple[list[Case], Case]:
    """The golden cases, and the runtime's curves."""
    vectors: Vectors = read_vectors(GOLDEN, key.file)
    return vectors.cases, vectors.neighbour("tflm__gate_curves").constants


@pytest.mark.parametrize("key", TFLM, ids=str)
def test_a_coarse_cell_needs_no_table_of_its_own(key: Key) -> None:
    """Up to 12 fraction bits the cell reaches Q3.12 without rounding."""
    cases, curves = load(key)
    coarse = [case for case in cases if case["cell_fraction_bits"] <= 12]
    assert coarse
    for case in coarse:
        np.testing.assert_array_equal(run_tflm(case, curves, key.mode, cell_table=False), case["y"])


@pytest.mark.parametrize("key", TFLM, ids=str)
def test_prepare_makes_the_multipliers_of_tflite_micro(key: Key) -> None:
    """From the same scales the crossing makes the multipliers, shifts and biases of the runtime."""
    cases, curves = load(key)
    for case in cases:
        constants = tflm_operands(case, curves, cell_table=False)
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
        prepared = LSTM.prepare(real, values, Numerics(key.mode))  # type: ignore[arg-type]
        made = {o.name: o.value for o in prepared.operands[BIAS:] if not isinstance(o, int)}
        names = ("bias", "input_multiplier", "input_shift", "recurrent_multiplier", "recurrent_shift")
        for wanted, array in zip(names, constants[2:7], strict=True):
            np.testing.assert_array_equal(made[wanted], array, wanted)
        assert made["hidden_multiplier"] == case["hidden_multiplier"]
        assert made["hidden_shift"] == case["hidden_shift"]
        powers = power_multipliers(int(case["cell_fraction_bits"]), "double")
        assert powers.keep == (case["forget_cell_multiplier"], case["forget_cell_shift"])
        assert powers.new == (case["input_cell_multiplier"], case["input_cell_shift"])
