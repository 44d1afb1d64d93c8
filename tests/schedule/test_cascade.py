"""Chains in stripes: the same integers, and less alive at once."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from schedule.step_graphs import EDGE8, random_inputs, same, same_in_the_arena, weight
from simulate.lowered import Lowered

from nnaq.interpret import Interpreter
from nnaq.ir.graph import Graph
from nnaq.ir.types import parse_type
from nnaq.ir.verify import verify
from nnaq.schedule import compile_step
from nnaq.schedule.cascade import Striped, chains, in_stripes

CODE = "i8[]<0.05, 3>"


def convolutions(channels, taps, strides, frames=64, paddings=None, dilation=1) -> Graph:
    """Convolutions over time with a table behind each."""
    build = Lowered("convolutions")
    x = build.input("x", parse_type(f"i8[1,{channels[0]},{frames}]<0.05, 3>"))
    for number, (inner, outer) in enumerate(pairwise(channels)):
        w = weight(build, "i8", f"w{number}", outer, f"{inner},{taps[number]}")
        padding = paddings[number] if paddings else (taps[number] - 1, 0)
        attrs = {"stride": strides[number], "dilation": dilation, "padding": padding, "groups": 1}
        operands = (x, w, np.linspace(-1, 1, outer))
        (x,) = build.crossed("conv1d", operands, (CODE,), f"c{number}", **attrs)
        (x,) = build.crossed("relu", (x,), (CODE,), f"r{number}")
    build.output(x)
    return verify(build.build())


@st.composite
def any_convolutions(draw) -> Graph:
    count = draw(st.integers(1, 3))
    sizes = draw(st.lists(st.integers(1, 5), min_size=count + 1, max_size=count + 1))
    taps = draw(st.lists(st.integers(1, 4), min_size=count, max_size=count))
    strides = draw(st.lists(st.integers(1, 2), min_size=count, max_size=count))
    paddings = [(draw(st.integers(0, 3)), draw(st.integers(0, 3))) for _ in range(count)]
    return convolutions(sizes, taps, strides, 40, paddings, draw(st.integers(1, 2)))


@given(any_convolutions(), st.sampled_from([2, 3, 8]))
def test_stripes_give_the_integers_of_the_whole(graph, count):
    (chain,) = chains(graph, ())
    assert [node.name for node in chain.nodes] == [node.name for node in graph.nodes]
    striped = in_stripes(Striped(graph, {}), chain, count)
    if striped is None:  # a stripe that sees nothing but padding
        return
    inputs = random_inputs(graph, 0)
    found = Interpreter(verify(striped.graph)).step(inputs).outputs
    assert same(found, Interpreter(graph).step(inputs).outputs)
    named = {striped.origin[n.name][0] for n in striped.graph.nodes}
    assert named == {node.name for node in graph.nodes}


@pytest.mark.parametrize("sram", [8000, 4000])
def test_stripes_lower_the_peak_where_the_sram_is_short(sram):
    graph = convolutions((4, 32, 32, 4), (3, 3, 3), (1, 2, 1), frames=200)
    target = replace(EDGE8, sram=replace(EDGE8.sram, bytes=sram))
    whole, cut = (compile_step(graph, target, cascading=choice) for choice in (False, True))
    assert not whole.plan.fits
    assert cut.plan.fits
    assert cut.plan.arena_bytes < whole.plan.arena_bytes / 3
    stripes = {cut.origin[command.node] for command in cut.commands if not command.node.endswith("join")}
    count = len({stripe for _, stripe in stripes})
    assert stripes == {(node.name, f"stripe {n}") for node in graph.nodes for n in range(count)}
    assert count > 1
    assert same_in_the_arena(cut, graph)


def test_nothing_is_cut_where_all_fits_or_where_it_lowers_nothing():
    graph = convolutions((4, 32, 4), (3, 3), (1, 1))
    assert compile_step(graph, EDGE8).commands == compile_step(graph, EDGE8, cascading=False).commands
    flat = convolutions((16, 1, 16), (1, 1), (1, 1), frames=16)
    small = replace(EDGE8, sram=replace(EDGE8.sram, bytes=520))
    cut, whole = (compile_step(flat, small, cascading=choice).plan for choice in (True, False))
    assert cut.arena_bytes <= whole.arena_bytes


def test_a_value_that_somebody_else_reads_ends_a_chain():
    build = Lowered("read twice")
    x = build.input("x", parse_type("i8[1,2,20]<0.05, 3>"))
    w = weight(build, "i8", "w", 2, "2,3")
    attrs = {"stride": 1, "dilation": 1, "padding": (2, 0), "groups": 1}
    (a,) = build.crossed("conv1d", (x, w, np.zeros(2)), (CODE,), "a", **attrs)
    (b,) = build.crossed("conv1d", (a, w, np.zeros(2)), (CODE,), "b", **attrs)
    (c,) = build.crossed("relu", (b,), (CODE,), "c")
    build.output(build.crossed("add", (a, c), (CODE,), "d")[0])
    graph = verify(build.build())
    assert [[node.name for node in chain.nodes] for chain in chains(graph, ())] == [["b", "c"]]
    assert list(chains(graph, ("c",))) == []
