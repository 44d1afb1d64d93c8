"""A lowered model as QONNX: float ONNX whose roundings are `Quant` nodes of any width.

    y = Quant(x, scale, zero_point, bits) {signed, narrow, rounding_mode = "ROUND"}
      = (round(clamp(x / scale + zero_point, low, high)) - zero_point) * scale,  round: half to even

of domain qonnx.custom_op.general. It is the real graph with its roundings, before the integers. A weight is
its reals and a narrow Quant of 8 or 4 bits, or of its palette's own width where the codes of one table are
multiples of a step that say the same with scale * step; any other palette is no affine code and stays 8
bits wide. Lost: as in QDQ; and a tie may fall on the other side, for it is rounded together with the
zero_point.
"""

import numpy as np
import onnx

from nnaq.export.fake_writer import FakeWriter, Weight
from nnaq.ir.graph import Graph
from nnaq.ir.types import Palette, Quant, TensorType, bits

DOMAIN = "qonnx.custom_op.general"
OPSET = 19


def qonnx_model(fake: Graph) -> onnx.ModelProto:
    """The QONNX file of a real graph with its roundings (`Crossing.fake`).

    Raises ArtifactError that lists operators that cannot be written.
    """
    return _QonnxWriter(fake).model(OPSET, {DOMAIN: 1})


def even_step(palette: Palette) -> int | None:
    """The step of which a palette's codes are multiples that signed narrow codes of its width hold."""
    if len(palette.tables) != 1 or palette.zeros is not None or palette.bits < 2:
        return None
    step = int(np.gcd.reduce(palette.tables[0]))
    reach = max(abs(code) for code in palette.tables[0]) // max(step, 1)
    return step if step and reach <= 2 ** (palette.bits - 1) - 1 else None


class _QonnxWriter(FakeWriter):
    def round(self, source: str, result: str, kind: TensorType) -> None:
        self.quant(source, result, kind, bits(kind.dtype), narrow=0)

    def weight(self, weight: Weight, result: str) -> None:
        quant, palette = weight.kind.quant, weight.kind.palette
        assert quant is not None
        real = self.constant(
            f"{result}.real", (weight.codes.astype(np.float32) - quant.zero_point) * weight.scales
        )
        step = even_step(palette) if palette is not None and quant.zero_point == 0 else None
        if palette is None or step is None:
            return self.quant(real, result, weight.kind, bits(weight.kind.dtype), narrow=1)
        wider = Quant(tuple(scale * step for scale in quant.scale), 0, quant.axis)
        kind = TensorType(weight.kind.dtype, weight.kind.shape, wider)
        return self.quant(real, result, kind, palette.bits, narrow=1)

    def quant(self, source: str, result: str, kind: TensorType, width: int, narrow: int) -> None:
        assert kind.quant is not None
        rank = 0 if kind.quant.axis is None else len(kind.shape)
        numbers = kind.quant.scales(rank), np.array(kind.zero_point), np.array(width)
        names = [
            self.constant(f"{result}.{word}", np.asarray(number, np.float32))
            for word, number in zip(("scale", "zero_point", "bits"), numbers, strict=True)
        ]
        attrs = {"signed": 1, "narrow": narrow, "rounding_mode": "ROUND"}
        self.add("Quant", [source, *names], result, domain=DOMAIN, **attrs)
