"""The edges of an imported torch module: names, states, open axes, batch norm, what is refused."""

import numpy as np
import pytest
import torch
from frontends.torch_modules import OPTIONS, OUTPUTS, Speech, examples, noise, speech_graph
from torch import nn

from nnaq.errors import FrontendError
from nnaq.frontends.ports import ImportOptions
from nnaq.frontends.torch import load
from nnaq.interpret import run


class Smoother(nn.Module):
    """Keeps half of what it saw in a buffer."""

    def __init__(self):
        super().__init__()
        self.register_buffer("memory", torch.full((1, 4), 0.25))

    def forward(self, x):
        y = 0.5 * self.memory + 0.5 * x
        self.memory.copy_(y)
        return y


class Twice(nn.Module):
    """One layer used twice, with its input handed through."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(4, 4)

    def forward(self, left, right=None):
        y = self.inner(self.inner(left))
        return left, y, y, (y if right is None else y + right)


def test_ports_states_constants_and_sources_have_the_modules_own_names():
    _, graph = speech_graph()
    assert [(p.name, p.time_axis) for p in graph.inputs] == [("x", 2)]
    assert [(p.name, p.time_axis) for p in graph.outputs] == [("y", 0)]
    assert [(s.input, s.output) for s in graph.states] == [("h", "h_next"), ("c", "c_next")]
    own = {name for name, _ in Speech().named_parameters() if "bias_" not in name}
    assert own | {"lstm.bias_l0", "h.initial", "c.initial"} == graph.constants.keys()
    assert {n.op: n.source for n in graph.nodes if n.op in ("conv1d", "lstm", "fully_connected")} == {
        "conv1d": "conv", "lstm": "lstm", "fully_connected": "fc",
    }  # fmt: skip


def test_a_stream_in_chunks_is_the_module_over_the_whole():
    module, graph = speech_graph()
    x = noise(11, seed=3)
    with torch.no_grad():
        y, h, c = module(torch.tensor(x), *examples()[1:])
    found = run(graph, {"x": x})
    np.testing.assert_allclose(found.outputs["y"], y.numpy(), rtol=0, atol=1e-6)
    np.testing.assert_allclose(found.states["h"], h.numpy(), rtol=0, atol=1e-6)
    np.testing.assert_allclose(found.states["c"], c.numpy(), rtol=0, atol=1e-6)


def test_states_are_paired_by_name_and_the_pair_is_noted():
    options = ImportOptions(time={"x": 2})
    imported = load(Speech(), examples(), options, ["y", "h_out", "new_c"])
    assert [s.output for s in imported.graph.states] == ["h_out", "new_c"]
    assert "state h: next value h_out (paired by name)" in imported.notes


def test_a_buffer_that_forward_changes_is_a_state():
    module = Smoother()
    graph = load(module, [torch.randn(1, 4)]).graph
    assert [(s.name, s.input) for s in graph.states] == [("memory", "memory")]
    x = np.ones((1, 4), np.float32)
    result = run(graph, {"x": x})
    assert np.array_equal(result.outputs["output"], np.full((1, 4), 0.625))
    assert np.array_equal(result.states["memory"], np.full((1, 4), 0.625))
    assert torch.equal(module.memory, torch.full((1, 4), 0.25))


def test_outputs_are_numbered_and_copied_where_they_share_a_value():
    module = Twice()
    graph = load(module, [torch.randn(3, 4)], ImportOptions(shapes={"left": ("N", 4)})).graph
    assert [port.name for port in graph.outputs] == ["output", "output_1", "output_2", "output_3"]
    assert sum(name.startswith("inner.weight") for name in graph.constants) == 1
    x = torch.randn(5, 4)
    found = run(graph, {"left": x.numpy()}).outputs
    for name, expected in zip(found, module(x), strict=True):
        np.testing.assert_allclose(found[name], expected.detach().numpy(), rtol=0, atol=1e-6)


def test_example_inputs_may_be_given_by_name():
    graph = load(Twice(), {"right": torch.randn(3, 4), "left": torch.randn(3, 4)}).graph
    assert {port.name for port in graph.inputs} == {"left", "right"}


def test_batch_norm_is_folded_and_noted_and_the_mode_of_the_module_restored():
    module = nn.Sequential(nn.Conv1d(2, 3, 3), nn.BatchNorm1d(3)).train()
    imported = load(module, [torch.randn(2, 2, 9)])
    assert imported.notes == ("batch norm 1 is folded into 0",)
    assert module.training
    assert module[1].training
    assert nn.LSTM.forward.__module__.startswith("torch.")


REFUSED = {
    "one frame": (
        lambda: load(Speech(), examples(1), OPTIONS),
        "1 entries on its open axis 2; give 2 or more",
    ),
    "names": (lambda: load(Speech(), examples(), OPTIONS, ["y"]), "makes 3 outputs, found 1 names"),
    "taken name": (
        lambda: load(Speech(), examples(), outputs=["x", "h_next", "c_next"]),
        "output 'x' has the name of an input",
    ),
    "shape": (
        lambda: load(Speech(), examples(), ImportOptions(shapes={"x": (1, 5, "T")})),
        "its given shape says 5",
    ),
    "unknown input": (
        lambda: load(Twice(), {"lefd": torch.randn(3, 4)}),
        "no input 'lefd'; did you mean 'left'",
    ),
    "open state": (
        lambda: load(
            Speech(),
            [torch.randn(2, 4, 5), torch.zeros(1, 2, 6), torch.zeros(1, 2, 6)],
            ImportOptions(
                states=OPTIONS.states, shapes={"x": ("B", 4, 5), "h": (1, "B", 6), "c": (1, "B", 6)}
            ),
            OUTPUTS,
        ),
        "state 'h' has the open shape",
    ),
    "complex numbers": (
        lambda: load(Twice(), [torch.zeros(3, 4, dtype=torch.complex64)]),
        "expected a tensor of reals, whole numbers or flags",
    ),
    "pins": (lambda: load(Twice(), [torch.randn(3, 4)], ImportOptions(pins={"left": 1})), "takes no pins"),
    "code": (lambda: load(nn.Linear(3, 4), [torch.randn(2, 5)]), "torch.export cannot read Linear"),
    "not finite": (
        lambda: load(nn.PReLU(init=float("nan")), [torch.randn(2, 5)]),
        "'weight' holds NaN or infinity",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_mistakes_are_refused_in_a_sentence(name):
    call, said = REFUSED[name]
    with pytest.raises(FrontendError, match=said):
        call()
