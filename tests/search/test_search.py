"""What a search tries, and that what it measures is what a lowering gives."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from search.small_models import frames, network

from nnaq.codebooks.choice import PaletteChoice
from nnaq.crossing import Reporter, import_options, lower_graph
from nnaq.errors import NnaqError
from nnaq.frontends import load
from nnaq.ir.types import Quant, TensorType
from nnaq.kernels.boundary import dequantize_array
from nnaq.lowering import read_inputs
from nnaq.quantize.recipe import load_recipe, parse_recipe
from nnaq.search.allocation import EIGHT_BITS, Option
from nnaq.search.candidates import candidates, choices_of
from nnaq.search.front import Costs, Measured
from nnaq.search.hessian import CurvatureError, preselect
from nnaq.search.jobs import Workers
from nnaq.search.journal import Journal
from nnaq.search.measure import Laboratory, bench_of, measure_model
from nnaq.search.search import options_of, with_palettes
from nnaq.simulate import simulate
from nnaq.targets import load_target
from nnaq.tasks.recordings import find_recordings

SUB8 = load_target("edge8-sub8")
WORDS = ("per_tensor", "optimal", "none", "free")


def recipe_of(place: Path, **choices):
    return load_recipe(place / "recipe.toml").merged(activations="8", **choices)


def inputs_of(place: Path, folder: str, graph):
    return read_inputs(find_recordings(place / folder), recipe_of(place), graph, Reporter())


def lowering_of(place: Path, recipe):
    graph = load(place / "model.onnx", import_options(recipe)).graph
    return lower_graph(graph, *(inputs_of(place, f, graph) for f in ("data", "held")), recipe, SUB8)


@pytest.fixture(scope="session")
def here(_scene) -> Path:
    """A folder with model, recipe and recordings; not to be written to."""
    return _scene


@pytest.fixture(scope="module")
def base(here):
    return lowering_of(here, recipe_of(here))


def test_words_name_every_combination():
    found = choices_of(SUB8, "2, 4", "per_tensor,per_group:8", "optimal,uniform", "none", "free")
    assert len(found) == 8
    assert {c.bits for c in found} == {2, 4}
    assert PaletteChoice(4, "per_group", 8, "uniform") in found
    assert [c.bits for c in choices_of(SUB8, None, *WORDS)] == [1, 2, 3, 4, 5, 6]
    assert len(choices_of(SUB8, "3,3", *WORDS)) == 1


@pytest.mark.parametrize(
    ("target", "words", "said"),
    [
        ("edge8", ("4", *WORDS), "target 'edge8' does not decompress indices"),
        ("edge8-sub8", ("7", *WORDS), "expands indices of 1, 2, 3, 4, 5, 6 bits, not 7"),
        ("edge8-sub8", ("four", *WORDS), "--bits takes widths from 1 to 8"),
        ("edge8-sub8", ("9", *WORDS), "1 to 8 bits, found 9"),
        ("edge8-sub8", ("", *WORDS), "--bits takes widths"),
        ("edge8-sub8", ("4", "per_group", *WORDS[1:]), "needs group_size"),
        ("edge8-sub8", ("4", "per_group:x", *WORDS[1:]), "per_group:ROWS with a whole number"),
        ("edge8-sub8", ("4", "per_row", *WORDS[1:]), "granularity is one of per_tensor"),
        ("edge8-sub8", ("4", "per_tensor", "best", "none", "free"), "method is one of optimal"),
    ],
)
def test_what_cannot_be_tried_is_told(target, words, said):
    with pytest.raises(NnaqError) as error:
        choices_of(load_target(target), *words)
    assert said in str(error.value)


def test_a_target_without_zero_maps_tries_none():
    assert SUB8.decompression is not None
    plain = replace(SUB8, decompression=replace(SUB8.decompression, zero_map=False))
    with pytest.raises(NnaqError, match="expands no zero maps"):
        choices_of(plain, "4", "per_tensor", "optimal", "none", "mapped")
    assert choices_of(SUB8, "4", "per_tensor", "optimal", "none", "mapped")


def test_every_weight_is_tried_on_what_it_can_take(base):
    gates, whole = PaletteChoice(4, "per_gate"), PaletteChoice(4)
    found = candidates(base, [gates, whole])
    assert found == {"w": [whole], "wx": [gates, whole], "wh": [gates, whole], "v": [whole]}
    assert candidates(base, [gates]) == {"wx": [gates], "wh": [gates]}


def test_a_weight_with_a_palette_of_its_own_or_4_bits_is_left_alone(here):
    recipe = recipe_of(here, palettes={"wx": PaletteChoice(3)})
    assert list(candidates(lowering_of(here, recipe), [PaletteChoice(4)])) == ["w", "wh", "v"]
    assert candidates(lowering_of(here, recipe_of(here, weight_bits=4)), [PaletteChoice(4)]) == {}


def test_a_weight_that_only_the_host_reads_is_left_alone(here):
    graph = load(here / "model.onnx", import_options(recipe_of(here))).graph
    data, held = (inputs_of(here, folder, graph) for folder in ("data", "held"))
    target = replace(SUB8, exclude=("lstm",))
    lowering = lower_graph(graph, data, held, recipe_of(here), target)
    assert lowering.crossing.islands
    found = candidates(lowering, [PaletteChoice(4)])
    assert found == {"w": [PaletteChoice(4)], "v": [PaletteChoice(4)]}
    with pytest.raises(CurvatureError, match="'wx' has no codes on the accelerator"):
        preselect(lowering.crossing, data[:1], {"wx": [PaletteChoice(4)]}, samples=2)


@pytest.mark.parametrize(("zero_point", "is_tried"), [(0, True), (3, False)])
def test_codes_of_a_file_are_tried_where_they_can_come_from_tables(zero_point, is_tried):
    graph = network(inputs=8, hidden=12, outputs=4)
    kind = TensorType("i8", (12, 8), Quant((0.0125,), zero_point))
    codes = np.clip(np.rint(graph.constants["w1"] / 0.0125) + zero_point, -128, 127).astype(np.int8)
    graph = replace(graph, constants={**graph.constants, "w1": dequantize_array(codes, kind)})
    data, recipe = frames(graph, 20, 10), parse_recipe('name = "r"\n[quantize]\nactivations = "8"')
    lowering = lower_graph(graph, data, data, recipe, SUB8, codes={"w1": kind})
    found = candidates(lowering, [PaletteChoice(4)])
    assert list(found) == (["w1", "w2"] if is_tried else ["w2"])
    bench = bench_of(lowering, data)
    saved = [measure_model(bench, [(w, c)], "calibration")["bytes"] for w, own in found.items() for c in own]
    assert max(saved) < measure_model(bench, (), "calibration")["bytes"]


def test_a_measurement_is_what_a_lowering_with_these_palettes_gives(here, base):
    palettes = {"wx": PaletteChoice(2), "wh": PaletteChoice(3, "per_gate")}
    graph = load(here / "model.onnx", import_options(base.recipe)).graph
    bench = bench_of(base, inputs_of(here, "data", graph))
    with Workers(measure_model, bench) as workers:
        laboratory = Laboratory(workers, Journal(), Reporter())
        (found,) = laboratory.on_held_out([palettes])
        (again, other) = laboratory.on_calibration([palettes, {}])
    lowered = lowering_of(here, with_palettes(base.recipe, palettes, graph))
    assert dict(found.figures) == dict(lowered.figures)
    simulation = simulate(lowered.crossing.integer, SUB8)
    assert found.costs == again.costs
    assert found.costs == Costs(
        simulation.plan.weight_bytes, simulation.cycles_per_step, simulation.energy_picojoules
    )
    assert other.added == 0
    assert again.added > 0


def test_added_noise_is_that_against_the_8_bit_model(here, base):
    graph = load(here / "model.onnx", import_options(base.recipe)).graph
    bench = bench_of(base, inputs_of(here, "data", graph))
    moved = replace(bench, eight_bits={"calibration": {"score": bench.exact["calibration"]["score"]}})
    before, after = (measure_model(b, (), "calibration") for b in (bench, moved))
    # Against the real model's own outputs the noise is that of the SQNR.
    assert before["added"] == 0
    assert -10 * np.log10(after["added"]) == pytest.approx(after["figures"]["sqnr:score"][1], rel=1e-12)
    silent = {"calibration": {"score": np.zeros_like(bench.exact["calibration"]["score"])}}
    assert measure_model(replace(bench, exact=silent), (), "calibration")["added"] == 0
    assert measure_model(replace(moved, exact=silent), (), "calibration")["added"] == 1


def test_options_are_differences_to_the_8_bit_model():
    figures = {}
    base = Measured(Costs(1000, 90, 50.0), figures)
    alone = [("a", PaletteChoice(4), Measured(Costs(700, 80, 45.0), figures, 0.25))]
    assert options_of(alone, base) == {"a": [EIGHT_BITS, Option(PaletteChoice(4), 0.25, -300, -10, -5.0)]}


def test_a_weight_that_simplifying_made_is_named_by_an_override(here):
    graph = load(here / "model.onnx", import_options(recipe_of(here))).graph
    palettes = {"wx": PaletteChoice(4), "made": PaletteChoice(2, "per_channel")}
    found = with_palettes(parse_recipe('name = "r"'), palettes, graph)
    assert dict(found.palettes) == {"wx": PaletteChoice(4)}
    assert [(o.name, o.palette) for o in found.overrides] == [("made", PaletteChoice(2, "per_channel"))]
    assert parse_recipe(found.to_toml()) == found
