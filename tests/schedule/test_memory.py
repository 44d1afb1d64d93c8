"""Memory plans: sound for any lifetimes, tight where tightness is known, and true to a run in the arena."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from schedule.step_graphs import CODES, same_in_the_arena
from simulate.lowered import Lowered, layer, recurrent

from nnaq.cost import bind_shapes, resting_bytes
from nnaq.errors import PassError
from nnaq.ir.graph import Graph
from nnaq.ir.types import Palette, parse_type
from nnaq.ir.verify import verify
from nnaq.schedule import compile_step, plan_memory, verify_plan
from nnaq.schedule.placement import (
    ALIGNMENT,
    Lifetime,
    arena_of,
    greedy_order,
    max_live_bytes,
    place,
    place_in_order,
    verify_placements,
)
from nnaq.schedule.places import Place
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
    # x, y, and two tiles that fill the array: one with a bias, one with a multiplier and a shift per column.
    assert plan.sram_peak_bytes == 64 + 96 + (1024 + 4 * 32) + (1024 + 4 * 32 + 32)


def test_a_plan_is_plain_data():
    plain = json.loads(json.dumps(plan_of(recurrent()).to_json()))
    assert {"weight_bytes", "table_bytes", "state_bytes", "sram_peak_bytes", "fits"} <= plain.keys()
    assert {b["role"] for b in plain["buffers"]} == {"activation", "state"}


def counter(op="tanh") -> Graph:
    """The state is joined to x, then its next value is made of it."""
    build = Lowered("counter")
    build.input("x", parse_type(CODES.format(32)))
    build.value("s", parse_type(CODES.format(32)))
    build.crossed("concat", ("x", "s"), (CODES.format(""),), "joined", axis=0)
    attrs = {"axes": (0,)} if op == "reverse" else {}
    build.crossed(op, ("s",), (CODES.format(""),), "next", **attrs)
    build.state("s", "s", "next", np.arange(32, dtype=np.int8))
    build.output("joined")
    return verify(build.build())


def test_a_next_state_is_made_in_place_only_entry_by_entry():
    assert plan_of(counter("tanh")).shared == {"next": "s"}
    assert plan_of(counter("reverse")).shared == {}
    assert all(same_in_the_arena(compile_step(counter(op), EDGE8), counter(op)) for op in ("tanh", "reverse"))


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


def test_a_state_is_written_once_nobody_reads_it():
    early, late = plan_of(shift_register(True)), plan_of(shift_register(False))
    assert early.shared == {"t": "s", "next": "s"}
    assert late.shared == {"next": "t"}
    roles = {p.buffer.name: p.buffer.role for p in late.placements}
    assert roles == {"s": "state", "t": "activation", "x": "activation", "joined": "activation"}
    assert early.arena_bytes == late.arena_bytes - 32 == 32 + 32 + 64
    for graph in (shift_register(True), shift_register(False)):
        assert same_in_the_arena(compile_step(graph, EDGE8), graph)


@given(st.lists(SPANS, max_size=25))
def test_moves_never_leave_a_larger_arena_than_greedy(spans):
    order = greedy_order(buffers(spans))
    assert arena_of(place(buffers(spans))) <= arena_of(place_in_order(order))
    verify_placements(place(buffers(spans)), arena_of(place(buffers(spans))))


def test_moves_find_an_arena_that_greedy_misses():
    spans = [(48, 3, 4), (48, 4, 5), (64, 4, 5), (80, 0, 3)]
    found, greedy = place(buffers(spans)), place_in_order(greedy_order(buffers(spans)))
    assert arena_of(found) == max_live_bytes(buffers(spans)) == 160 < arena_of(greedy) == 176


def chain(*stages) -> Graph:
    """Operators one after the other on [2, 32]; a pair joins the value before it."""
    build = Lowered("chain")
    x = build.input("x", parse_type(CODES.format("2,32")))
    for number, (op, attrs) in enumerate(stages):
        operands = (x, x) if op == "concat" else (x,)
        (x,) = build.crossed(op, operands, (CODES.format(""),), f"v{number}", **attrs)
    build.output(x)
    return verify(build.build())


def test_an_elementwise_chain_rests_in_one_buffer():
    graph = chain(("tanh", {}), ("relu", {}), ("rescale", {}))
    assert plan_of(graph).shared == {"v0": "x", "v1": "x", "v2": "x"}
    assert plan_of(graph).arena_bytes == 64


def test_what_is_read_again_is_not_written_over():
    build = Lowered("residual")
    x = build.input("x", parse_type(CODES.format("64")))
    (a,) = build.crossed("tanh", (x,), (CODES.format(""),), "a")
    (b,) = build.crossed("add", (a, x), (CODES.format(""),), "b")
    build.output(b)
    graph = verify(build.build())
    assert plan_of(graph).shared in ({"b": "a"}, {"b": "x"})
    assert plan_of(graph).arena_bytes == 128
    assert same_in_the_arena(compile_step(graph, EDGE8), graph)


def test_slices_are_views_in_steps_and_joins_are_made_in_place():
    build = Lowered("halves")
    x = build.input("x", parse_type(CODES.format("4,32")))
    cuts = [{"starts": (s,), "ends": (s + 16,), "axes": (1,), "steps": (1,)} for s in (0, 16)]
    halves = [
        build.crossed("slice", (x,), (CODES.format(""),), f"h{i}", **cut)[0] for i, cut in enumerate(cuts)
    ]
    made = [
        build.crossed("reverse", (h,), (CODES.format(""),), f"r{i}", axes=(1,))[0]
        for i, h in enumerate(halves)
    ]
    (joined,) = build.crossed("concat", tuple(made), (CODES.format(""),), "joined", axis=1)
    build.output(joined)
    graph = verify(build.build())
    plan, step = plan_of(graph), compile_step(graph, EDGE8)
    assert plan.shared == {"h0": "x", "h1": "x", "r0": "joined", "r1": "joined"}
    assert plan.places["h1"] == Place("x", 16, (32, 1))
    assert plan.places["r1"] == Place("joined", 16, (32, 1))
    assert plan.arena_bytes == 2 * 128
    assert {command.node for command in step.commands} == {"r0", "r1"}
    assert same_in_the_arena(step, graph)


def test_a_slice_that_outlives_a_large_operand_is_copied():
    build = Lowered("last")
    x = build.input("x", parse_type(CODES.format("64,32")))
    (wide,) = build.crossed("reverse", (x,), (CODES.format(""),), "wide", axes=(0,))
    cut = {"starts": (63,), "ends": (64,), "axes": (0,), "steps": (1,)}
    (last,) = build.crossed("slice", (wide,), (CODES.format(""),), "last", **cut)
    (other,) = build.crossed("reverse", (x,), (CODES.format(""),), "other", axes=(1,))
    (again,) = build.crossed("reverse", (other,), (CODES.format(""),), "again", axes=(1,))
    build.output(last)
    build.output(again)
    graph = verify(build.build())
    assert "last" not in plan_of(graph).shared
    assert same_in_the_arena(compile_step(graph, EDGE8), graph)
