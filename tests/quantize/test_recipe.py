"""Recipes: what a file says arrives, what it says wrongly is named with its line."""

import pickle

import numpy as np
import pytest

from nnaq.codebooks.choice import PaletteChoice
from nnaq.errors import RecipeError
from nnaq.ir.build import Builder
from nnaq.ir.types import TensorType
from nnaq.quantize.recipe import Chosen, Framing, Quantize, load_recipe, parse_recipe, shipped_recipes

FULL = """
name = "demo"
metric = "decision:p>0.5"
[input]
port = "x"
sample_rate = 8000
hop = 80
[ports]
time = { x = 0 }
[ports.batch]
x = 1
[states]
h = "hn"
[import]
pins = { sr = 16000, flag = true, gain = 0.5 }
shapes = { x = ["T", 1, 80] }
[quantize]
activations = "16"
weight_bits = 4
observer = "percentile"
[values."lstm.0/h"]
dtype = "i16"
low = -1
high = 1.5
[palettes."conv.weight"]
bits = 4
"""


def test_every_key_arrives_on_the_face():
    recipe = parse_recipe(FULL)
    assert recipe.name == "demo"
    assert recipe.metric == "decision:p>0.5"
    assert recipe.input == Framing("frames", "x", 8000, 80, 0)
    assert recipe.quantize == Quantize("16", 4, "percentile", 0.9999, 0.995, 0)
    assert dict(recipe.time) == {"x": 0}
    assert dict(recipe.batch) == {"x": 1}
    assert dict(recipe.states) == {"h": "hn"}
    assert dict(recipe.pins) == {"sr": 16000, "flag": True, "gain": 0.5}
    assert recipe.pins["flag"] is True
    assert dict(recipe.shapes) == {"x": ("T", 1, 80)}
    assert dict(recipe.values) == {"lstm.0/h": Chosen("i16", -1.0, 1.5)}
    assert dict(recipe.palettes) == {"conv.weight": PaletteChoice(4)}


def test_a_name_is_enough():
    recipe = parse_recipe('name = "x"')
    assert recipe.quantize == Quantize("auto", 8, "min_max", None, 0.995, 0)
    assert recipe.input is None
    assert recipe.metric is None


@pytest.mark.parametrize("text", [FULL, 'name = "x"'])
def test_saved_recipes_read_back_equal(tmp_path, text):
    recipe = parse_recipe(text)
    recipe.save(tmp_path / "recipe.toml")
    assert load_recipe(tmp_path / "recipe.toml") == recipe
    assert pickle.loads(pickle.dumps(recipe)) == recipe


@pytest.mark.parametrize("name", shipped_recipes())
def test_shipped_recipes_load_under_their_names(name):
    assert load_recipe(name).name == name


def test_silero_frames_are_576_samples_every_32_ms():
    framing = load_recipe("silero_vad").input
    assert framing is not None
    assert framing.hop + framing.context == 576
    assert framing.hop / framing.sample_rate == 0.032


def test_all_mistakes_are_told_at_once_in_the_order_of_the_file():
    text = '\n'.join([
        'name = "x"',
        "metrc = 3",
        "[quantize]",
        'observer = "minmax"',
        "goal = 3.0",
        "[values.v]",
        'dtype = "i9"',
        "low = 1",
        "high = 0.5",
        "[import]",
        'pins = { a = "q" }',
        "shapes = { x = [1.5] }",
    ])  # fmt: skip
    with pytest.raises(RecipeError) as error:
        parse_recipe(text, "recipe demo.toml")
    assert str(error.value).splitlines() == [
        "recipe demo.toml has 6 mistakes:",
        "  line 2, metrc: no such key; did you mean 'metric'?",
        "  line 4, quantize.observer: found 'minmax', expected 'min_max', 'percentile' or 'mse'; "
        "did you mean 'min_max'?",
        "  line 5, quantize.goal: found 3.0; input should be less than or equal to 1",
        "  line 7, values.v.dtype: found 'i9', expected 'i8', 'i16' or 'i32'",
        "  line 11, import.pins.a: found 'q', expected a number or a boolean",
        "  line 12, import.shapes.x.0: found 1.5, expected a size or the name of a symbolic dimension",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "recipe: name: is missing"),
        ("name = ", "recipe is no TOML: Invalid value (at "),
        (
            'name = "x"\n[values.v]\ndtype = "i8"\nlow = 3\nhigh = 2',
            "line 2, values.v: low must not be above high",
        ),
        ('name = "x"\n[values.v]\ndtype = "i8"\nlow = nan\nhigh = 2', "line 4, values.v.low: found nan"),
        ('name = "x"\n[quantize]\npercentile = 0.99', "a percentile needs observer = 'percentile'"),
        ('name = "x"\n[quantize]\nactivations = 8', "found 8, expected 'auto', '8' or '16'"),
        ('name = "x"\n[quantize]\nseed = true', "line 3, quantize.seed: found True"),
        ('name = "x"\n[palettes."a.b"]\nbits = 9', 'line 3, palettes."a.b".bits: found 9'),
        ('name = "x"\n[ports]\ntime = { x = -1 }', "line 3, ports.time.x: found -1"),
        ('name = "x"\n[inputs]', "line 2, inputs: no such key; did you mean 'input'?"),
    ],
)
def test_mistakes_name_key_line_and_expectation(text, said):
    with pytest.raises(RecipeError) as error:
        parse_recipe(text)
    assert said in str(error.value)


def test_a_value_may_be_chosen_to_be_always_zero():
    recipe = parse_recipe('name = "x"\n[values.v]\ndtype = "i8"\nlow = 0\nhigh = 0')
    assert recipe.values["v"] == Chosen("i8", 0.0, 0.0)


def test_an_unknown_recipe_names_the_nearest_shipped_one():
    with pytest.raises(RecipeError, match=r"'silero-vad': neither a file nor .*; did you mean 'silero_vad'"):
        load_recipe("silero-vad")


def test_a_file_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "r.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(RecipeError, match="cannot be read"):
        load_recipe(tmp_path / "r.toml")


def test_overrides_are_merged_key_by_key_and_none_is_not_given():
    recipe = parse_recipe(FULL)
    other = recipe.merged(activations="8", goal=None, time={"y": 1}, observer="mse", shapes={"z": ("T", 2)})
    assert other.quantize == Quantize("8", 4, "mse", None, 0.995, 0)
    assert dict(other.time) == {"x": 0, "y": 1}
    assert dict(other.shapes) == {"x": ("T", 1, 80), "z": ("T", 2)}
    assert recipe == parse_recipe(FULL)


def test_chosen_ranges_and_palettes_are_merged_as_face_values():
    recipe = parse_recipe(FULL).merged(values={"y": Chosen("i8", 0.0, 6.0)}, palettes={"w": PaletteChoice(3)})
    assert recipe.values["y"] == Chosen("i8", 0.0, 6.0)
    assert recipe.values["lstm.0/h"] == Chosen("i16", -1.0, 1.5)
    assert dict(recipe.palettes) == {"conv.weight": PaletteChoice(4), "w": PaletteChoice(3)}


def test_overrides_are_checked_like_a_file():
    recipe = parse_recipe(FULL)
    with pytest.raises(RecipeError, match="no choice 'activation'; did you mean 'activations'"):
        recipe.merged(activation="8")
    with pytest.raises(RecipeError, match=r"quantize.weight_bits: found 5, expected 4 or 8"):
        recipe.merged(weight_bits=5)


def test_check_names_what_the_graph_does_not_have():
    b = Builder("net")
    x = b.input("x", TensorType("f32", ("T", 80)))
    b.constant("conv.weights", np.zeros(3, np.float32))
    b.output(x)
    graph = b.build()
    parse_recipe('name = "fits"\n[ports.time]\nx = 0\n[values.x]\ndtype="i8"\nlow=0\nhigh=1').check(graph)
    with pytest.raises(RecipeError) as error:
        parse_recipe(FULL).check(graph)
    assert str(error.value).splitlines() == [
        "recipe 'demo' has 2 mistakes:",
        "  values: graph 'net' has no value 'lstm.0/h'",
        "  palettes: graph 'net' has no constant 'conv.weight'; did you mean 'conv.weights'?",
    ]
