"""`lower()`: the pipeline with files around it. A model and recordings in, an output folder out.

model -> real graph -> calibrated on recordings -> integer graph -> judged on held-out recordings
      -> simulated on the target -> model.onnx, report, plan, trace, golden vectors, recipe
"""

import json
from collections.abc import Sequence
from pathlib import Path

from nnaq.artifact import write_golden, writing
from nnaq.crossing import Inputs, Lowering, Reporter, import_options, lower_graph, must_fit, stretches
from nnaq.errors import DataError, FrontendError
from nnaq.export.check import file_equals_simulator
from nnaq.export.emit import Lowered, emit
from nnaq.export.onnx import export_model
from nnaq.findings import report_of
from nnaq.frontends import load
from nnaq.interpret import frame_count, run
from nnaq.ir.graph import Graph
from nnaq.ir.verify import is_real_graph
from nnaq.quantize.recipe import Recipe
from nnaq.report import Check, Report
from nnaq.simulate import chrome_trace, simulate
from nnaq.targets import Target
from nnaq.tasks.framing import model_inputs
from nnaq.tasks.recordings import Recording, find_recordings, refuse_overlap, split

GOLDEN_FRAMES = 128  # frames in golden.npz, on which the file is executed against the simulator
HELD_OUT = 0.2


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


def _must_be_real(model: Path, graph: Graph) -> None:
    """Raise FrontendError for a model whose codes are chosen already."""
    if not is_real_graph(graph):
        raise FrontendError(
            f"{model} holds integers already, there is nothing to lower; run it with `nnaq run`, show it "
            "with `nnaq show`, compare it with `nnaq diff`"
        )


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
    formats: Sequence[str] = (),
) -> Report:
    """The main job: lower a model file with recordings and write the output folder.

    formats: of other tools, to write besides (nnaq.export.emit).
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
        emit(written(lowering, lowering.crossing.integer), formats, folder)
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


def written(lowering: Lowering, integer: Graph) -> Lowered:
    """What emitters read of a lowering; integer: its integers, over utterances or as a stream."""
    judged = stretches(integer, lowering.evaluation, GOLDEN_FRAMES)
    sample = next(inputs for inputs in judged if frame_count(integer, inputs))
    return Lowered(integer, lowering.crossing.fake, lowering.target, sample)


def write_files(
    folder: Path,
    lowering: Lowering,
    model: str,
    notes: Sequence[str],
    reporter: Reporter,
    stream: Graph | None = None,
    seconds: float | None = None,
) -> Report:
    """Everything of the output folder, from a finished lowering.

    stream: the integers as a stream, where the lowering is over whole utterances; it is what is written.
    seconds: of sound in a step, where the recipe does not frame audio.
    """
    integer = stream or lowering.crossing.integer
    simulation = simulate(integer, lowering.target)
    exported = export_model(integer)
    onnx_bytes = exported.SerializeToString(deterministic=True)
    judged = stretches(integer, lowering.evaluation, GOLDEN_FRAMES)
    sample = next(inputs for inputs in judged if frame_count(integer, inputs))
    reporter.say(f"checking model.onnx against the simulator on {frame_count(integer, sample)} frames")
    check = Check(*file_equals_simulator(exported, integer, sample))
    report = report_of(lowering, simulation, model, notes, check, seconds)
    (folder / "model.onnx").write_bytes(onnx_bytes)
    (folder / "plan.json").write_text(json.dumps(simulation.plan.to_json(), indent=1) + "\n")
    (folder / "trace.json").write_text(json.dumps(chrome_trace(simulation)) + "\n")
    codes = [v for node in integer.nodes for v in node.outputs if integer.types[v].quant is not None]
    write_golden(folder / "golden.npz", integer, sample, run(integer, sample, keep=codes))
    lowering.recipe.save(folder / "recipe.toml")
    report.write(folder, simulation)
    return report
