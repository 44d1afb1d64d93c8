"""Comparisons with outside runtimes: one function per operator, fed with a file of oracle vectors.

The golden tests, the live tests and the conformance benchmark all run these very functions.
"""

from comparisons import elementwise, layers, recurrent  # noqa: F401  (fills the table)
from comparisons.table import GOLDEN, KERNELS, TABLE, Key, Measured, keys_of, measure

__all__ = ["GOLDEN", "KERNELS", "TABLE", "Key", "Measured", "keys_of", "measure"]
