"""The walk without the optimiser: arithmetic on sizes, and constants made from them."""

import numpy as np
import onnx
import pytest
from frontends.onnx_models import evaluate, inputs_of, model, normal

from nnaq.errors import OpError
from nnaq.frontends.onnx_handlers import HANDLERS
from nnaq.frontends.onnx_importer import Walk, problem
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
    "unit": np.array(1),
    "four": np.array([4]),
    "w": normal(6, 4),
    "v": normal(11, 4),
    "turned": normal(4, 2),
    "five": np.array([5]),
    "six": np.array([6]),
    "far": np.array([2**63 - 1]),
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
    "divide down": (
        "(float[N,4,3] x) => (float y) { s = Shape(x) d = Div(s, four) n = Gather(s, zero) "
        "k = Gather(d, one) z = Concat<axis=0>(n, k, minus) y = Reshape(x, z) }"
    ),
    "sums": (
        "(float[N,4,3] x) => (float y) { s = Shape(x) a = Sub(s, four) b = Add(a, four) y = Reshape(x, b) }"
    ),
    "choose": (
        "(float[N,4,3] x) => (float y) "
        "{ s = Shape(x) e = Equal(s, minus) k = Where(e, one, s) y = Reshape(x, k) }"
    ),
    "size": (
        "(float[2,4,3] x) => (float y) { n = Size(x) s = Unsqueeze(n, zero) z = Concat<axis=0>(minus, s) "
        "y = Reshape(x, z) }"
    ),
    "open zeros": ("(float[N,4] x) => (float y) { s = Shape(x) z = ConstantOfShape(s) y = Add(x, z) }"),
    "open expand": (
        "(float[N,M] x, float[1,M] k) => (float y) { s = Shape(x) z = Expand(k, s) y = Add(x, z) }"
    ),
    "open range": (
        "(float[N,2] x) => (float y) { s = Shape(x) n = Gather(s, first) r = Range(first, n, unit) "
        "f = Cast<to=1>(r) u = Unsqueeze(f, one) y = Add(x, u) }"
    ),
    "two open axes and a new one": (
        "(float[N,M] x, float[M,N] z) => (float y) { a = Unsqueeze(x, zero) b = Transpose<perm=[1,0]>(z) "
        "c = Unsqueeze(b, one) d = Squeeze(c, one) y = Add(a, d) }"
    ),
    "two open axes and a merged one": (
        "(float[1,2,N,4] x) => (float y) { s = Shape(x) t = Slice(s, two, four) "
        "z = Concat<axis=0>(minus, t) y = Reshape(x, z) }"
    ),
    "open end of a table": (
        "(float[N,4] x) => (float y) { s = Shape(x) n = Slice(s, zero, one) k = Slice(w, zero, n, zero) "
        "y = Add(x, k) }"
    ),
    "later end of a table": (
        "(float[N,4] x) => (float y) { s = Shape(x) n = Slice(s, zero, one) m = Add(n, one) "
        "k = Slice(w, one, m, zero) y = Add(x, k) }"
    ),
    "open start of a table": (
        "(float[N,4] x) => (float y) { s = Shape(x) n = Slice(s, zero, one) m = Sub(six, n) "
        "k = Slice(w, m, far, zero) y = Add(x, k) }"
    ),
    "open start from the end": (
        "(float[N,4] x) => (float y) { s = Shape(x) n = Slice(s, zero, one) m = Sub(zero, n) "
        "k = Slice(w, m, far, zero) y = Add(x, k) }"
    ),
    "open start and end of a table": (
        "(float[N,4] x) => (float y) { s = Shape(x) n = Slice(s, zero, one) m = Sub(six, n) p = Add(five, n) "
        "k = Slice(v, m, p, zero) y = MatMul(k, turned) }"
    ),
    "open end of its own": (
        "(float[N,4] x) => (float y) { s = Shape(x) n = Slice(s, zero, one) m = Sub(n, one) "
        "y = Slice(x, one, m, zero) }"
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
            "(float[N,2] x) => (float y) { s = Shape(x) k = Div(four, s) y = Reshape(x, k) }",
            "divides 4 by 'N'",
        ),
        ("(float[N,2] x) => (float y) { s = Shape(x) y = Relu(s) }", "holds no real numbers"),
    ],
)
def test_open_sizes_are_refused_where_they_are_needed(text: str, reason: str) -> None:
    (found,) = walked(model(text, {"four": HELD["four"]} if "four" in text else {})).problems
    assert reason in str(found)


@pytest.mark.parametrize(
    ("case", "table", "most"),
    [("open start of a table", "w", 6), ("open start from the end", "w", 6)]
    + [("open start and end of a table", table, 6) for table in ("v", "longer")],
)
def test_more_entries_than_a_table_has_are_refused(case: str, table: str, most: int) -> None:
    text = CASES[case].replace("Slice(v,", f"Slice({table},")
    held = HELD | {"longer": normal(12, 4)}
    given = model(text, {name: array for name, array in held.items() if name in text})
    walk = walked(given)
    walk.builder.output(walk.values["y"])
    graph = walk.builder.build()
    for size in range(1, most + 1):
        inputs = {"x": normal(size, 4)}
        found, expected = run(graph, inputs).outputs["y"], evaluate(given, inputs)["y"]
        np.testing.assert_allclose(found, expected, rtol=1e-6)
    with pytest.raises(OpError, match="gather has the index"):
        run(graph, {"x": normal(most + 1, 4)})
