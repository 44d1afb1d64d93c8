"""A step as a whole: totals, islands, boundary, schedule and trace."""

import json
from dataclasses import replace

import pytest
from simulate.lowered import layer, recurrent

from nnaq.cost import bind_shapes
from nnaq.cost.shapes import symbols_of
from nnaq.errors import GraphError
from nnaq.ir.types import Palette
from nnaq.simulate import chrome_trace, simulate
from nnaq.targets import load_target

EDGE8, SUB8 = load_target("edge8"), load_target("edge8-sub8")


def test_a_step_is_one_frame_and_the_sum_of_its_nodes():
    step = simulate(recurrent(), EDGE8)
    assert [c.name for c in step.costs] == ["q", "lstm", "real", "power"]
    assert step.cycles_per_step == sum(c.cycles for c in step.costs)
    assert step.microseconds_per_step == step.cycles_per_step / 500
    assert step.costs[1].macs == 4 * 64 * (40 + 64)


def test_energy_is_the_sum_of_the_nodes_on_the_accelerator():
    step = simulate(recurrent(), EDGE8)
    assert [c.name for c in step.costs if c.energy_picojoules is not None] == ["lstm"]
    assert step.energy_picojoules == step.costs[1].energy_picojoules > 0.3 * step.costs[1].macs
    assert "nJ, host not counted" in step.show()
    silent = simulate(recurrent(), replace(EDGE8, energy=None))
    assert silent.energy_picojoules is None
    assert "nJ" not in silent.show()
    assert [c.cycles for c in silent.costs] == [c.cycles for c in step.costs]


def test_indices_are_expanded_while_the_array_runs():
    graph = layer()
    kind = replace(graph.types["weight"], palette=Palette(4, (tuple(range(16)),)))
    step = simulate(replace(graph, types={**graph.types, "weight": kind}), SUB8)
    engines = {e.engine: e for e in step.schedule}
    assert engines["decompression"].start == engines["array"].start == 0
    assert engines["decompression"].end == 96 * 64 // 128
    assert "decompression" not in {e.engine for e in simulate(graph, SUB8).schedule}


def test_the_real_time_factor_is_time_over_time():
    step = simulate(recurrent(), EDGE8)
    assert step.real_time_factor(step.microseconds_per_step * 1e-6) == pytest.approx(1)
    assert step.real_time_factor(None) is None


def test_edges_are_the_host_s_and_reals_inside_are_islands():
    """Codes cross at quantise and dequantise; the real exp between reals crosses nothing."""
    step = simulate(recurrent(features=40, units=64), EDGE8)
    assert [(c.name, c.bound, c.cycles) for c in step.boundary] == [
        ("q", "host", 500 + 40 // 2 + 40 // 2),
        ("real", "host", 500 + 64 // 2 + 64 // 2),
    ]
    (island,) = step.islands
    assert (island.name, island.op, island.cycles) == ("power", "exp", 64 // 2)
    assert "no integer form" in island.reason


def test_an_operator_the_target_does_not_run_is_an_island_with_a_crossing():
    step = simulate(layer(inputs=64, outputs=96), replace(EDGE8, exclude=("fully_connected",)))
    (island,) = step.islands
    assert island.reason == "target 'edge8' does not run 'fully_connected'"
    assert island.cycles == 500 + (64 * 96 + 96) // 2 + (64 + 96) // 2
    assert step.plan.pinned == ()


def test_engines_follow_each_other_in_a_composite_and_overlap_in_a_primitive():
    (lstm,) = ([e for e in simulate(recurrent(), EDGE8, pinning="none").schedule if e.op == "lstm"],)
    engines = {e.engine: e for e in lstm}
    assert engines["array"].end == engines["vector"].start
    assert engines["vector"].end == engines["table"].start
    assert engines["dma"].start == engines["array"].start
    dense = {e.engine: e for e in simulate(layer(), EDGE8, {"T": 50}).schedule}
    assert dense["array"].start == dense["vector"].start == 0


@pytest.mark.parametrize("graph", [layer(), recurrent()], ids=["layer", "recurrent"])
def test_no_engine_does_two_things_at_once_and_all_end_within_the_step(graph):
    step = simulate(graph, EDGE8, {"T": 20})
    free = dict.fromkeys({e.engine for e in step.schedule}, 0)
    for event in step.schedule:
        assert free[event.engine] <= event.start < event.end
        free[event.engine] = event.end
    assert max(free.values()) <= step.cycles_per_step


def test_a_simulation_is_plain_data():
    plain = json.loads(json.dumps(simulate(recurrent(), EDGE8).to_json(0.01)))
    assert plain["energy"] == {"picojoules_per_step": simulate(recurrent(), EDGE8).energy_picojoules}
    assert plain["latency"].keys() == {"cycles_per_step", "microseconds_per_step", "real_time_factor"}
    assert {"weight_bytes", "table_bytes", "state_bytes", "sram_peak_bytes"} <= plain["memory"].keys()
    assert plain["islands"][0].keys() == {"name", "op", "reason", "cycles"}
    assert {"name", "op", "cycles", "bound"} <= plain["layers"][0].keys()


def test_the_table_names_every_node_and_what_does_not_fit():
    text = simulate(recurrent(), replace(EDGE8, sram=replace(EDGE8.sram, bytes=100))).show()
    assert all(
        name in text for name in ("q ", "lstm", "real", "power", "it does not fit", "on the host: exp")
    )
    assert "it does not fit" not in simulate(recurrent(), EDGE8).show()


def test_a_trace_holds_every_event_on_the_thread_of_its_engine():
    step = simulate(recurrent(), EDGE8, pinning="none")
    records = json.loads(json.dumps(chrome_trace(step)))
    threads = {r["tid"]: r["args"]["name"] for r in records if r["name"] == "thread_name"}
    work = [r for r in records if r["ph"] == "X"]
    assert [(threads[r["tid"]], r["name"], r["args"]["cycles"]) for r in work] == [
        (e.engine, e.name, e.end - e.start) for e in step.schedule
    ]
    assert [r["ts"] * 500 for r in work] == pytest.approx([e.start for e in step.schedule])
    held = [r["args"]["arena"] for r in records if r["ph"] == "C"]
    assert max(held) == step.plan.max_live_bytes
    assert len(held) == len(step.costs)


def test_symbols_are_bound_to_one_frame_or_as_told():
    graph = recurrent(features=40)
    assert symbols_of(graph) == ("T",)
    assert bind_shapes(graph).types["x"].shape == (1, 1, 40)
    assert bind_shapes(graph, {"T": 7}).types["real"].shape == (7, 1, 64)
    with pytest.raises(GraphError, match="has no dimension time; it has T"):
        bind_shapes(graph, {"time": 7})


def test_a_step_too_short_for_its_windows_names_the_value_and_the_remedy():
    graph = layer(rows="T-2")
    with pytest.raises(GraphError, match=r"with T=1 value 'x' has shape \[-1,64\].*T=2"):
        bind_shapes(graph)
    assert bind_shapes(graph, {"T": 3}).types["y"].shape == (1, 96)
