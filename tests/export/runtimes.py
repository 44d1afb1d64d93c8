"""Both runtimes against the interpreter: exported bodies must give the very same integers."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

from nnaq.export.onnx import export_model
from nnaq.interpret import Interpreter, chunks, frame_count
from nnaq.ir.graph import Graph
from nnaq.ir.verify import verify

Case = tuple[Graph, Mapping[str, np.ndarray], int | None]
RUNNER = Path(__file__).with_name("ort_runner.py")


def runtimes_agree(cases: list[Case], folder: Path) -> None:
    """Every case (graph, inputs, frames per chunk) in the interpreter and both runtimes, state by state.

    All chunks of all cases go through ONNX Runtime in one process.
    """
    expected: dict[str, dict[str, np.ndarray]] = {}
    for index, (graph, inputs, size) in enumerate(cases):
        model = export_model(verify(graph))
        onnx.checker.check_model(model, full_check=True)
        evaluator = ReferenceEvaluator(model)
        for step, (feeds, results) in enumerate(steps(graph, inputs, size)):
            label = f"{index:03d}_{step}_{graph.name}"
            expected[label] = results
            (folder / f"{label}.onnx").write_bytes(model.SerializeToString())
            np.savez(folder / f"{label}.in.npz", **feeds)
            names = [output.name for output in model.graph.output]
            check(
                f"onnx.reference {label}", dict(zip(names, evaluator.run(None, feeds), strict=True)), results
            )
    subprocess.run([sys.executable, str(RUNNER), str(folder)], check=True)
    for label, results in expected.items():
        with np.load(folder / f"{label}.out.npz") as found:
            check(f"ONNX Runtime {label}", dict(found), results)


def steps(graph: Graph, inputs: Mapping[str, np.ndarray], size: int | None):
    """What the file is fed and must answer, chunk by chunk, from the interpreter's own states."""
    interpreter = Interpreter(graph)
    for piece in chunks(graph, inputs, size or frame_count(graph, inputs)):
        feeds = {**piece, **{state.input: interpreter.states[state.name] for state in graph.states}}
        result = interpreter.step(piece)
        results = {file_name(graph, name): value for name, value in result.outputs.items()}
        results |= {file_name(graph, s.output): result.states[s.name] for s in graph.states}
        yield feeds, results


def file_name(graph: Graph, name: str) -> str:
    return name if name in graph.producer else f"{name}:out"


def check(who: str, found: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray]) -> None:
    assert found.keys() == expected.keys(), who
    for name, value in expected.items():
        assert found[name].dtype == value.dtype, f"{who}: {name} is {found[name].dtype}, not {value.dtype}"
        assert found[name].shape == value.shape, f"{who}: {name} is {found[name].shape}, not {value.shape}"
        wrong = np.flatnonzero(found[name].ravel() != value.ravel())
        assert wrong.size == 0, f"{who}: {name} differs in {wrong.size} of {value.size} values"
