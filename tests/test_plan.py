"""Plans of steps: the same bits as node by node, whatever shapes, states and layouts of memory come along."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from simulate.lowered import Lowered, recurrent

from nnaq import plan
from nnaq.errors import OpError
from nnaq.interpret import Interpreter
from nnaq.ir.graph import Graph
from nnaq.ir.op import Bindable, Signature, lookup
from nnaq.ir.types import Palette, Quant, TensorType, parse_type
from nnaq.ir.verify import verify
from nnaq.kernels.bound import Copy, single
from nnaq.plan import Plan, Plans

CODES = "i8[{}]<0.05, 3>"
MOVES = ("reshape", "transpose", "slice", "pad", "concat", "tanh", "rescale")
seeds = st.integers(0, 2**32 - 1)


def moved(draw: st.DrawFn, build: Lowered, values: list[str], name: str) -> str:
    """One more node over [2, n] codes, or over more axes and back again."""
    op, x = draw(st.sampled_from(MOVES)), draw(st.sampled_from(values))
    rows, length = build.types[x].shape
    if op == "reshape":
        return build.crossed(op, (x,), (CODES.format(""),), name, shape=(rows, length))[0]
    if op == "transpose":
        turned = build.crossed(op, (x,), (CODES.format(""),), f"{name}t", perm=(1, 0))
        return build.crossed("reshape", turned, (CODES.format(""),), name, shape=(rows, length))[0]
    if op == "slice":
        step, axis = (
            draw(st.sampled_from([(0, 2**31 - 1, 1), (-1, -(2**31) + 1, -1)])),
            draw(st.integers(0, 1)),
        )
        attrs = {"starts": step[:1], "ends": step[1:2], "steps": step[2:], "axes": (axis,)}
        return build.crossed(op, (x,), (CODES.format(""),), name, **attrs)[0]
    if op == "pad":
        pads, mode = (
            draw(st.tuples(*[st.integers(0, 1)] * 4)),
            draw(st.sampled_from(["constant", "reflect", "edge"])),
        )
        wide = build.crossed(op, (x,), (CODES.format(""),), f"{name}p", pads=pads, mode=mode)
        cut = {"starts": (0, 0), "ends": (rows, length), "axes": (0, 1), "steps": (1, 1)}
        return build.crossed("slice", wide, (CODES.format(""),), name, **cut)[0]
    if op == "concat":
        axis, other = draw(st.integers(0, 1)), draw(st.sampled_from(values))
        joined = build.crossed(op, (x, other), (CODES.format(""),), f"{name}j", axis=axis)
        cut = {"starts": (1,), "ends": (1 + (rows, length)[axis],), "axes": (axis,), "steps": (1,)}
        return build.crossed("slice", joined, (CODES.format(""),), name, **cut)[0]
    return build.crossed(op, (x,), (CODES.format("") if op == "rescale" else "i8[]<0.05, 3>",), name)[0]


@st.composite
def streams(draw: st.DrawFn) -> Graph:
    """x [2, n] and states of that shape through nodes that move codes and a few that make new ones."""
    build, kind = Lowered("stream"), CODES.format(f"2,{draw(st.integers(1, 5))}")
    build.input("x", parse_type(kind))
    states = [build.value(f"s{i}", parse_type(kind)) for i in range(draw(st.integers(0, 2)))]
    values = ["x", *states, build.codes("k", kind)]
    for i in range(draw(st.integers(1, 8))):
        values.append(moved(draw, build, values, f"v{i}"))
    for i, state in enumerate(states):
        initial = np.random.default_rng(i).integers(-128, 128, build.types["x"].shape).astype(np.int8)
        build.state(state, state, draw(st.sampled_from(values)), initial)
    for name in draw(st.lists(st.sampled_from(values), min_size=1, max_size=3, unique=True)):
        build.output(name)
    return verify(build.build())


def unplanned(graph: Graph, inputs, states, keep=(), mode="fast"):
    """One step from given states by an interpreter that has never seen the shapes."""
    interpreter = Interpreter(graph, mode, keep)
    interpreter.states = dict(states)
    return interpreter.step(inputs)


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    """The first step has no plan, the second makes one, the third repeats it; then it is compiled."""
    monkeypatch.setattr(plan, "REPEATS", 1)


def compare(graph: Graph, feeds, keep=()) -> None:
    """Every step of a stream by its plan, against the same step node by node, by both kinds of kernels.

    What was handed out is read after the last step: nothing of it may have been overwritten.
    """
    interpreter, results, expected = Interpreter(graph, keep=keep), [], []
    for inputs in feeds:
        before = {name: array.copy() for name, array in interpreter.states.items()}
        expected.append([unplanned(graph, inputs, before, keep, mode) for mode in ("fast", "reference")])
        results.append(interpreter.step(inputs))
    for found, wanted in zip(results, expected, strict=True):
        for one in wanted:
            for part in ("outputs", "states", "values"):
                left, right = getattr(found, part), getattr(one, part)
                assert left.keys() == right.keys()
                for name in right:
                    assert left[name].dtype == right[name].dtype
                    np.testing.assert_array_equal(left[name], right[name])


@given(streams(), seeds, st.data())
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_planned_steps_have_the_bits_of_unplanned_ones(graph, seed, data):
    random = np.random.default_rng(seed)
    feeds = [{"x": random.integers(-128, 128, graph.types["x"].shape).astype(np.int8)} for _ in range(5)]
    keep = data.draw(st.sets(st.sampled_from(sorted(graph.types)), max_size=3))
    compare(graph, feeds, keep)


def chunked() -> Graph:
    """The last two frames of the state and x [T, 3] are the next state; y is all of them, turned round."""
    build = Lowered("chunked")
    build.input("x", parse_type(CODES.format("T,3")), time_axis=0)
    build.value("s", parse_type(CODES.format("2,3")))
    build.crossed("concat", ("s", "x"), (CODES.format(""),), "joined", axis=0)
    last = {"starts": (-2,), "ends": (2**31 - 1,), "axes": (0,), "steps": (1,)}
    build.crossed("slice", ("joined",), (CODES.format(""),), "next", **last)
    build.crossed("transpose", ("joined",), (CODES.format(""),), "turned", perm=(1, 0))
    build.crossed("tanh", ("turned",), (CODES.format(""),), "y")
    build.state("s", "s", "next", np.full((2, 3), 7, np.int8))
    build.output("y")
    build.output("next")
    return verify(build.build())


@given(st.lists(st.integers(0, 3), max_size=12), seeds)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_stretches_of_any_length_may_follow_each_other(sizes, seed):
    random = np.random.default_rng(seed)
    compare(chunked(), [{"x": random.integers(-128, 128, (n, 3)).astype(np.int8)} for n in sizes])


def test_states_may_be_given_reset_and_changed_in_place():
    feed = {"x": np.array([[1, 2, 3]], np.int8)}
    interpreter = Interpreter(chunked())
    first = [interpreter.step(feed).outputs["y"] for _ in range(3)]
    interpreter.reset()
    for expected in first:
        np.testing.assert_array_equal(interpreter.step(feed).outputs["y"], expected)
    interpreter.states = {"s": np.zeros((2, 3), np.int8)}
    (expected,) = {unplanned(chunked(), feed, {"s": np.zeros((2, 3), np.int8)}).outputs["y"].tobytes()}
    assert interpreter.step(feed).outputs["y"].tobytes() == expected
    interpreter.states["s"][:] = 0
    assert interpreter.step(feed).outputs["y"].tobytes() == expected
    assert (chunked().constants[chunked().states[0].initial] == 7).all()


@pytest.mark.parametrize("keep", [(), ("lstm", "q", "h0")])
def test_a_recurrent_layer_and_a_real_node(keep):
    random = np.random.default_rng(0)
    compare(
        recurrent(4, 3), [{"x": random.normal(size=(1, 1, 4)).astype(np.float32)} for _ in range(5)], keep
    )


def island() -> Graph:
    """Real nodes between codes: a product of matrices that lie in memory as their makers left them."""
    build, kind = Lowered("island"), parse_type("i8[7,9]<0.05, 3>")
    build.input("x", kind)
    build.crossed("transpose", ("x",), (CODES.format(""),), "turned", perm=(1, 0))
    build.node("dequantize", ("turned",), outputs=("real",))
    build.node("transpose", ("real",), {"perm": (1, 0)}, ("back",))
    build.node("matmul", ("back", "real"), outputs=("product",))
    (wide,) = build.node(
        "slice", ("product",), {"starts": (1,), "ends": (6,), "axes": (1,), "steps": (2,)}, ("w",)
    )
    kind = TensorType("i16", (7, 3), Quant((0.001,)))
    build.node("quantize", (wide,), {"rounding": "half_even"}, ("q",), (kind,))
    build.crossed("slice", ("q",), ("i16[]<0.001, 0>",), "y", starts=(0,), ends=(1,), axes=(1,), steps=(1,))
    for name in ("y", "w", "back"):
        build.output(name)
    return verify(build.build())


def test_real_nodes_work_on_the_arrays_of_the_step():
    random = np.random.default_rng(1)
    graph = island()
    compare(graph, [{"x": random.integers(-128, 128, (7, 9)).astype(np.int8)} for _ in range(5)])


def packed() -> Graph:
    """A layer whose weight rests as packed indices, before nodes that move codes."""
    build = Lowered("packed")
    build.input("x", parse_type("i8[T,8]<0.01, 0>"), time_axis=0)
    kind = TensorType("i8", (6, 8), Quant((0.01,) * 6, 0, 0), Palette(1, ((-5, 9),)))
    weight = build.constant(
        "weight", np.random.default_rng(0).choice(np.array([-5, 9], np.int8), (6, 8)), kind
    )
    build.crossed("fully_connected", ("x", weight, np.zeros(6)), ("i8[]<0.01, 3>",), "y")
    build.crossed("reshape", ("y",), ("i8[]<0.01, 3>",), "z", shape=(0, 3, 2))
    build.crossed("transpose", ("z",), ("i8[]<0.01, 3>",), "turned", perm=(0, 2, 1))
    build.output("turned")
    return verify(build.build())


def test_a_weight_of_packed_indices():
    random = np.random.default_rng(2)
    compare(packed(), [{"x": random.integers(-128, 128, (2, 8)).astype(np.int8)} for _ in range(5)])


def test_a_step_that_cannot_be_done_changes_nothing():
    build = Lowered("short")
    build.input("x", parse_type(CODES.format("T")), time_axis=0)
    build.value("s", parse_type(CODES.format("2")))
    last = {"starts": (-2,), "ends": (2**31 - 1,), "axes": (0,), "steps": (1,)}
    build.crossed("slice", ("x",), (CODES.format(""),), "next", **last)
    build.state("s", "s", "next", np.zeros(2, np.int8))
    build.output("s")
    interpreter = Interpreter(verify(build.build()))
    for _ in range(3):
        interpreter.step({"x": np.array([4, 5], np.int8)})
        with pytest.raises(OpError, match="feed a longer stretch"):
            interpreter.step({"x": np.array([1], np.int8)})
        assert interpreter.states["s"].tolist() == [4, 5]


# --- when there is a plan


def plans(graph: Graph) -> Plans:
    interpreter = Interpreter(graph)
    return Plans(
        [(n, call) for n, call, _ in interpreter.steps], interpreter.constants, sorted(graph.results)
    )


def sources(frames: int) -> dict[str, np.ndarray]:
    return {"x": np.ones((frames, 3), np.int8), "s": np.zeros((2, 3), np.int8)}


def test_a_plan_is_made_when_shapes_come_again():
    made = plans(chunked())
    assert made.step(sources(1)) is None
    made.note(sources(1), 100)
    assert made.step(sources(2)) is None
    found = made.step(sources(1))
    assert found.keys() == {"y", "next"}
    assert found["next"].tolist() == [[0] * 3, [1] * 3]


def test_values_that_fill_memory_have_no_plan(monkeypatch):
    monkeypatch.setattr(plan, "ROOM", 50)
    made = plans(chunked())
    made.note(sources(1), 51)
    assert made.step(sources(1)) is None
    made.note(sources(2), 50)
    assert made.step(sources(2)) is not None


def test_the_latest_shapes_are_remembered():
    made = plans(chunked())
    for frames in range(1, plan.PLANS + 2):
        made.note(sources(frames), 0)
    assert made.step(sources(1)) is None
    assert made.step(sources(2)) is not None


def test_kernels_that_are_not_bound_need_no_plan():
    graph = recurrent(4, 3)
    interpreter = Interpreter(graph, "reference")
    assert not any(isinstance(call, Bindable) for _, call, _ in interpreter.steps)
    made = Plans([(n, call) for n, call, _ in interpreter.steps], interpreter.constants, ["power"])
    values = {"x": np.zeros((1, 1, 4), np.float32)}
    made.note(values, 0)
    assert made.step(values) is None


def test_views_leave_nothing_to_do():
    """A reshape and one frame of several are where their operand is; what is handed out is copied."""
    build = Lowered("views")
    build.input("x", parse_type(CODES.format("4,3")))
    build.crossed("reshape", ("x",), (CODES.format(""),), "flat", shape=(12,))
    build.crossed("slice", ("flat",), (CODES.format(""),), "y", starts=(3,), ends=(6,), axes=(0,), steps=(1,))
    build.output("y")
    interpreter = Interpreter(verify(build.build()))
    steps = [(n, call) for n, call, _ in interpreter.steps]
    x = np.arange(12, dtype=np.int8).reshape(4, 3)
    made = Plan(steps, {"x": x}, (), ["y"])
    assert (len(made._brought), made._runs) == (1, [])  # x comes to its place
    first = made.step({"x": x})["y"]
    assert made.step({"x": x + 1})["y"].tolist() == [4, 5, 6]
    assert first.tolist() == [3, 4, 5]


def test_what_depends_on_shapes_alone_is_done_once():
    """Places of frames before a place in each: whatever x holds, it is the same."""
    build = Lowered("causal")
    build.input("x", parse_type(CODES.format("T,3")), time_axis=0)
    whole, flag = "i32[]<1.0, 0>", "i8[]<1.0, 0>"
    build.crossed("arange", ("x",), (whole,), "places", axis=0, start=0, step=1)
    build.crossed("reshape", ("places",), (whole,), "rows", shape=(-1, 1))
    build.crossed("greater_or_equal", ("rows", "places"), (flag,), "before")
    build.crossed("logical_not", ("before",), (flag,), "behind")
    build.output("behind")
    graph = verify(build.build())
    steps = [(n, call) for n, call, _ in Interpreter(graph).steps]
    made = Plan(steps, {"x": np.zeros((3, 3), np.int8)}, (), ["behind"])
    assert made._runs == []
    first = made.results()["behind"]
    first[:] = 7
    assert made.results()["behind"].tolist() == [[0, 1, 1], [0, 0, 1], [0, 0, 0]]
    compare(graph, [{"x": np.zeros((3, 3), np.int8)}] * 5)


def still(cell: str, frames=2, batch=8, units=512) -> Graph:
    """A recurrent layer and products behind it; no value has fewer than 4096 bytes."""
    build, kind = Lowered("still"), CODES.format(f"{frames},{batch},{units}")
    state, memory = CODES.format(f"{batch},{units}"), f"i16[{batch},{units}]<{2**-11}, 0>"
    gates = {"lstm": 4, "gru": 3}[cell] * units
    build.input("x", parse_type(kind))
    given = ["x", build.codes("h", state)] + ([build.codes("c", memory)] if cell == "lstm" else [])
    given += [build.codes(f"w{i}", f"i8[{gates},{units}]<0.001, 0>", i) for i in range(2)]
    given += [np.zeros(gates)] * (1 if cell == "lstm" else 2)
    attrs = {} if cell == "lstm" else {"linear_before_reset": True}
    kinds = [CODES.format("")] * 2 + [memory] * (cell == "lstm")
    y, *_ = build.crossed(cell, given, kinds, "y", **attrs)
    build.codes("w", f"i8[{units},{units}]<0.001, 0>")
    build.crossed("fully_connected", (y, "w", np.zeros(units)), (CODES.format(""),), "z")
    for name in (y, "z"):
        build.crossed("reshape", (name,), (CODES.format(""),), f"{name}_rows", shape=(-1, units))
    build.crossed("transpose", ("z_rows",), (CODES.format(""),), "turned", perm=(1, 0))
    build.crossed("matmul", ("turned", f"{y}_rows"), ("i8[]<0.5, 3>",), "scores")
    build.output("scores")
    return verify(build.build())


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_a_repeated_step_is_one_call_and_makes_no_arrays(cell):
    """All that is left are calls of compiled kernels, which fill what they are given, and copies."""
    interpreter = Interpreter(still(cell))
    steps = [(n, call) for n, call, _ in interpreter.steps]
    values = {"x": np.random.default_rng(0).integers(-128, 128, (2, 8, 512)).astype(np.int8)}
    made = Plan(steps, {**interpreter.constants, **values}, interpreter.constants, ["scores"])
    assert len(plan.compiled(made._runs)) == 1
    copies = [one for run in made._runs for one in single(run) if isinstance(one, Copy)]
    tracemalloc.start()
    try:
        for run in (*made._brought, *copies):
            run()
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert copies
    assert most < 4096
    compare(interpreter.graph, [values] * 4)


def test_operators_that_move_codes_can_be_bound():
    for name in ("reshape", "transpose", "slice", "pad", "concat"):
        assert lookup(name).load is not None


@pytest.mark.parametrize("frames", [1, 3])
def test_a_stream_keeps_nothing_of_the_buffers_it_is_fed(frames):
    """A delay line: the state is the input itself, whose buffer the caller fills anew."""
    build = Lowered("delay")
    build.input("x", TensorType("f32", (frames, 1)))
    build.value("before", TensorType("f32", (frames, 1)))
    build.state("s", "before", "x", np.zeros((frames, 1), np.float32))
    build.output("before")
    interpreter, buffer, seen = Interpreter(build.build()), np.empty((frames, 1), np.float32), []
    for value in (1, 2, 3, 4):
        buffer[:] = value
        seen.append(interpreter.step({"x": buffer}).outputs["before"])
    assert [float(array[0, 0]) for array in seen] == [0, 1, 2, 3]


def test_a_join_is_in_rows_whatever_it_joins():
    kind = parse_type("i8[1, 5]<0.1, 0>")
    whole = parse_type("i8[4, 5]<0.1, 0>")
    signature = Signature((kind, parse_type("i8[3, 5]<0.1, 0>")), (whole,), {"axis": 0})
    x, other = np.ones((1, 5), np.int8), np.asfortranarray(np.arange(15, dtype=np.int8).reshape(3, 5))
    kernel = lookup("concat").load(signature, (None, other))
    (made,) = kernel(x, other)
    (place,), _ = kernel.bind(x, other)
    assert made.flags.c_contiguous
    assert place.flags.c_contiguous
