"""What TFLite's kernels insist on, whatever calibration saw: under `curves = "tflite"`.

    sigmoid        scale 2^-8, zero_point -128 (i8); 2^-15 (i16)
    tanh           scale 2^-7, zero_point 0 (i8); 2^-15 (i16)
    lstm weights   one scale for the rows of a gate: the largest of theirs

Source: the preparation of LOGISTIC, TANH and UNIDIRECTIONAL_SEQUENCE_LSTM in tflite-micro.
"""

from collections.abc import Mapping

import numpy as np

from nnaq.ir.graph import Graph
from nnaq.ir.types import Quant, TensorType
from nnaq.kernels.lstm_numbers import W_INPUT, W_RECURRENT, gate_count
from nnaq.quantize.scales import weight_type

CURVES = {
    ("sigmoid", "i8"): Quant((2.0**-8,), -128),
    ("tanh", "i8"): Quant((2.0**-7,), 0),
    ("sigmoid", "i16"): Quant((2.0**-15,)),
    ("tanh", "i16"): Quant((2.0**-15,)),
}


def tflite_codes(graph: Graph, activations: str, dtypes: Mapping[str, str]) -> dict[str, TensorType]:
    """Code types by value and constant. activations, dtypes: the widths that were chosen, by value."""
    found: dict[str, TensorType] = {}
    for node in graph.nodes:
        result = node.outputs[0]
        quant = CURVES.get((node.op, dtypes.get(result, activations)))
        if quant is not None:
            found[result] = TensorType(dtypes.get(result, activations), graph.types[result].shape, quant)
        elif node.op == "lstm":
            weights = [node.inputs[position] for position in (W_INPUT, W_RECURRENT)]
            gates = gate_count(node.attrs)
            found |= {w: by_gate(graph.constants[w], gates) for w in weights if w in graph.constants}
    return found


def by_gate(weight: np.ndarray, gates: int) -> TensorType:
    """The code type of a weight [gates * units, K] with one scale for every gate."""
    scales = weight_type(weight, 0).quant.scale  # type: ignore[union-attr]
    rows = len(weight) // gates
    largest = np.array(scales).reshape(gates, rows).max(axis=1)
    return TensorType("i8", weight.shape, Quant(tuple(np.repeat(largest, rows).tolist()), 0, 0))
