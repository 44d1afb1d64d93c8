"""The commands of a step: engines, order and what they wait for."""

from dataclasses import replace

import numpy as np
import pytest
from schedule.step_graphs import same_in_the_arena
from simulate.lowered import Lowered, layer, recurrent

from nnaq.ir.types import parse_type
from nnaq.ir.verify import verify
from nnaq.schedule import compile_step
from nnaq.targets import load_target

EDGE8 = load_target("edge8")


@pytest.mark.parametrize("graph", [layer(), recurrent()], ids=["layer", "recurrent"])
@pytest.mark.parametrize("pinning", ["none", "greedy"])
def test_commands_need_only_earlier_ones(graph, pinning):
    step = compile_step(graph, EDGE8, {"T": 5}, pinning)
    assert all(need < at for at, command in enumerate(step.commands) for need in command.needs)
    assert {command.node for command in step.commands} == {node.name for node in graph.nodes}
    assert any(command.dram_bytes for command in step.commands) == (pinning == "none")


def test_an_embedding_fetches_the_rows_it_picks_once_their_numbers_are_known():
    build = Lowered("embedding")
    kind = "i8[]<0.05, 0>"
    build.input("x", parse_type("i8[3]<1.0, 0>"))
    (whole,) = build.crossed("rescale", ("x",), ("i32[]<1.0, 0>",), "whole")
    (row,) = build.crossed("clip", (whole,), ("i32[]<1.0, 0>",), "row", low=0.0, high=9.0)
    table = build.codes("table", "i8[10,64]<0.05, 0>")
    build.output(build.crossed("gather", (table, row), (kind,), "y", axis=0)[0])
    graph = verify(build.build())
    step = compile_step(graph, EDGE8, pinning="none")
    (picked,) = (at for at, command in enumerate(step.commands) if command.part == "picked")
    assert step.commands[picked].dram_bytes == 3 * 64
    assert any(step.commands[need].node == "row" for need in step.commands[picked].needs)
    assert same_in_the_arena(step, graph)


def test_steps_follow_each_other():
    step = compile_step(layer(), EDGE8, {"T": 3})
    commands = step.repeated(3).commands
    setup, size = len(step.setup.commands), len(step.commands)
    assert len(commands) == setup + 3 * size
    assert all(need < at for at, command in enumerate(commands) for need in command.needs)
    assert all(command.needs for command in commands[setup:])
    last = setup + size - 1
    assert any(last in command.needs for command in commands[last + 1 :])


def test_a_tile_of_a_single_buffered_array_waits_for_the_one_before():
    single = replace(EDGE8, array=replace(EDGE8.array, double_buffered=False))
    step = compile_step(layer(inputs=256, outputs=256), single, pinning="none")
    order = [command.engine for command in step.commands]
    assert order == ["dma", "array", "vector"] * 8
    assert [command.needs for command in step.commands[3:5]] == [(0, 1, 2), (2, 3)]
    assert np.all([command.cycles >= 0 for command in step.commands])
