"""`nnaq show`, `check`, `ops`, `passes`, `targets` and help."""

import json

import pytest
from command_line import lower_words, one_line, refused, target_text

from nnaq.export.read import read_lowered
from nnaq.ir.op import table
from nnaq.ir.text import parse_graph, print_graph
from nnaq.passes import PIPELINE
from nnaq.targets import shipped


def test_show_prints_what_was_imported_and_what_was_lowered(nnaq, lowered):
    place = lowered.parent
    said = nnaq("show", place / "model.onnx", "--recipe", place / "recipe.toml")
    assert said.out.startswith("graph model {\n  input x: f32[T,16] time=0\n")
    for path in (lowered, lowered / "model.onnx"):
        said = nnaq("show", path, "--full")
        assert (said.code, said.err) == (0, "")
        assert (
            print_graph(parse_graph(said.out))
            == said.out
            == print_graph(read_lowered(lowered / "model.onnx"))
        )


def test_show_prints_the_graph_after_a_pass(nnaq, place):
    words = [*lower_words(place), "--evaluate", place / "held", "--dump", "--json"]
    assert nnaq("lower", *words).code == 0
    said = nnaq("show", place / "out", "--stage", "insert-fake-quant", "--full")
    assert (said.code, said.err) == (0, "")
    assert "fake_quantize(" in said.out
    assert print_graph(parse_graph(said.out)) == said.out
    said = nnaq("show", place / "out", "--stage", "nosuch")
    refused(said, "nosuch", "lower-to-integer")
    one_line(said)


def test_show_says_how_to_get_stages(nnaq, lowered):
    said = nnaq("show", lowered, "--stage", "canonicalize")
    refused(said, "--dump")
    one_line(said)


def test_a_shape_may_be_given(nnaq, place):
    said = nnaq("show", place / "model.onnx", "--shape", "x=T,16", "--time", "x:0")
    assert said.out.startswith("graph model {\n  input x: f32[T,16] time=0\n")
    refused(nnaq("show", place / "model.onnx", "--shape", "x"), "--shape", "NAME=VALUE")


@pytest.mark.parametrize("name", ["data", "nothing", "recipe.toml", "data/0.wav"])
def test_show_refuses_what_holds_no_model(nnaq, place, name):
    said = nnaq("show", place / name)
    refused(said, name)
    one_line(said)


def test_check_of_a_good_model(nnaq, place):
    said = nnaq("check", place / "model.onnx", "--recipe", place / "recipe.toml", "--strict")
    assert (said.code, said.err) == (0, "")
    assert "all imported; 0 left to the host by edge8" in said.out


def test_ops_and_passes_list_themselves(nnaq):
    assert list(json.loads(nnaq("ops", "--json").out)) == list(table())
    assert [row["name"] for row in json.loads(nnaq("passes", "--json").out)] == [
        s.made_by.name for s in PIPELINE
    ]
    for command, word in (("ops", "fully_connected(x, weight, bias?)"), ("passes", "lower-to-integer")):
        said = nnaq(command)
        assert (said.code, said.err) == (0, "")
        assert word in said.out


def test_targets_are_listed_and_shown(nnaq, place):
    assert nnaq("targets").out.startswith("edge8 ")
    assert list(json.loads(nnaq("targets", "--json").out)) == list(shipped())
    assert "32 x 32 MACs" in nnaq("targets", "edge8").out
    (place / "own.toml").write_text(target_text('"exp"'))
    assert "all but exp" in nnaq("targets", place / "own.toml").out


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("edge9", "did you mean 'edge8'?"),
        ("zzz", "shipped targets: edge8"),
        ("no.toml", "no target file 'no.toml'"),
    ],
)
def test_an_unknown_target_is_refused(nnaq, name, told):
    said = nnaq("targets", name)
    refused(said, told)
    one_line(said)


def test_a_target_file_that_is_no_text(nnaq, place):
    (place / "own.toml").write_bytes(b"\xff\xfe\x00")
    refused(nnaq("targets", place / "own.toml"), "own.toml")
    (place / "folder.toml").mkdir()
    refused(nnaq("targets", place / "folder.toml"), "folder.toml")


def test_a_recipe_file_that_is_no_text(nnaq, place):
    (place / "recipe.toml").write_bytes(b"\xff\xfe\x00")
    refused(nnaq("lower", *lower_words(place), "--json"), "recipe.toml")


def test_help_and_nothing_at_all(nnaq):
    assert nnaq("--help").code == 0
    assert "Exit codes: 0 done" in " ".join(nnaq("--help").out.split())
    assert nnaq().code in (0, 2)
