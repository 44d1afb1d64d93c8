"""trace.json by the rules of the format: slices nest, arrows bind to slices, counters are numbers."""

from dataclasses import replace
from fractions import Fraction

import pytest
from simulate.lowered import layer, recurrent
from simulate.traces import must_be_valid

from nnaq.ir.types import Palette
from nnaq.simulate import chrome_trace, simulate
from nnaq.simulate.listening import Sound, listen
from nnaq.simulate.trace import occupancy
from nnaq.targets import load_target

EDGE8, SUB8 = load_target("edge8"), load_target("edge8-sub8")


def packed():
    graph = layer()
    kind = replace(graph.types["weight"], palette=Palette(4, (tuple(range(16)),)))
    return replace(graph, types={**graph.types, "weight": kind})


@pytest.mark.parametrize("pinning", ["none", "greedy"])
@pytest.mark.parametrize("graph", [layer(), recurrent(), packed()], ids=["layer", "recurrent", "packed"])
def test_a_trace_follows_the_rules_of_its_format(graph, pinning):
    must_be_valid(chrome_trace(simulate(graph, SUB8, {"T": 5}, pinning)))


def test_a_trace_holds_every_command_that_takes_time_on_the_thread_of_its_engine():
    step = simulate(recurrent(), EDGE8, pinning="none")
    records = chrome_trace(step)
    threads = {r["tid"]: r["args"]["name"] for r in records if r["name"] == "thread_name"}
    work = [r for r in records if r["ph"] == "X"]
    taken = [s for s in step.timing.spans if s.command.cycles]
    assert [(threads[r["tid"]], r["name"], r["args"]["cycles"]) for r in work] == [
        (s.command.engine, f"{s.command.node} {s.command.part}".strip(), s.command.cycles) for s in taken
    ]
    assert [Fraction(r["ts"]) * 500 for r in work] == pytest.approx([s.start for s in taken])


def test_arrows_lead_from_transfers_to_what_waits_for_them():
    step = simulate(packed(), SUB8, {"T": 50}, "none")
    records = chrome_trace(step)
    threads = {r["tid"]: r["args"]["name"] for r in records if r["name"] == "thread_name"}
    ends = {r["id"]: [None, None] for r in records if r["ph"] == "s"}
    for record in records:
        if record["ph"] in "sf":
            ends[record["id"]]["sf".index(record["ph"])] = threads[record["tid"]]
    assert ["dma", "decompression"] in ends.values()
    assert ["decompression", "array"] in ends.values()


def test_a_stream_stands_step_after_step():
    found = listen(recurrent(), EDGE8, Sound(800, 160, 16_000))
    records = chrome_trace(found.steps, found.starts)
    must_be_valid(records)
    steps = [r["args"]["step"] for r in records if r["ph"] == "X"]
    assert sorted(set(steps)) == [0, 1, 2, 3, 4] and steps == sorted(steps)
    first = [min(r["ts"] for r in records if r["ph"] == "X" and r["args"]["step"] == n) for n in range(5)]
    assert first == pytest.approx([10_000.0 * (n + 1) for n in range(5)])
    alone = chrome_trace([found.steps[0]] * 3)
    must_be_valid(alone)
    ends = [r["ts"] + r["dur"] for r in alone if r["ph"] == "X"]
    assert max(ends) == pytest.approx(EDGE8.microseconds(3 * found.steps[0].timing.cycles))


@pytest.mark.parametrize("graph", [layer(), recurrent()], ids=["layer", "recurrent"])
def test_the_counter_holds_what_lives_and_no_more_than_the_arena(graph):
    step = simulate(graph, EDGE8, {"T": 5})
    held = occupancy(step)
    assert max(used for _, used in held) == step.plan.max_live_bytes <= step.plan.arena_bytes
    assert held[0][0] == 0 and [m for m, _ in held] == sorted({m for m, _ in held})
    stays = sum(p.buffer.room for p in step.plan.placements if p.buffer.last == len(step.step.graph.nodes))
    assert held[-1][1] == stays
