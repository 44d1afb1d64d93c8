"""The passes of nnaq, one file each, and PIPELINE: their order, with the reason for each place.

The order has three stretches: calibration runs on the graph that the first one leaves, and the
graph that the second one leaves, rounded but still real, is kept for training.
"""

from typing import NamedTuple

from nnaq.passes.assign_codebooks import AssignCodebooks
from nnaq.passes.canonicalize import Canonicalize
from nnaq.passes.fold_constants import FoldConstants
from nnaq.passes.fuse_activation import FuseActivation
from nnaq.passes.insert_fake_quant import InsertFakeQuant
from nnaq.passes.lower_to_integer import LowerToInteger
from nnaq.passes.manager import Pass, run


class Step(NamedTuple):
    """A place in the pipeline: the pass, and why it stands there."""

    made_by: type[Pass]
    reason: str


SIMPLIFY: tuple[Step, ...] = (
    Step(FoldConstants, "first: what never changes need not be calibrated"),
    Step(
        FuseActivation, "before calibration: a product that is only read through relu needs no negative codes"
    ),
    Step(Canonicalize, "after the rewrites: their leftovers are dead now; calibration runs over this graph"),
)
FAKE_QUANTIZE: tuple[Step, ...] = (
    Step(
        InsertFakeQuant, "after calibration: it turns ranges into scales, on a graph that still runs in reals"
    ),
    Step(AssignCodebooks, "after the scales are known: a palette's entries are int8 codes"),
)
LOWER: tuple[Step, ...] = (
    Step(LowerToInteger, "last of all that changes values: every multiplier and table becomes a constant"),
    Step(Canonicalize, "islands and exact results may leave unread values behind"),
)
PIPELINE = (*SIMPLIFY, *FAKE_QUANTIZE, *LOWER)

__all__ = [
    "FAKE_QUANTIZE",
    "LOWER",
    "PIPELINE",
    "SIMPLIFY",
    "AssignCodebooks",
    "Canonicalize",
    "FoldConstants",
    "FuseActivation",
    "InsertFakeQuant",
    "LowerToInteger",
    "Pass",
    "Step",
    "run",
]
