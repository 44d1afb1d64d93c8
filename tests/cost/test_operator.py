"""The cycle model: equal to published closed forms in both limits, and never slower with more machine."""

from dataclasses import replace
from fractions import Fraction
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulate.lowered import Lowered, layer, recurrent

from nnaq.cost import array_cycles, bind_shapes, op_cost, resting_bytes
from nnaq.cost.energy import Counts, picojoules
from nnaq.cost.footprint import part_bytes
from nnaq.cost.operator import traffic
from nnaq.ir.types import Palette, parse_type
from nnaq.ir.verify import verify
from nnaq.simulate import simulate
from nnaq.targets import Energy, Gemm, Memory, load_target

EDGE8, SUB8 = load_target("edge8"), load_target("edge8-sub8")
SIZES = st.integers(1, 700)
ARRAYS = st.sampled_from([(8, 16), (32, 32), (4, 1), (16, 64), (1, 1)])
DATAFLOWS = ("output_stationary", "weight_stationary")


@given(SIZES, SIZES, SIZES, ARRAYS)
def test_nothing_hidden_is_scale_sim(m, n, k, array):
    """SCALE-Sim counts the index of the last cycle, hence its -1."""
    rows, columns = array
    gemm = Gemm(m, n, k)
    stationary_sums = ceil(m / rows) * ceil(n / columns) * (rows + columns + k - 2) - 1
    stationary_weights = ceil(k / rows) * ceil(n / columns) * (2 * rows + columns + m - 2) - 1
    assert array_cycles(gemm, rows, columns, "output_stationary", "per_fold") - 1 == stationary_sums
    assert array_cycles(gemm, rows, columns, "weight_stationary", "per_fold") - 1 == stationary_weights


@pytest.mark.parametrize(
    ("size", "output_stationary", "weight_stationary"),
    [((128, 512, 512), 36735, 56831), ((1, 512, 512), 9183, 24319)],
)
def test_cycles_scale_sim_prints(size, output_stationary, weight_stationary):
    gemm = Gemm(*size)
    assert array_cycles(gemm, 32, 32, "output_stationary", "per_fold") - 1 == output_stationary
    assert array_cycles(gemm, 32, 32, "weight_stationary", "per_fold") - 1 == weight_stationary


@given(SIZES, SIZES, SIZES, ARRAYS)
def test_everything_hidden_is_the_ideal_array(m, n, k, array):
    rows, columns = array
    ideal = ceil(k / rows) * ceil(n / columns) * m
    assert array_cycles(Gemm(m, n, k), rows, columns, "weight_stationary", "hidden") == ideal


@given(SIZES, SIZES, SIZES, ARRAYS, st.sampled_from(DATAFLOWS))
def test_double_buffering_pays_one_fill_between_the_two_limits(m, n, k, array, dataflow):
    hidden, once, per_fold = (
        array_cycles(Gemm(m, n, k), *array, dataflow, fills) for fills in ("hidden", "once", "per_fold")
    )
    assert once == hidden + sum(array) - 2
    assert hidden * array[0] * array[1] >= m * n * k
    assert once <= per_fold


@pytest.mark.parametrize(
    ("gemm", "vela"),
    [(Gemm(128, 512, 512), 272832), (Gemm(32 * 32, 64, 576), 305316)],
    ids=["dense", "conv3x3"],
)
def test_an_8_by_16_array_is_within_one_percent_of_vela(gemm, vela):
    """Ethos-U55-128 in Vela 5.2.0; sums longer than 256 terms."""
    cycles = array_cycles(gemm, 8, 16, "output_stationary", "per_fold")
    assert abs(cycles - vela) * 100 <= vela


def test_a_wide_operand_passes_twice():
    narrow = array_cycles(Gemm(10, 32, 64), 32, 32, "weight_stationary", "once")
    wide = array_cycles(Gemm(10, 32, 64), 32, 32, "weight_stationary", "once", passes=2)
    assert (narrow, wide) == (20 + 62, 40 + 62)
    assert EDGE8.array.passes("i16", "i8") == 2
    assert EDGE8.array.passes("i16", "i16") == 4


def test_repeats_that_wait_pay_a_fill_each():
    free, waiting = Gemm(1, 32, 32, repeats=5), Gemm(1, 32, 32, repeats=5, waits=True)
    assert array_cycles(free, 32, 32, "weight_stationary") == 5 + 62
    assert array_cycles(waiting, 32, 32, "weight_stationary") == 5 * (1 + 62)


def cost(graph, target=EDGE8, pinned=(), **binding):
    step = bind_shapes(graph, binding)
    return op_cost(step, step.nodes[0], target, pinned)


def test_a_layer_that_streams_its_weights_is_bound_by_dram():
    found = cost(layer(inputs=512, outputs=512))
    constants = 512 * 512 + 512 * (4 + 4 + 1)  # weights; bias, multipliers and shifts
    assert found.dram_bytes == constants
    assert found.sram_bytes == 512 + 512
    assert (found.bound, found.cycles) == ("dram", ceil(constants / 4))
    assert found.macs == 512 * 512


def test_a_layer_with_pinned_weights_is_bound_by_sram():
    graph = layer(inputs=512, outputs=512)
    found = cost(graph, pinned=frozenset(graph.constants))
    assert found.dram_bytes == found.dram_cycles == 0
    assert found.sram_bytes == 512 * 512 + 512 * 9 + 1024
    assert (found.bound, found.cycles) == ("sram", ceil(found.sram_bytes / 64))


def test_a_layer_over_many_frames_is_bound_by_the_array():
    graph = layer(inputs=512, outputs=512)
    found = cost(graph, T=1000)
    assert (found.bound, found.cycles) == ("compute", 16 * 16 * 1000 + 62)
    assert cost(layer(inputs=512, outputs=512, x="i16"), T=1000).cycles == 2 * 16 * 16 * 1000 + 62


def test_slow_lanes_bind_a_layer():
    found = cost(layer(), replace(EDGE8, vector_lanes=1), T=1000)
    assert (found.bound, found.cycles) == ("vector", 96 * 1000)


def on_palette(graph, palette):
    """The graph with its weight on a palette; no code is looked at."""
    return replace(graph, types={**graph.types, "weight": replace(graph.types["weight"], palette=palette)})


def full(bits, tables=1, rows=0, zeros=None):
    """A palette with every entry of its tables taken, none of them 0."""
    table = tuple(v for v in range(-(2**bits) // 2 - 1, 128) if v)[: 2**bits]
    return Palette(bits, (table,) * tables, rows, zeros)


def test_a_palette_shrinks_the_stream_and_nothing_else():
    plain = layer()
    before, after = cost(plain, SUB8), cost(on_palette(plain, full(4)), SUB8)
    assert before.dram_bytes - after.dram_bytes == 96 * 64 - (96 * 64 // 2 + 16)
    assert after.decompression_cycles == ceil(96 * 64 / 128)
    changed = ("cycles", "dram_bytes", "dram_cycles", "decompression_cycles", "energy_picojoules")
    same = dict.fromkeys(changed, 0)
    assert replace(before, **same) == replace(after, **same)
    assert after.energy_picojoules < before.energy_picojoules
    saved = (before.dram_bytes - after.dram_bytes) * 160 - 96 * 64 * 0.1
    assert before.energy_picojoules - after.energy_picojoules == pytest.approx(saved)


@pytest.mark.parametrize("palette", [full(4), full(2, 96, 1), full(3, zeros=1000)])
def test_without_decompression_a_palette_changes_no_figure(palette):
    assert cost(on_palette(layer(), palette)) == cost(layer())
    own = replace(SUB8, decompression=replace(SUB8.decompression, index_bits=(1,), zero_map=False))
    assert cost(on_palette(layer(), palette), own) == cost(layer(), own)


@given(
    st.integers(1, 5),
    st.sampled_from([(1, 0), (96, 1), (4, 24)]),
    st.none() | st.integers(0, 96 * 64),
    st.booleans(),
)
def test_fewer_bits_are_never_more_bytes_nor_cycles(bits, sharing, zeros, pinned):
    def figures(width):
        graph = on_palette(layer(), full(width, *sharing, zeros))
        found = cost(graph, SUB8, frozenset(graph.constants) if pinned else ())
        assert resting_bytes(graph.types["weight"], SUB8) <= found.sram_bytes + found.dram_bytes
        return found

    few, more = figures(bits), figures(bits + 1)
    for name in ("sram_bytes", "dram_bytes", "sram_cycles", "dram_cycles", "cycles", "energy_picojoules"):
        assert getattr(few, name) <= getattr(more, name), name
    assert few.decompression_cycles == more.decompression_cycles


def test_a_slow_decompression_binds_a_layer():
    slow = replace(SUB8, decompression=replace(SUB8.decompression, codewords_per_cycle=1))
    found = cost(on_palette(layer(), full(4)), slow)
    assert (found.bound, found.cycles, found.decompression_cycles) == ("decompression", 96 * 64, 96 * 64)


def test_a_weight_under_a_zero_map_is_its_map_and_the_rest():
    plain, zeros = layer().types["weight"], 96 * 64 - 100
    kind = replace(plain, palette=full(4, zeros=zeros))
    assert resting_bytes(kind, SUB8) == 96 * 64 // 8 + 50 + 16
    assert part_bytes(kind, 3, SUB8) == resting_bytes(kind, SUB8)  # nobody knows where a row starts
    assert part_bytes(kind, 0, SUB8) == 0
    assert part_bytes(replace(kind, palette=full(4)), 64, SUB8) == 32 + 16
    assert part_bytes(kind, 64, EDGE8) == 64


def test_energy_is_what_each_count_takes():
    counts = Counts(products=2, sram_bytes=3, dram_bytes=5, elements=7, lookups=11, codewords=13)
    energy = Energy(1.0, 10.0, 100.0, 1000.0, 10000.0, 100000.0)
    assert picojoules(counts, energy) == 2 + 30 + 500 + 7000 + 110000 + 1300000
    assert picojoules(counts, None) is None


def test_a_wide_operand_takes_the_energy_of_its_passes():
    narrow, wide = (
        cost(graph, pinned=frozenset(graph.constants)) for graph in (layer(x="i8"), layer(x="i16"))
    )
    bytes_more = wide.sram_bytes - narrow.sram_bytes
    assert bytes_more == 64 + 96 * 2  # x, and a bias of 48 bits
    more = wide.energy_picojoules - narrow.energy_picojoules
    assert more == pytest.approx(96 * 64 * 0.3 + bytes_more * 10)


def test_an_lstm_waits_for_itself():
    """Per frame: one input product for all, then recurrent product, lanes and tables in turn."""
    step = bind_shapes(recurrent(features=40, units=64), {"T": 3})
    found = op_cost(step, step.node("lstm"), EDGE8, frozenset(step.constants))
    inputs, recurrence = 2 * 8 * 3 + 62, 3 * (2 * 8 * 1 + 62)
    assert found.array_cycles == inputs + recurrence
    assert found.table_cycles == ceil(5 * 3 * 64 / 8)
    assert found.compute_cycles == found.array_cycles + found.vector_cycles + found.table_cycles
    assert found.macs == 3 * 4 * 64 * (40 + 64)


LANES, RATES = st.integers(1, 64), st.fractions(Fraction(1, 8), 64)


@given(
    LANES, LANES, RATES, st.integers(0, 64), RATES, st.sampled_from([layer, recurrent]), st.integers(1, 40)
)
def test_more_machine_is_never_slower(vector, lut, rate, more_lanes, more_rate, make, time):
    graph = make()
    base = replace(
        EDGE8,
        vector_lanes=vector,
        lut_lanes=lut,
        sram=replace(EDGE8.sram, bytes_per_cycle=rate),
        dram=Memory(rate),
    )
    more = [
        replace(base, vector_lanes=vector + more_lanes),
        replace(base, lut_lanes=lut + more_lanes),
        replace(base, sram=replace(base.sram, bytes_per_cycle=rate + more_rate)),
        replace(base, dram=Memory(rate + more_rate)),
        replace(
            base, host=replace(base.host, operations_per_cycle=base.host.operations_per_cycle + more_rate)
        ),
        replace(base, host=replace(base.host, bytes_per_cycle=base.host.bytes_per_cycle + more_rate)),
    ]
    step, slow = bind_shapes(graph, {"T": time}), simulate(graph, base, {"T": time}, "none")
    for machine in more:
        for node in step.nodes:
            assert op_cost(step, node, machine).cycles <= op_cost(step, node, base).cycles
        # A node may move to the host, and take longer there, where the step as a whole is sooner done.
        assert simulate(graph, machine, {"T": time}, "none").cycles_per_step <= slow.cycles_per_step
    pinned = simulate(graph, replace(base, sram=EDGE8.sram), {"T": time}, "all")
    streamed = simulate(graph, replace(base, sram=EDGE8.sram), {"T": time}, "none")
    assert all(p.dram_bytes <= s.dram_bytes for p, s in zip(pinned.costs, streamed.costs, strict=True))


def test_a_table_that_is_picked_from_costs_only_the_rows_it_gives():
    build = Lowered("embedding")
    build.input("token", parse_type("i32[3]<1.0, 0>"))
    build.codes("table", "i8[1000,64]<0.01, 0>")
    (row,) = build.crossed("gather", ("table", "token"), ("i8[]<0.01, 0>",), "row", axis=0)
    build.output(row)
    graph = verify(build.build())
    assert traffic(graph, graph.nodes[0], EDGE8, ()) == (3 * 64 + 3 * 4, 3 * 64)
    assert traffic(graph, graph.nodes[0], EDGE8, ("table",)) == (3 * 64 + 3 * 4 + 3 * 64, 0)


def test_what_is_read_for_its_shape_alone_costs_nothing():
    build = Lowered("positions")
    build.input("x", parse_type("i8[7,500]<1.0, 0>"))
    (made,) = build.crossed("arange", ("x",), ("i32[]<1.0, 0>",), "p", axis=0, start=0, step=1)
    build.output(made)
    graph = verify(build.build())
    assert traffic(graph, graph.nodes[0], EDGE8, ()) == (7 * 4, 0)
