"""A recogniser lowered whole, as one package: encoder, predictor and joint with the codes where they meet.

    recogniser -> real graph of the whole -> calibrated on recordings and on what the float model hears in
    them -> integers -> a stream -> judged by words on held-out recordings -> files

The folder holds what every lowering writes (nnaq.lowering), its model.onnx the whole stream, and

    parts/encoder.onnx, predictor.onnx, joint.onnx    what a device runs, each a lowered model of its own
    recogniser.toml                                   features and units, for the host
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import tomli_w

from nnaq.artifact import writing
from nnaq.crossing import Inputs, Lowering, Reporter, lower_graph
from nnaq.errors import DataError
from nnaq.export.emit import emit
from nnaq.export.onnx import export_model
from nnaq.frontends.torch import load as load_module
from nnaq.ir.graph import Graph
from nnaq.lowering import recordings_for, write_files, written
from nnaq.passes import MakeStreaming
from nnaq.quantize.recipe import Recipe
from nnaq.report import Report
from nnaq.targets import Target
from nnaq.tasks.decoding import word_errors
from nnaq.tasks.hearing import TABLE, Hearing
from nnaq.tasks.metrics import Figure
from nnaq.tasks.recogniser import Recogniser, read_recogniser
from nnaq.tasks.recordings import Recording, read_audio
from nnaq.tasks.transcriber import Transcriber
from nnaq.tasks.transcripts import texts_of
from nnaq.tasks.transducer_parts import PartGraphs, part_graphs
from nnaq.tasks.units import BLANK


@dataclass(frozen=True, eq=False)
class Heard:
    """A recording as the float model hears it: features float32 [T,1,F], labels [U+1,1], and the words."""

    recording: Recording
    x: np.ndarray
    y: np.ndarray
    words: str

    @property
    def inputs(self) -> Inputs:
        return {"x": self.x, "y": self.y}


def lower_recogniser(
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
    """Lower a float recogniser with recordings and write the package.

    formats: of other tools, in which the whole stream is written besides (nnaq.export.emit).
    Nothing is left behind on an error. Raises NnaqError subclasses, as `nnaq.lowering.lower` does.
    """
    reporter = reporter or Reporter()
    recogniser = read_recogniser(model)
    hearing = recogniser.hearing
    groups = recordings_for(calibrate_on, evaluate_on, recipe.quantize.seed, reporter)
    with writing(out, force) as fresh:
        stages = fresh / "passes" if dump else None
        if stages is not None:
            stages.mkdir()
        calibration, evaluation = (heard(recogniser, group, reporter) for group in groups)
        lowering = _lowered(recogniser, calibration, evaluation, recipe, target, reporter, stages)
        stream = MakeStreaming().run(lowering.crossing.integer)
        figures = _words(stream, hearing, evaluation, texts_of(evaluate_on or calibrate_on), reporter)
        lowering = replace(lowering, figures={**figures, **lowering.figures})
        report = write_files(fresh, lowering, model.name, (), reporter, stream, hearing.seconds)
        _write_parts(fresh, part_graphs(stream), recogniser)
        emit(written(lowering, stream), formats, fresh)
    return report


def heard(recogniser: Recogniser, recordings: Sequence[Recording], reporter: Reporter) -> list[Heard]:
    """Recordings as the float model hears them. Raises DataError where none is audio."""
    sound = [recording for recording in recordings if recording.is_audio]
    if not sound:
        raise DataError("a recogniser is calibrated and judged on .wav and .flac; the folders hold none")
    return [_heard(recogniser, one) for one in reporter.track(sound, "hearing", len(sound))]


def _heard(recogniser: Recogniser, recording: Recording) -> Heard:
    hearing = recogniser.hearing
    audio = read_audio(recording.path, hearing.log_mel.sample_rate)
    x = hearing.features(audio)[:, None]
    labels = recogniser.greedy(x)
    y = np.array([[BLANK], *([label] for label in labels)], np.float32)
    return Heard(recording, x, y, hearing.units.decode(labels))


def _lowered(
    recogniser: Recogniser,
    calibration: Sequence[Heard],
    evaluation: Sequence[Heard],
    recipe: Recipe,
    target: Target,
    reporter: Reporter,
    dump: Path | None,
) -> Lowering:
    """The whole, in integers over whole utterances."""
    reporter.say("reading the torch module")
    graph = load_module(recogniser.module, recogniser.example_inputs, recogniser.options).graph
    chosen, judged = ([one.inputs for one in group] for group in (calibration, evaluation))
    return lower_graph(graph, chosen, judged, recipe, target, reporter, dump)


def _words(
    stream: Graph, hearing: Hearing, recordings: Sequence[Heard], texts: Mapping[str, str], reporter: Reporter
) -> dict[str, Figure]:
    """Word error rates: of the integers against the float model's words, and of both against the truth.

    A float model that says nothing has no words that could change.
    """
    transcriber = Transcriber(part_graphs(stream), hearing)
    rate = hearing.log_mel.sample_rate
    found = [
        transcriber.transcribe(read_audio(one.recording.path, rate))
        for one in reporter.track(recordings, "transcribing", len(recordings))
    ]
    float_words = [one.words for one in recordings]
    figures = {}
    if any(float_words):
        figures["words_changed"] = Figure(None, word_errors(float_words, found).rate, "1")
    known = [n for n, one in enumerate(recordings) if one.recording.name in texts]
    if known:
        truths = [texts[recordings[n].recording.name] for n in known]
        real, integer = (word_errors(truths, [said[n] for n in known]).rate for said in (float_words, found))
        figures["word_error_rate"] = Figure(real, integer, "1")
    return figures


def _write_parts(folder: Path, graphs: PartGraphs, recogniser: Recogniser) -> None:
    """The parts as models, and what the host has to know."""
    parts = folder / "parts"
    parts.mkdir()
    for graph in (graphs.encoder, graphs.predictor, graphs.joint):
        (parts / f"{graph.name}.onnx").write_bytes(export_model(graph).SerializeToString(deterministic=True))
    tables = {"hearing": recogniser.hearing.to_table(), "training": dict(recogniser.training)}
    (folder / TABLE).write_text(tomli_w.dumps(tables), encoding="utf-8")
