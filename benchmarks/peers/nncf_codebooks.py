"""NNCF's adaptive codebooks of the exchange's weights (compress_weights on OpenVINO models).

One MatMul per weight; the palettised weight is what the compressed model gives for a unit matrix. Scales
are one per output channel (group_size -1), the table is one per tensor with entries of the type named. NNCF
weighs errors by activations and asks for some: white noise, so that all weights count alike as elsewhere.
Tables of 8-bit floats only if asked for by name.
"""

import sys

import nncf
import numpy as np
import openvino as ov
from codebook_exchange import BITS, write
from nncf import AdvancedCompressionParameters
from nncf.quantization.advanced_parameters import AdvancedAdaptiveCodebookParameters
from nncf.tensor import TensorDataType
from openvino import opset13 as opset

WHITE = 128  # rows of noise
TYPES = {
    "per_tensor, scale per channel": TensorDataType.int8,
    "per_tensor of f8e4m3, scale per channel": TensorDataType.f8e4m3,
}


def palettized(weight: np.ndarray, bits: int, kind: TensorDataType) -> np.ndarray:
    """One weight through NNCF."""
    matrix = weight.reshape(len(weight), -1)
    x = opset.parameter([-1, matrix.shape[1]], np.float32)
    model = ov.Model([opset.matmul(x, opset.constant(matrix), False, True)], [x])
    white = np.random.default_rng(0).standard_normal((WHITE, matrix.shape[1])).astype(np.float32)
    choice = AdvancedAdaptiveCodebookParameters(value_type=kind, num_elements=2**bits)
    made = nncf.compress_weights(
        model,
        mode=nncf.CompressWeightsMode.ADAPTIVE_CODEBOOK,
        group_size=-1,
        all_layers=True,
        dataset=nncf.Dataset([white]),
        advanced_parameters=AdvancedCompressionParameters(adaptive_codebook_params=choice),
    )
    exact = {"INFERENCE_PRECISION_HINT": "f32", "EXECUTION_MODE_HINT": "ACCURACY", "INFERENCE_NUM_THREADS": 1}
    unit = np.eye(matrix.shape[1], dtype=np.float32)
    found = ov.compile_model(made, "CPU", exact)(unit)[0]
    return np.ascontiguousarray(found.T, np.float32).reshape(weight.shape)


if __name__ == "__main__":
    for name in sys.argv[1:] or ("per_tensor, scale per channel",):
        kind = TYPES[name]
        for bits in BITS:
            write("NNCF", ["nncf", "openvino"], name, bits, lambda w, b=bits, k=kind: palettized(w, b, k))
