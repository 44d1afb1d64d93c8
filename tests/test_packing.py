"""A recogniser from its float form to words: lowered as one package, heard in chunks, judged, trained on."""

import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
from command_line import refused
from hypothesis import given, settings
from hypothesis import strategies as st
from spoken_tones import SMALL, learned, write_part, write_sets, write_table

from nnaq.crossing import Reporter
from nnaq.errors import DataError
from nnaq.evaluation import evaluate
from nnaq.export.read import read_lowered
from nnaq.ir.text import print_graph
from nnaq.package import open_package
from nnaq.packing import lower_recogniser
from nnaq.passes import MakeStreaming
from nnaq.perceived import perceive
from nnaq.quantize.recipe import load_recipe
from nnaq.targets import load_target
from nnaq.tasks.hearing import recogniser_at
from nnaq.tasks.recordings import read_audio
from nnaq.tasks.transducer_parts import part_graphs
from nnaq.train.config import load_config
from nnaq.train.replicas import Replicas
from nnaq.train.run import Run

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def tones(tmp_path_factory):
    """data/, the sets; recogniser/, the float model; calibrate/ and evaluate/; package/, the lowered one."""
    made = tmp_path_factory.mktemp("tones")
    for name in ("data", "recogniser", "calibrate", "evaluate"):
        (made / name).mkdir()
    write_sets(made / "data")
    task = learned(made / "data")
    task.ship(made / "recogniser", {"seed": 0}, exact=False)
    for number in range(12):
        shutil.copy(made / "data" / f"m{number}0.flac", made / "calibrate")
    for path in (*(made / "data").glob("f*.flac"), made / "data" / "test.tsv"):
        shutil.copy(path, made / "evaluate")
    lower(made, made / "package")
    return made


def lower(tones, out, model="recogniser", recipe="recogniser", target="edge8"):
    return lower_recogniser(
        tones / model, tones / "calibrate", out, load_target(target), load_recipe(recipe), tones / "evaluate"
    )


# --- the package


def test_the_integers_hear_the_words(tones):
    report = json.loads((tones / "package" / "report.json").read_text())
    rate = report["accuracy"]["word_error_rate"]
    assert rate["float"] <= 0.1 and rate["integer"] <= 0.1
    assert report["accuracy"]["words_changed"]["integer"] <= 0.1
    assert report["checks"]["file_equals_simulator"]["mismatches"] == 0
    assert not report["islands"]
    assert 0 < report["latency"]["real_time_factor"] < 1


def test_the_parts_are_models_of_their_own_that_meet_in_codes(tones):
    package = open_package(tones / "package")
    for name in ("encoder", "predictor", "joint"):
        part = read_lowered(tones / "package" / "parts" / f"{name}.onnx")
        assert print_graph(part) == print_graph(getattr(package.graphs, name))
    encoder, predictor, joint = package.graphs.encoder, package.graphs.predictor, package.graphs.joint
    assert encoder.types["hear"] == joint.types["hear"] and predictor.types["read"] == joint.types["read"]
    assert joint.types[joint.outputs[0].name].dtype == "i16"
    assert encoder.states and predictor.states and not joint.states


@pytest.fixture(scope="module")
def package(tones):
    return open_package(tones / "package")


@given(st.lists(st.integers(1, 9000), min_size=1, max_size=5), st.integers(0, 3), st.sampled_from([1, 3]))
@settings(max_examples=12, deadline=None)
def test_words_do_not_depend_on_how_sound_arrives(tones, package, sizes, number, beam):
    audio = read_audio(tones / "evaluate" / f"f0{number}.flac", 16000)
    whole = [*(transcriber := package.transcriber(beam)).feed(audio), *transcriber.finish()]
    pieces = np.split(audio, np.clip(np.cumsum(sizes), 0, len(audio)))
    words = [word for piece in pieces for word in transcriber.feed(piece)] + transcriber.finish()
    assert words == whole


def test_words_come_while_the_sound_goes_on(tones, package):
    audio = read_audio(tones / "evaluate" / "f00.flac", 16000)
    transcriber = package.transcriber()
    before = transcriber.feed(audio[: len(audio) * 3 // 4])
    after = transcriber.feed(audio[len(audio) * 3 // 4 :]) + transcriber.finish()
    assert before and after
    seconds = [word.seconds for word in before + after]
    assert seconds == sorted(seconds) and seconds[-1] <= len(audio) / 16000 + 0.06


def test_silence_and_nothing_have_no_words(package):
    transcriber = package.transcriber()
    assert transcriber.feed(np.zeros(0, np.float32)) == [] and transcriber.finish() == []
    assert transcriber.transcribe(np.zeros(0, np.float32)) == ""


def test_evaluation_counts_what_is_wrong(tones, package):
    found = evaluate(package, tones / "evaluate", "test.tsv", 1, Reporter())
    assert found.errors.total == 20
    table = found.to_json()
    assert table["word_error_rate"] == found.errors.rate <= 0.1
    assert table["interval_95"][0] <= found.errors.rate <= table["interval_95"][1]
    assert len(table["texts"]) == 8 and table["sound_seconds"] > 4
    with pytest.raises(DataError, match=r"there is no .*orders.tsv"):
        evaluate(package, tones / "evaluate", "orders.tsv", 1, Reporter())


# --- every encoder

TINY = {
    "rnnt": {"hidden": 16, "layers": 2, "joined": 8},
    "convrnnt": {
        "hidden": 16, "layers": 1, "joined": 16, "local": (4,), "kernel": (2, 5), "stride": 2, "maps": 0,
        "channels": 12, "inner": 16, "blocks": 1, "squeeze": 4, "skip": True,
    },
    "conformer": {"width": 16, "layers": 1, "heads": 2, "past": 4, "kernel": 3},
    "contextnet": {"width": 20, "layers": 1, "kernel": 3, "squeeze": 4, "blocks": ((16, 2),)},
}  # fmt: skip


@pytest.mark.parametrize("model", TINY)
def test_every_encoder_is_lowered_heard_and_judged(few, tmp_path, nnaq, model):
    task = learned(few, epochs=1, model=model, size=TINY[model])
    for name in ("float", "calibrate"):
        (tmp_path / name).mkdir()
    task.ship(tmp_path / "float", {"seed": 0}, exact=False)
    for number in range(3):
        shutil.copy(few / f"m{number}0.flac", tmp_path / "calibrate")
    words = ("--calibrate", tmp_path / "calibrate", "-o", tmp_path / "out")
    report = json.loads(nnaq("lower", tmp_path / "float", *words, "--json").out)
    assert report["checks"]["file_equals_simulator"]["mismatches"] == 0 and not report["islands"]
    judged = json.loads(nnaq("evaluate", tmp_path / "out", "--data", few, "--json").out)
    heard = [
        json.loads(nnaq("transcribe", tmp_path / "out", few / "f00.flac", "--chunk", chunk, "--json").out)
        for chunk in (0.01, 10)
    ]
    said = [" ".join(word["word"] for word in words) for each in heard for words in each.values()]
    assert said[0] == said[1] == judged["texts"][0]["heard"]


# --- in real time


def test_a_speaker_waits_for_the_frame_and_the_machine(tones, package):
    found = perceive(package, load_target("edge8"), tones / "evaluate")
    table, frame = found.to_json(), package.hearing.seconds
    assert (table["recordings"], table["frame_seconds"]) == (8, frame)
    transcriber, words = package.transcriber(), 0
    for path, spoken in found.spoken.items():
        audio = read_audio(path, 16000)
        heard = transcriber.feed(audio) + transcriber.finish()
        words += len(heard)
        assert sum(spoken.labels) == len(heard)
        assert spoken.steps == tuple(count + 1 for count in spoken.labels)
        # Units are words: the last is told as soon as its frame is whole, plus what the machine takes for it.
        waits = found.last_word_seconds(path) + spoken.speech_samples / 16000 - heard[-1].seconds
        least = found.turns.encoders[1].timing.cycles / 500e6
        assert least < waits < 2 * least + 1e-3 or heard[-1].seconds * 16000 > len(audio)
        assert found.result_seconds(path) < frame
        # The tones end 0.1 s before the recording does.
        assert abs(spoken.speech_samples - (len(audio) - 1600)) <= 160
    assert table["labels"] == words and sum(table["shares"].values()) == pytest.approx(1)
    assert 0 < table["real_time_factor"] < 1 and table["sram"]["fits"]


def test_the_command_tells_the_wait_and_refuses_what_it_cannot(tones, nnaq, tmp_path):
    package, sound = tones / "package", tones / "evaluate" / "f00.flac"
    told = json.loads(nnaq("simulate", package, "--stream", tones / "evaluate", "--json").out)["stream"]
    assert told["recordings"] == 8 and told["last_word_milliseconds"]["recordings"] == 8
    one = nnaq("simulate", package, "--stream", sound, "--chunk", 3, "--target", "edge8-sub8")
    assert one.code == 0 and "3 at a time" in one.out and "from the end of speech" in one.out
    soundfile.write(tmp_path / "quiet.wav", np.zeros(100), 16000)
    assert "no words" in nnaq("simulate", package, "--stream", tmp_path / "quiet.wav").out
    (tmp_path / "none").mkdir()
    refused(nnaq("simulate", package, "--stream", tmp_path / "none"), "holds no recordings")
    refused(nnaq("simulate", package, "--stream", sound, "--trace", "t.json"), "leave the others out")
    alone = package / "parts" / "encoder.onnx"
    refused(nnaq("simulate", alone, "--stream", tones / "evaluate"), "is no recogniser that nnaq lowered")
    refused(nnaq("simulate", tones / "recogniser", "--stream", sound), "recogniser")


# --- trained through its own integers


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    """A folder of tones for trainings of two steps."""
    made = tmp_path_factory.mktemp("few")
    write_table(made, "train.tsv", [f"m{n}" for n in range(10)], 1)
    write_table(made, "test.tsv", ["f0"], 1)
    return made


def trained_on(start, data, config, out, *changes):
    """The folder of a training by a configuration that ships."""
    named = [f"data={str(data)!r}", f"start={str(start)!r}", "training.epochs=1", *changes]
    return Run(load_config(config, named), out, Replicas()).go()


def bits_of(graph):
    """How many constants have how many bits."""
    return Counter(kind.palette.bits for kind in graph.types.values() if kind.palette is not None)


@pytest.mark.parametrize(
    ("config", "bits"),
    [("speech_int8", {}), ("speech_s8bqat5", {5: 9}), ("speech_mixed", {5: 3, 4: 4, 1: 2})],
)
def test_what_was_trained_through_the_integers_is_what_is_lowered(tones, few, tmp_path, config, bits):
    data = few if bits else tones / "data"
    summary = trained_on(tones / "recogniser", data, config, tmp_path / "aware")
    assert bits or summary["dev"]["wer"] < 0.2
    assert (tmp_path / "aware" / "codebooks.npz").is_file() == bool(bits)
    lower(tones, tmp_path / "out", tmp_path / "aware", str(tmp_path / "aware" / "recipe.toml"), "edge8-sub8")
    trained = MakeStreaming().run(read_lowered(tmp_path / "aware" / "model.onnx"))
    shipped = read_lowered(tmp_path / "out" / "model.onnx")
    assert bits_of(shipped) == bits
    assert print_graph(trained) == print_graph(shipped)
    assert trained.constants.keys() == shipped.constants.keys()
    for name, array in trained.constants.items():
        np.testing.assert_array_equal(array, shipped.constants[name])
    again = load_recipe(tmp_path / "out" / "recipe.toml")
    assert (again.codebooks == (tmp_path / "out" / "codebooks.npz").resolve()) == bool(bits)


@pytest.mark.parametrize("config", ["speech_int8", "speech_s8bqat5", "speech_gq4", "speech_mixed"])
def test_a_configuration_through_integers_names_what_ships(config):
    found = load_config(config, ["data=an4"])
    assert recogniser_at(Path(found.start)) == found.recogniser
    assert load_recipe(found.emulation.recipe).training.emulate == "integers"
    assert load_target(found.emulation.target).has_accelerator


def test_the_layout_of_librispeech_is_trained_on_resumed_lowered_and_judged(tmp_path, nnaq):
    parts = {"train-clean-100": 10, "dev-clean": 1, "test-clean": 2}
    for start, (part, speakers) in zip((0, 10, 11), parts.items(), strict=True):
        write_part(tmp_path / "LibriSpeech", part, range(start, start + speakers), 2)
    options = {f"options.{key}={json.dumps(value)}" for key, value in SMALL.items() if key != "size"}
    words = [
        *(
            "train",
            "--task",
            "speech",
            "--model",
            "rnnt",
            "--data",
            tmp_path / "LibriSpeech",
            "-o",
            tmp_path / "out",
        ),
        *(word for option in sorted(options) for word in ("--set", option)),
        *("--set", "options.alone=0", "--set", "options.size={hidden = 24, layers = 2}"),
        *("--set", "options.phones=0"),  # LibriSpeech brings no dictionary
        *("--set", "training.epochs=2", "--json"),
    ]
    straight = json.loads(nnaq(*words).out)
    checkpoint = tmp_path / "out" / "checkpoint.safetensors"
    assert straight["epochs"] == 2 and checkpoint.is_file()
    assert json.loads(nnaq(*words, "--resume").out)["test"] == straight["test"]
    part = tmp_path / "LibriSpeech" / "test-clean"
    lowered = nnaq("lower", tmp_path / "out", "--calibrate", part, "-o", tmp_path / "package", "--json")
    assert "word_error_rate" in json.loads(lowered.out)["accuracy"]
    judged = json.loads(nnaq("evaluate", tmp_path / "package", "--data", part, "--json").out)
    assert judged["recordings"] == 4


# --- the command line


def test_commands_write_down_and_count(tones, nnaq):
    sound = [str(tones / "evaluate" / f"f0{number}.flac") for number in (0, 1)]
    told = nnaq("transcribe", tones / "package", *sound)
    assert told.code == 0
    assert [line.partition(": ")[2].strip() for line in told.out.splitlines()] == ["YES YES YES", "NO NO"]
    words = json.loads(nnaq("transcribe", tones / "package", sound[1], "--json").out)[sound[1]]
    assert [word["word"] for word in words] == ["NO", "NO"]
    counted = json.loads(nnaq("evaluate", tones / "package", "--data", tones / "evaluate", "--json").out)
    assert counted["total"] == 20


def test_wrong_input_is_told_in_one_sentence(tones, tmp_path, nnaq):
    sound = tones / "evaluate" / "f00.flac"
    refused(nnaq("transcribe", tones / "recogniser", sound), "lower it first")
    refused(nnaq("transcribe", tmp_path, sound), "is no recogniser")
    soundfile.write(tmp_path / "low.wav", np.zeros(800), 8000)
    refused(nnaq("transcribe", tones / "package", tmp_path / "low.wav"), "8000 Hz")
    refused(nnaq("train", "--task", "speech", "--model", "rnnt", "-o", tmp_path / "out"), "--data")
    refused(nnaq("evaluate", tones / "package", "--data", tmp_path), "there is no", "test.tsv")


def test_parameters_of_another_model_are_refused(tones, tmp_path):
    shutil.copytree(tones / "recogniser", tmp_path / "broken")
    table = tmp_path / "broken" / "recogniser.toml"
    table.write_text(table.read_text().replace("hidden = 24", "hidden = 32"))
    with pytest.raises(DataError, match="does not hold the parameters"):
        lower(tmp_path.parent, tmp_path / "out", tmp_path / "broken")
    assert not (tmp_path / "out").exists()


def test_a_graph_that_is_no_transducer_has_no_parts(tones):
    with pytest.raises(DataError, match="is no transducer"):
        part_graphs(open_package(tones / "package").graphs.encoder)


def test_a_missing_torch_is_told(nnaq, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    words = ("lower", "rnnt", "--calibrate", tmp_path, "-o", tmp_path / "out")
    refused(nnaq(*words), "lowering a recogniser needs torch and safetensors", "pip install")
