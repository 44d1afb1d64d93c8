"""`nnaq diff`: five forms of one model side by side, and the layer that is to blame."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from command_line import files, one_line, refused
from voice_models import FRAME

from nnaq.diff import Side, compare
from nnaq.export.read import read_lowered
from nnaq.interpret import run
from nnaq.ir.build import Builder
from nnaq.ir.types import TensorType


@pytest.fixture
def sound(tmp_path) -> Path:
    """An inputs file of the detector, 12 frames."""
    frames = np.random.default_rng(7).uniform(-0.3, 0.3, (12, FRAME)).astype(np.float32)
    np.savez(tmp_path / "x.npz", x=frames)
    return tmp_path / "x.npz"


def words(place: Path, sound: Path) -> list[object]:
    return ["--inputs", sound, "--recipe", place / "recipe.toml"]


def dump_of(folder: Path, sound: Path, to: Path) -> dict[str, np.ndarray]:
    """The codes of every value of a lowered model, as another runtime would write them."""
    graph = read_lowered(folder / "model.onnx")
    inputs = dict(np.load(sound))
    made = [v for node in graph.nodes for v in node.outputs if graph.types[v].quant is not None]
    arrays = run(graph, inputs, keep=made).values
    np.savez(to, **{f"activation:{name}": array for name, array in arrays.items()})
    return dict(arrays)


def compared(said) -> dict:
    assert said.code == 0, said
    return json.loads(said.out)


def test_the_exported_file_and_the_simulator_part_nowhere(nnaq, lowered, sound):
    found = compared(nnaq("diff", lowered, f"exported:{lowered}", "--inputs", sound, "--json"))
    assert found["first"] is None
    assert len(found["layers"]) > 8
    assert sum(layer["values"] for layer in found["layers"]) > 1000
    assert all(layer["mismatches"] == 0 and layer["sqnr_db"] is None for layer in found["layers"])


def test_float_against_integers_splits_what_a_layer_added_from_what_it_inherited(nnaq, lowered, place, sound):
    call = ("diff", place / "model.onnx", lowered, *words(place, sound))
    found = compared(nnaq(*call, "--json"))
    assert found["first"]["op"] == "quantize"
    layers = {layer["op"]: layer for layer in found["layers"]}
    lstm = layers["lstm"]
    assert lstm["added_db"] is not None and lstm["inherited_db"] is not None
    assert lstm["sqnr_db"] < max(lstm["added_db"], lstm["inherited_db"])
    added, inherited, total = (10 ** (-lstm[key] / 10) for key in ("added_db", "inherited_db", "sqnr_db"))
    assert np.sqrt(total) <= np.sqrt(added) + np.sqrt(inherited) + 1e-12  # total = added + inherited
    text = nnaq(*call)
    assert text.code == 0
    assert "first to part: quantize 'x' at [0, 0]" in text.out
    assert "inherited dB" in text.out


def test_the_fake_quant_stage_is_nearer_to_the_integers_than_the_floats(nnaq, lowered, place, sound):
    floats = compared(nnaq("diff", place / "model.onnx", lowered, *words(place, sound), "--json"))
    recipe = ["--inputs", sound, "--recipe", lowered / "recipe.toml", "--json"]
    fake = compared(nnaq("diff", f"fake:{place / 'model.onnx'}", lowered, *recipe))

    def of_lstm(found: dict) -> float:
        return next(layer["sqnr_db"] for layer in found["layers"] if layer["op"] == "lstm")

    assert of_lstm(fake) > of_lstm(floats) + 3
    assert next(layer for layer in fake["layers"] if layer["name"] == "x")["mismatches"] == 0


def test_a_vendors_wrong_layer_is_named_and_what_follows_it_only_inherits(nnaq, lowered, sound, tmp_path):
    arrays = dump_of(lowered, sound, tmp_path / "dump.npz")
    equal = compared(nnaq("diff", lowered, tmp_path / "dump.npz", "--inputs", sound, "--json"))
    assert equal["first"] is None
    graph = read_lowered(lowered / "model.onnx")
    conv = next(node for node in graph.nodes if node.op == "conv1d")
    wrong = arrays[conv.outputs[0]].copy()
    wrong[3, 1, 2] += 1
    after = {**{f"activation:{n}": a for n, a in arrays.items()}, f"activation:{conv.outputs[0]}": wrong}
    np.savez(tmp_path / "wrong.npz", **after)
    found = compared(nnaq("diff", lowered, tmp_path / "wrong.npz", "--inputs", sound, "--json"))
    assert found["first"]["name"] == conv.outputs[0]
    assert found["first"]["index"] == [3, 1, 2]
    layer = next(layer for layer in found["layers"] if layer["name"] == conv.outputs[0])
    assert (layer["mismatches"], layer["max_lsb"], layer["inherited_db"]) == (1, 1.0, None)
    assert layer["added_db"] == layer["sqnr_db"]


def test_all_layers_go_to_a_csv_worst_first(nnaq, lowered, place, sound, tmp_path):
    out = tmp_path / "layers.csv"
    assert nnaq("diff", place / "model.onnx", lowered, *words(place, sound), "--csv", out).code == 0
    rows = list(csv.DictReader(out.read_text().splitlines()))
    added = [float(row["added_db"]) for row in rows if row["added_db"]]
    assert len(added) > 2
    assert added == sorted(added)


def test_what_cannot_be_compared_is_said_in_one_sentence(nnaq, lowered, place, sound, tmp_path):
    dump_of(lowered, sound, tmp_path / "dump.npz")
    (tmp_path / "no.npz").write_bytes(b"PK nothing")
    np.savez(tmp_path / "alien.npz", other=np.zeros(3))
    np.savez(tmp_path / "short.npz", score=np.zeros((3, 1), np.float32))
    cases = [
        ((lowered, "nowhere"), "no such file"),
        ((lowered, tmp_path / "no.npz"), "cannot be read as npz"),
        ((lowered, tmp_path / "alien.npz"), "share no value"),
        ((lowered, tmp_path / "short.npz"), "shape"),
        ((tmp_path / "dump.npz", tmp_path / "dump.npz"), "both sides are dumps"),
        ((f"fake:{place / 'model.onnx'}", lowered), "holds no ranges"),
    ]
    before = files(tmp_path)
    for sides, said in cases:
        answer = nnaq("diff", *sides, *words(place, sound), "--csv", tmp_path / "out.csv")
        refused(answer, said)
        one_line(answer)
    assert files(tmp_path) == before


def test_an_output_of_a_dump_may_have_time_first_as_in_golden_vectors() -> None:
    builder = Builder("turned")
    x = builder.input("x", TensorType("f32", (1, "T", 3)), 1)
    (y,) = builder.node("relu", [x], {}, ["y"])
    builder.output(y, time_axis=1)
    graph = builder.build()
    made = run(graph, {"x": np.arange(12, dtype=np.float32).reshape(1, 4, 3)}).outputs["y"]
    model = Side("model", "float", {"y": made}, {}, graph, {"y": "y"})
    for array in (made, np.moveaxis(made, 1, 0)):
        assert not compare(model, Side("dump", "dump", {"y": array})).layers[0].mismatches
