"""silero-vad, a real streaming voice detector, lowered whole: the same integers on every road.

The model comes from the folder `make demo` fills (.demo), else from where the front-end's tests take
it: the package `silero-vad` or the folder that NNAQ_SILERO names.
"""

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from export.runtimes import RUNNER, file_name
from frontends.test_onnx_silero import silero, sound
from onnx.reference import ReferenceEvaluator

from nnaq.crossing import Lowering, import_options, lower_graph
from nnaq.export.check import file_equals_simulator
from nnaq.export.onnx import export_model
from nnaq.frontends import load
from nnaq.interpret import Interpreter, Result, chunks, run
from nnaq.ir.graph import Graph
from nnaq.quantize.recipe import load_recipe
from nnaq.simulate import simulate
from nnaq.targets import load_target

NAME = "silero_vad_16k_sequence.onnx"
DEMO = Path(__file__).parents[1] / ".demo" / NAME


@pytest.fixture(scope="module")
def lowering() -> Lowering:
    """The detector under its shipped recipe, calibrated on a synthetic voice."""
    recipe = load_recipe("silero_vad")
    real = load(DEMO if DEMO.is_file() else silero(NAME), import_options(recipe)).graph
    frames = sound(400)
    return lower_graph(
        real, [{"input": frames[:300]}], [{"input": frames[300:]}], recipe, load_target("edge8")
    )


@pytest.fixture(scope="module")
def integer(lowering) -> Graph:
    return lowering.crossing.integer


@pytest.fixture(scope="module")
def whole(integer) -> Result:
    return run(integer, {"input": sound(64)})


def equal(found: Result, expected: Result) -> None:
    for one, other in ((found.outputs, expected.outputs), (found.states, expected.states)):
        assert one.keys() == other.keys()
        for name in other:
            assert one[name].dtype == other[name].dtype
            assert np.array_equal(one[name], other[name]), name


@pytest.mark.parametrize("size", [1, 3, 7])
def test_any_chunk_gives_the_same_integers(integer, whole, size):
    equal(run(integer, {"input": sound(64)}, chunk=size), whole)


def test_the_reference_kernels_give_the_same_integers(integer):
    frames = {"input": sound(2)}
    equal(run(integer, frames, "reference"), run(integer, frames))


def test_states_are_carried(integer, whole):
    """What the test of chunks would miss: a state that never changes."""
    assert set(whole.states) == {"h", "c"}
    assert all(np.unique(array).size > 10 for array in whole.states.values())


def test_nothing_is_left_to_the_host(lowering):
    assert lowering.crossing.islands == {}
    assert simulate(lowering.crossing.integer, lowering.target).islands == ()


def test_the_detector_decides_as_before(lowering):
    figures = lowering.figures
    assert figures["frames"].integer == 100
    assert figures["agreement"].integer >= 0.97


def test_the_file_says_what_the_simulator_computes(integer):
    found = file_equals_simulator(export_model(integer), integer, {"input": sound(64)})
    assert found == (64 + 2 * 128, 0)


@pytest.mark.oracle
def test_two_runtimes_say_the_same_on_many_frames(integer, tmp_path):
    """2,048 frames in chunks of 64 through onnx.reference and ONNX Runtime, each with its own states."""
    model, frames = export_model(integer), {"input": sound(2048)}
    onnx.checker.check_model(model, full_check=True)
    interpreter, evaluator = Interpreter(integer), ReferenceEvaluator(model)
    names = [output.name for output in model.graph.output]
    data = model.SerializeToString()
    expected, values = [], 0
    for number, piece in enumerate(chunks(integer, frames, 64)):
        feeds = {**piece, **{s.input: interpreter.states[s.name] for s in integer.states}}
        result = interpreter.step(piece)
        wanted = {file_name(integer, n): a for n, a in result.outputs.items()}
        wanted |= {file_name(integer, s.output): result.states[s.name] for s in integer.states}
        for name, found in zip(names, evaluator.run(None, feeds), strict=True):
            assert np.array_equal(found, wanted[name]), f"onnx.reference, chunk {number}: {name}"
        (tmp_path / f"{number:03d}.onnx").write_bytes(data)
        np.savez(tmp_path / f"{number:03d}.in.npz", **feeds)
        expected.append(wanted)
        values += sum(array.size for array in wanted.values())
    subprocess.run([sys.executable, str(RUNNER), str(tmp_path)], check=True)
    for number, wanted in enumerate(expected):
        with np.load(tmp_path / f"{number:03d}.out.npz") as found:
            for name, array in wanted.items():
                assert np.array_equal(found[name], array), f"ONNX Runtime, chunk {number}: {name}"
    assert values == 2048 + 32 * 2 * 128
