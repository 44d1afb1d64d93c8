"""Does the lowered file say what the simulator computes? The file is executed and compared, bit for bit."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

from nnaq.export.onnx import SUFFIX
from nnaq.interpret import Interpreter, chunks, join
from nnaq.ir.graph import Graph
from nnaq.ir.time import time_axis

CHUNK = 64  # frames at a time: bodies compute in int64 and gather their windows, about 2 MB a frame


class Comparison(NamedTuple):
    """Values compared, and how many of them differ."""

    values: int
    mismatches: int


def file_equals_simulator(
    model: onnx.ModelProto, graph: Graph, inputs: Mapping[str, np.ndarray], chunk: int = CHUNK
) -> Comparison:
    """Run the lowered file by onnx.reference and the graph by the fast kernels on the same inputs.

    Outputs of every chunk and the states after it are compared; states are fed back in both.
    Without host islands any mismatch is a bug; after an island values may differ by float rounding,
    and are counted all the same. What one input has left when another has ended is not compared: the
    standard's Scan, of which files are made, takes no stretch without frames.
    """
    values = mismatches = 0
    for file, simulator in zip(
        _file(model, graph, inputs, chunk), _simulator(graph, inputs, chunk), strict=True
    ):
        for name, expected in simulator.items():
            values += expected.size
            mismatches += differing(file[name], expected)
    return Comparison(values, mismatches)


def _pieces(graph: Graph, inputs: Mapping[str, np.ndarray], chunk: int) -> Iterator[Mapping[str, np.ndarray]]:
    """The chunks in which all inputs with a time axis have frames, or none has."""
    timed = [(port.name, port.time_axis) for port in graph.inputs if port.time_axis is not None]
    for piece in chunks(graph, inputs, chunk):
        if len({piece[name].shape[axis] > 0 for name, axis in timed}) < 2:
            yield piece


def differing(found: np.ndarray, expected: np.ndarray) -> int:
    """How many of the expected values are not there; all of them where shape or dtype is another."""
    if found.shape != expected.shape or found.dtype != expected.dtype:
        return max(expected.size, 1)
    return int((found != expected).sum())


def _simulator(graph: Graph, inputs: Mapping[str, np.ndarray], chunk: int) -> Iterator[dict[str, np.ndarray]]:
    interpreter = Interpreter(graph)
    for piece in _pieces(graph, inputs, chunk):
        result = interpreter.step(piece)
        yield result.outputs | {s.output: result.states[s.name] for s in graph.states}


def executed(
    model: onnx.ModelProto, graph: Graph, inputs: Mapping[str, np.ndarray], chunk: int = CHUNK
) -> dict[str, np.ndarray]:
    """Every value of the lowered file as onnx.reference computes it, joined along time."""
    session = ReferenceEvaluator(model)
    states = {s.input: graph.constants[s.initial] for s in graph.states}
    pieces = []
    for piece in _pieces(graph, inputs, chunk):
        made = session.run(None, {**piece, **states}, intermediate=True)
        pieces.append({name.removesuffix(SUFFIX): array for name, array in made.items() if name})
        states = {s.input: pieces[-1][s.output] for s in graph.states}
    return {
        name: join([p[name] for p in pieces], time_axis(graph, name))
        for name in pieces[0]
        if name in graph.types
    }


def _file(
    model: onnx.ModelProto, graph: Graph, inputs: Mapping[str, np.ndarray], chunk: int
) -> Iterator[dict[str, np.ndarray]]:
    session = ReferenceEvaluator(model)
    states = {s.input: graph.constants[s.initial] for s in graph.states}
    for piece in _pieces(graph, inputs, chunk):
        made = session.run(None, {**piece, **states})
        results = {n.removesuffix(SUFFIX): a for n, a in zip(session.output_names, made, strict=True)}
        states = {s.input: results[s.output] for s in graph.states}
        yield results
