"""The commands of a step: engines, order and what they wait for."""

import pytest
from simulate.lowered import layer, recurrent

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
