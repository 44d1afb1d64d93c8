"""A lowered model as standard ONNX with pairs of QuantizeLinear and DequantizeLinear (QDQ).

It is the real graph with its roundings, before the integers:

    x     QuantizeLinear -> DequantizeLinear                where a value is rounded to i8
    x     QuantizeLinear -> DequantizeLinear of INT16       to i16, from opset 21 on
          Div, Round, Clip, Mul                             to i16, before
    w     INT8 codes, or INT4 from opset 21 on -> DequantizeLinear, with a scale per channel

The default is opset 19, because the optimiser of ONNX Runtime 1.32 refuses INT8 pairs of opset 21 around a
Reshape ("output_dtype INT8 does not match y_zero_point type UINT8"; `disabled_optimizers =
["QDQPropagationTransformer"]` helps).

Runtimes compute what stands between two roundings in float, or in integers of their own: results are near
those of the simulator, not equal. Lost: accumulators, multipliers, tables, the gates of an LSTM in 16 bits;
palettes, whose codes are INT8 here; roundings to 32 bits; ties away from zero, for ONNX rounds to even.
"""

import numpy as np
import onnx
from onnx import helper

from nnaq.export.body_builder import ELEMENTS
from nnaq.export.fake_writer import FakeWriter, Weight
from nnaq.ir.graph import Graph
from nnaq.ir.types import TensorType, bounds, storage

OPSET = 19
WITH_SMALL_AND_LARGE = 21  # the first opset with pairs of INT4 and INT16


def qdq_model(fake: Graph, opset: int = OPSET) -> onnx.ModelProto:
    """The QDQ file of a real graph with its roundings (`Crossing.fake`).

    opset: 19 or 21. Raises ArtifactError that lists operators that cannot be written.
    """
    return _QdqWriter(fake, opset).model(opset)


class _QdqWriter(FakeWriter):
    def __init__(self, graph: Graph, opset: int) -> None:
        super().__init__(graph)
        self.all_widths = opset >= WITH_SMALL_AND_LARGE

    def round(self, source: str, result: str, kind: TensorType) -> None:
        if kind.dtype == "i16" and not self.all_widths:
            return self.round_16(source, result, kind)
        codes = f"{result}.codes"
        numbers = self.numbers(result, kind)
        self.add("QuantizeLinear", [source, *numbers], codes)
        self.add("DequantizeLinear", [codes, *numbers], result)
        return None

    def round_16(self, source: str, result: str, kind: TensorType) -> None:
        """clip(round(x / scale)) * scale; codes of 16 bits have the zero_point 0."""
        scale = self.constant(f"{result}.scale", np.array(kind.scale, np.float32))
        limits = [
            self.constant(f"{result}.{word}", np.array(limit, np.float32))
            for word, limit in zip(("low", "high"), bounds(kind.dtype), strict=True)
        ]
        steps = self.add("Round", [self.add("Div", [source, scale], f"{result}.steps")], f"{result}.whole")
        self.add("Mul", [self.add("Clip", [steps, *limits], f"{result}.codes"), scale], result)

    def element(self, kind: TensorType) -> int:
        """The ONNX dtype of codes."""
        return int(ELEMENTS["i8" if kind.dtype == "i4" and not self.all_widths else kind.dtype])

    def weight(self, weight: Weight, result: str) -> None:
        name, kind = f"{result}.codes", weight.kind
        assert kind.quant is not None
        if kind.dtype == "i16" and not self.all_widths:
            self.constant(result, (weight.codes.astype(np.float32) - kind.zero_point) * weight.scales)
            return
        self.integers(name, weight.codes, kind)
        axis = {} if kind.quant.axis is None else {"axis": kind.quant.axis}
        self.add("DequantizeLinear", [name, *self.numbers(result, kind)], result, **axis)

    def numbers(self, name: str, kind: TensorType) -> list[str]:
        """The initializers of a type's scale and zero_point: one, or one per channel."""
        assert kind.quant is not None
        scale = np.array(kind.quant.scale, np.float32)
        scale = scale[0] if kind.quant.axis is None else scale
        zero = self.integers(f"{name}.zero_point", np.full(scale.shape, kind.zero_point), kind)
        return [self.constant(f"{name}.scale", scale), zero]

    def integers(self, name: str, codes: np.ndarray, kind: TensorType) -> str:
        """An initializer of codes: two in a byte where they are INT4."""
        if self.element(kind) != ELEMENTS["i4"]:
            return self.constant(name, codes.astype(storage(kind.dtype)))
        flat = codes.reshape(-1).tolist()
        self.initializers[name] = helper.make_tensor(name, ELEMENTS["i4"], codes.shape, flat)
        return name
