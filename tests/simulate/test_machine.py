"""A step as a whole: totals, islands, boundary, and two models of its time."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulate.lowered import layer, recurrent
from simulate.random_graphs import graphs

from nnaq.cost import bind_shapes
from nnaq.cost.shapes import symbols_of
from nnaq.errors import GraphError
from nnaq.ir.types import Palette
from nnaq.simulate import simulate
from nnaq.targets import load_target

EDGE8, SUB8 = load_target("edge8"), load_target("edge8-sub8")
TARGETS = ("edge8", "edge8-sub8", "ethos-u55-128", "ethos-u65-256")


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


def test_indices_are_expanded_beside_the_array():
    graph = layer()
    kind = replace(graph.types["weight"], palette=Palette(4, (tuple(range(16)),)))
    step = simulate(replace(graph, types={**graph.types, "weight": kind}), SUB8)
    assert step.timing.busy["decompression"] == 96 * 64 // 128
    assert "decompression" not in simulate(graph, SUB8).timing.busy


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


def test_an_operator_the_target_does_not_run_is_an_island():
    """Its codes cross nothing where no other node is on the accelerator."""
    step = simulate(layer(inputs=64, outputs=96), replace(EDGE8, exclude=("fully_connected",)))
    (island,) = step.islands
    assert island.reason == "target 'edge8' does not run 'fully_connected'"
    assert island.cycles == (64 * 96 + 96) // 2
    assert step.plan.pinned == ()


STEPS = st.tuples(graphs(), st.sampled_from(TARGETS), st.integers(1, 40), st.sampled_from(["none", "greedy"]))


@given(STEPS)
def test_two_models_of_a_step_differ_by_no_more_than_they_may(drawn):
    graph, target, frames, pinning = drawn
    step = simulate(graph, load_target(target), {"T": frames}, pinning)
    timing = step.timing
    assert max(timing.longest_chain, timing.busiest) <= timing.cycles <= timing.total
    assert abs(timing.cycles - step.cycles_per_step) <= timing.apart(step.cycles_per_step)
    assert step.latency()["models_apart_at_most_cycles"] == timing.apart(step.cycles_per_step)


@given(STEPS)
def test_no_step_asks_more_of_a_port_than_there_is(drawn):
    graph, target, frames, pinning = drawn
    step = simulate(graph, load_target(target), {"T": frames}, pinning)
    assert all(0 <= port["share"] <= 1 + 1e-9 for port in step.ports().values())


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("frames", [1, 20])
@pytest.mark.parametrize("graph", [layer(), recurrent()], ids=["layer", "recurrent"])
def test_two_models_of_what_rests_on_the_chip_are_within_a_third(graph, frames, target):
    """Furthest apart where a short step expands all its weights before the array begins."""
    step = simulate(graph, load_target(target), {"T": frames})
    assert 2 / 3 <= step.timing.cycles / step.cycles_per_step <= 4 / 3


@given(STEPS)
def test_the_parts_of_every_node_add_up_to_its_cycles(drawn):
    graph, target, frames, pinning = drawn
    step = simulate(graph, load_target(target), {"T": frames}, pinning)
    for cost, split in zip(step.costs, step.splits, strict=True):
        assert sum(split.values()) == cost.cycles
        assert min(split.values()) >= 0
    assert sum(step.split.values()) == step.cycles_per_step


def test_the_largest_part_is_what_bounds_a_node():
    lazy = replace(EDGE8, dram=replace(EDGE8.dram, bytes_per_cycle=EDGE8.dram.bytes_per_cycle / 100))
    (split,) = simulate(layer(), lazy, {"T": 200}, "none").splits
    assert max(split, key=split.__getitem__) == "weights"
    narrow = replace(EDGE8, sram=replace(EDGE8.sram, bytes_per_cycle=EDGE8.sram.bytes_per_cycle / 100))
    (split,) = simulate(layer(), narrow, {"T": 200}).splits
    assert max(split, key=split.__getitem__) == "activations"
    (split,) = simulate(layer(), EDGE8, {"T": 1000}).splits
    assert split["stall"] == 32 + 32 - 2
    assert split["host"] == 0
    (split,) = simulate(layer(), replace(EDGE8, exclude=("fully_connected",))).splits
    assert split["host"] == sum(split.values())


def test_a_simulation_is_plain_data():
    plain = json.loads(json.dumps(simulate(recurrent(), EDGE8).to_json(0.01)))
    assert plain["energy"] == {"picojoules_per_step": simulate(recurrent(), EDGE8).energy_picojoules}
    assert plain["latency"].keys() == {
        *("cycles_per_step", "microseconds_per_step", "real_time_factor", "setup_cycles"),
        *("event_cycles_per_step", "event_microseconds_per_step", "event_real_time_factor"),
        "models_apart_at_most_cycles",
    }
    assert plain["events"]["busy"].keys() == simulate(recurrent(), EDGE8).timing.busy.keys()
    assert plain["events"]["ports"].keys() == {"sram", "dram"}
    assert sum(plain["split"].values()) == plain["latency"]["cycles_per_step"]
    assert {"weight_bytes", "table_bytes", "state_bytes", "sram_peak_bytes"} <= plain["memory"].keys()
    assert plain["islands"][0].keys() == {"name", "op", "reason", "cycles"}
    assert {"name", "op", "cycles", "bound"} <= plain["layers"][0].keys()


def test_the_table_names_every_node_and_what_does_not_fit():
    text = simulate(recurrent(), replace(EDGE8, sram=replace(EDGE8.sram, bytes=100))).show()
    assert all(
        name in text for name in ("q ", "lstm", "real", "power", "it does not fit", "on the host: exp")
    )
    assert "it does not fit" not in simulate(recurrent(), EDGE8).show()


def test_a_node_that_the_host_does_sooner_is_moved_and_no_island():
    small = layer(inputs=8, outputs=8)
    step = simulate(small, EDGE8)
    (moved,) = step.moved
    assert (moved.name, moved.bound, step.islands) == ("y", "host", ())
    assert moved.cycles == 8 * 8 // 2 + 8 // 2 == step.cycles_per_step
    assert step.to_json()["moved"] == [{"name": "y", "op": "fully_connected", "cycles": moved.cycles}]
    assert f"sooner on the host: fully_connected 'y', {moved.cycles} cycles" in step.show()
    assert simulate(layer(), EDGE8).moved == ()


def test_the_tables_name_the_dearest_nodes_and_what_bounds_them():
    step = simulate(recurrent(), EDGE8)
    text = step.show()
    assert [c.name for c in step.dearest(2)] == ["real", "q"]
    for line in (
        "lstm 'lstm', sram-bound: compute 90, activations 298, stall 124",
        f"events: {step.timing.cycles:,} cycles",
        "split: compute 5.5%, weights 0.0%, activations 18.1%, stall 7.5%, host 68.9%",
        "busy: host 68.9%",
        "bytes through SRAM, 0 from DRAM",
    ):
        assert line in text, line


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
