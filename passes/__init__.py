"""The passes of nnaq, one file each, and PIPELINE: their order, with the reason for each place.

The order has stretches: calibration runs on the graph that the first two leave, and the
graph that the rounding stretches leave, still real, is kept for training. EQUALIZE and REPAIR run only
those passes that a recipe asks for. STREAM is no part of it: it makes another graph of what it leaves.
"""

from collections.abc import Sequence
from typing import NamedTuple

from nnaq.errors import PassError
from nnaq.passes.ada_round import AdaRound
from nnaq.passes.assign_codebooks import AssignCodebooks
from nnaq.passes.canonicalize import Canonicalize
from nnaq.passes.correct_bias import CorrectBias
from nnaq.passes.equalize_layers import EqualizeLayers
from nnaq.passes.error_feedback import ErrorFeedback
from nnaq.passes.fold_constants import FoldConstants
from nnaq.passes.fuse_activation import FuseActivation
from nnaq.passes.insert_fake_quant import InsertFakeQuant
from nnaq.passes.lower_to_integer import LowerToInteger
from nnaq.passes.make_streaming import MakeStreaming
from nnaq.passes.manager import Pass, run


class Step(NamedTuple):
    """A place in the pipeline: the pass, and why it stands there.

    after: for a pass from outside, the name of the pass it follows, wherever that one stands.
    """

    made_by: type[Pass]
    reason: str
    after: str = ""


SIMPLIFY: tuple[Step, ...] = (
    Step(FoldConstants, "first: what never changes need not be calibrated"),
    Step(
        FuseActivation, "before calibration: a product that is only read through relu needs no negative codes"
    ),
    Step(Canonicalize, "after the rewrites: their leftovers are dead now; calibration runs over this graph"),
)
EQUALIZE: tuple[Step, ...] = (
    Step(EqualizeLayers, "if asked for, before calibration, which then sees the ranges it leaves"),
)
FAKE_QUANTIZE: tuple[Step, ...] = (
    Step(
        InsertFakeQuant, "after calibration: it turns ranges into scales, on a graph that still runs in reals"
    ),
    Step(AssignCodebooks, "after the scales are known: a palette's entries are int8 codes"),
)
REPAIR: tuple[Step, ...] = (
    Step(ErrorFeedback, "if asked for, once tables and scales stand: it chooses among their entries"),
    Step(AdaRound, "if asked for, in the same place: the other way to choose among entries"),
    Step(CorrectBias, "if asked for, after every weight has its codes: it makes up for what they moved"),
)
LOWER: tuple[Step, ...] = (
    Step(LowerToInteger, "last of all that changes values: every multiplier and table becomes a constant"),
    Step(Canonicalize, "islands and exact results may leave unread values behind"),
)
STREAM: tuple[Step, ...] = (
    Step(MakeStreaming, "if asked for, after the crossing: whole utterances and streams share their codes"),
)
PIPELINE = (*SIMPLIFY, *EQUALIZE, *FAKE_QUANTIZE, *REPAIR, *LOWER)

_ADDED: list[Step] = []


def add(step: Step) -> None:
    """Give a pass from outside its place: right after the pass that it names.

    Raises PassError: a name that is taken, a pass with options that have no default, a place that
    does not exist.
    """
    name, known = step.made_by.name, [s.made_by.name for s in steps(PIPELINE)]
    if name in known:
        raise PassError(f"there is a pass {name!r} already; give yours another name")
    if step.after not in known:
        raise PassError(f"pass {name!r} wants its place after {step.after!r}; there are {', '.join(known)}")
    try:
        step.made_by()
    except TypeError as error:
        raise PassError(f"pass {name!r} cannot be made without options: {error}") from None
    _ADDED.append(step)


def steps(stretch: Sequence[Step]) -> tuple[Step, ...]:
    """A stretch of the pipeline together with the passes from outside that follow one of its own."""
    found: list[Step] = []
    for step in stretch:
        found += (step, *steps_after(step))
    return tuple(found)


def steps_after(step: Step) -> tuple[Step, ...]:
    """The passes from outside that follow a pass, each with those that follow it in turn."""
    after = [extra for extra in _ADDED if extra.after == step.made_by.name]
    return tuple(s for extra in after for s in (extra, *steps_after(extra)))


__all__ = [
    "EQUALIZE",
    "FAKE_QUANTIZE",
    "LOWER",
    "PIPELINE",
    "REPAIR",
    "SIMPLIFY",
    "STREAM",
    "AdaRound",
    "AssignCodebooks",
    "Canonicalize",
    "CorrectBias",
    "EqualizeLayers",
    "ErrorFeedback",
    "FoldConstants",
    "FuseActivation",
    "InsertFakeQuant",
    "LowerToInteger",
    "MakeStreaming",
    "Pass",
    "Step",
    "add",
    "run",
    "steps",
]
