"""A model of words in their dialogue, from training to a package: integers all the way, word by word."""

import json

import numpy as np
import pytest
from command_line import refused
from small_dialogues import write_dialogues

from nnaq.export.read import read_lowered
from nnaq.interpret import run
from nnaq.tasks.conversation import understood_dialogues
from nnaq.tasks.simulated_dialogues import read_dialogues
from nnaq.tasks.understander import read_understander
from nnaq.tasks.understander_parts import Conversation, stream_answer, understander_parts

pytestmark = pytest.mark.usefixtures("one_thread")
SMALL = ("embedding=6", "hidden=8", "width=8", "heads=2", "acts_back=2", "said_back=2", "said_words=4")


@pytest.fixture(scope="module")
def place(tmp_path_factory, nnaq_once):
    """data/, the dialogues; float/, a model trained on them for two epochs; package/, the lowered one."""
    made = tmp_path_factory.mktemp("dialogue")
    data = write_dialogues(made / "data")
    options = [word for key in SMALL for word in ("--set", f"options.{key}")]
    nnaq_once(
        "train", "--task", "contextual-slu", "--data", data, "-o", made / "float", "--json",
        "--set", "training.epochs=2", *options,
    )  # fmt: skip
    nnaq_once(
        "lower",
        made / "float",
        "--calibrate",
        data,
        "--target",
        "edge8-sub8",
        "-o",
        made / "package",
        "--json",
    )
    return made


def test_the_file_has_the_simulator_s_bits_and_nothing_is_left_to_the_host(place):
    report = json.loads((place / "package" / "report.json").read_text())
    check = report["checks"]["file_equals_simulator"]
    assert check["values"] > 0 and check["mismatches"] == 0 and not report["islands"]
    assert {"semer", "wer", "act_accuracy"} <= report["accuracy"].keys()


def test_word_by_word_equals_the_whole_and_context_is_computed_once(place):
    """Keys and values are codes that `begin` makes; any words after it read the same ones."""
    graph = read_lowered(place / "package" / "model.onnx")
    parts = understander_parts(graph)
    assert {port.name for port in parts.context.inputs} == {"acts", "said"} and not parts.context.states
    assert all(parts.context.types[port.name].dtype == "i8" for port in parts.context.outputs)
    turns = Conversation(parts)
    for inputs in read_understander(place / "float").calibration(read_dialogues(place / "data/test.json"), 9):
        turns.begin(inputs)
        pairs = zip(inputs["first"], inputs["second"], strict=True)
        found = np.concatenate([turns.hear(first[None], second[None]) for first, second in pairs])
        whole = run(graph, inputs).outputs["output"]
        assert np.array_equal(found.astype(np.float32) * np.float32(parts.scale), whole)


def test_reference_kernels_give_the_bits(place):
    graph = read_lowered(place / "package" / "model.onnx")
    (inputs,) = read_understander(place / "float").calibration(read_dialogues(place / "data/test.json"), 1)
    assert np.array_equal(
        run(graph, inputs).outputs["output"], run(graph, inputs, mode="reference").outputs["output"]
    )


def test_integers_understand_as_the_float_model_does(place):
    """Words without a second one stay as they are; acts may differ where two scores are nearly equal."""
    understander, dialogues = read_understander(place / "float"), read_dialogues(place / "data/test.json")
    heard = [[tuple((word, "") for word in turn.words) for turn in dialogue] for dialogue in dialogues]
    parts = understander_parts(read_lowered(place / "package" / "model.onnx"))
    answers = stream_answer(parts), understander.answer(understander.module)
    found, real = (understood_dialogues(understander.lexicon, one, dialogues, heard) for one in answers)
    assert [[one.words for one in turns] for turns in found] == [
        [turn.words for turn in dialogue] for dialogue in dialogues
    ]
    pairs = [pair for turns in zip(found, real, strict=True) for pair in zip(*turns, strict=True)]
    assert sum(a.meaning.act == b.meaning.act for a, b in pairs) >= len(pairs) - 2


def test_evaluate_counts_the_errors(place, nnaq):
    said = nnaq("evaluate", place / "package", "--data", place / "data", "--json")
    assert said.code == 0
    figures = json.loads(said.out)
    assert figures["turns"] == 9 and figures["dialogues"] == 3 and 0 <= figures["act_accuracy"] <= 1
    assert "semantic error rate" in nnaq("evaluate", place / "package", "--data", place / "data").out


def test_mistakes_are_told(place, nnaq, tmp_path):
    refused(
        nnaq("lower", place / "float", "--calibrate", tmp_path, "-o", tmp_path / "o"),
        "there is no",
        "train.json",
    )
    refused(nnaq("evaluate", place / "package", "--data", tmp_path), "there is no", "test.json")
    refused(nnaq("evaluate", place / "float", "--data", place / "data"), "lower it first")
