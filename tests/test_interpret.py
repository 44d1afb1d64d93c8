"""Running graphs: reals and codes, fast and reference, whole and in chunks, with states."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnaq.errors import DataError
from nnaq.interpret import Interpreter, check_inputs, chunks, frame_count, run
from nnaq.ir.build import Builder
from nnaq.ir.graph import Graph
from nnaq.ir.numerics import Numerics
from nnaq.ir.op import Constant, Signature, lookup
from nnaq.ir.types import Quant, TensorType
from nnaq.ir.verify import verify

FRAME = TensorType("i8", (1, 4), Quant((0.05,), -3))
FRAMES = TensorType("i8", ("T", 4), Quant((0.05,), -3))


def rescaled(build: Builder, op: str, inputs: tuple[str, ...], kind: TensorType, name: str) -> str:
    """Add the integer form of an operator, with the constants its crossing makes."""
    operands = tuple(build.types[v] for v in inputs)
    prepared = lookup(op).prepare(Signature(operands, (kind,)), (None,) * len(inputs), Numerics())
    values = [
        build.constant(f"{name}.{o.name}", o.value, o.type) if isinstance(o, Constant) else inputs[o]
        for o in prepared.operands
    ]
    return build.node(op, values, prepared.attrs, (name,), (kind,))[0]


def recurrent() -> Graph:
    """h' = tanh(x + h), frame by frame: one frame a step."""
    build = Builder("recurrent")
    x = build.input("x", FRAME, time_axis=0)
    h = build.value("h", FRAME)
    total = rescaled(build, "add", (x, h), FRAME, "total")
    after = rescaled(build, "tanh", (total,), FRAME, "after")
    build.output(after, time_axis=0)
    build.state("memory", h, after, np.full((1, 4), 7, np.int8))
    return verify(build.build())


def stateless() -> Graph:
    """sqrt(x^2 + x^2) over any stretch of time."""
    build = Builder("stateless")
    x = build.input("x", FRAMES, time_axis=0)
    power_type = TensorType("i32", ("T", 4), Quant((0.05**2,)))
    (power,) = build.node("square", (x,), outputs=("power",), types=(power_type,))
    (total,) = build.node("add", (power, power), outputs=("total",), types=(power_type,))
    build.output(rescaled(build, "sqrt", (total,), FRAMES, "y"), time_axis=0)
    return verify(build.build())


def frames(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(-128, 128, (count, 4)).astype(np.int8)


seeds = st.integers(0, 2**32 - 1)


@given(st.integers(1, 12), seeds)
def test_reference_and_fast_kernels_give_the_same_bits(count, seed):
    for graph, chunk in ((recurrent(), 1), (stateless(), None)):
        results = [
            run(graph, {"x": frames(count, seed)}, mode, chunk=chunk) for mode in ("fast", "reference")
        ]
        for name in results[0].outputs:
            np.testing.assert_array_equal(results[0].outputs[name], results[1].outputs[name])
        for name in results[0].states:
            np.testing.assert_array_equal(results[0].states[name], results[1].states[name])


@given(st.integers(1, 20), st.integers(1, 21), seeds)
def test_a_stream_in_chunks_is_the_whole_recording(count, chunk, seed):
    x = {"x": frames(count, seed)}
    whole, pieces = run(stateless(), x), run(stateless(), x, chunk=chunk)
    np.testing.assert_array_equal(pieces.outputs["y"], whole.outputs["y"])


@given(st.integers(1, 10), st.integers(0, 10), seeds)
def test_a_state_carries_what_was_heard(count, cut, seed):
    """A recording run at once equals its two halves, the second begun where the first ended."""
    x = frames(count, seed)
    whole = run(recurrent(), {"x": x}, chunk=1)
    interpreter = Interpreter(recurrent())
    outputs = [interpreter.step({"x": x[i : i + 1]}).outputs["after"] for i in range(min(cut, count))]
    middle = dict(interpreter.states)
    second = Interpreter(recurrent())
    second.states = middle
    outputs += [second.step({"x": x[i : i + 1]}).outputs["after"] for i in range(min(cut, count), count)]
    np.testing.assert_array_equal(np.concatenate(outputs), whole.outputs["after"])
    np.testing.assert_array_equal(second.states["memory"], whole.states["memory"])
    np.testing.assert_array_equal(whole.states["memory"], whole.outputs["after"][-1:])


def test_reset_returns_to_the_initial_state():
    interpreter = Interpreter(recurrent())
    first = interpreter.step({"x": frames(1, 0)}).outputs["after"]
    assert (interpreter.step({"x": frames(1, 0)}).outputs["after"] != first).any()
    interpreter.reset()
    np.testing.assert_array_equal(interpreter.states["memory"], np.full((1, 4), 7, np.int8))
    np.testing.assert_array_equal(interpreter.step({"x": frames(1, 0)}).outputs["after"], first)


def test_kept_values_are_handed_out_over_the_whole_recording():
    x = frames(6, 0)
    result = run(stateless(), {"x": x}, keep=("power", "x"), chunk=2)
    np.testing.assert_array_equal(result.values["power"], (x.astype(np.int32) + 3) ** 2)
    np.testing.assert_array_equal(result.values["x"], x)


def test_a_real_graph_runs_by_its_meaning():
    build = Builder("real")
    x = build.input("x", TensorType("f32", ("T", 4)), time_axis=0)
    h = build.value("h", TensorType("f32", (1, 4)))
    (total,) = build.node("add", (x, h), outputs=("total",))
    (last,) = build.node("mul", (total, build.constant("half", np.array(0.5, np.float32))))
    build.output(last, time_axis=0)
    build.state("h", h, h, np.ones((1, 4), np.float32))
    graph = verify(build.build())
    sound = np.arange(8, dtype=np.float64).reshape(2, 4)
    result = run(graph, {"x": sound})
    assert result.outputs[last].dtype == np.float32
    np.testing.assert_array_equal(result.outputs[last], (sound + 1) / 2)
    np.testing.assert_array_equal(result.states["h"], np.ones((1, 4)))


def test_an_output_may_be_an_input_or_a_constant():
    build = Builder("through")
    build.output(build.input("x", TensorType("f32", (2,))))
    build.output(build.constant("c", np.array([1.0, 2.0], np.float32)))
    result = run(build.build(), {"x": np.zeros(2, np.float32)})
    assert {name: array.tolist() for name, array in result.outputs.items()} == {"x": [0, 0], "c": [1, 2]}


def test_chunks_cut_along_time_only():
    x = frames(5, 0)
    pieces = list(chunks(stateless(), {"x": x}, 2))
    assert [len(piece["x"]) for piece in pieces] == [2, 2, 1]
    assert frame_count(stateless(), {"x": x}) == 5
    assert frame_count(stateless(), {"x": x[:0]}) == 0
    assert run(stateless(), {"x": x[:0]}).outputs["y"].shape == (0, 4)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "graph 'stateless' takes x; found "),
        ({"y": np.zeros((2, 4))}, "takes x; found y"),
        ({"x": np.zeros((2, 4)), "z": np.zeros(1)}, "takes x; found x, z"),
        ({"x": np.zeros(4)}, r"input 'x' has shape \[4\], the model takes \[T,4\]"),
    ],
)
def test_inputs_that_do_not_fit_are_named(inputs, message):
    with pytest.raises(DataError, match=message):
        check_inputs(stateless(), inputs)
