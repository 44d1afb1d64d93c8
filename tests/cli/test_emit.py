"""Lowered models in the formats of other tools: what is written, and what of it reads back."""

import json
import subprocess
import sys

import numpy as np
import pytest
from command_line import files, lower_words, refused
from frontends.onnx_models import normal
from voice_models import FRAME, detector

from nnaq.artifact import write_arrays, write_golden
from nnaq.codebooks.choice import PaletteChoice
from nnaq.crossing import lower_graph
from nnaq.errors import ArtifactError
from nnaq.export.emit import Lowered, emit, formats
from nnaq.export.encodings import code_type, encodings
from nnaq.export.weights import read_weights, weights_file
from nnaq.frontends import ImportOptions
from nnaq.frontends.onnx import load_model
from nnaq.interpret import run
from nnaq.quantize.recipe import parse_recipe
from nnaq.targets import load_target

DATA = [{"x": normal(60, FRAME, seed=seed)} for seed in range(3)]


@pytest.fixture(scope="module")
def crossing():
    """A convolution, an LSTM and a score, their weights in 4-bit palettes."""
    options = ImportOptions(time={"x": 0, "score": 0}, states={"h": "hn", "c": "cn"})
    real = load_model(detector(), "tiny", options).graph
    recipe = parse_recipe('name = "tiny"\n[quantize]\nactivations = "8"').with_palettes(PaletteChoice(4))
    return lower_graph(real, DATA[:2], DATA[2:], recipe, load_target("edge8")).crossing


@pytest.fixture(scope="module")
def emitted(crossing, tmp_path_factory):
    folder = tmp_path_factory.mktemp("emitted")
    model = Lowered(crossing.integer, crossing.fake, load_target("edge8"), DATA[2])
    emit(model, ["golden", "encodings", "safetensors"], folder)
    kept = [v for node in crossing.integer.nodes for v in node.outputs]
    write_golden(folder / "golden.npz", crossing.integer, DATA[2], run(crossing.integer, DATA[2], keep=kept))
    return folder


def test_formats_come_parted_by_commas_and_repeated():
    assert formats(["encodings, golden", "golden"]) == ("encodings", "golden")
    with pytest.raises(ArtifactError, match="no format 'encoding' to emit; did you mean 'encodings'"):
        formats(["encoding"])


def test_lower_writes_what_is_asked_for(nnaq, place):
    refused(
        nnaq("lower", *lower_words(place), "--emit", "pickle"), "no format 'pickle' to emit; there are golden"
    )
    assert not (place / "out").exists()
    assert (
        nnaq("lower", *lower_words(place), "--emit", "golden,encodings", "--emit", "safetensors,c").code == 0
    )
    assert {"check_golden.py", "encodings.json", "weights.safetensors", "hardware/c/check.c"} <= set(
        files(place / "out")
    )


# --- known answers


def checked(folder, arrays):
    write_arrays(folder / "device.npz", arrays)
    command = [sys.executable, "-I", "check_golden.py", "golden.npz", "device.npz"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_the_checker_finds_one_wrong_value(emitted):
    with np.load(emitted / "golden.npz") as file:
        known = {name: file[name] for name in file.files}
    said = checked(emitted, known)
    assert (said.returncode, said.stderr) == (0, "")
    assert said.stdout.count(": equal") == sum(not name.startswith("input:") for name in known)
    name = next(name for name, array in known.items() if name.startswith("activation:") and array.ndim > 1)
    wrong = known[name].copy()
    wrong[3, 0] = ~wrong[3, 0]
    said = checked(emitted, known | {name: wrong})
    assert said.returncode == 1
    assert f"{name}: 1 of {wrong.size} differ, first at (3, 0" in said.stdout


def test_the_checker_refuses_other_shapes_and_nothing_at_all(emitted):
    with np.load(emitted / "golden.npz") as file:
        state = file["state:h"]
    said = checked(emitted, {"state:h": state.astype(np.int16)})
    assert said.returncode == 1 and "int16[1, 1, 8], expected int8[1, 1, 8]" in said.stdout
    assert checked(emitted, {"y": state}).returncode == 2


def test_the_checker_knows_nothing_of_nnaq(emitted):
    text = (emitted / "check_golden.py").read_text(encoding="utf-8")
    assert [line for line in text.splitlines() if "import" in line] == ["import sys", "import numpy as np"]


# --- encodings and weights


def test_encodings_say_the_reals_of_every_code(emitted, crossing):
    read = json.loads((emitted / "encodings.json").read_text(encoding="utf-8"))
    assert read == encodings(crossing.integer)
    entries = {e["name"]: e for e in (*read["activation_encodings"], *read["param_encodings"])}
    types = crossing.integer.types
    assert entries.keys() == {name for name, kind in types.items() if kind.quant is not None}
    for name, entry in entries.items():
        quant = types[name].quant
        made = code_type(entry, quant.axis)
        assert (made.dtype, made.quant) == (types[name].dtype, quant)
        lowest = (0 + entry["offset"][0]) * entry["scale"][0]  # code 0 of those that start at 0
        assert lowest == (-(2 ** (entry["bw"] - 1)) - quant.zero_point) * quant.scale[0]
        assert entry["is_sym"] == (quant.zero_point == 0)


def test_weights_come_back_with_their_types(emitted, crossing):
    read = read_weights(emitted / "weights.safetensors")
    assert read.keys() == crossing.integer.constants.keys()
    for name, (array, kind) in read.items():
        assert kind == crossing.integer.types[name]
        assert array.dtype == crossing.integer.constants[name].dtype
        np.testing.assert_array_equal(array, crossing.integer.constants[name])
    assert any(kind.palette is not None for _, kind in read.values())


def test_weights_that_are_no_longer_whole_are_refused(tmp_path, crossing):
    path = tmp_path / "weights.safetensors"
    data = weights_file(crossing.integer)
    for text in (data[:40], data[:-1], data.replace(b'"F32"', b'"F99"').replace(b"I8", b"U8")):
        path.write_bytes(text)
        with pytest.raises(ArtifactError, match=r"weights\.safetensors"):
            read_weights(path)
