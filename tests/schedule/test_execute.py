"""A compiled step run on bytes gives the integers of the interpreter, whatever the machine."""

from hypothesis import given
from hypothesis import strategies as st
from schedule.step_graphs import EDGE8, machines, networks, same_in_the_arena, streams

from nnaq.schedule import compile_step

PINNINGS = st.sampled_from(["none", "greedy", "all"])


@given(streams(), st.integers(0, 1000))
def test_streams_of_movement_and_tables(graph, seed):
    assert same_in_the_arena(compile_step(graph, EDGE8), graph, seed, shuffled=True)


@given(networks(), machines(), PINNINGS, st.booleans(), st.integers(0, 1000))
def test_networks_on_any_machine(graph, target, pinning, shuffled, seed):
    step = compile_step(graph, target, pinning=pinning)
    assert same_in_the_arena(step, graph, seed, shuffled)
