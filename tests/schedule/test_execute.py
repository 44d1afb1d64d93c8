"""A compiled step run on bytes gives the integers of the interpreter, whatever the machine."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from schedule.step_graphs import (
    CODES,
    EDGE8,
    machines,
    networks,
    random_inputs,
    same,
    same_in_the_arena,
    streams,
    weight,
)
from simulate.lowered import Lowered, layer, recurrent
from streaming_models import ConformerBlock, GatedRecurrent, TransducerEncoder
from test_streaming_blocks import crossing, recording

from nnaq.interpret import Interpreter, run
from nnaq.ir.graph import Graph
from nnaq.ir.types import parse_type
from nnaq.ir.verify import verify
from nnaq.schedule import Machine, Schedule, compile_step, execute_plan
from nnaq.schedule.placement import Placement

PINNINGS = st.sampled_from(["none", "greedy", "all"])


@given(streams(), st.integers(0, 1000))
def test_streams_of_movement_and_tables(graph, seed):
    assert same_in_the_arena(compile_step(graph, EDGE8), graph, seed, shuffled=True)


@given(networks(), machines(), PINNINGS, st.booleans(), st.integers(0, 1000))
def test_networks_on_any_machine(graph, target, pinning, shuffled, seed):
    step = compile_step(graph, target, pinning=pinning)
    assert same_in_the_arena(step, graph, seed, shuffled)


@pytest.mark.parametrize("block", [ConformerBlock, TransducerEncoder, GatedRecurrent])
@pytest.mark.parametrize("sram", [1 << 19, 1 << 13])
def test_streaming_blocks_in_chunks(block, sram):
    graph = crossing(block).integer
    target, sound = replace(EDGE8, sram=replace(EDGE8.sram, bytes=sram)), recording(3, 9)
    expected = run(graph, sound)
    found = execute_plan(graph, target, sound, chunk=4)
    assert same(found.outputs, expected.outputs)
    assert same(found.states, expected.states)


def test_a_run_begins_with_the_states_it_is_given():
    graph = recurrent()
    sound = {"x": np.random.default_rng(0).normal(size=(6, 1, 40)).astype(np.float32)}
    early = execute_plan(graph, EDGE8, {"x": sound["x"][:2]})
    late = execute_plan(graph, EDGE8, {"x": sound["x"][2:]}, early.states)
    whole = run(graph, sound)
    np.testing.assert_array_equal(late.outputs["power"], whole.outputs["power"][2:])
    assert same(late.states, whole.states)


def residual() -> Graph:
    """x -> a -> b, b + x -> c, c + a -> y, a layer and a reversal by turns: all that lives is read again."""
    build = Lowered("residual")
    kind = CODES.format("")
    x = build.input("x", parse_type(CODES.format("2,32")))
    w = weight(build, "i8", "w", 32, "32")
    (a,) = build.crossed("fully_connected", (x, w, np.zeros(32)), (kind,), "a")
    (b,) = build.crossed("reverse", (a,), (kind,), "b", axes=(1,))
    (t,) = build.crossed("transpose", (x,), (kind,), "t", perm=(1, 0))
    (c,) = build.crossed("matmul", (b, t), (kind,), "c")
    (d,) = build.crossed("matmul", (c, a), (kind,), "d")
    build.output(d)
    return verify(build.build())


@pytest.mark.parametrize("pinning", ["none", "greedy"])
def test_a_wrong_plan_changes_the_numbers(pinning, monkeypatch):
    """A value laid over any buffer that lives when it does, or over pinned constants: the outputs tell."""
    graph = residual()
    step = compile_step(graph, EDGE8, pinning=pinning)
    inputs = [random_inputs(step.graph, seed) for seed in range(8)]
    expected = [Interpreter(graph).step(one).outputs for one in inputs]

    def differs(name: str, offset: int) -> bool:
        placements = tuple(
            Placement(p.buffer, offset) if p.buffer.name == name else p for p in step.plan.placements
        )
        plan = replace(step.plan, placements=placements)
        monkeypatch.setattr("nnaq.schedule.compile.plan_memory", lambda *_: plan)
        machine = Machine(compile_step(graph, EDGE8, pinning=pinning))
        return not all(same(machine(one), wanted) for one, wanted in zip(inputs, expected, strict=True))

    values = [p for p in step.plan.placements if p.buffer.role == "activation"]
    onto = [(a, b.offset) for a in values for b in values if a is not b and a.buffer.meets(b.buffer)]
    onto += [(a, step.plan.pinned_offsets["w"]) for a in values if pinning == "greedy"]
    assert len(onto) >= 10
    unseen = [(a.buffer.name, offset) for a, offset in onto if not differs(a.buffer.name, offset)]
    assert unseen == []
    assert not any(differs(p.buffer.name, p.offset) for p in step.plan.placements)


def test_the_image_alone_holds_the_constants():
    graph = layer(inputs=40, outputs=20, rows="2")
    step = compile_step(graph, EDGE8, pinning="none")
    machine = Machine(step)
    machine.dram[:] = 0
    assert not machine(random_inputs(step.graph, 0))["y"].any()


def test_a_resident_recurrence_is_loaded_once():
    """Ten frames of an LSTM: its weights cross from DRAM once where they are pinned, else at every step."""
    graph = recurrent(features=40, units=64)
    held, streamed = (
        compile_step(graph, EDGE8, pinning=choice).repeated(10) for choice in ("greedy", "none")
    )
    weights = 4 * 64 * (40 + 64)
    once, each = (sum(c.dram_bytes for c in schedule.commands) for schedule in (held, streamed))
    assert weights < once < 2 * weights
    assert each > 10 * weights
    finish = [ends(schedule) for schedule in (held, streamed)]
    assert finish[0] < finish[1] / 2


def ends(schedule: Schedule) -> int:
    """When the last command ends: each engine takes its commands in order, each when its needs have ended."""
    free, found = dict.fromkeys(("host", "dma", "decompression", "array", "vector", "table"), 0), list[int]()
    for command in schedule.commands:
        start = max([free[command.engine], *(found[need] for need in command.needs)])
        free[command.engine] = start + command.cycles
        found.append(free[command.engine])
    return max(found)


def test_double_buffers_hide_loads_and_single_ones_do_not():
    graph = layer(inputs=512, outputs=512, rows="64")
    single = replace(EDGE8, array=replace(EDGE8.array, double_buffered=False))
    hidden, exposed = (compile_step(graph, target, pinning="none") for target in (EDGE8, single))
    of = {e: sum(c.cycles for c in hidden.commands if c.engine == e) for e in ("dma", "array", "vector")}
    assert max(of.values()) <= ends(hidden) < 1.25 * max(of.values())
    loads = [at for at, c in enumerate(exposed.commands) if c.engine == "dma"]
    arrays = [at for at, c in enumerate(exposed.commands) if c.engine == "array"]
    assert all(array in exposed.commands[load].needs for load, array in zip(loads[1:], arrays, strict=False))
