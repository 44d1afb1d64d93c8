"""Quantised TFLite files: every operator that is read gives the integers of tflite-micro.

The files and their runs are golden vectors of `tests/oracles/tflm_files.py`; the marked tests make
fresh ones and compare those.
"""

import hashlib
import json
import os
import secrets
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command_line import refused
from frontends.tflite_files import GOLDEN, GROUPS, cases, compared, model_of

from nnaq.errors import FrontendError
from nnaq.frontends import check, load, tflite
from nnaq.frontends.tflite_handlers import HANDLERS
from nnaq.frontends.tflite_versions import NEWEST

ROOT = Path(__file__).parents[2]
INDEX = json.loads((GOLDEN / "index.json").read_text())
SEED = int(os.environ.get("NNAQ_ORACLE_SEED", secrets.randbelow(2**31)))


def hold(folder: Path, group: str, path: Path) -> tuple[set[str], int]:
    """Compare all runs of a group; the operators in it, and how many values there were."""
    operators, values = set(), 0
    for number, case in enumerate(cases(group, folder)):
        for what, ours, theirs in compared(case, path):
            assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
            assert np.array_equal(ours, theirs), f"{group}, case {number}: {what}"
            operators |= set(what.split())
            values += theirs.size
    return operators, values


@pytest.mark.parametrize("group", GROUPS)
def test_golden_files(group, tmp_path):
    operators, values = hold(GOLDEN, group, tmp_path / "model.tflite")
    assert values == INDEX[f"tflite__{group}.npz"]["values_compared"]
    assert operators <= set(HANDLERS)


@pytest.mark.parametrize("group", GROUPS)
def test_reference_kernels_of_one_file(group, tmp_path):
    for what, ours, theirs in compared(cases(group)[-1], tmp_path / "model.tflite", "reference"):
        assert np.array_equal(ours, theirs), what


def test_every_operator_is_in_a_golden_file(tmp_path):
    found = set()
    for group in GROUPS:
        for case in cases(group):
            file = tflite.read(model_of(case, tmp_path / "model.tflite"))
            found |= {node.op for node in file.operators}
    assert found == set(HANDLERS) == set(NEWEST)


def test_the_index_names_the_committed_files():
    assert set(INDEX) == {path.name for path in GOLDEN.glob("*.npz")}
    for name, entry in INDEX.items():
        assert hashlib.sha256((GOLDEN / name).read_bytes()).hexdigest() == entry["sha256"], name
        assert (GOLDEN / name).stat().st_size <= 200_000


@pytest.mark.parametrize(
    "group", ["conv_2d", "depthwise_conv_2d", "transpose_conv", "fully_connected", "lstm"]
)
def test_outputs_are_not_all_saturated(group):
    """What the comparison would miss: layers whose every output stands at an end."""
    data = np.concatenate([case["y"].view(np.int8) for case in cases(group)])
    assert np.mean((data > -128) & (data < 127)) > 0.5
    assert np.unique(data).size > 200


@pytest.mark.oracle
@pytest.mark.parametrize("group", GROUPS)
def test_fresh_files(group, tmp_path):
    if not (ROOT / ".oracles" / "tflm" / "bin" / "python").exists():
        pytest.skip("no environment of the oracle 'tflm': run `make oracles`")
    script = [sys.executable, str(ROOT / "tests" / "oracles" / "generate.py"), "--oracle", "tflite"]
    wanted = ["--op", group, "--seed", str(SEED), "--out", str(tmp_path)]
    made = subprocess.run([*script, *wanted], capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    _, values = hold(tmp_path, group, tmp_path / "model.tflite")
    assert values, f"NNAQ_ORACLE_SEED={SEED} repeats it"


# --- ports and states


def imported(group: str, number: int, tmp_path: Path) -> tflite.Imported:
    return load(model_of(cases(group)[number], tmp_path / "model.tflite"))


def test_reals_at_the_edges_become_real_ports(tmp_path):
    first, last = imported("edges", 6, tmp_path).graph, imported("edges", 8, tmp_path).graph
    assert [node.op for node in first.nodes] == ["quantize"]
    assert first.types[first.inputs[0].name].dtype == "f32"
    assert [node.op for node in last.nodes] == ["dequantize"]
    assert last.types[last.outputs[0].name].dtype == "f32"


def test_u8_ports_are_moved_to_i8_and_said_so(tmp_path):
    found = imported("edges", 2, tmp_path)
    assert found.graph.types[found.graph.inputs[0].name].dtype == "i8"
    assert "u8 in the file" in found.notes[0]


def test_variables_become_states_with_their_first_contents(tmp_path):
    plain, filled = imported("variables", 0, tmp_path).graph, imported("variables", 1, tmp_path).graph
    for graph in (plain, filled):
        assert [state.name for state in graph.states] == ["register"]
    (start,) = (plain.constants[state.initial] for state in plain.states)
    assert np.unique(start).tolist() == [plain.types[plain.states[0].input].zero_point]
    assert np.unique(filled.constants[filled.states[0].initial]).size > 5


def test_an_lstm_keeps_both_states(tmp_path):
    assert len(imported("lstm", 0, tmp_path).graph.states) == 2


def test_ports_have_the_names_of_the_file(tmp_path):
    graph = imported("conv_2d", 0, tmp_path).graph
    assert [port.name for port in graph.inputs] == ["tensor_0"]
    assert graph.outputs[0].name.startswith("tensor_")


# --- the command line


def test_check_show_run_and_diff_take_a_file(nnaq, tmp_path):
    path = model_of(cases("conv_2d")[1], tmp_path / "model.tflite")
    graph = load(path).graph
    (port,) = graph.inputs
    feed = np.ones([int(n) for n in graph.types[port.name].shape], np.int8)
    np.savez(tmp_path / "in.npz", **{port.name: feed})
    assert "all imported" in nnaq("check", path).out
    assert "conv2d" in nnaq("show", path).out
    assert nnaq("run", path, tmp_path / "in.npz", "-o", tmp_path / "out.npz").code == 0
    with np.load(tmp_path / "out.npz") as out:
        assert out[f"output:{graph.outputs[0].name}"].dtype == np.int8
    said = nnaq("diff", f"integer:{path}", f"exported:{path}", "--inputs", tmp_path / "in.npz")
    assert said.code == 0
    assert "are equal" in said.out
    assert check(path) == ()


def test_there_is_nothing_to_lower(nnaq, tmp_path):
    path = model_of(cases("conv_2d")[1], tmp_path / "model.tflite")
    refused(nnaq("lower", path, "--calibrate", tmp_path, "-o", tmp_path / "out"), "nothing to lower")


def test_a_missing_file_is_one_sentence(tmp_path):
    with pytest.raises(FrontendError, match="cannot be read"):
        load(tmp_path / "gone.tflite")
