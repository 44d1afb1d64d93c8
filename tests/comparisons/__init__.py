"""Comparisons with outside runtimes: one function per operator, fed with a file of oracle vectors.

The golden tests, the live tests and the conformance benchmark all run these very functions.
"""

from comparisons import (  # noqa: F401  (they fill the table)
    choices,
    elementwise,
    layers,
    movement,
    recurrent,
    softmax,
    windows,
)
from comparisons.table import GOLDEN, KERNELS, TABLE, Key, Measured, keys_of, measure

__all__ = ["GOLDEN", "KERNELS", "TABLE", "Key", "Measured", "keys_of", "measure"]
