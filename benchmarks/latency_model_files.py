"""Quantised .tflite files of drawn weights: what a peer's compiler and nnaq's importer both read.

Codes of weights are sums of six uniform whole numbers from -21 to 21 (bell-shaped, deviation 30.4), the same
on every machine.
"""

import numpy as np

from nnaq.export import tflite_file
from nnaq.export.tflite_file import NO_TENSOR, Operator, Tensor

__all__ = ["NO_TENSOR", "Operator", "Tensor", "Writer"]


class Writer(tflite_file.Writer):
    """A file whose weights are drawn from a seed."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.random = np.random.default_rng(seed)

    def activation(self, *shape: int, scale: float = 0.05, zero_point: int = 3) -> int:
        return self.tensor(Tensor(shape, scale=scale, zero_point=zero_point))

    def weight(self, *shape: int, scale: float = 0.002) -> int:
        codes = self.random.integers(-21, 22, (6, *shape)).sum(axis=0)
        return self.constant(codes.astype(np.int8), scale)

    def bias(self, size: int, scale: float = 0.05 * 0.002) -> int:
        return self.constant(self.random.integers(-2000, 2001, size).astype(np.int32), scale)
