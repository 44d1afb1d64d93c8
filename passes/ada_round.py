"""ada-round: weights that learn whether to round up or down.

The constant of a rounded weight is replaced by other reals that lie on the same grid, or on entries of
the same palette: of the two around each real weight those that together lose least on the activations
the weight met: see codebooks/ada_round.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from nnaq.codebooks.ada_round import ada_round
from nnaq.ir.graph import Graph
from nnaq.passes.error_feedback import rounded_anew
from nnaq.passes.manager import Keeps, Pass
from nnaq.quantize.moments import Moments


@dataclass(frozen=True)
class AdaRound(Pass):
    """Round weights anew, each up or down.

    originals: real weights before they were rounded, by constant. moments: of what meets them. A weight
    that is not in both, or has only the diagonal of its moments, stays as it is.
    """

    name: ClassVar[str] = "ada-round"
    keeps: ClassVar[Keeps] = "types"

    originals: Mapping[str, np.ndarray] = field(default_factory=dict)
    moments: Mapping[str, Moments] = field(default_factory=dict)

    def run(self, graph: Graph) -> Graph:
        """Raises PassError where an original has another shape than the graph's weight."""
        return rounded_anew(graph, self.originals, self.moments, ada_round)
