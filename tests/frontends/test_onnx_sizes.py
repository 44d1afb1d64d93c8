"""The walk without the optimiser: arithmetic on sizes, and constants made from them."""

import numpy as np
import onnx
import pytest
from frontends.onnx_models import evaluate, inputs_of, model, normal

from nnaq.frontends.onnx_handlers import HANDLERS
from nnaq.frontends.onnx_importer import Walk, problem
from nnaq.frontends.onnx_sizes import total
from nnaq.frontends.ports import Names
from nnaq.interpret import run
from nnaq.ir.build import Builder
from nnaq.ir.types import TensorType

HELD = {
    "zero": np.array([0]),
    "one": np.array([1]),
    "two": np.array([2]),
    "first": np.array(0),
    "minus": np.array([-1]),
    "four": np.array([4]),
    "w": normal(6, 4),
}


def walked(given: onnx.ModelProto) -> Walk:
    """The model as it stands, imported node by node."""
    walk = Walk(Builder("tiny"), given.graph, Names())
    for port in given.graph.input:
        shape = tuple(d.dim_value or d.dim_param for d in port.type.tensor_type.shape.dim)
        walk.values[port.name] = walk.builder.input(walk.names.fresh(port.name), TensorType("f32", shape))
    walk.run(HANDLERS, lambda node: problem(node, "unknown"))
    return walk


CASES = {
    "keep the batch": (
        "(float[N,2,3] x) => (float y) { s = Shape(x) n = Gather(s, first) u = Unsqueeze(n, zero) "
        "z = Concat<axis=0>(u, minus) y = Reshape(x, z) }"
    ),
    "multiply": (
        "(float[N,2,3] x) => (float y) { s = Shape(x) a = Slice(s, zero, two, zero) n = Gather(s, zero) "
        "k = Gather(s, one) m = Mul(n, k) t = Gather(s, two) z = Concat<axis=0>(m, t) y = Reshape(x, z) }"
    ),
    "divide": (
        "(float[N,4,3] x) => (float y) { s = Shape(x) n = Gather(s, zero) k = Gather(s, one) h = Div(k, two) "
        "z = Concat<axis=0>(n, two, h, minus) y = Reshape(x, z) }"
    ),
    "last sizes": (
        "(float[N,2,3] x) => (float y) { s = Shape<start=1>(x) i = Identity(s) c = Cast<to=7>(i) "
        "p = Slice(c, zero, two, zero, one) z = Concat<axis=0>(minus, p) y = Reshape(x, z) }"
    ),
    "squeeze": (
        "(float[N,2,3] x) => (float y) { s = Shape(x) n = Gather(s, zero) q = Squeeze(n, zero) "
        "u = Unsqueeze(q, zero) z = Concat<axis=0>(u, minus) y = Reshape(x, z) }"
    ),
    "zeros": (
        "(float[2,3,N] x) => (float y) { s = Shape(x) p = Slice(s, zero, two, zero) "
        "z = ConstantOfShape(p) u = Unsqueeze(z, two) y = Add(x, u) }"
    ),
    "expand": (
        "(float[2,4] x) => (float y) { s = Shape(x) k = Constant<value = float[1,1] {0.5}>() "
        "z = Expand(k, s) y = Add(x, z) }"
    ),
    "value": "(float[N,2] x) => (float y) { k = Constant<value_float = 0.5>() y = Add(x, k) }",
}


@pytest.mark.parametrize("case", CASES)
def test_meaning_equals_the_onnx_evaluator(case: str) -> None:
    text = CASES[case]
    given = model(text, {name: array for name, array in HELD.items() if name in text})
    walk = walked(given)
    assert walk.problems == []
    walk.builder.output(walk.values["y"])
    inputs = inputs_of(given)
    found, expected = run(walk.builder.build(), inputs).outputs["y"], evaluate(given, inputs)["y"]
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "(float[N,2] x) => (float y) { s = Shape(x) z = ConstantOfShape(s) y = Add(x, z) }",
            "open shape ['N', 2]",
        ),
        (
            "(float[N,2] x) => (float y) { s = Shape(x) k = Div(s, four) y = Reshape(x, k) }",
            "divides an open size",
        ),
        ("(float[N,2] x) => (float y) { s = Shape(x) y = Relu(s) }", "holds no real numbers"),
    ],
)
def test_open_sizes_are_refused_where_they_are_needed(text: str, reason: str) -> None:
    (found,) = walked(model(text, {"four": HELD["four"]} if "four" in text else {})).problems
    assert reason in str(found)


def test_a_product_of_open_sizes_is_one_dimension() -> None:
    assert total(("N", 2, "T")) == "2*(N)*(T)"
