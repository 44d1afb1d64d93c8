"""`lower()`: the pipeline with files around it. A model and recordings in, an output folder out.

model -> real graph -> calibrated on recordings -> integer graph -> judged on held-out recordings
      -> simulated on the target -> model.onnx, report, plan, trace, golden vectors, recipe
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from nnaq import pipeline
from nnaq.artifact import write_golden, writing
from nnaq.codebooks.storage import storage_of_graph
from nnaq.errors import DataError, FrontendError, RecipeError
from nnaq.export.check import file_equals_simulator
from nnaq.export.onnx import export_model
from nnaq.frontends import ImportOptions, load
from nnaq.interpret import Interpreter, chunks, frame_count, run
from nnaq.ir.graph import Graph
from nnaq.ir.op import lookup
from nnaq.ir.types import TensorType, bits
from nnaq.ir.verify import is_real_graph
from nnaq.kernels.recurrent import count_cell_saturations
from nnaq.quantize.calibrate import Ranges, calibrate
from nnaq.quantize.error import layer_errors
from nnaq.quantize.moments import Moments, measure_moments
from nnaq.quantize.overrides import resolve, weights_of
from nnaq.quantize.recipe import Chosen, Recipe
from nnaq.quantize.scales import real_range
from nnaq.report import Check, Island, Latency, Layer, Memory, Report
from nnaq.report import Crossing as Boundary
from nnaq.simulate import OpCost, Simulation, bind_shapes, chrome_trace, op_cost, simulate
from nnaq.targets import Target, at_rest, undecompressed
from nnaq.tasks.framing import frame_seconds, model_inputs
from nnaq.tasks.metrics import Decision, Fidelity, Figure, Metric, parse_metric, sqnr_db
from nnaq.tasks.recordings import Recording, find_recordings, refuse_overlap, split

Inputs = dict[str, np.ndarray]
CHUNK = 2048  # frames at a time through a model: bounds memory on long recordings
ERROR_FRAMES = 2000  # frames over which the error of every layer is measured
GOLDEN_FRAMES = 128  # frames in golden.npz, on which the file is executed against the simulator
HELD_OUT = 0.2


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


def recordings_for(
    calibrate_on: Path, evaluate_on: Path | None, seed: int, reporter: Reporter
) -> tuple[list[Recording], list[Recording]]:
    """Recordings to calibrate and to evaluate on; without the second folder some are held out."""
    found = find_recordings(calibrate_on)
    if evaluate_on is not None:
        judged = find_recordings(evaluate_on)
        refuse_overlap(found, judged)
        return found, judged
    kept, held_out = split(found, HELD_OUT, seed)
    names = ", ".join(r.name for r in held_out[:3]) + (", …" if len(held_out) > 3 else "")
    reporter.say(f"held out {len(held_out)} of {len(found)} recordings for evaluation (seed {seed}): {names}")
    return kept, held_out


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
    must_fit(recipe, graph)
    real = pipeline.simplify(graph, dump=dump, repair=recipe.quantize.repair)
    _refuse_gone(recipe, real)
    resolve(recipe, real)  # before the recordings are run: what it names must be there
    observed = reporter.track(calibration, "calibrating", len(calibration))
    ranges = calibrate(real, observed, recipe.quantize.observer, recipe.quantize.percentile or 0.9999)
    ranges = Ranges({**ranges.ranges, **{v: c.range for v, c in recipe.values.items() if c.range}})
    held = {name: kind for name, kind in (codes or {}).items() if name in real.types}
    crossing = _crossing(real, ranges, calibration, recipe, target, reporter, held)
    metric = parse_metric(recipe.metric)
    if dump is not None:
        pipeline.cross(real, ranges, crossing.options, dump)
    figures = judge(crossing, evaluation, metric, reporter)
    return Lowering(final_recipe(recipe, crossing), target, crossing, figures, evaluation)


def _must_be_real(model: Path, graph: Graph) -> None:
    """Raise FrontendError for a model whose codes are chosen already."""
    if not is_real_graph(graph):
        raise FrontendError(
            f"{model} holds integers already, there is nothing to lower; run it with `nnaq run`, show it "
            "with `nnaq show`, compare it with `nnaq diff`"
        )


def must_fit(recipe: Recipe, graph: Graph) -> None:
    """Raise RecipeError or DataError where the recipe or its metric names what the model does not have."""
    recipe.check(graph)
    parse_metric(recipe.metric).must_fit([port.name for port in graph.outputs])


def _refuse_gone(recipe: Recipe, real: Graph) -> None:
    """Raise RecipeError for values that the model has but its simplified graph has not."""
    gone = sorted(recipe.values.keys() - real.types.keys())
    if gone:
        raise RecipeError(
            f"recipe {recipe.name!r}: {', '.join(map(repr, gone))} of [values] goes into the operator that "
            "reads it and has no codes; name the value after it (a relu's result) instead"
        )


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
    resolved = resolve(recipe, real)
    options = pipeline.Options(
        target,
        "i8" if recipe.quantize.activations == "auto" else f"i{recipe.quantize.activations}",
        resolved.dtypes,
        frozenset(value for value, c in recipe.values.items() if c.range),
        recipe.quantize.weight_bits,
        resolved.palettes,
        codes,
        resolved.weight_bits,
        recipe.quantize.repair,
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


def read_inputs(
    recordings: Sequence[Recording], recipe: Recipe, graph: Graph, reporter: Reporter
) -> list[Inputs]:
    """The model's inputs of every recording. Raises DataError where none holds a frame."""
    read = [model_inputs(r, recipe, graph) for r in reporter.track(recordings, "reading", len(recordings))]
    if not any(frame_count(graph, inputs) for inputs in read):
        raise DataError(f"the {len(read)} recordings hold no frame of sound")
    return read


def lower(
    model: Path,
    calibrate_on: Path,
    out: Path,
    target: Target,
    recipe: Recipe,
    evaluate_on: Path | None = None,
    reporter: Reporter | None = None,
    force: bool = False,
    dump: bool = False,
) -> Report:
    """The main job: lower a model file with recordings and write the output folder.

    Nothing is left behind on an error. Raises NnaqError subclasses: FrontendError, DataError,
    RecipeError, LoweringError, ArtifactError.
    """
    reporter = reporter or Reporter()
    with writing(out, force) as folder:
        stages = folder / "passes" if dump else None
        if stages is not None:
            stages.mkdir()
        lowering, notes = lower_file(model, calibrate_on, target, recipe, evaluate_on, reporter, stages)
        report = write_files(folder, lowering, model.name, notes, reporter)
    return report


def lower_file(
    model: Path,
    calibrate_on: Path,
    target: Target,
    recipe: Recipe,
    evaluate_on: Path | None = None,
    reporter: Reporter | None = None,
    dump: Path | None = None,
) -> tuple[Lowering, tuple[str, ...]]:
    """Lower a model file with recordings, in memory; and what the import decided by itself."""
    reporter = reporter or Reporter()
    imported = load(model, import_options(recipe))
    _must_be_real(model, imported.graph)
    must_fit(recipe, imported.graph)  # before recordings are read, which may take long
    for note in imported.notes:
        reporter.say(note)
    groups = recordings_for(calibrate_on, evaluate_on, recipe.quantize.seed, reporter)
    calibration, evaluation = (read_inputs(g, recipe, imported.graph, reporter) for g in groups)
    lowering = lower_graph(
        imported.graph, calibration, evaluation, recipe, target, reporter, dump, imported.codes
    )
    return lowering, imported.notes


def write_files(
    folder: Path, lowering: Lowering, model: str, notes: Sequence[str], reporter: Reporter
) -> Report:
    """Everything of the output folder, from a finished lowering."""
    integer = lowering.crossing.integer
    simulation = simulate(integer, lowering.target)
    plan = simulation.plan.to_json()
    exported = export_model(integer)
    onnx_bytes = exported.SerializeToString(deterministic=True)
    judged = stretches(integer, lowering.evaluation, GOLDEN_FRAMES)
    sample = next(inputs for inputs in judged if frame_count(integer, inputs))
    reporter.say(f"checking model.onnx against the simulator on {frame_count(integer, sample)} frames")
    check = Check(*file_equals_simulator(exported, integer, sample))
    report = report_of(lowering, simulation, model, notes, check)
    (folder / "model.onnx").write_bytes(onnx_bytes)
    (folder / "plan.json").write_text(json.dumps(plan, indent=1) + "\n")
    (folder / "trace.json").write_text(json.dumps(chrome_trace(simulation)) + "\n")
    codes = [v for node in integer.nodes for v in node.outputs if integer.types[v].quant is not None]
    write_golden(folder / "golden.npz", integer, sample, run(integer, sample, keep=codes))
    lowering.recipe.save(folder / "recipe.toml")
    report.write(folder, plan)
    return report


def report_of(
    lowering: Lowering, simulation: Simulation, model: str, notes: Sequence[str], check: Check
) -> Report:
    """All figures of a lowering in one report."""
    crossing, plan = lowering.crossing, simulation.plan
    seconds = frame_seconds(lowering.recipe)
    judged = list(stretches(crossing.real, lowering.evaluation, ERROR_FRAMES))
    layers = layers_of(crossing, judged, {cost.name: cost for cost in simulation.costs})
    return Report(
        model=model,
        target=lowering.target.name,
        recipe=lowering.recipe.name,
        versions={name: version(name) for name in ("nnaq", "numpy", "numba", "onnx")},
        accuracy=lowering.figures,
        layers=layers,
        latency=Latency(
            simulation.cycles_per_step, simulation.microseconds_per_step, simulation.real_time_factor(seconds)
        ),
        memory=Memory(plan.weight_bytes, plan.table_bytes, plan.state_bytes, plan.sram_peak_bytes),
        islands=[
            Island(i.name, i.op, crossing.islands.get(i.name, i.reason), i.cycles) for i in simulation.islands
        ],
        boundary=[Boundary(c.name, c.op, c.cycles) for c in simulation.boundary],
        checks={"file_equals_simulator": check},
        notes=(*notes, *undecompressed(crossing.integer, lowering.target), *_idle_palettes(crossing)),
        raises=[asdict(r) for r in crossing.raises],
        saturations=cell_saturations(crossing.integer, judged),
        storage=storage_of_graph(crossing.integer),
    )


def _idle_palettes(crossing: pipeline.Crossing) -> list[str]:
    """Sentences on palettes that could not be as chosen."""
    host = pipeline.host_weights(crossing.real, crossing.islands.keys()) & crossing.options.palettes.keys()
    blind = pipeline.unmeasured(crossing.options) - host
    said = {
        "left real for the host, without a palette": host,
        "no activation can be measured there, so the palette is found without": blind,
    }
    return [f"{', '.join(sorted(names))}: {what}" for what, names in said.items() if names]


def foreseen_islands(graph: Graph, target: Target) -> list[Island]:
    """Nodes of a real graph that the target leaves to the host whatever their codes will be."""
    real = pipeline.simplify(graph)
    why, step = pipeline.excluded(real, target), bind_shapes(real)
    left = (node for node in step.nodes if node.name in why)
    return [Island(n.name, n.op, why[n.name], op_cost(step, n, target).cycles) for n in left]


def layers_of(
    crossing: pipeline.Crossing, recordings: Sequence[Inputs], costs: Mapping[str, OpCost]
) -> list[Layer]:
    """One row per integer node, worst SQNR first; nodes without a real twin come last."""
    integer = crossing.integer
    errors = {e.name: e for e in layer_errors(crossing.real, integer, recordings)}
    rows = []
    for node in integer.nodes:
        error, cost, weights = errors.get(node.name), costs.get(node.name), lookup(node.op).weights
        weight = integer.types[node.inputs[min(weights)]] if weights else None
        rows.append(
            Layer(
                name=node.name,
                op=node.op,
                sqnr_db=error.sqnr_db if error else None,
                added_db=error.added_db if error else None,
                weight_bits=None if weight is None else weight_bits(at_rest(weight, crossing.options.target)),
                activation_bits=bits(integer.types[node.outputs[0]].dtype),
                cycles=None if cost is None else cost.cycles,
                bound=None if cost is None else cost.bound,
                exact=error is not None and error.exact,
            )
        )
    return sorted(rows, key=lambda row: float("inf") if row.sqnr_db is None else row.sqnr_db)


def weight_bits(weight: TensorType) -> int:
    """Bits a weight takes at rest: those of its palette's indices, or of its dtype."""
    return bits(weight.dtype) if weight.palette is None else weight.palette.bits


def cell_saturations(integer: Graph, recordings: Iterable[Inputs]) -> dict[str, int]:
    """How often a cell state hit its rail in each lstm, over the recordings."""
    nodes = [
        node for node in integer.nodes if node.op == "lstm" and integer.types[node.outputs[0]].dtype != "f32"
    ]
    counts = {node.name: 0 for node in nodes}
    for inputs in recordings if nodes else ():
        values = run(integer, inputs, keep={v for node in nodes for v in node.inputs if v}).values
        for node in nodes:
            arrays = (values[v] if v else None for v in node.inputs)
            counts[node.name] += count_cell_saturations(integer.signature(node), *arrays)
    return counts
