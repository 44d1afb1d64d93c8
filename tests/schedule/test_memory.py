"""Memory plans: sound for any lifetimes, tight where tightness is known, and true to a run in the arena."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulate.lowered import Lowered, layer, recurrent

from nnaq.cost import bind_shapes, resting_bytes
from nnaq.cost.operator import VIEWS
from nnaq.errors import PassError
from nnaq.interpret import Interpreter, kernel
from nnaq.ir.graph import Graph
from nnaq.ir.types import Palette, parse_type, storage
from nnaq.ir.verify import verify
from nnaq.schedule import plan_memory, verify_plan
from nnaq.schedule.memory import ALIGNMENT, Lifetime, max_live_bytes, place
from nnaq.targets import load_target

EDGE8, SUB8 = load_target("edge8"), load_target("edge8-sub8")
SPANS = st.tuples(st.integers(1, 200), st.integers(0, 20), st.integers(0, 20))


def buffers(spans) -> list[Lifetime]:
    return [Lifetime(f"v{i}", size, min(a, b), max(a, b)) for i, (size, a, b) in enumerate(spans)]


@given(st.lists(SPANS, max_size=25))
def test_no_byte_is_held_twice_at_any_node(spans):
    placed = place(buffers(spans))
    arena = max((p.end for p in placed), default=0)
    held = np.zeros((21, arena // ALIGNMENT), int)
    for p in placed:
        held[p.buffer.first : p.buffer.last + 1, p.offset // ALIGNMENT : p.end // ALIGNMENT] += 1
    assert (held <= 1).all()
    assert held.sum(axis=1).max(initial=0) * ALIGNMENT == max_live_bytes(buffers(spans)) <= arena
    assert arena <= sum(p.buffer.room for p in placed)


@given(st.lists(st.tuples(st.just(48), st.integers(0, 20), st.integers(0, 20)), max_size=25))
def test_buffers_of_one_size_meet_the_bound(spans):
    placed = place(buffers(spans))
    assert max((p.end for p in placed), default=0) == max_live_bytes(buffers(spans))


def test_a_residual_network_meets_the_bound():
    """x -> a -> b, x + b -> next x: three maps of 32 KiB alive at most, as Vela 5.2.0 plans it."""
    size, spans = 32 * 1024, []
    for block in range(4):
        start = 3 * block
        spans += [(size, start, start + 3), (size, start + 1, start + 2), (size, start + 2, start + 3)]
    placed = place(buffers(spans))
    assert max(p.end for p in placed) == max_live_bytes(buffers(spans)) == 96 * 1024


def plan_of(graph: Graph, pinning="greedy", target=EDGE8):
    return plan_memory(bind_shapes(graph), target, pinning)


def test_a_plan_with_a_moved_buffer_is_refused():
    plan = plan_of(layer())
    first, second = plan.placements
    for offset, words in (
        (first.offset, "overlap"),
        (8, "alignment"),
        (plan.arena_bytes, "leaves the arena"),
    ):
        wrong = replace(plan, placements=(first, replace(second, offset=offset)))
        with pytest.raises(PassError, match=words):
            verify_plan(wrong)
    with pytest.raises(PassError, match="cannot hold"):
        verify_plan(replace(plan, max_live_bytes=plan.max_live_bytes - 1))


def test_bytes_at_rest():
    kind = parse_type("i8[10,3]<0.1, 0>")
    assert resting_bytes(kind, EDGE8) == 30
    packed = replace(kind, palette=Palette(3, (tuple(range(8)),)))
    assert [resting_bytes(packed, target) for target in (EDGE8, SUB8)] == [30, 12 + 8]
    assert [resting_bytes(parse_type(f"{dtype}[5]"), EDGE8) for dtype in ("i4", "i16", "i32", "i48")] == [
        3,
        10,
        20,
        30,
    ]


def test_a_plan_counts_weights_tables_and_states():
    plan = plan_of(recurrent(features=40, units=64))
    assert plan.table_bytes == 2 * 2 * 513
    assert plan.state_bytes == 64 + 2 * 64
    gates = 4 * 64
    # Codes, bias, two pairs of multiplier and shift, and the pair of the hidden product.
    assert plan.weight_bytes == gates * (40 + 64) + 4 * gates + 2 * 5 * gates + 5
    assert plan.fits
    assert plan.sram_peak_bytes == plan.arena_bytes + plan.pinned_bytes
    assert plan.arena_bytes >= plan.max_live_bytes >= 2 * plan.state_bytes


def test_a_palette_makes_room_where_it_is_expanded():
    plain = layer(inputs=512, outputs=512)
    palette = Palette(4, (tuple(range(-100, 60, 10)),))
    packed = replace(plain, types={**plain.types, "weight": replace(plain.types["weight"], palette=palette)})
    small = replace(SUB8, sram=replace(SUB8.sram, bytes=160 * 1024))
    assert "weight" not in plan_of(plain, target=small).pinned
    assert "weight" in plan_of(packed, target=small).pinned
    saved = 512 * 512 // 2 - 16
    assert plan_of(plain, target=SUB8).weight_bytes - plan_of(packed, target=SUB8).weight_bytes == saved
    assert plan_of(packed) == plan_of(plain)


def test_pinning_keeps_to_the_budget():
    graph = layer(inputs=512, outputs=512)
    everything = tuple(sorted(graph.constants))
    small = replace(EDGE8, sram=replace(EDGE8.sram, bytes=8 * 1024))
    assert tuple(sorted(plan_of(graph).pinned)) == tuple(sorted(plan_of(graph, "all").pinned)) == everything
    assert plan_of(graph, "none").pinned == plan_of(graph, "all", small).pinned == ()
    assert plan_of(graph, "greedy", small).pinned == ("y.shift", "y.bias", "y.multiplier")
    assert plan_of(graph, "greedy", small).fits


def test_a_full_chip_is_told_and_not_raised():
    tiny = replace(EDGE8, sram=replace(EDGE8.sram, bytes=64))
    plan = plan_of(layer(), target=tiny)
    assert not plan.fits
    assert plan.pinned == ()
    assert plan.sram_peak_bytes == 64 + 96


def test_a_plan_is_plain_data():
    plain = json.loads(json.dumps(plan_of(recurrent()).to_json()))
    assert {"weight_bytes", "table_bytes", "state_bytes", "sram_peak_bytes", "fits"} <= plain.keys()
    assert {b["role"] for b in plain["buffers"]} == {"activation", "state", "next_state"}


class Arena:
    """Runs a planned step with every value in its bytes of one arena, and nowhere else.

    A node's results are scribbled over before its operands are read: an engine may write early.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph, self.plan = graph, plan_memory(graph, EDGE8)
        self.bytes = np.random.default_rng(0).integers(0, 256, self.plan.arena_bytes, np.uint8)
        self.offsets = {p.buffer.name: p.offset for p in self.plan.placements}
        self.shared = dict(self.plan.shared)
        for state in graph.states:
            self.write(state.input, graph.constants[state.initial])

    def span(self, value: str) -> slice:
        offset = self.offsets[self.shared.get(value, value)]
        return slice(offset, offset + resting_bytes(self.graph.types[value], EDGE8))

    def write(self, value: str, array: np.ndarray) -> None:
        self.bytes[self.span(value)] = np.frombuffer(array.tobytes(), np.uint8)

    def scribble(self, values: tuple[str, ...]) -> None:
        for value in values:
            self.bytes[self.span(value)] ^= 0x5A

    def read(self, value: str) -> np.ndarray:
        if value in self.graph.constants:
            return self.graph.constants[value]
        kind = self.graph.types[value]
        return np.frombuffer(self.bytes[self.span(value)].tobytes(), storage(kind.dtype)).reshape(kind.shape)

    def step(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        for name, array in inputs.items():
            self.write(name, array)
        for node in self.graph.nodes:
            if node.op not in VIEWS:
                self.scribble(node.outputs)
            made = kernel(self.graph, node, "fast")(*(self.read(v) if v else None for v in node.inputs))
            for value, array in zip(node.outputs, made, strict=True):
                self.write(value, array)
        outputs = {port.name: self.read(port.name) for port in self.graph.outputs}
        following = {state.input: self.read(state.output) for state in self.graph.states}
        for value, array in following.items():
            self.write(value, array)
        return outputs


CODES = "i8[{}]<0.05, 3>"


@st.composite
def streams(draw) -> Graph:
    """Small graphs of tables, rescales, views, slices and joins, with states of every kind."""
    build = Lowered("stream")
    size = draw(st.integers(2, 40))
    values = [build.input("x", parse_type(CODES.format(size)))]
    states = [build.value(f"s{i}", parse_type(CODES.format(size))) for i in range(draw(st.integers(0, 3)))]
    values += states
    for i in range(draw(st.integers(1, 12))):
        op = draw(st.sampled_from(["tanh", "rescale", "reshape", "concat", "slice"]))
        x = draw(st.sampled_from(values))
        (length,) = build.types[x].shape
        operands, attrs = (x,), {}
        if op == "concat":
            operands, attrs = (x, draw(st.sampled_from(values))), {"axis": 0}
        if op == "slice":
            attrs = {"starts": (0,), "ends": (min(length, size),), "axes": (0,), "steps": (1,)}
        if op == "reshape":
            attrs = {"shape": (length,)}
        kind = CODES.format("") if op != "tanh" else "i8[]<0.05, 3>"
        values += build.crossed(op, operands, (kind,), f"v{i}", **attrs)
    same = [v for v in values if build.types[v].shape == (size,)]
    for i, state in enumerate(states):
        initial = np.random.default_rng(i).integers(-128, 128, size).astype(np.int8)
        build.state(state, state, draw(st.sampled_from(same)), initial)
    for name in draw(st.lists(st.sampled_from(values), min_size=1, max_size=3, unique=True)):
        build.output(name)
    return verify(build.build())


def same_in_the_arena(graph: Graph, seed: int) -> bool:
    """Three steps in the arena and in the interpreter, from random inputs."""
    random, arena, interpreter = np.random.default_rng(seed), Arena(graph), Interpreter(graph)
    for _ in range(3):
        inputs = {"x": random.integers(-128, 128, graph.types["x"].shape).astype(np.int8)}
        found, expected = arena.step(inputs), interpreter.step(inputs).outputs
        if not all(np.array_equal(found[name], expected[name]) for name in expected):
            return False
    return True


@given(streams(), st.integers(0, 1000))
def test_a_run_inside_the_arena_gives_the_same_codes(graph, seed):
    assert same_in_the_arena(graph, seed)


def test_a_state_whose_reader_makes_its_next_value_has_two_buffers():
    build = Lowered("counter")
    build.input("x", parse_type(CODES.format(32)))
    build.value("s", parse_type(CODES.format(32)))
    build.crossed("concat", ("x", "s"), (CODES.format(""),), "joined", axis=0)
    build.crossed("tanh", ("s",), (CODES.format(""),), "next")
    build.state("s", "s", "next", np.full(32, 100, np.int8))
    build.output("joined")
    graph = verify(build.build())
    assert dict(plan_of(graph).shared) == {}
    assert same_in_the_arena(graph, 0)


def shift_register(reader_first: bool) -> Graph:
    """x is read beside the state, then the state's next value is made: before or after the last read."""
    build = Lowered("register")
    build.input("x", parse_type(CODES.format(32)))
    build.value("s", parse_type(CODES.format(32)))
    if reader_first:
        build.crossed("concat", ("s", "x"), (CODES.format(""),), "joined", axis=0)
    build.crossed("tanh", ("x",), (CODES.format(""),), "t")
    build.crossed("reshape", ("t",), (CODES.format(""),), "next", shape=(32,))
    if not reader_first:
        build.crossed("concat", ("s", "x"), (CODES.format(""),), "joined", axis=0)
    build.state("s", "s", "next", np.zeros(32, np.int8))
    build.output("joined")
    return verify(build.build())


def test_a_state_is_written_in_place_once_nobody_reads_it():
    early, late = plan_of(shift_register(True)), plan_of(shift_register(False))
    assert dict(early.shared) == {"t": "s", "next": "s"}
    assert dict(late.shared) == {"next": "t"}
    roles = {p.buffer.name: p.buffer.role for p in late.placements}
    assert roles == {"s": "state", "t": "next_state", "x": "activation", "joined": "activation"}
    assert early.arena_bytes == late.arena_bytes - 32 == 32 + 32 + 64
