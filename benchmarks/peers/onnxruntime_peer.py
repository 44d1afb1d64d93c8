"""ONNX Runtime's static quantisation (QDQ), evaluated by its own integer kernels.

W8A8 and W8A16 with per-channel weights; W4A8 with 4-bit weights. Ranges: its MinMax calibrator, the default.
Of the step form the graph is changed in one place, see `states_apart`, and its fusions are switched off: one
of them makes a sum of two products the bias of a Gemm.
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

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
from onnx_graphs import left_in_float
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

TYPES = {
    "W8A8": (QuantType.QInt8, QuantType.QInt8),
    "W4A8": (QuantType.QInt4, QuantType.QInt8),
    "W8A16": (QuantType.QInt8, QuantType.QInt16),
}


class Reader(CalibrationDataReader):
    """The exchange's calibration data, one call's inputs at a time."""

    def __init__(self, data: Arrays, form: str, names: list[str]) -> None:
        calls = step_batches(data) if form == "step" else ((one,) for one in recordings(data, "calibration"))
        if form == "sequence" and "test:inputs" in data:
            calls = ((one[None],) for one in recordings(data, "calibration"))
        self.calls = (dict(zip(names, call, strict=True)) for call in calls)

    def get_next(self) -> dict | None:
        return next(self.calls, None)


def states_apart(model: onnx.ModelProto) -> onnx.ModelProto:
    """Give the states that go out a node of their own.

    The quantizer takes the range of a Relu's result for its operand where no other node reads that; it does
    not see that the operand also leaves the graph, and cuts off the negative half of the LSTM's state.
    """
    for value in model.graph.output:
        if value.name.startswith("next"):
            (maker,) = (node for node in model.graph.node if value.name in node.output)
            inner = f"{value.name}_inner"
            for node in model.graph.node:
                for place, name in enumerate(node.input):
                    node.input[place] = inner if name == value.name else name
            maker.output[list(maker.output).index(value.name)] = inner
            model.graph.node.append(onnx.helper.make_node("Identity", [inner], [value.name]))
    return model


def work(model: str, form: str, scheme: str) -> tuple[Arrays, str]:
    """Quantise one ONNX twin and run it."""
    data = load(model)
    weight, activation = TYPES[scheme]
    with TemporaryDirectory() as folder:
        ready, made = Path(folder) / "ready.onnx", Path(folder) / "made.onnx"
        start = states_apart(onnx.load(PLACE / f"{model}-{form}.onnx"))
        quant_pre_process(start, str(ready), auto_merge=True, skip_optimization=form == "step")
        names = [one.name for one in start.graph.input]
        quantize_static(
            str(ready), str(made), Reader(data, form, names), quant_format=QuantFormat.QDQ, per_channel=True,
            weight_type=weight, activation_type=activation,
        )  # fmt: skip
        return evaluate(callable_of_session(made), model, form, data), left_in_float(onnx.load(made))


if __name__ == "__main__":
    for model in sys.argv[1:] or MODELS:
        for form in ("sequence", "step"):
            for scheme in SCHEMES:
                attempt(
                    "ONNX Runtime", ["onnxruntime", "onnx"], model, form, scheme,
                    lambda model=model, form=form, scheme=scheme: work(model, form, scheme),
                )  # fmt: skip
