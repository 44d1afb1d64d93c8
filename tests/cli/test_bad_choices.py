"""Targets, recipes and options that say something wrong: one sentence, exit code 2, nothing left behind."""

import shutil

import pytest
from command_line import files, lower_words, one_line, refused, target_text
from voice_models import RECIPE


def test_every_mistake_of_a_target_is_told_at_once(nnaq, place):
    text = target_text().replace("rows = 32", "rows = 0").replace("vector_lanes", "vector_lane")
    (place / "own.toml").write_text(text.replace('"half_even"', '"half_evn"', 1))
    before = files(place)
    said = nnaq("lower", *lower_words(place), "--target", place / "own.toml", "--json")
    refused(said, "array.rows", "vector_lane", "input_rounding", "line ")
    assert files(place) == before


def test_every_mistake_of_a_recipe_is_told_at_once(nnaq, place):
    text = RECIPE.replace("hop = 16", "hop = 0").replace("[states]", "[state]")
    (place / "recipe.toml").write_text(text + '[quantize]\nactivations = "12"\n')
    before = files(place)
    said = nnaq("lower", *lower_words(place), "--json")
    refused(said, "3 mistakes", "input.hop", "did you mean 'states'", "quantize.activations")
    assert files(place) == before


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--target", "edg8"], "did you mean 'edge8'"),
        (["--target", "none.toml"], "no target file"),
        (["--recipe", "silero_vat"], "did you mean 'silero_vad'"),
        (["--metric", "accuracy"], "no metric 'accuracy'"),
        (["--metric", "decision:scare>0.5"], "has no output 'scare'"),
        (["--goal", "2"], "goal"),
        (["--seed", "-1"], "seed"),
        (["--activations", "4"], "activations"),
        (["--time", "x"], "--time takes NAME:VALUE, found 'x'"),
        (["--time", "x:first"], "--time takes"),
        (["--time", "z:0"], "no port with a time axis 'z'; it has c, cn, h, hn, score, x"),
        (["--time", "x:7", "--time", "x:1"], "--time says 'x' twice"),
        (["--state", "h=hn", "--state", "h=cn"], "--state says 'h' twice"),
        (["--state", "h=nothing"], "'nothing'"),
        (["--state", "h"], "--state takes NAME=VALUE"),
        (["--pin", "x=many"], "--pin takes NAME=VALUE"),
        (["--pin", "sr=16000"], "'sr'"),
        (["--pin", "x=1"], "x"),
        (["--pin", "x=nan"], "pin"),
    ],
)
def test_a_wrong_option_is_refused_in_one_sentence(nnaq, place, words, told):
    before = files(place)
    said = nnaq("lower", *lower_words(place), *words, "--json")
    refused(said, told)
    one_line(said)
    assert files(place) == before


VALUES = [
    (
        'made]\ndtype = "i8"\nlow = -1.0\nhigh = 1.0',
        "'made' of [values] goes into the operator",
    ),
    ('mode]\ndtype = "i8"\nlow = -1.0\nhigh = 1.0', "did you mean 'made'"),
    ('c]\ndtype = "i8"\nlow = -1.0\nhigh = 1.0', "must be i16 power_of_two, as its operator insists, not i8"),
    ('kept]\ndtype = "i8"\nlow = -1.0\nhigh = 1e300', "expected reals up to 1e+30"),
    ('kept]\ndtype = "i8"\nlow = 1.0\nhigh = 0.0', "low must not be above high"),
]


@pytest.mark.parametrize(("table", "told"), VALUES)
def test_a_value_the_recipe_cannot_have_is_refused(nnaq, place, table, told):
    (place / "recipe.toml").write_text(f"{RECIPE}[values.{table}\n")
    before = files(place)
    said = nnaq("lower", *lower_words(place), "--json")
    refused(said, told)
    one_line(said)
    assert files(place) == before


def test_a_lowered_model_is_not_lowered_again(nnaq, place, lowered):
    shutil.copy(lowered / "model.onnx", place / "model.onnx")
    for command, words in (("lower", lower_words(place)), ("check", [place / "model.onnx"])):
        said = nnaq(command, *words)
        refused(said, "is lowered already; run it with `nnaq run`")
        one_line(said)


def test_a_model_of_any_name_is_lowered(nnaq, place):
    path = (place / "model.onnx").rename(place / "modèle 😀.onnx")
    assert nnaq("lower", path, *lower_words(place)[1:], "--json").code == 0


@pytest.mark.parametrize(
    "words",
    [
        ["lower"],
        ["lower", "model.onnx", "-o", "out"],
        ["lower", "model.onnx", "--calibrate", "data"],
        ["lower", "model.onnx", "--calibrate", "data", "-o", "out", "--goal", "high"],
        ["run", "model.onnx", "in.npz"],
        ["run", "model.onnx", "in.npz", "-o", "out.npz", "--chunk", "few"],
        ["launder"],
        ["show", "--fill"],
    ],
)
def test_wrong_usage_ends_with_2(nnaq, words):
    said = nnaq(*words)
    assert said.code == 2
    assert "Usage: nnaq" in said.err
    assert "Traceback" not in said.err


@pytest.mark.parametrize(
    "words",
    [
        ["run", "m.onnx", "in.npz", "-o", "out.npz", "--chunk", "0"],
        ["simulate", "out", "--chunk", "0"],
        ["simulate", "out", "--steps", "-1"],
        ["compare", "out", "--top", "0"],
        ["transcribe", "out", "a.wav", "--chunk", "nan"],
        ["transcribe", "out", "a.wav", "--chunk", "inf"],
        ["evaluate", "out", "--data", "data", "--beam", "0"],
    ],
)
def test_a_number_out_of_range_is_told_in_one_sentence(nnaq, words):
    option, number = words[-2:]
    said = nnaq(*words)
    refused(said, f"{option} takes a number from ", f"found {number}")
    one_line(said)
