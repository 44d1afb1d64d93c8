"""Plain int8: what a weight without a table trains through, straight-through.

    scale[o] = max |w[o]| / 127,   q = clamp(round_half_even(w / scale[o]), -127, 127),   real = q * scale[o]

The scales follow the parameter (`present`), or stay those of the baseline (`kept`). A scale that follows
never falls below half of the baseline's, so that a bias in units of it stays within its 32 bits; one scale
for the tensor stays one. Backward: the identity.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import Tensor

from nnaq.codebooks.coded import Coded
from nnaq.ir.types import Quant, TensorType
from nnaq.kernels.boundary import quantize_array
from nnaq.quantize.scales import as_float32, weight_type
from nnaq.train.schemes.base import Scheme, Weight
from nnaq.train.schemes.options import chosen, option


@dataclass(frozen=True)
class Int8Options:
    """See the module."""

    scale: str = option(
        "present", "whether scales follow the parameter or stay the baseline's", words=("present", "kept")
    )


class Int8(Scheme):
    """A weight of plain int8 codes."""

    Options = Int8Options

    def __init__(self, weight: Weight, **options: Any) -> None:
        super().__init__(weight)
        self.options = chosen(Int8Options, "int8", options)

    def hard(self, parameter: Tensor) -> Coded:
        """The nearest code of every weight."""
        value = parameter.detach().to("cpu").float().numpy()
        kind = self._kind(value)
        codes = np.clip(quantize_array(value, kind), -127, 127)
        return Coded(codes, kind)

    def _kind(self, value: np.ndarray) -> TensorType:
        kind = replace(self.weight.kind, palette=None)
        assert kind.quant is not None
        if self.options.scale == "kept":
            return kind
        floor = np.array(kind.quant.scale) / 2
        if kind.quant.axis is not None:
            return weight_type(value, kind.quant.axis, floor)
        size = float(np.abs(value).max(initial=0)) / 127
        return replace(kind, quant=Quant((as_float32(max(size, float(floor[0]))),)))
