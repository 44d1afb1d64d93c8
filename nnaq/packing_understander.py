"""A model of words in their dialogue lowered whole, as one package: what runs once a turn and once a word.

    understander -> real graph -> calibrated on turns of train.json -> integers -> a stream
                 -> judged on whole dialogues of dev.json -> files

The folder holds what every lowering writes (nnaq.lowering), its model.onnx the whole stream, and

    parts/context.onnx, words.onnx    what a device runs (nnaq.tasks.understander_parts), each a lowered model
    understander.toml                 words, tags, acts and intents, for the host
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import tomli_w

from nnaq.artifact import writing
from nnaq.crossing import Reporter, lower_graph
from nnaq.export.emit import emit
from nnaq.export.onnx import export_model
from nnaq.frontends.torch import load as load_module
from nnaq.ir.graph import Graph
from nnaq.lowering import write_files, written
from nnaq.passes import MakeStreaming
from nnaq.quantize.recipe import Recipe
from nnaq.report import Report
from nnaq.targets import Target
from nnaq.tasks.conversation import Answer, judged, understood_dialogues
from nnaq.tasks.heard_words import heard_dialogues
from nnaq.tasks.metrics import Figure
from nnaq.tasks.simulated_dialogues import Dialogue, read_dialogues
from nnaq.tasks.understander import Understander, read_understander
from nnaq.tasks.understander_parts import stream_answer, understander_parts
from nnaq.tasks.understanding import HEARD, TABLE

CALIBRATION_TURNS = 60


def lower_understander(
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
    """Lower a trained model with a folder of dialogues and write the package.

    Calibrated on turns of train.json, judged on dev.json, of the folder evaluate_on where there is one.
    formats: of other tools, in which the whole stream is written besides (nnaq.export.emit).
    Nothing is left behind on an error. Raises NnaqError subclasses, as `nnaq.lowering.lower` does.
    """
    reporter = reporter or Reporter()
    understander = read_understander(model)
    train = read_dialogues(calibrate_on / "train.json")
    development = read_dialogues((evaluate_on or calibrate_on) / "dev.json")
    with writing(out, force) as fresh:
        stages = fresh / "passes" if dump else None
        if stages is not None:
            stages.mkdir()
        calibration, evaluation = (
            understander.calibration(part, CALIBRATION_TURNS) for part in (train, development)
        )
        reporter.say("reading the torch module")
        graph = load_module(understander.module, understander.example_inputs, understander.options).graph
        lowering = lower_graph(graph, calibration, evaluation, recipe, target, reporter, stages)
        stream = MakeStreaming().run(lowering.crossing.integer)
        reporter.say(f"understanding {len(development)} dialogues")
        figures = meaning(understander, stream, development)
        lowering = replace(lowering, figures={**figures, **lowering.figures})
        report = write_files(fresh, lowering, model.name, (), reporter, stream)
        write_parts(fresh, stream, understander)
        emit(written(lowering, stream), formats, fresh)
    return report


def meaning(understander: Understander, stream: Graph, dialogues: Sequence[Dialogue]) -> dict[str, Figure]:
    """Word and semantic errors and the like in whole dialogues, of the float model and of its integers."""
    words = [[turn.words for turn in dialogue] for dialogue in dialogues]
    heard = heard_dialogues(understander.confusions, words, understander.noise, HEARD)

    def figures(answer: Answer) -> dict[str, float]:
        found = understood_dialogues(understander.lexicon, answer, dialogues, heard)
        return judged(dialogues, found)

    real = figures(understander.answer(understander.module))
    integer = figures(stream_answer(understander_parts(stream)))
    return {name: Figure(real[name], integer[name], "1") for name in real}


def write_parts(folder: Path, stream: Graph, understander: Understander) -> None:
    """The parts as models, and what the host has to know."""
    parts = folder / "parts"
    parts.mkdir()
    made = understander_parts(stream)
    for graph in (made.context, made.words):
        if graph is not None:
            data = export_model(graph).SerializeToString(deterministic=True)
            (parts / f"{graph.name}.onnx").write_bytes(data)
    tables = {"model": dict(understander.model), "lexicon": understander.lexicon.to_table()}
    (folder / TABLE).write_text(tomli_w.dumps(tables), encoding="utf-8")
