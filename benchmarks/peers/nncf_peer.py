"""NNCF's post-training quantisation of ONNX files, evaluated by ONNX Runtime's integer kernels.

Defaults: its mixed preset's ranges and fast bias correction, over all calibration data. Other widths than
8 bits are asked for by its advanced parameters. Files of operator set 17: into those of 21 it writes types
that contradict each other wherever it chooses unsigned codes.
"""

import sys

import nncf
import onnx
from exchange import (
    MODELS,
    PLACE,
    SCHEMES,
    Arrays,
    attempt,
    callable_of_session,
    evaluate,
    load,
    recordings,
    step_batches,
)
from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters, QuantizationParameters
from onnx_graphs import left_in_float

BITS = {"W8A8": (8, 8), "W4A8": (4, 8), "W8A16": (8, 16)}


def dataset(model: str, form: str, data: Arrays, names: list[str]) -> nncf.Dataset:
    """The exchange's calibration data by the names of the file's inputs."""
    if form == "step":
        calls = list(step_batches(data))
    else:
        calls = [(one[None] if model == "voice" else one,) for one in recordings(data, "calibration")]
    return nncf.Dataset(calls, lambda call: dict(zip(names, call, strict=True)))


def work(model: str, form: str, scheme: str) -> tuple[Arrays, str]:
    """Quantise one ONNX twin and run it."""
    data = load(model)
    start = onnx.load(PLACE / f"{model}-{form}-17.onnx")
    weights, activations = (QuantizationParameters(num_bits=bits) for bits in BITS[scheme])
    options = AdvancedQuantizationParameters(
        weights_quantization_params=weights, activations_quantization_params=activations
    )
    if scheme == "W8A8":
        options = None
    fed = dataset(model, form, data, [one.name for one in start.graph.input])
    made = nncf.quantize(start, fed, subset_size=fed.get_length(), advanced_parameters=options)
    file = PLACE / "nncf.onnx"
    onnx.save(made, file)
    return evaluate(callable_of_session(file), model, form, data), left_in_float(made)


if __name__ == "__main__":
    for model in sys.argv[1:] or MODELS:
        for form in ("sequence", "step"):
            for scheme in SCHEMES:
                attempt(
                    "NNCF", ["nncf", "onnx", "onnxruntime"], model, form, scheme,
                    lambda model=model, form=form, scheme=scheme: work(model, form, scheme),
                )  # fmt: skip
