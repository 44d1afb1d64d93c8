"""sigmoid and tanh of 16 bits as TFLite's kernels compute them, from 256 entries of sigmoid(i / 24).

A contract with `curves = "tflite"` and importers of TFLite files take their tables from here. The tests
compare with tflite-micro at every code.
"""

from functools import cache

import numpy as np

from nnaq.ir.types import TensorType
from nnaq.kernels.boundary import largest_distance
from nnaq.kernels.fixedpoint import quantize_multipliers

# Where TFLite's 256 entries of sigmoid(i / 24) in 0.16 are one above the nearest value.
_ONE_ABOVE = (
    4, 8, 12, 14, 15, 16, 17, 19, 20, 21, 22, 25, 27, 28, 29, 30, 31, 33, 34, 35, 37, 39, 40, 41, 43, 44, 45,
    46, 49, 50, 54, 62, 63, 64, 66, 82, 86, 93, 100, 103, 112, 116, 135, 255,
)  # fmt: skip


@cache
def _entries() -> np.ndarray:
    exact = 65536 / (1 + np.exp(-np.arange(256) / 24))
    entries = np.minimum(np.floor(exact + 0.5), 65535).astype(np.int64)
    entries[list(_ONE_ABOVE)] += 1
    return entries


def curve(name: str, multiplier: int = 3, right: int = 0) -> np.ndarray:
    """sigmoid or tanh of TFLite in Q0.15 at all 65536 codes (int16).

    grid = (q * multiplier + (2^right >> 1)) >> right has 3 * 2^12 steps per unit; the entries are
    interpolated at |grid| / 2^9, for tanh, which is 2 sigmoid(2 x) - 1, at |grid| / 2^8.
    """
    entries, codes = _entries(), np.arange(-(2**15), 2**15, dtype=np.int64)
    grid = (codes * multiplier + ((1 << right) >> 1)) >> right
    bits, last = (9, 0x7FFF << 10) if name == "sigmoid" else (8, 0xFFFF << 8)
    size = np.abs(grid)
    i, part = np.minimum(size >> bits, 254), size & ((1 << bits) - 1)
    level = (entries[i] << bits) + part * (entries[i + 1] - entries[i])
    level = np.where(size >> bits >= 255, last, level)
    if name == "sigmoid":
        return (np.where(grid >= 0, level + 2**9, 2**25 - level + 2**9 - 1) >> 10).astype(np.int16)
    return (np.where(grid >= 0, level - 2**23 + 2**7, 2**23 - level + 2**7 - 1) >> 8).astype(np.int16)


def gate_tables() -> tuple[np.ndarray, np.ndarray]:
    """sigmoid and tanh of an LSTM's gates, Q3.12 to Q0.15."""
    return curve("sigmoid"), curve("tanh")


def curve_of(name: str, scale: float) -> np.ndarray:
    """The curve at codes of any scale: LOGISTIC and TANH of int16."""
    multiplier, right = scale * 2.0**12 * 3, 0
    while multiplier <= 32767 / 2 and right <= 30:
        multiplier, right = multiplier * 2, right + 1
    return curve(name, int(multiplier), right)


def curve_of_cell(fraction: int) -> np.ndarray:
    """tanh at codes of an LSTM's cell with `fraction` fraction bits."""
    return curve("tanh", 3 * 2 ** max(12 - fraction, 0), max(fraction - 12, 0))


def recurrent_multipliers(h: TensorType, scales: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Multipliers and shifts of an LSTM's recurrent sums: f32(s_h s_w[j]) 2^12, for rows of four gates."""
    bound = len(scales) // 4 * 127 * largest_distance(h)
    return quantize_multipliers((h.scale * scales).astype(np.float32) * 2.0**12, "double", bound)
