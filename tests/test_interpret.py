"""Running graphs: reals and codes, fast and reference, whole and in chunks, with states."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnaq.errors import DataError, NnaqError
from nnaq.interpret import Interpreter, check_inputs, chunks, frame_count, run, whole_groups
from nnaq.ir.build import Builder
from nnaq.ir.graph import Graph
from nnaq.ir.numerics import Numerics
from nnaq.ir.op import Constant, Signature, lookup
from nnaq.ir.types import Quant, TensorType, parse_type
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


def test_frames_that_belong_together_stay_together():
    graph = stateless()
    kind = graph.types["x"]
    tripled = replace(graph, types={**graph.types, "x": replace(kind, shape=("3*T", *kind.shape[1:]))})
    assert [whole_groups(graph, 4), whole_groups(tripled, 4), whole_groups(tripled, 3)] == [4, 6, 3]
    pieces = list(chunks(tripled, {"x": frames(9, 0)}, 4))
    assert [len(piece["x"]) for piece in pieces] == [6, 3]


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


def quantized_input(code: str) -> Graph:
    """A real x[T], read as codes of the type."""
    build = Builder("codes")
    x = build.input("x", TensorType("f32", ("T",)), time_axis=0)
    kind = parse_type(code)
    build.output(build.node("quantize", (x,), {"rounding": "half_even"}, ("q",), (kind,))[0], time_axis=0)
    return verify(build.build())


@pytest.mark.parametrize(
    "array",
    [
        np.array([0.0, np.nan], np.float32),
        np.array([np.inf, 0.0], np.float32),
        np.array([0.0, -np.inf]),
        np.array([1e300]),
        np.array([1.0, np.nan], np.float16),
    ],
)
def test_what_is_not_finite_is_no_code(array):
    for graph in (quantized_input("i8[T]<0.1, 3>"), quantized_input("i32[T]<1.0, 0>")):
        for call in (Interpreter(graph).step, lambda inputs, graph=graph: run(graph, inputs, chunk=1)):
            with pytest.raises(DataError, match="input 'x' holds values that are NaN or infinite"):
                call({"x": array})


def test_a_real_graph_takes_infinities():
    build = Builder("real")
    x = build.input("x", TensorType("f32", ("T",)), time_axis=0)
    build.output(build.node("relu", (x,), outputs=("y",))[0], time_axis=0)
    assert run(verify(build.build()), {"x": np.array([np.inf, -np.inf])}).outputs["y"].tolist() == [np.inf, 0]


def test_an_input_of_codes_takes_no_nan_either():
    with pytest.raises(DataError, match="input 'x' holds values that are NaN or infinite"):
        run(stateless(), {"x": np.full((2, 4), np.nan)})


@pytest.mark.parametrize("array", [np.array([None, 1.0]), np.array(["1"]), np.array([1j])])
def test_what_is_no_number_is_refused(array):
    with pytest.raises(DataError, match=r"input 'x' holds .*, the model takes f32"):
        run(quantized_input("i8[T]<0.1, 3>"), {"x": array})


def test_nothing_and_lists_are_arrays_too():
    graph = quantized_input("i8[T]<0.5, 0>")
    with pytest.raises(DataError, match=r"input 'x' has shape \[\], the model takes \[T\]"):
        Interpreter(graph).step({"x": None})
    assert run(graph, {"x": [1, 2]}).outputs["q"].tolist() == [2, 4]


def test_whole_numbers_are_not_rounded_from_fractions():
    whole, scaled = quantized_input("i32[T]<1.0, 0>"), quantized_input("i32[T]<0.5, 0>")
    assert run(whole, {"x": np.array([1.0, -2.0, 3.0])}).outputs["q"].tolist() == [1, -2, 3]
    assert run(whole, {"x": np.array([1, -2, 3])}).outputs["q"].tolist() == [1, -2, 3]
    assert run(scaled, {"x": np.array([1.5])}).outputs["q"].tolist() == [3]
    with pytest.raises(DataError, match=r"input 'x' takes whole numbers, found 1\.5"):
        Interpreter(whole).step({"x": np.array([1.0, 1.5, 2.5])})


def test_a_whole_number_that_is_read_as_a_real_too_may_have_fractions():
    build = Builder("both")
    x = build.input("x", TensorType("f32", ("T",)), time_axis=0)
    kind = parse_type("i32[T]<1.0, 0>")
    build.output(build.node("quantize", (x,), {"rounding": "half_even"}, ("q",), (kind,))[0], time_axis=0)
    build.output(build.node("relu", (x,), outputs=("r",))[0], time_axis=0)
    assert run(verify(build.build()), {"x": np.array([1.25])}).outputs["r"].tolist() == [1.25]


def test_run_names_the_inputs_it_takes():
    with pytest.raises(DataError, match="graph 'stateless' takes x; found y"):
        run(stateless(), {"y": np.zeros((2, 4))})


def test_two_threads_may_not_step_one_interpreter_at_a_time():
    interpreter, x = Interpreter(recurrent()), {"x": np.zeros((1, 4), np.int8)}
    check, interpreter._check = interpreter._check, lambda inputs: interpreter.step(inputs)
    with pytest.raises(NnaqError, match="graph 'recurrent': two threads step one Interpreter at a time"):
        interpreter.step(x)
    interpreter._check = check
    assert len(interpreter.step(x).outputs) == 1
