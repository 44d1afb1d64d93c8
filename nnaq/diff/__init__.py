"""`nnaq diff`: where two forms of one model part, and which layer is to blame.

`sides` runs a form of the model, or reads a dump of another runtime, into values under the names of
the real graph; `compare` sets two of them side by side.
"""

from nnaq.diff.compare import Difference, LayerDifference, compare
from nnaq.diff.sides import KINDS, Side, read_side

__all__ = ["KINDS", "Difference", "LayerDifference", "Side", "compare", "read_side"]
