"""The whole road in memory: a real graph becomes an integer graph.

    real graph -> simplified -> Ranges -> fake-quant graph -> palettes -> integer graph

`cross` is one crossing with given dtypes; `choose_dtypes` is the search behind `activations="auto"`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from nnaq import passes
from nnaq.ir.graph import Graph
from nnaq.ir.types import TensorType
from nnaq.passes.insert_fake_quant import choose_types
from nnaq.passes.lower_to_integer import real_nodes
from nnaq.quantize.calibrate import Ranges
from nnaq.quantize.error import LayerError, layer_errors
from nnaq.targets import BOUNDARY, Target, refusal

Inputs = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Options:
    """What a crossing may choose.

    activations: dtype of activations, `i8` or `i16`. dtypes: other dtypes by value. exact: values
    whose range was chosen, not observed. weight_bits: 8 or 4. palettes: bits of a weight's codebook,
    by constant.
    """

    target: Target
    activations: str = "i8"
    dtypes: Mapping[str, str] = field(default_factory=dict)
    exact: frozenset[str] = frozenset()
    weight_bits: int = 8
    palettes: Mapping[str, int] = field(default_factory=dict)

    def insertion(self, ranges: Ranges) -> passes.InsertFakeQuant:
        """The pass that gives values their codes under these options."""
        rounding = self.target.numerics.input_rounding
        return passes.InsertFakeQuant(
            ranges, self.activations, self.dtypes, self.exact, self.weight_bits, rounding
        )


@dataclass(frozen=True)
class Raise:
    """A step of the automatic choice: a value that went from i8 to i16, its added error, the score before."""

    value: str
    added_db: float
    score: float


@dataclass(frozen=True)
class Crossing:
    """A real graph and what it became: `real` simplified, `fake` with its roundings, `integer`.

    islands: why a node stays on the host, by the node's name.
    """

    real: Graph
    fake: Graph
    integer: Graph
    ranges: Ranges
    options: Options
    islands: Mapping[str, str] = field(default_factory=dict)
    raises: tuple[Raise, ...] = ()


def simplify(graph: Graph, check: Inputs | None = None, dump: Path | None = None) -> Graph:
    """The real graph in canonical form: constants folded, activations fused, no dead code."""
    steps = (passes.FoldConstants(), passes.FuseActivation(), passes.Canonicalize())
    return passes.run(graph, steps, check, dump)


def cross(real: Graph, ranges: Ranges, options: Options, dump: Path | None = None) -> Crossing:
    """The integer graph of a simplified real graph.

    What the target refuses stays real: such a node is found by lowering everything first.
    """
    fake = passes.run(real, [options.insertion(ranges), passes.AssignCodebooks(options.palettes)], dump=dump)
    integer = _lowered(fake, options, frozenset(), dump)
    islands = refused(integer, options.target)
    if islands:
        integer = _lowered(fake, options, frozenset(islands), dump)
    return Crossing(real, fake, integer, ranges, options, islands)


def _lowered(fake: Graph, options: Options, islands: frozenset[str], dump: Path | None) -> Graph:
    return passes.run(
        fake, [passes.LowerToInteger(options.target.numerics, islands), passes.Canonicalize()], dump=dump
    )


def refused(integer: Graph, target: Target) -> dict[str, str]:
    """Why the target leaves nodes to the host, by name of the node."""
    found = ((node, refusal(integer, node, target)) for node in integer.nodes if node.op not in BOUNDARY)
    return {node.name: why for node, why in found if why and node not in real_nodes(integer)}


def value_types(crossing: Crossing) -> dict[str, TensorType]:
    """The code type of every value of the real graph."""
    return choose_types(crossing.real, crossing.options.insertion(crossing.ranges))


def choose_dtypes(
    real: Graph,
    ranges: Ranges,
    options: Options,
    recordings: Sequence[Inputs],
    score: Callable[[Graph], float],
    goal: float,
    log: Callable[[str], None] = lambda line: None,
) -> Crossing:
    """Start with i8 and raise the value with the greatest added error to i16 until the goal is met.

    score: quality of an integer graph on calibration data, higher is better. recordings: where
    added errors are measured. Stops also where no i8 value is left; the last crossing is returned
    either way, with every raise in order.
    """
    raises: tuple[Raise, ...] = ()
    while True:
        crossing = cross(real, ranges, options)
        reached = score(crossing.integer)
        worst = None if reached >= goal else worst_value(crossing, recordings)
        if worst is None:
            log(f"score {reached:.4f} on the calibration data, goal {goal}: {len(raises)} values in 16 bit")
            return replace(crossing, raises=raises)
        raises = (*raises, Raise(worst.value, worst.added_db or 0.0, reached))
        options = replace(options, dtypes={**options.dtypes, worst.value: "i16"})
        lost = f"its own SQNR is {worst.added_db:.1f} dB"
        log(f"score {reached:.4f} is below {goal}: {worst.value} to 16 bit, {lost}")


def worst_value(crossing: Crossing, recordings: Sequence[Inputs]) -> LayerError | None:
    """The i8 value to which its own layer added the most error, None where no i8 value has any.

    Values whose range and dtype were chosen beforehand stay as they are.
    """
    kinds, fixed = value_types(crossing), crossing.options.exact
    errors = layer_errors(crossing.real, crossing.integer, recordings)
    candidates = [
        e for e in errors if kinds[e.value].dtype == "i8" and e.added_db is not None and e.value not in fixed
    ]
    return min(candidates, key=lambda e: e.added_db or 0.0, default=None)
