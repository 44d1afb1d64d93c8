"""The whole road in memory: a real graph becomes an integer graph, its accuracy and its plan.

    real graph -> simplified -> Ranges -> fake-quant graph -> integer graph

`cross` is one crossing with given dtypes; `choose_dtypes` is the search behind `activations="auto"`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from nnaq import passes
from nnaq.ir.graph import Graph
from nnaq.passes.insert_fake_quant import choose_types
from nnaq.quantize.calibrate import Ranges
from nnaq.quantize.error import LayerError, layer_errors
from nnaq.targets import Target

Inputs = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Raise:
    """One step of the automatic choice: a value that went from i8 to i16, and why."""

    value: str
    added_db: float
    score: float


@dataclass(frozen=True)
class Crossing:
    """A real graph and what it became: `real` simplified, `fake` with its roundings, `integer`."""

    real: Graph
    fake: Graph
    integer: Graph
    ranges: Ranges
    dtypes: Mapping[str, str] = field(default_factory=dict)
    raises: tuple[Raise, ...] = ()


def simplify(graph: Graph, check: Inputs | None = None, dump: Path | None = None) -> Graph:
    """The real graph in canonical form: constants folded, activations fused, no dead code."""
    steps = (passes.FoldConstants(), passes.FuseActivation(), passes.Canonicalize())
    return passes.run(graph, steps, check, dump)


def cross(
    real: Graph,
    ranges: Ranges,
    target: Target,
    activations: str = "i8",
    dtypes: Mapping[str, str] | None = None,
    dump: Path | None = None,
) -> Crossing:
    """The integer graph of a simplified real graph, with i8 or i16 activations and exceptions by value."""
    chosen = dict(dtypes or {})
    insert = passes.InsertFakeQuant(ranges, activations, chosen, target.numerics.input_rounding)
    fake = passes.run(real, [insert], dump=dump)
    crossing = passes.LowerToInteger(target.numerics, unsupported(real, target))
    integer = passes.run(fake, [crossing, passes.Canonicalize()], dump=dump)
    return Crossing(real, fake, integer, ranges, chosen)


def unsupported(real: Graph, target: Target) -> frozenset[str]:
    """Nodes whose operator the target does not run; they stay real, on the host."""
    return frozenset(node.name for node in real.nodes if target.refuses(node.op))


def choose_dtypes(
    real: Graph,
    ranges: Ranges,
    target: Target,
    recordings: Sequence[Inputs],
    score: Callable[[Graph], float],
    goal: float,
    log: Callable[[str], None] = lambda line: None,
) -> Crossing:
    """Start with i8 and raise the value with the greatest added error to i16 until the goal is met.

    score: quality of an integer graph on calibration data, higher is better. Stops also where no
    i8 value is left; the last crossing is returned either way, with every raise in order.
    """
    dtypes: dict[str, str] = {}
    raises: tuple[Raise, ...] = ()
    while True:
        crossing = cross(real, ranges, target, "i8", dtypes)
        reached = score(crossing.integer)
        worst = None if reached >= goal else worst_value(crossing, recordings)
        if worst is None:
            return Crossing(real, crossing.fake, crossing.integer, ranges, dtypes, raises)
        dtypes[worst.value] = "i16"
        raises = (*raises, Raise(worst.value, worst.added_db or 0.0, reached))
        log(f"score {reached:.4f} is below {goal}: {worst.value} to 16 bit (added error {worst.added_db:.1f} dB)")


def worst_value(crossing: Crossing, recordings: Sequence[Inputs]) -> LayerError | None:
    """The i8 value to which its own layer added the most error, None where no i8 value has any."""
    kinds = choose_types(crossing.real, crossing.ranges, "i8", crossing.dtypes)
    errors = layer_errors(crossing.real, crossing.integer, recordings)
    candidates = [e for e in errors if kinds[e.value].dtype == "i8" and e.added_db is not None]
    return min(candidates, key=lambda e: e.added_db or 0.0, default=None)
