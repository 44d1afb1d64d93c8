"""Whole lowerings of a small streaming model: choices, islands, files, and the way back from them."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from frontends.onnx_models import normal
from jsonschema import Draft202012Validator
from voice_models import FRAME, RECIPE, detector, scene

import nnaq
from nnaq import pipeline
from nnaq.artifact import read_golden
from nnaq.crossing import Lowering, Reporter, lower_graph
from nnaq.errors import NnaqError
from nnaq.export.check import file_equals_simulator
from nnaq.export.onnx import export_model, save
from nnaq.export.read import read_lowered
from nnaq.findings import foreseen_islands
from nnaq.frontends import ImportOptions
from nnaq.frontends.onnx import load_model
from nnaq.interpret import run
from nnaq.ir.build import Builder
from nnaq.ir.graph import Graph
from nnaq.ir.text import parse_graph, print_graph
from nnaq.ir.types import parse_type
from nnaq.ir.verify import is_real, verify
from nnaq.lowering import lower, write_files
from nnaq.quantize.calibrate import calibrate
from nnaq.quantize.recipe import Recipe, load_recipe, parse_recipe
from nnaq.simulate import simulate
from nnaq.targets import Target, load_target, undecompressed

EDGE8 = load_target("edge8")
DATA = [{"x": normal(60, FRAME, seed=seed)} for seed in range(3)]


@pytest.fixture(scope="module")
def graph() -> Graph:
    options = ImportOptions(time={"x": 0, "score": 0}, states={"h": "hn", "c": "cn"})
    return load_model(detector(), "tiny", options).graph


def recipe(text: str = "") -> Recipe:
    return parse_recipe(f'name = "tiny"\n{text}')


def lowered(
    graph: Graph, text: str = '[quantize]\nactivations = "8"', target: Target = EDGE8, say=lambda line: None
) -> Lowering:
    return lower_graph(graph, DATA[:2], DATA[2:], recipe(text), target, Reporter(say))


def excluding(*ops: str) -> Target:
    return replace(EDGE8, exclude=ops)


def same(one: Graph, other: Graph, inputs) -> bool:
    left, right = run(one, inputs), run(other, inputs)
    arrays = [(left.outputs[n], right.outputs[n]) for n in left.outputs]
    arrays += [(left.states[n], right.states[n]) for n in left.states]
    return all(a.dtype == b.dtype and np.array_equal(a, b) for a, b in arrays)


def test_a_host_alone_is_refused_with_the_way_to_its_time(graph):
    with pytest.raises(NnaqError, match=r"runs no integers; lower for .* `nnaq simulate OUT --target host`"):
        lowered(graph, target=load_target("host"))


# --- widths


def test_auto_leaves_alone_what_shares_codes_with_a_chosen_value(graph):
    """The hidden state is one class with the LSTM's results: chosen as 8 bit, none of it is raised."""
    text = '[quantize]\ngoal = 1.0\n[values.hn]\ndtype = "i8"\nlow = -1.0\nhigh = 1.0'
    crossing = lowered(graph, text).crossing
    kinds = pipeline.value_types(crossing)
    assert crossing.raises
    assert kinds["hn"].dtype == kinds["y.y"].dtype == kinds["h"].dtype == "i8"


def test_known_answers_skip_a_recording_without_frames(graph, tmp_path):
    empty = {"x": np.zeros((0, FRAME), np.float32)}
    text = '[quantize]\nactivations = "8"'
    lowering = lower_graph(graph, DATA[:2], [empty, DATA[2]], recipe(text), EDGE8)
    write_files(tmp_path, lowering, "tiny", (), Reporter())
    inputs, _ = read_golden(tmp_path / "golden.npz", lowering.crossing.integer)
    assert len(inputs["x"]) == len(DATA[2]["x"])


@pytest.mark.parametrize(("width", "dtype"), [("8", "i8"), ("16", "i16")])
def test_activations_have_the_width_asked_for(graph, width, dtype):
    crossing = lowered(graph, f'[quantize]\nactivations = "{width}"').crossing
    kinds = {v: t.dtype for v, t in pipeline.value_types(crossing).items() if v in crossing.real.producer}
    insisting = {"cn", "y.c"}  # a cell state has 16 bits
    assert {t for v, t in kinds.items() if v not in insisting and not v.startswith("c.")} == {dtype}
    assert crossing.raises == ()


def test_auto_raises_the_worst_value_until_the_goal_is_reached(graph):
    lines: list[str] = []
    lowering = lowered(graph, "[quantize]\ngoal = 0.999999", say=lines.append)
    raises = lowering.crossing.raises
    assert raises
    assert len(lines) == len(raises) + 1
    for line, made in zip(lines, raises, strict=False):
        assert f"{made.score:.4f} is below 0.999999: {made.value} to 16 bit" in line
    assert all(made.score < 0.999999 for made in raises)
    assert lines[-1].startswith("score 1.0000 on the calibration data, goal 0.999999")
    kinds = pipeline.value_types(lowering.crossing)
    assert {kinds[made.value].dtype for made in raises} == {"i16"}


def test_auto_raises_nothing_where_8_bits_do(graph):
    assert lowered(graph, "[quantize]\ngoal = 0.9").crossing.raises == ()


def test_auto_ends_where_nothing_is_left_to_raise(graph):
    lowering = lowered(graph, "[quantize]\ngoal = 1.0")
    kinds = pipeline.value_types(lowering.crossing)
    assert "i8" not in {kinds[v].dtype for v in lowering.crossing.real.producer}


# --- the same again


def test_two_lowerings_are_equal(graph):
    one, two = (lowered(graph, "[quantize]\ngoal = 0.999999") for _ in range(2))
    assert one.crossing.integer == two.crossing.integer
    assert print_graph(one.crossing.integer) == print_graph(two.crossing.integer)
    assert one.figures == two.figures
    assert one.recipe == two.recipe


@pytest.mark.parametrize(
    "text",
    [
        '[quantize]\nactivations = "8"',
        '[quantize]\nactivations = "16"',
        "[quantize]\ngoal = 0.999999",
        '[quantize]\nobserver = "mse"\nweight_bits = 4',
        '[quantize]\nobserver = "percentile"\n[palettes.w]\nbits = 3',
    ],
)
def test_the_recipe_that_comes_out_gives_the_same_integers(graph, text):
    """Also on other recordings: every range is in the recipe, nothing is observed anew."""
    first = lowered(graph, text)
    again = lower_graph(graph, DATA[2:], DATA[:1], parse_recipe(first.recipe.to_toml()), EDGE8)
    assert again.crossing.integer == first.crossing.integer
    assert same(again.crossing.integer, first.crossing.integer, DATA[2])
    assert again.recipe == first.recipe


def test_any_chunk_gives_the_same_integers(graph):
    integer = lowered(graph).crossing.integer
    whole = run(integer, DATA[0])
    for size in (1, 7, 59):
        cut = run(integer, DATA[0], chunk=size)
        assert np.array_equal(cut.outputs["score"], whole.outputs["score"])
        assert all(np.array_equal(cut.states[n], whole.states[n]) for n in whole.states)


# --- host islands

PLACES = [
    ("sigmoid", ["score"]),  # at the output
    ("conv1d", ["made"]),
    ("lstm", ["y.y"]),  # between its states
    ("fully_connected", ["logit"]),
    ("reshape", ["framed", "steps_in", "h.h0.reshape", "c.c0.reshape", "y", "hn", "cn", "hidden"]),  # moves
]


@pytest.mark.parametrize(("op", "names"), PLACES)
@pytest.mark.parametrize("width", ["8", "16"])
def test_an_island_stays_real_and_everything_else_is_codes(graph, op, names, width, tmp_path):
    lowering = lowered(graph, f'[quantize]\nactivations = "{width}"', excluding(op))
    integer = verify(lowering.crossing.integer)
    assert sorted(lowering.crossing.islands) == sorted(names)
    assert set(lowering.crossing.islands.values()) == {f"target 'edge8' does not run {op!r}"}
    assert sorted(n.name for n in integer.nodes if is_real(integer, n)) == sorted(names)
    islands = simulate(integer, lowering.target).islands
    assert sorted(i.name for i in islands) == sorted(names)
    foreseen = foreseen_islands(graph, lowering.target)
    assert {(i.name, i.op, i.cycles) for i in foreseen} == {(i.name, i.op, i.cycles) for i in islands}
    save(integer, tmp_path / "model.onnx")
    assert read_lowered(tmp_path / "model.onnx") == integer


@pytest.mark.parametrize("op", [op for op, _ in PLACES])
def test_a_file_with_an_island_runs_and_is_compared(graph, op):
    """Float rounding moves about one code in 10^5, and none of these 76."""
    integer = lowered(graph, target=excluding(op)).crossing.integer
    assert file_equals_simulator(export_model(integer), integer, DATA[2], chunk=60) == (60 + 16, 0)


def test_an_island_costs_little_accuracy(graph):
    """Its operands and results have the codes they had: only what it rounds inside is saved."""
    whole, island = lowered(graph), lowered(graph, target=excluding("lstm"))
    assert island.figures["sqnr:score"].integer > whole.figures["sqnr:score"].integer - 6


def spectrum() -> Graph:
    """relu at the input, then |.|² by squares whose sums are exact 32-bit codes, their root at the output."""
    b = Builder("spectrum")
    x = b.input("x", parse_type("f32[T,4]"), time_axis=0)
    (kept,) = b.node("relu", [x], outputs=["kept"])
    squares = [b.node("square", [kept], outputs=[name])[0] for name in ("re", "im")]
    (power,) = b.node("add", squares, outputs=["power"])
    (turned,) = b.node("transpose", [power], {"perm": (0, 1)}, ["turned"])
    b.output(b.node("sqrt", [turned], outputs=["size"])[0], time_axis=0)
    return verify(b.build())


def crossed(graph: Graph, target: Target) -> pipeline.Crossing:
    real = pipeline.simplify(graph)
    data = [{"x": normal(30, 4)}]
    return pipeline.cross(real, calibrate(real, data), pipeline.Options(target))


@pytest.mark.parametrize(
    ("target", "islands"),
    [
        (excluding("relu"), ["kept"]),  # at the input, and it moves codes
        (excluding("square"), ["im", "re"]),  # its result would be exact 32-bit codes
        (excluding("add"), ["power"]),
        (excluding("transpose"), ["turned"]),  # it moves 32-bit codes
        (excluding("sqrt"), ["size"]),
        (
            excluding("relu", "square", "add", "transpose", "sqrt"),
            ["im", "kept", "power", "re", "size", "turned"],
        ),
        (replace(EDGE8, widths=("i8", "i16")), ["im", "re"]),  # and nothing that follows them
    ],
)
def test_islands_among_exact_codes(target, islands):
    crossing = crossed(spectrum(), target)
    integer = crossing.integer
    assert sorted(crossing.islands) == islands
    assert sorted(n.name for n in integer.nodes if is_real(integer, n)) == islands
    data = {"x": normal(30, 4, seed=1)}
    found = file_equals_simulator(export_model(integer), integer, data)
    assert found == (120, 0)
    worst = np.abs(run(integer, data).outputs["size"] - run(crossing.real, data).outputs["size"]).max()
    assert worst < 0.1 * np.abs(data["x"]).max()


def test_a_width_the_target_lacks_is_the_reason(graph):
    crossing = crossed(spectrum(), replace(EDGE8, widths=("i8", "i16")))
    assert crossing.islands["re"] == "'re' is i32; target 'edge8' holds activations of i8, i16"


# --- the files


@pytest.fixture(scope="module")
def out(tmp_path_factory) -> Path:
    place = scene(tmp_path_factory.mktemp("files"), sounds=5)
    lines: list[str] = []
    reporter = Reporter(lines.append)
    choices = load_recipe(place / "recipe.toml")
    lower(place / "model.onnx", place / "data", place / "out", EDGE8, choices, reporter=reporter, dump=True)
    (place / "lines.json").write_text(json.dumps(lines))
    return place / "out"


def test_without_evaluation_some_recordings_are_held_out(out):
    lines = json.loads((out.parent / "lines.json").read_text())
    (line,) = [line for line in lines if "held out" in line]
    assert line.startswith("held out 1 of 5 recordings for evaluation (seed 0): ")


def test_the_seed_draws_what_is_held_out(out, tmp_path):
    place, drawn = out.parent, []
    for seed in (0, 0, 1, 2, 3):
        lines: list[str] = []
        choices = load_recipe(place / "recipe.toml").merged(seed=seed, activations="8")
        lower(
            place / "model.onnx", place / "data", tmp_path / "out", EDGE8, choices,
            reporter=Reporter(lines.append), force=True,
        )  # fmt: skip
        drawn.append(next(line.split(": ")[-1] for line in lines if "held out" in line))
    assert drawn[0] == drawn[1]
    assert len(set(drawn)) > 1


def test_the_report_fits_its_schema(out):
    schema = json.loads((Path(nnaq.__file__).parent / "report.schema.json").read_text())
    Draft202012Validator(schema).validate(json.loads((out / "report.json").read_text()))


def test_golden_vectors_give_the_same_integers_again(out):
    graph = read_lowered(out / "model.onnx")
    inputs, expected = read_golden(out / "golden.npz", graph)
    for mode in ("fast", "reference"):
        found = run(graph, inputs, mode, keep=expected.values)
        for kind in ("outputs", "states", "values"):
            before, after = getattr(expected, kind), getattr(found, kind)
            assert before.keys() == after.keys()
            assert before
            assert all(before[n].dtype == after[n].dtype for n in before)
            assert all(np.array_equal(before[n], after[n]) for n in before)


def test_every_dumped_stage_reads_back(out):
    paths = sorted((out / "passes").iterdir())
    assert [path.name[:3] for path in paths] == [f"{n:02d}-" for n in range(len(paths))]
    for path in paths:
        text = path.read_text()
        assert print_graph(parse_graph(text)) == text
    assert paths[-1].read_text() == print_graph(read_lowered(out / "model.onnx"))


def test_lowering_with_the_written_recipe_gives_the_same_file(out, tmp_path):
    place = out.parent
    choices = load_recipe(out / "recipe.toml")
    lower(place / "model.onnx", place / "held", tmp_path / "out", EDGE8, choices, place / "data")
    assert (tmp_path / "out" / "model.onnx").read_bytes() == (out / "model.onnx").read_bytes()
    assert load_recipe(tmp_path / "out" / "recipe.toml") == choices


def test_an_error_leaves_nothing_behind(out, tmp_path):
    place = out.parent
    choices = parse_recipe(RECIPE + "[values.nothing]\ndtype = 'i8'\nlow = 0.0\nhigh = 1.0\n")
    with pytest.raises(NnaqError, match="has no value 'nothing'"):
        lower(
            place / "model.onnx", place / "held", tmp_path / "out", EDGE8, choices, place / "data", dump=True
        )
    assert list(tmp_path.iterdir()) == []


# --- palettes and repairs


def lowered_with(text: str):
    """A layer whose inputs are correlated, lowered with a recipe."""
    b = Builder("mixed")
    x = b.input("x", parse_type("f32[T,16]"), time_axis=0)
    weight = b.constant("w", normal(8, 16))
    b.output(b.node("fully_connected", [x, weight], {"activation": "none"}, ["y"])[0], time_axis=0)
    mixing = normal(16, 16, seed=1)
    data = [{"x": (normal(200, 4, seed=seed) @ mixing[:4]).astype(np.float32)} for seed in (2, 3)]
    recipe = parse_recipe(f'name = "mixed"\n[quantize]\nactivations = "16"\n{text}')
    return lower_graph(verify(b.build()), data[:1], data[1:], recipe, EDGE8)


def test_repairs_and_weighted_palettes_measure_what_they_need():
    plain = lowered_with("[palettes.w]\nbits = 2")
    weighted = lowered_with('[palettes.w]\nbits = 2\nweighting = "activations"')
    repaired = lowered_with('repair = ["error_feedback", "correct_bias"]\n[palettes.w]\nbits = 2')
    assert not plain.crossing.options.moments
    assert weighted.crossing.options.moments.keys() == {"w"}
    assert "w.corrected" not in plain.crossing.integer.constants
    figures = [one.figures["sqnr:y"].integer for one in (plain, repaired)]
    assert figures[1] > figures[0] + 3  # inputs of rank 4: what one column loses another makes good


def test_a_machine_that_does_not_decompress_is_named():
    lowering = lowered_with("[palettes.w]\nbits = 3")
    assert any(
        "plain i8" in note or "decompress" in note
        for note in undecompressed(lowering.crossing.integer, EDGE8)
    )
    assert not undecompressed(lowering.crossing.integer, load_target("edge8-sub8"))
