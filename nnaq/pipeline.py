"""The whole road in memory: a real graph becomes an integer graph.

    real graph -> simplified -> Ranges -> fake-quant graph -> palettes -> integer graph

`cross` is one crossing with given dtypes; `choose_dtypes` is the search behind `activations="auto"`.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from nnaq import passes
from nnaq.codebooks.choice import PaletteChoice
from nnaq.codebooks.coded import Coded
from nnaq.ir.graph import Graph
from nnaq.ir.types import TensorType
from nnaq.ir.verify import is_real
from nnaq.quantize.calibrate import Ranges
from nnaq.quantize.code_classes import code_classes
from nnaq.quantize.code_types import Choice, choose_types
from nnaq.quantize.error import LayerError, layer_errors
from nnaq.quantize.moments import Moments
from nnaq.quantize.tflite_codes import tflite_codes
from nnaq.targets import BOUNDARY, Target, exclusion, refusal

Inputs = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Options:
    """What a crossing may choose.

    activations: dtype of activations, `i8` or `i16`. dtypes: other dtypes by value. exact: values
    whose range was chosen, not observed. weight_bits: 8 or 4; weights: other widths by constant.
    palettes: how a weight's codebook is found, by constant. codes: code types that a quantised file
    brought along, by value or constant. repair: what mends rounded weights. moments: of the
    activations that meet each weight, where a palette or a repair asks for them. coded: weights whose codes a
    training decided, by constant.
    """

    target: Target
    activations: str = "i8"
    dtypes: Mapping[str, str] = field(default_factory=dict)
    exact: frozenset[str] = frozenset()
    weight_bits: int = 8
    palettes: Mapping[str, PaletteChoice] = field(default_factory=dict)
    codes: Mapping[str, TensorType] = field(default_factory=dict)
    weights: Mapping[str, int] = field(default_factory=dict)
    repair: tuple[str, ...] = ()
    moments: Mapping[str, Moments] = field(default_factory=dict)
    coded: Mapping[str, Coded] = field(default_factory=dict)

    def choice(self, ranges: Ranges, islands: frozenset[str] = frozenset()) -> Choice:
        """What decides the codes of values under these options; a palette's codes have 8 bits."""
        widths = {**self.weights, **dict.fromkeys(self.palettes, 8)}
        chosen = self.activations, self.dtypes, self.exact, self.weight_bits, widths
        kinds = {name: weight.kind for name, weight in self.coded.items()}
        return Choice(ranges, *chosen, islands, {**self.codes, **kinds})


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


def simplify(
    graph: Graph, check: Inputs | None = None, dump: Path | None = None, repair: Collection[str] = ()
) -> Graph:
    """The real graph in canonical form: constants folded, activations fused, no dead code.

    repair: with `equalize_layers` in it the layers' channels share their spread.
    """
    return passes.run(graph, made((*passes.SIMPLIFY, *asked(passes.EQUALIZE, repair))), check, dump)


def asked(stretch: Sequence[passes.Step], repair: Collection[str]) -> tuple[passes.Step, ...]:
    """The steps of an optional stretch that a recipe names."""
    return tuple(step for step in stretch if step.made_by.name.replace("-", "_") in repair)


def made(steps: Sequence[passes.Step], *configured: passes.Pass) -> list[passes.Pass]:
    """The passes of a stretch of the pipeline; those that have options are given."""
    by_name = {one.name: one for one in configured}
    return [by_name.get(step.made_by.name) or step.made_by() for step in passes.steps(steps)]


def cross(real: Graph, ranges: Ranges, options: Options, dump: Path | None = None) -> Crossing:
    """The integer graph of a simplified real graph.

    What the target refuses stays real, and nothing else: of the nodes refused, those that read no
    other refused node become islands, and what follows them is crossed anew.
    """
    options, islands = _with_codes_of_curves(real, options), excluded(real, options.target)
    while True:
        crossing = _crossed(real, ranges, options, islands)
        found = refused(crossing.integer, real, options.target)
        if not found:
            break
        islands |= {name: why for name, why in found.items() if not _reads_any(real, name, found)}
    return crossing if dump is None else _crossed(real, ranges, options, islands, dump)


def _with_codes_of_curves(real: Graph, options: Options) -> Options:
    """The options with the codes that the target's curves insist on."""
    if options.target.numerics.curves == "rounded":
        return options
    codes = tflite_codes(real, options.activations, options.dtypes)
    return replace(options, codes={**options.codes, **codes})


def _crossed(
    real: Graph, ranges: Ranges, options: Options, islands: Mapping[str, str], dump: Path | None = None
) -> Crossing:
    """A crossing with given islands."""
    left = frozenset(islands)
    insertion = passes.InsertFakeQuant(options.choice(ranges, left), options.target.numerics.input_rounding)
    rounding = (*passes.FAKE_QUANTIZE, *asked(passes.REPAIR, options.repair))
    weights = _weights(real, options, host_weights(real, islands))
    fake = passes.run(real, made(rounding, insertion, *weights), dump=dump)
    lowering = passes.LowerToInteger(options.target.numerics, left)
    integer = passes.run(fake, made(passes.LOWER, lowering), dump=dump)
    return Crossing(real, fake, integer, ranges, options, dict(islands))


def host_weights(real: Graph, islands: Collection[str]) -> frozenset[str]:
    """Constants that only islands read: they stay real, whatever was chosen for them."""
    read = {name: {node.name for node in real.readers.get(name, ())} for name in real.constants}
    return frozenset(name for name, names in read.items() if names and names <= set(islands))


def unmeasured(options: Options) -> frozenset[str]:
    """Weights whose palettes were to be weighted by activations that no moments tell of: found without."""
    asking = {name for name, choice in options.palettes.items() if choice.weighting == "activations"}
    return frozenset(asking - options.moments.keys())


def _weights(real: Graph, options: Options, host: Collection[str]) -> list[passes.Pass]:
    """The passes that decide the codes of weights, with what the options give them."""
    blind = unmeasured(options)
    palettes = {
        name: replace(choice, weighting="none") if name in blind else choice
        for name, choice in options.palettes.items()
        if name not in host
    }
    importance = {
        name: _by_row(options.moments[name], len(real.constants[name]))
        for name, choice in palettes.items()
        if choice.weighting == "activations"
    }
    originals = {name: array for name, array in real.constants.items() if name not in host}
    data = originals, options.moments
    coded = {name: weight for name, weight in options.coded.items() if name not in host}
    return [
        passes.AssignCodebooks(palettes, importance, coded),
        passes.ErrorFeedback(*data),
        passes.AdaRound(*data),
        passes.CorrectBias(*data),
    ]


def _by_row(moments: Moments, rows: int) -> np.ndarray:
    """What a squared error of each weight costs, [rows, K]."""
    by_group = moments.diagonal()
    return np.repeat(by_group, rows // len(by_group), axis=0)


def excluded(real: Graph, target: Target) -> dict[str, str]:
    """Why the target leaves nodes of a simplified real graph to the host, whatever codes they get."""
    found = ((node.name, exclusion(node, target)) for node in real.nodes)
    return {name: why for name, why in found if why}


def refused(integer: Graph, real: Graph, target: Target) -> dict[str, str]:
    """Why the target leaves further nodes of the real graph to the host, by name of the node."""
    names = {node.name for node in real.nodes}
    asked = (n for n in integer.nodes if n.name in names and n.op not in BOUNDARY and not is_real(integer, n))
    found = ((node.name, refusal(integer, node, target)) for node in asked)
    return {name: why for name, why in found if why}


def _reads_any(real: Graph, name: str, others: Mapping[str, str]) -> bool:
    return any(real.producer[v].name in others for v in real.node(name).inputs if v in real.producer)


def value_types(crossing: Crossing) -> dict[str, TensorType]:
    """The code type of every value of the real graph."""
    choice = crossing.options.choice(crossing.ranges, frozenset(crossing.islands))
    return dict(choose_types(crossing.real, choice).types)


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

    Values whose range and dtype were chosen beforehand stay as they are, and so do those that share
    their codes.
    """
    kinds, classes = value_types(crossing), code_classes(crossing.real)
    options = crossing.options
    given = {value for value, dtype in options.dtypes.items() if dtype == "i8"}
    held = options.exact | options.codes.keys() | given
    fixed = {classes[value] for value in held if value in classes}
    errors = layer_errors(crossing.real, crossing.integer, recordings)
    free = (e for e in errors if kinds[e.value].dtype == "i8" and classes[e.value] not in fixed)
    candidates = [e for e in free if e.added_db is not None]
    return min(candidates, key=lambda e: e.added_db or 0.0, default=None)
