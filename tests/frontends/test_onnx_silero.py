"""silero-vad, a streaming speech detector: four of its published files become one kind of graph.

The files come from the folder that the environment variable NNAQ_SILERO names, else from .demo, which
`make demo` and `make test` fill, else from the package `silero-vad` (located, not imported).
"""

import os
from importlib import metadata
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from nnaq.frontends.onnx import check, load
from nnaq.frontends.onnx_simplify import simplify, walk
from nnaq.frontends.ports import ImportOptions
from nnaq.interpret import Interpreter, run
from nnaq.ir.graph import Port
from nnaq.ir.text import parse_graph, print_graph

SEQUENCE = ImportOptions(time={"input": 0, "speech_probs": 0}, states={"h": "hn", "c": "cn"})
DEMO = Path(__file__).parents[2] / ".demo"
STEP = ImportOptions(pins={"sr": 16000}, shapes={"input": (1, 576), "state": (2, 1, 128)})


def silero(name: str) -> Path:
    """The path of one of silero-vad's files; skips the test where there is none."""
    folder = os.environ.get("NNAQ_SILERO") or (str(DEMO) if DEMO.is_dir() else None)
    if folder is None:
        try:
            folder = str(metadata.distribution("silero-vad").locate_file("silero_vad/data"))
        except metadata.PackageNotFoundError:
            pytest.skip("silero-vad's files are not here: run `make demo` or set NNAQ_SILERO to their folder")
    path = Path(folder) / name
    if not path.is_file():
        pytest.skip(f"there is no {name} in {folder}")
    return path


def sound(frames: int) -> np.ndarray:
    """Frames of 576 samples: bursts of a harmonic sound between silence and noise."""
    rng = np.random.default_rng(5)
    t = np.arange(frames * 512 + 64) / 16000
    voice = sum(np.sin(2 * np.pi * 140 * k * t) / k for k in range(1, 12))
    gate = np.sin(2 * np.pi * 3 * t) > 0
    wave = 0.1 * voice * gate + 0.01 * rng.normal(size=t.size)
    return np.stack([wave[n * 512 : n * 512 + 576] for n in range(frames)]).astype(np.float32)


@pytest.mark.parametrize(
    ("name", "nodes"),
    [
        ("silero_vad.onnx", 36),
        ("silero_vad_16k_op15.onnx", 36),
        ("silero_vad_op18_ifless.onnx", 43),
    ],
)
def test_the_published_files_become_small(name: str, nodes: int) -> None:
    simple, _ = simplify(onnx.load(silero(name)), STEP.pins, STEP.shapes)
    ops = [node.op_type for node in walk(simple.graph)]
    assert len(ops) == nodes
    assert not {"If", "Loop", "Shape"} & set(ops)


def test_without_pins_every_obstacle_is_listed() -> None:
    assert [problem.op for problem in check(silero("silero_vad.onnx"))] == ["If"]


def test_the_sequence_model_keeps_its_time() -> None:
    graph = load(silero("silero_vad_16k_sequence.onnx"), SEQUENCE).graph
    assert graph.inputs == (Port("input", time_axis=0),)
    assert graph.outputs == (Port("speech_probs", time_axis=0),)
    assert [(state.input, state.output) for state in graph.states] == [("h", "hn"), ("c", "cn")]
    assert graph.types["input"].shape == ("T", 576)
    assert graph.types["speech_probs"].shape == ("T",)
    assert sum(node.op == "lstm" for node in graph.nodes) == 1
    assert print_graph(parse_graph(print_graph(graph))) == print_graph(graph)


def test_the_sequence_model_means_what_onnx_says() -> None:
    path = silero("silero_vad_16k_sequence.onnx")
    frames = sound(20)
    zeros = np.zeros((1, 1, 128), np.float32)
    expected = ReferenceEvaluator(str(path)).run(None, {"input": frames, "h": zeros, "c": zeros})
    graph = load(path, SEQUENCE).graph
    whole, chunked = run(graph, {"input": frames}), run(graph, {"input": frames}, chunk=3)
    for result in (whole, chunked):
        np.testing.assert_allclose(result.outputs["speech_probs"], expected[0], atol=1e-4)
        np.testing.assert_allclose(result.states["h"], expected[1], atol=1e-4)
        np.testing.assert_allclose(result.states["c"], expected[2], atol=1e-4)


@pytest.mark.parametrize(
    "name", ["silero_vad.onnx", "silero_vad_op18_ifless.onnx", "silero_vad_16k_op15.onnx"]
)
def test_the_step_models_mean_what_onnx_says(name: str) -> None:
    path = silero(name)
    graph = load(path, STEP).graph
    assert [(state.input, state.output) for state in graph.states] == [("state", "stateN")]
    evaluator = ReferenceEvaluator(str(path))
    state = np.zeros((2, 1, 128), np.float32)
    interpreter = Interpreter(graph)
    for frame in sound(4):
        feed = {"input": frame[None], "state": state, "sr": np.array(16000)}
        expected, state = evaluator.run(["output", "stateN"], feed)
        found = interpreter.step({"input": frame[None]})
        np.testing.assert_allclose(found.outputs["output"], expected, atol=1e-4)
        np.testing.assert_allclose(found.states["state"], state, atol=1e-4)
