"""Small ONNX models from text, and what the ONNX project's own evaluator says about them."""

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import helper, numpy_helper, parser
from onnx.reference import ReferenceEvaluator

Arrays = Mapping[str, np.ndarray]


def model(text: str, weights: Arrays | None = None, opset: int = 18) -> onnx.ModelProto:
    """The model whose graph is `text`, `(inputs) => (outputs) { nodes }`; outputs `float y` are of any shape.

    weights: initialisers by name.
    """
    graph = parser.parse_graph(f"tiny {text}")
    for port in graph.output:
        if not port.type.tensor_type.shape.dim:
            port.type.tensor_type.ClearField("shape")
    graph.initializer.extend(
        numpy_helper.from_array(np.asarray(w), name) for name, w in (weights or {}).items()
    )
    for node in graph.node:
        node.name = node.name or f"{node.op_type}_of_{node.output[0]}"
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    """Float32 noise."""
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def inputs_of(given: onnx.ModelProto, frames: int = 5) -> dict[str, np.ndarray]:
    """Noise for every input; open axes get `frames` entries."""
    shapes = {
        p.name: [d.dim_value or frames for d in p.type.tensor_type.shape.dim] for p in given.graph.input
    }
    return {name: normal(*shape, seed=i) for i, (name, shape) in enumerate(shapes.items())}


def evaluate(given: onnx.ModelProto, inputs: Arrays) -> dict[str, np.ndarray]:
    """Outputs by name, by onnx.reference."""
    names = [port.name for port in given.graph.output]
    return dict(zip(names, ReferenceEvaluator(given).run(names, dict(inputs)), strict=True))
