"""A real graph in integers as a recipe says, in memory: calibrated on recordings, crossed, and judged.

Files around it are the business of `nnaq.lowering`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from nnaq import pipeline
from nnaq.codebooks.coded import Coded, read_codebooks
from nnaq.errors import RecipeError, TargetError
from nnaq.frontends import ImportOptions
from nnaq.interpret import Interpreter, chunks, frame_count
from nnaq.ir.graph import Graph
from nnaq.ir.types import TensorType
from nnaq.quantize.calibrate import Ranges, calibrate
from nnaq.quantize.moments import Moments, measure_moments
from nnaq.quantize.overrides import resolve, weights_of
from nnaq.quantize.recipe import Chosen, Recipe
from nnaq.quantize.scales import real_range
from nnaq.targets import Target
from nnaq.tasks.metrics import Decision, Fidelity, Figure, Metric, parse_metric, sqnr_db

Inputs = dict[str, np.ndarray]
CHUNK = 2048  # frames at a time through a model: bounds memory on long recordings
ERROR_FRAMES = 2000  # frames over which the error of every layer is measured


@dataclass(frozen=True)
class Reporter:
    """How a long run speaks: `say` a line, `track` an iterable with a progress bar."""

    say: Callable[[str], None] = lambda line: None
    track: Callable[[Iterable[Any], str, int], Iterable[Any]] = lambda items, what, total: items


@dataclass(frozen=True)
class Lowering:
    """Everything a lowering found out. `figures`: the metric's, on the evaluation recordings."""

    recipe: Recipe
    target: Target
    crossing: pipeline.Crossing
    figures: Mapping[str, Figure]
    evaluation: Sequence[Inputs]


def import_options(recipe: Recipe) -> ImportOptions:
    """What the recipe says about the model's ports."""
    return ImportOptions(recipe.time, recipe.batch, recipe.states, recipe.pins, recipe.shapes)


def must_fit(recipe: Recipe, graph: Graph) -> None:
    """Raise RecipeError or DataError where the recipe or its metric names what the model does not have."""
    recipe.check(graph)
    parse_metric(recipe.metric).must_fit([port.name for port in graph.outputs])


def lower_graph(
    graph: Graph,
    calibration: Sequence[Inputs],
    evaluation: Sequence[Inputs],
    recipe: Recipe,
    target: Target,
    reporter: Reporter | None = None,
    dump: Path | None = None,
    codes: Mapping[str, TensorType] | None = None,
) -> Lowering:
    """Lower a real graph in memory: calibrate, cross, and judge on the evaluation recordings.

    codes: code types that a quantised file gives its values and weights; they need no calibration.
    """
    reporter = reporter or Reporter()
    crossing = crossing_of(graph, calibration, recipe, target, reporter, dump, codes)
    figures = judge(crossing, evaluation, parse_metric(recipe.metric), reporter)
    return Lowering(final_recipe(recipe, crossing), target, crossing, figures, evaluation)


def crossing_of(
    graph: Graph,
    calibration: Sequence[Inputs],
    recipe: Recipe,
    target: Target,
    reporter: Reporter,
    dump: Path | None = None,
    codes: Mapping[str, TensorType] | None = None,
) -> pipeline.Crossing:
    """Calibrate a real graph and cross it as the recipe says. Raises TargetError for a host alone."""
    if not target.has_accelerator:
        raise TargetError(
            f"target {target.name!r} is a host alone, which runs no integers; lower for a target with an "
            f"accelerator, then ask for the host's time with `nnaq simulate OUT --target {target.name}`"
        )
    must_fit(recipe, graph)
    real = pipeline.simplify(graph, dump=dump, repair=recipe.quantize.repair)
    _refuse_gone(recipe, real)
    resolve(recipe, real)  # before the recordings are run: what it names must be there
    coded_weights(recipe, real)
    observed = reporter.track(calibration, "calibrating", len(calibration))
    ranges = calibrate(real, observed, recipe.quantize.observer, recipe.quantize.percentile or 0.9999)
    ranges = Ranges({**ranges.ranges, **{v: c.range for v, c in recipe.values.items() if c.range}})
    held = {name: kind for name, kind in (codes or {}).items() if name in real.types}
    crossing = _crossing(real, ranges, calibration, recipe, target, reporter, held)
    if dump is not None:
        pipeline.cross(real, ranges, crossing.options, dump)
    return crossing


def _refuse_gone(recipe: Recipe, real: Graph) -> None:
    """Raise RecipeError for values that the model has but its simplified graph has not."""
    gone = sorted(recipe.values.keys() - real.types.keys())
    if gone:
        raise RecipeError(
            f"recipe {recipe.name!r}: {', '.join(map(repr, gone))} of [values] goes into the operator that "
            "reads it and has no codes; name the value after it (a relu's result) instead"
        )


def coded_weights(recipe: Recipe, real: Graph) -> dict[str, Coded]:
    """The weights whose codes a training decided. Raises RecipeError where they are not this graph's."""
    if recipe.codebooks is None:
        return {}
    coded = read_codebooks(recipe.codebooks)
    weights = {name for node in real.nodes for name in weights_of(real, node)}
    for name, weight in coded.items():
        if name not in weights or weight.codes.shape != real.constants[name].shape:
            there = f"is {list(real.constants[name].shape)} there" if name in weights else "is not there"
            raise RecipeError(
                f"{recipe.codebooks} is not of graph {real.name!r}: weight {name!r} "
                f"{list(weight.codes.shape)} {there}; lower the model of that training"
            )
    return coded


def _crossing(
    real: Graph,
    ranges: Ranges,
    calibration: Sequence[Inputs],
    recipe: Recipe,
    target: Target,
    reporter: Reporter,
    codes: Mapping[str, TensorType],
) -> pipeline.Crossing:
    """One crossing with the recipe's widths, or the automatic choice of them.

    The choice is made with plain int8 weights: what a palette loses, wider activations do not bring back.
    """
    resolved, coded = resolve(recipe, real), coded_weights(recipe, real)
    options = pipeline.Options(
        target,
        "i8" if recipe.quantize.activations == "auto" else f"i{recipe.quantize.activations}",
        resolved.dtypes,
        frozenset(value for value, c in recipe.values.items() if c.range),
        recipe.quantize.weight_bits,
        {name: choice for name, choice in resolved.palettes.items() if name not in coded},
        codes,
        resolved.weight_bits,
        recipe.quantize.repair,
        coded=coded,
    )
    options = replace(options, moments=moments_for(real, options, calibration, reporter))
    if recipe.quantize.activations != "auto":
        return pipeline.cross(real, ranges, options)
    score = score_of(real, calibration, parse_metric(recipe.metric))
    goal = recipe.quantize.goal
    stretch = list(stretches(real, calibration, ERROR_FRAMES))
    plain = replace(options, palettes={}, repair=())
    crossing = pipeline.choose_dtypes(real, ranges, plain, stretch, score, goal, reporter.say)
    if not options.palettes and not options.repair:
        return crossing
    options = replace(options, dtypes=crossing.options.dtypes)
    return replace(pipeline.cross(real, ranges, options), raises=crossing.raises)


def moments_for(
    real: Graph, options: pipeline.Options, recordings: Sequence[Inputs], reporter: Reporter
) -> dict[str, Moments]:
    """The moments of activations that palettes and repairs of these options ask for."""
    asking = {name for name, choice in options.palettes.items() if choice.weighting == "activations"}
    if set(options.repair) - {"equalize_layers"}:
        asking = {name for node in real.nodes for name in weights_of(real, node)}
    if not asking:
        return {}
    seen = reporter.track(recordings, "measuring activations", len(recordings))
    return measure_moments(real, seen, asking)


def outputs_of(graph: Graph, recordings: Iterable[Inputs]) -> dict[str, np.ndarray]:
    """The outputs over all recordings, flattened and joined; states start anew at each."""
    interpreter = Interpreter(graph)
    made: dict[str, list[np.ndarray]] = {port.name: [] for port in graph.outputs}
    for inputs in recordings:
        interpreter.reset()
        for piece in chunks(graph, inputs, CHUNK):
            for name, array in interpreter.step(piece).outputs.items():
                made[name].append(array.ravel())
    return {name: np.concatenate(arrays) for name, arrays in made.items()}


def score_of(real: Graph, recordings: Sequence[Inputs], metric: Metric) -> Callable[[Graph], float]:
    """The quality of an integer graph: agreement for a decision, else 1 - noise / signal."""
    exact = outputs_of(real, recordings)

    def score(integer: Graph) -> float:
        found = outputs_of(integer, recordings)
        if isinstance(metric, Decision):
            return metric.evaluate(exact, found)["agreement"].integer or 0.0
        worst = [sqnr_db(exact[name], found[name]) for name in exact]
        return min(1.0 if s.db is None else 1.0 - 10 ** (-s.db / 10) for s in worst)

    return score


def judge(
    crossing: pipeline.Crossing, recordings: Sequence[Inputs], metric: Metric, reporter: Reporter
) -> dict[str, Figure]:
    """The metric's figures on recordings nothing was chosen from."""
    exact = outputs_of(crossing.real, reporter.track(recordings, "real model", len(recordings)))
    found = outputs_of(crossing.integer, reporter.track(recordings, "integer model", len(recordings)))
    return {**Fidelity().evaluate(exact, found), **metric.evaluate(exact, found)}


def stretches(graph: Graph, recordings: Iterable[Inputs], frames: int) -> Iterator[Inputs]:
    """The first `frames` frames of the recordings, whole recordings while they fit."""
    left = frames
    for inputs in recordings:
        if left <= 0:
            return
        yield next(chunks(graph, inputs, left))
        left -= frame_count(graph, inputs)


def final_recipe(recipe: Recipe, crossing: pipeline.Crossing) -> Recipe:
    """The recipe with every range and dtype as chosen: lowering with it gives the same integers."""
    kinds = pipeline.value_types(crossing)
    values = {
        value: Chosen(kind.dtype, *real_range(kind))  # type: ignore[arg-type]
        for value, kind in kinds.items()
        if value not in crossing.real.constants and kind.dtype in ("i8", "i16")
    }
    sums = {value: chosen for value, chosen in recipe.values.items() if chosen.range is None}
    return replace(recipe, values=values | sums)
