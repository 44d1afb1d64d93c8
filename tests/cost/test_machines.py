"""Machines of every kind: never slower with more of anything, never faster than their peaks."""

from dataclasses import replace
from fractions import Fraction
from math import ceil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulate.lowered import layer, recurrent

from nnaq.cost import bind_shapes, op_cost, product_cycles
from nnaq.cost.footprint import constant_bytes, resting_bytes
from nnaq.ir.types import Palette, parse_type
from nnaq.targets import Array, Dma, Gemm, Memory, Target, load_target

EDGE8, SUB8, U55 = (load_target(name) for name in ("edge8", "edge8-sub8", "ethos-u55-128"))
SIZES = st.integers(1, 700)
RATES = st.fractions(Fraction(1, 8), 64)
COUNTS, WAITS = st.integers(1, 8), st.integers(0, 90)
DATAFLOWS = st.sampled_from(["output_stationary", "weight_stationary"])
MEMORIES = st.builds(Memory, RATES, st.none(), COUNTS, WAITS, st.integers(1, 256))
I8 = (("i8", 1),)


@st.composite
def arrays(draw) -> Array:
    """Arrays with all that one may have; what divides does."""
    rows, positions = draw(st.sampled_from([1, 4, 32])), draw(st.sampled_from([1, 2, 4]))
    return Array(
        rows,
        draw(st.sampled_from([1, 8, 16])),
        draw(DATAFLOWS),
        draw(st.booleans()),
        I8,
        positions,
        draw(st.sampled_from([n for n in (1, 2) if positions % n == 0])),
        draw(st.sampled_from([1, 4])),
        draw(st.none() | st.integers(1, 64)),
        draw(st.integers(0, 4)),
        draw(st.none() | st.sampled_from([n for n in (1, 4, 8) if rows % n == 0])),
        draw(st.none() | st.integers(1, 3)),
        draw(st.none() | st.sampled_from([n for n in (1, 4) if n <= rows])),
    )


@st.composite
def products(draw) -> Gemm:
    """Plain products, maps with windows, and groups of one output each."""
    if draw(st.booleans()):
        return Gemm(draw(SIZES), draw(SIZES), draw(SIZES), repeats=draw(COUNTS), waits=draw(st.booleans()))
    extent = draw(st.integers(1, 30)), draw(st.integers(1, 30))
    taps, channels, groups = draw(st.integers(1, 5)), draw(st.integers(1, 70)), draw(COUNTS)
    window = ((taps, draw(st.integers(1, 4))),)
    outputs = 1 if groups > 1 else draw(SIZES)
    return Gemm(extent[0] * extent[1], outputs, channels * taps, repeats=groups, extent=extent, window=window)


@given(SIZES, SIZES, SIZES, st.sampled_from([1, 2, 4]), st.sampled_from([(8, 16), (32, 8), (1, 1)]))
def test_positions_share_the_ideal_array(m, n, k, positions, shape):
    array = Array(*shape, "weight_stationary", True, I8, positions)
    ideal = ceil(k / shape[0]) * ceil(n / shape[1]) * ceil(m / positions)
    assert product_cycles(Gemm(m, n, k), array, "hidden") == ideal


@given(products(), arrays())
def test_no_product_is_faster_than_all_multipliers(gemm, array):
    peak = array.rows * array.columns * array.positions
    assert product_cycles(gemm, array) * peak >= gemm.macs * array.cycles_per_step


@given(products(), arrays(), st.integers(2, 3))
def test_whole_multiples_of_an_array_run_no_product_in_more_steps(gemm, array, factor):
    """Fills grow with an array; what it runs once filled does not."""
    more = [
        replace(array, columns=array.columns * factor, weights_per_cycle=_times(array, factor)),
        replace(array, positions=array.positions * factor),
        replace(array, weights_per_cycle=_times(array, factor)),
        replace(array, cycles_per_step=1),
    ]
    if array.channel_block is None:
        more.append(replace(array, rows=array.rows * factor, weights_per_cycle=_times(array, factor)))
    before = product_cycles(gemm, array, "hidden")
    assert all(product_cycles(gemm, machine, "hidden") <= before for machine in more)


def _times(array: Array, factor: int) -> int | None:
    return None if array.weights_per_cycle is None else array.weights_per_cycle * factor


@given(products(), arrays())
def test_waiting_less_is_never_slower(gemm, array):
    before = product_cycles(gemm, array)
    assert product_cycles(gemm, replace(array, turnaround_cycles=0)) <= before
    assert product_cycles(gemm, replace(array, weights_per_cycle=None)) <= before
    assert product_cycles(gemm, replace(array, double_buffered=True)) <= before
    assert product_cycles(gemm, replace(array, max_dilation=None)) <= before


@given(MEMORIES, st.lists(st.integers(0, 5000), max_size=5), COUNTS, WAITS, RATES, COUNTS)
def test_more_memory_and_channels_are_never_slower(memory, moved, channels, start, rate, more):
    dma = Dma(channels, start)
    before, streamed = memory.cycles(*moved), dma.cycles(memory, *moved)
    assert before * memory.peak_bytes_per_cycle >= sum(moved)
    assert streamed * memory.peak_bytes_per_cycle >= sum(moved)
    better = [
        replace(memory, bytes_per_cycle=memory.bytes_per_cycle + rate),
        replace(memory, banks=memory.banks + more),
        replace(memory, latency_cycles=max(0, memory.latency_cycles - more)),
    ]
    assert all(machine.cycles(*moved) <= before for machine in better)
    assert all(dma.cycles(machine, *moved) <= streamed for machine in better)
    assert replace(dma, channels=channels + more).cycles(memory, *moved) <= streamed
    assert replace(dma, start_cycles=start // 2).cycles(memory, *moved) <= streamed


def test_what_a_burst_and_a_channel_cost():
    memory = Memory(Fraction(4), None, banks=2, latency_cycles=10, burst_bytes=32)
    assert [memory.cycles(size) for size in (0, 1, 32, 33, 64, 65)] == [0, 18, 18, 18, 18, 26]
    assert memory.cycles(1, 1, 1) == 10 + 16  # three bursts over two banks
    assert Dma(1, 5).cycles(memory, 1, 0, 64) == 2 * (5 + 10) + 16
    assert Dma(2, 5).cycles(memory, 1, 0, 64) == 1 * (5 + 10) + 16
    assert Dma(2, 5).cycles(memory, 0) == 0


@st.composite
def machines(draw) -> Target:
    """edge8-sub8 with other memories, arrays and channels."""
    passes = (("i4", 1), ("i8", 1), ("i16", 2))
    return replace(
        SUB8,
        array=replace(draw(arrays()), cycles_per_mac=passes),
        vector_lanes=draw(st.integers(1, 64)),
        lut_lanes=draw(st.integers(1, 16)),
        sram=replace(draw(MEMORIES), bytes=2**20),
        dram=draw(MEMORIES),
        dma=Dma(draw(COUNTS), draw(WAITS)),
    )


@given(machines(), st.sampled_from([layer, recurrent]), st.integers(1, 20), st.booleans())
def test_no_operator_is_faster_than_its_roofline(target, make, time, pinned):
    """The most of products over multipliers, and of bytes over the bandwidth of each memory."""
    step = bind_shapes(make(), {"T": time})
    for node in step.nodes:
        found = op_cost(step, node, target, frozenset(step.constants) if pinned else ())
        if found.bound == "host":
            continue
        assert found.cycles >= found.macs / target.array.macs_per_cycle
        assert found.cycles >= found.sram_bytes / target.sram.peak_bytes_per_cycle
        assert found.cycles >= found.dram_bytes / target.dram.peak_bytes_per_cycle


@given(machines(), st.sampled_from([layer, recurrent]), st.integers(1, 20), COUNTS)
def test_no_operator_is_slower_on_more_machine(target, make, time, more):
    step = bind_shapes(make(), {"T": time})
    better = [
        replace(target, vector_lanes=target.vector_lanes + more),
        replace(target, lut_lanes=target.lut_lanes + more),
        replace(target, sram=replace(target.sram, banks=target.sram.banks + more)),
        replace(target, dram=replace(target.dram, banks=target.dram.banks + more)),
        replace(target, dram=replace(target.dram, latency_cycles=0)),
        replace(target, dma=replace(target.dma, channels=target.dma.channels + more)),
        replace(target, decompression=replace(target.decompression, codewords_per_cycle=128 * more)),
    ]
    for node in step.nodes:
        before = op_cost(step, node, target).cycles
        assert all(op_cost(step, node, machine).cycles <= before for machine in better)


def test_a_faster_clock_is_never_slower():
    """Memories that keep their seconds take more cycles, but never more time."""
    step = bind_shapes(layer(), {"T": 5})
    slow = op_cost(step, step.nodes[0], EDGE8)
    for factor in (2, 3, 10):
        rates = (EDGE8.sram.bytes_per_cycle / factor, EDGE8.dram.bytes_per_cycle / factor)
        fast = replace(
            EDGE8,
            clock_hz=EDGE8.clock_hz * factor,
            sram=replace(EDGE8.sram, bytes_per_cycle=rates[0]),
            dram=replace(EDGE8.dram, bytes_per_cycle=rates[1]),
        )
        found = op_cost(step, step.nodes[0], fast)
        assert fast.microseconds(found.cycles - 1) <= EDGE8.microseconds(slow.cycles)


def test_groups_of_one_output_share_the_array_where_it_has_columns_for_them():
    depthwise = Gemm(128, 1, 9, repeats=256, extent=(8, 16), window=((3, 1), (3, 1)))
    assert product_cycles(depthwise, U55.array, "hidden") == ceil(9 / 4) * (256 // 8) * 64 * 4
    alone = replace(U55.array, depthwise_rows=None)
    assert product_cycles(depthwise, alone, "hidden") == 256 * 3 * 64 * 4  # 9 taps, 4 at once


def test_a_window_beyond_the_machine_s_dilation_runs_with_zeros_in_between():
    def taps(dilation):
        gemm = Gemm(100, 8, 3 * 32, extent=(1, 100), window=((1, 1), (3, dilation)))
        return product_cycles(gemm, U55.array, "hidden") // (50 * 4)

    assert [taps(dilation) for dilation in (1, 2, 3, 4)] == [3, 3, 7, 5]


def test_weights_take_their_entropy_where_they_are_coded():
    graph = layer(inputs=64, outputs=96)
    codes = np.random.default_rng(0).choice(np.array([-3, 0, 5, 9], np.int8), (96, 64))
    graph = replace(graph, constants={**graph.constants, "weight": codes})
    share = np.unique(codes, return_counts=True)[1] / codes.size
    entropy = float(-(share * np.log2(share)).sum())
    assert constant_bytes(graph, "weight", U55) == ceil(codes.size * entropy / 8)
    assert constant_bytes(graph, "weight", EDGE8) == 96 * 64
    bias = next(name for name in graph.constants if name != "weight")
    assert constant_bytes(graph, bias, U55) == resting_bytes(graph.types[bias], U55)


@pytest.mark.parametrize(("zeros", "told"), [(100, 338 + 7 + 125), (900, 38 + 7 + 80)])
def test_zeros_rest_as_a_map_or_as_runs(zeros, told):
    """1000 codes of 3 bits: a map takes 125 bytes, 900 zeros in runs 4 bits for each of 100 + 60."""
    table = (-3, -2, -1, 1, 2, 3, 4)
    kind = parse_type("i8[1000]<1.0, 0>")
    kind = replace(kind, palette=Palette(3, (table,), 0, zeros))
    both = replace(SUB8, decompression=replace(SUB8.decompression, zero_run=True))
    assert resting_bytes(kind, both) == told <= resting_bytes(kind, SUB8)
