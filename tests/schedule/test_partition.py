"""Host islands and accelerator regions: convex, and never dearer than the accelerator for all it can run."""

from dataclasses import replace
from fractions import Fraction

import networkx as nx
import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from schedule.step_graphs import EDGE8, networks, weight
from simulate.lowered import Lowered

from nnaq.cost import bind_shapes
from nnaq.ir.types import parse_type
from nnaq.ir.verify import verify
from nnaq.schedule.order import critical_path_order, ranks
from nnaq.schedule.partition import Costs, partition, regions

OPERATORS = ("tanh", "rescale", "add", "transpose", "reshape", "fully_connected", "conv1d", "lstm", "matmul")


@st.composite
def targets(draw):
    """Machines that leave some operators to a host that is near or far, fast or slow."""
    host = replace(
        EDGE8.host,
        operations_per_cycle=Fraction(draw(st.sampled_from([1, 2, 200]))),
        sync_cycles=draw(st.sampled_from([0, 1, 500])),
    )
    exclude = tuple(draw(st.lists(st.sampled_from(OPERATORS), unique=True, max_size=4)))
    return replace(EDGE8, host=host, exclude=exclude)


@given(networks(), targets())
def test_a_cut_costs_at_most_what_all_on_the_accelerator_costs(graph, target):
    costs, found = Costs(graph, target), partition(graph, target)
    assert found.on_host >= costs.sure
    assert costs.total(found.on_host) <= costs.total(costs.sure)
    for node in graph.nodes:
        if node.name not in costs.sure:
            assert costs.total(found.on_host) <= costs.total(found.on_host ^ {node.name})


@given(networks(), targets())
def test_no_path_leaves_a_region_and_comes_back(graph, target):
    found = partition(graph, target)
    assert sorted(name for part in found.regions for name in part.nodes) == sorted(graph.dag.nodes)
    for part in found.regions:
        inside = set(part.nodes)
        assert len({name in found.on_host for name in inside}) == 1
        behind = set().union(*(nx.descendants(graph.dag, name) for name in inside)) - inside
        assert all(inside.isdisjoint(nx.descendants(graph.dag, name)) for name in behind)


def chain(*operators: str):
    """One operator after the other on [4, 32]; a layer has more products than the host likes."""
    build = Lowered("chain")
    x = build.input("x", parse_type("i8[4,32]<0.0078125, 0>"))
    for number, op in enumerate(operators):
        operands = (x,)
        if op == "fully_connected":
            operands = (x, weight(build, "i8", f"w{number}", 32, "32"), np.zeros(32))
        (x,) = build.crossed(op, operands, ("i8[]<0.0078125, 0>",), f"v{number}")
    build.output(x)
    return verify(build.build())


def test_what_lies_between_host_nodes_goes_to_the_host_where_crossing_costs_more():
    graph = chain("fully_connected", "sigmoid", "rescale", "sigmoid", "fully_connected")
    target = replace(EDGE8, exclude=("sigmoid",))
    assert partition(graph, target).on_host == {"v1", "v2", "v3"}
    assert [part.is_host for part in partition(graph, target).regions] == [False, True, False]
    near = replace(target, host=replace(target.host, sync_cycles=0, bytes_per_cycle=Fraction(10**6)))
    assert partition(graph, near).on_host == {"v1", "v3"}
    assert [part.nodes for part in partition(graph, near).regions] == [(f"v{i}",) for i in range(5)]


def test_two_islands_beside_each_other_are_one_region_only_at_one_depth():
    graph = chain("tanh", "rescale", "tanh")
    assert [part.nodes for part in regions(graph, {"v1"})] == [("v0",), ("v1",), ("v2",)]


def test_the_longest_chain_goes_first():
    build = Lowered("fork")
    x = build.input("x", parse_type("i8[8]<0.0078125, 0>"))
    for name in ("short", "long", "longer"):
        build.crossed("tanh", (x if name != "longer" else "long",), ("i8[]<0.0078125, 0>",), name)
    build.output("short")
    build.output("longer")
    graph = bind_shapes(verify(build.build()))
    cycles = dict.fromkeys(("short", "long", "longer"), 5)
    assert ranks(graph, cycles) == {"short": 5, "long": 10, "longer": 5}
    assert [n.name for n in critical_path_order(graph, cycles)] == ["long", "short", "longer"]


@given(networks(), st.randoms(use_true_random=False))
def test_every_order_is_topological_and_the_same_again(graph, random):
    cycles = {node.name: random.randrange(100) for node in graph.nodes}
    order = critical_path_order(graph, cycles)
    position = {node.name: at for at, node in enumerate(order)}
    assert sorted(position) == sorted(graph.dag.nodes)
    assert all(position[a] < position[b] for a, b in graph.dag.edges)
    assert order == critical_path_order(graph, cycles)
