"""Overrides of a recipe against a graph: whom they are for, and which of two wins."""

import numpy as np
import pytest

import nnaq.kernels  # noqa: F401  (fills the operator table)
from nnaq.codebooks.choice import PaletteChoice
from nnaq.errors import RecipeError
from nnaq.ir.build import Builder
from nnaq.ir.graph import Graph
from nnaq.ir.types import TensorType
from nnaq.quantize.overrides import resolve
from nnaq.quantize.recipe import parse_recipe

REAL = "f32"


def two_layers() -> Graph:
    """y = second(relu(first(x)))."""
    build = Builder("net")
    value = build.input("x", TensorType(REAL, (1, 4)))
    for name in ("first", "second"):
        weight = build.constant(f"{name}.weight", np.ones((4, 4), np.float32))
        (value,) = build.node("fully_connected", [value, weight], {"activation": "none"}, [name])
        (value,) = build.node("relu", [value], {}, [f"{name}.relu"])
    build.output(value)
    return build.build()


def resolved(text: str):
    return resolve(parse_recipe(f'name = "demo"\n{text}'), two_layers())


def test_an_override_by_operator_is_for_all_its_weights_and_results():
    found = resolved('[[overrides]]\nop = "fully_connected"\npalette = { bits = 4 }\nactivations = "16"')
    assert found.palettes == {name: PaletteChoice(4) for name in ("first.weight", "second.weight")}
    assert found.weight_bits == {"first.weight": 8, "second.weight": 8}
    assert found.dtypes == {"first": "i16", "second": "i16"}


@pytest.mark.parametrize("who", ['regex = "sec.*"', 'name = "second"', 'name = "second.weight"'])
def test_an_override_by_name_or_expression_is_for_those_it_matches_whole(who):
    found = resolved(f'[[overrides]]\n{who}\npalette = {{ bits = 3, granularity = "per_channel" }}')
    assert found.palettes == {"second.weight": PaletteChoice(3, "per_channel")}


def test_the_later_override_wins_and_a_palette_by_name_over_both():
    found = resolved(
        '[[overrides]]\nop = "fully_connected"\npalette = { bits = 4 }\n'
        '[[overrides]]\nregex = ".*weight"\nweight_bits = 4\n'
        '[palettes."first.weight"]\nbits = 2'
    )
    assert found.palettes == {"first.weight": PaletteChoice(2)}
    assert found.weight_bits == {"first.weight": 8, "second.weight": 4}


def test_an_override_for_nothing_is_refused():
    with pytest.raises(RecipeError, match="an override for regex 'sec' matches no weights in graph 'net'"):
        resolved('[[overrides]]\nregex = "sec"\nweight_bits = 4')


@pytest.mark.parametrize(
    "text", ['op = "relu"\npalette = { bits = 4 }', 'name = "first.weight"\nactivations = "16"']
)
def test_an_override_that_would_choose_nothing_is_refused(text):
    with pytest.raises(RecipeError, match=r"matches no (weights|results)"):
        resolved(f"[[overrides]]\n{text}")


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("weight_bits = 4", "an override is for one of name, regex or op"),
        ('name = "a"\nop = "b"\nweight_bits = 4', "an override is for one of name, regex or op"),
        ('op = "conv1d"', "an override chooses a palette, weight_bits, activations or a scheme"),
        ('op = "a"\nweight_bits = 8\npalette = { bits = 3 }', "choose a palette or weight_bits"),
        ('regex = "("\nweight_bits = 8', "is no regular expression"),
        ('op = "a"\npalette = { bits = 9 }', "found 9"),
        ('op = "a"\npalette = { bits = 3, granularity = "per_group" }', "group_size"),
        ('op = "a"\npalette = { bits = 3, methods = "uniform" }', "no such key; did you mean 'method'?"),
    ],
)
def test_an_override_that_cannot_be_is_refused_with_its_line(override, sentence):
    with pytest.raises(RecipeError, match="line") as caught:
        parse_recipe(f'name = "demo"\n[[overrides]]\n{override}')
    assert sentence in str(caught.value)


def test_overrides_and_palettes_come_back_from_the_file():
    text = (
        'name = "demo"\n[quantize]\nrepair = ["correct_bias"]\n'
        '[palettes.w]\nbits = 3\ngranularity = "per_group"\ngroup_size = 2\nzero = "mapped"\n'
        '[[overrides]]\nop = "lstm"\nactivations = "16"\npalette = { bits = 5, weighting = "activations" }'
    )
    recipe = parse_recipe(text)
    assert recipe.palettes["w"] == PaletteChoice(3, "per_group", 2, zero="mapped")
    assert recipe.overrides[0].palette == PaletteChoice(5, weighting="activations")
    assert recipe.quantize.repair == ("correct_bias",)
    assert parse_recipe(recipe.to_toml()) == recipe


def test_two_repairs_that_choose_codes_exclude_each_other():
    with pytest.raises(RecipeError, match="repair with one"):
        parse_recipe('name = "demo"\n[quantize]\nrepair = ["error_feedback", "ada_round"]')
