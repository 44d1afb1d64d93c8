"""Twenty shapes of speech models: torch's own results through nnaq's graph, batch and time left open."""

from copy import deepcopy
from functools import cache

import numpy as np
import pytest
import torch
from frontends.torch_zoo import ZOO, D, H
from torch import nn
from torch._higher_order_ops.scan import scan

from nnaq import pipeline
from nnaq.errors import FrontendError
from nnaq.frontends.ports import ImportOptions
from nnaq.frontends.torch import load
from nnaq.interpret import run
from nnaq.ir.dims import symbols
from nnaq.ir.verify import is_real
from nnaq.quantize.calibrate import calibrate
from nnaq.targets import load_target

TRACED, TRIED = (2, 6), ((3, 9), (4, 14))
LOWEST_DB = {"i8": 15, "i16": 40}  # of random weights; a mask that is wrong leaves 17 in 16 bit
pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections")
READ = [name for name in ZOO if name != "packed sequence"]


def inputs_of(name, batch, time):
    """Random inputs of an entry, of the sizes it does not fix itself."""
    entry = ZOO[name]
    torch.manual_seed(batch * time)
    return entry.inputs(entry.fixed[0] or batch, entry.fixed[1] or time)


def arrays_of(inputs):
    return {key: value.numpy().astype(np.float32) for key, value in inputs.items()}


@cache
def imported(name):
    """The module and what became of it, traced with a batch of 2 and 6 frames where it fixes neither."""
    entry = ZOO[name]
    torch.manual_seed(7)
    module = entry.make().eval()
    options = ImportOptions(shapes=entry.shapes, states=entry.states)
    return module, load(module, inputs_of(name, *TRACED), options, entry.outputs)


@pytest.mark.parametrize("name", READ)
def test_the_graph_means_what_the_module_means(name):
    module, read = imported(name)
    for batch, time in TRIED:
        inputs = inputs_of(name, batch, time)
        with torch.no_grad():
            made = deepcopy(module)(**inputs)  # a copy: it may keep states
        made = made if isinstance(made, tuple) else (made,)
        found = run(read.graph, arrays_of(inputs))
        for output, expected in zip(ZOO[name].outputs, made, strict=True):
            np.testing.assert_allclose(found.outputs[output], expected.numpy(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", READ)
def test_axes_stay_open_unless_the_module_fixes_them(name):
    _, read = imported(name)
    entry = ZOO[name]
    found = frozenset().union(
        *(symbols(d) for p in read.graph.inputs for d in read.graph.types[p.name].shape)
    )
    asked = frozenset().union(*(symbols(dim) for shape in entry.shapes.values() for dim in shape))
    fixed = {"T"} if entry.fixed[1] else set()
    assert found == asked - fixed
    assert any("fixes axis 1 (T) to 5" in note for note in read.notes) == bool(fixed)


@pytest.mark.parametrize("name", READ)
def test_integers_stay_near_the_reals_and_on_the_accelerator(name):
    graph = pipeline.simplify(imported(name)[1].graph)
    ranges = calibrate(graph, [arrays_of(inputs_of(name, 3, time)) for time in (8, 12, 10)])
    inputs = arrays_of(inputs_of(name, 2, 11))
    expected = run(graph, inputs).outputs
    for width, lowest in LOWEST_DB.items():
        crossing = pipeline.cross(graph, ranges, pipeline.Options(load_target("edge8"), width))
        on_host = {node.op for node in crossing.integer.nodes if is_real(crossing.integer, node)}
        assert on_host == ZOO[name].host
        found = run(crossing.integer, inputs).outputs
        for output, reals in expected.items():
            assert sqnr(reals, found[output]) > lowest, (width, output)


def sqnr(reals, found):
    """Signal to quantisation noise in dB."""
    return 10 * np.log10(np.square(reals).sum() / max(np.square(found - reals).sum(), 1e-30))


def test_states_of_an_open_batch_stay_ports():
    entry = ZOO["lstm"]
    options = ImportOptions(shapes=entry.shapes)
    read = load(entry.make(), inputs_of("lstm", *TRACED), options, ("y", "h_out", "new_c"))
    assert not read.graph.states
    assert "port h stays an input: a state needs whole sizes" in read.notes


def test_states_in_buffers_become_states():
    module, read = imported("lstm with buffers")
    assert {state.name for state in read.graph.states} == {"h", "c"}
    x = inputs_of("lstm with buffers", 1, 12)["x"]
    with torch.no_grad():
        whole = deepcopy(module)(x).numpy()
    parts = run(graph_in_time(read.graph), {"x": x.numpy()}, chunk=5).outputs["output"]
    np.testing.assert_allclose(parts, whole, rtol=0, atol=1e-6)


def graph_in_time(graph):
    """The graph with its ports' time on axis 1."""
    ports = {key: tuple(type(p)(p.name, 1) for p in getattr(graph, key)) for key in ("inputs", "outputs")}
    return graph.rebuilt(graph.nodes, **ports)


def test_packed_sequences_are_refused():
    entry = ZOO["packed sequence"]
    with pytest.raises(FrontendError, match="with a mask"):
        load(entry.make(), entry.inputs(2, 6))
    assert nn.utils.rnn.pack_padded_sequence.__module__.startswith("torch.")


class Leaky(nn.Module):
    """A scan whose body is no cell."""

    def forward(self, x):
        def step(carry, frame):
            carry = 0.5 * carry + frame
            return carry, carry.clone()

        return scan(step, x.new_zeros(x.shape[1], D), x)[1]


def test_a_scan_over_something_else_is_refused_by_name():
    with pytest.raises(
        FrontendError, match=r"its body is aten::add, aten::mul, not one cell \(scan over nn.LSTMCell"
    ):
        load(Leaky(), [torch.randn(6, 2, D)], ImportOptions(shapes={"x": ("T", "B", D)}))


def test_the_table_of_a_conformer_limits_its_time_and_a_note_says_so():
    assert "T is at most 32: the module's code says so" in imported("conformer")[1].notes
    assert [n.op for n in imported("conformer")[1].graph.nodes].count("relative_shift") == 1


def test_attention_by_torchs_own_function_and_with_every_mask():
    """Separate widths, a mask to add and one of flags, no batch axis."""
    torch.manual_seed(0)

    class Cross(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.MultiheadAttention(H, 2, kdim=D, vdim=D)

        def forward(self, q, k, padding):
            mask = torch.zeros(q.shape[0], k.shape[0]).masked_fill(padding[None], -1.0)
            padding = torch.zeros(k.shape[0]).masked_fill(padding, float("-inf"))
            return self.inner(q, k, k, attn_mask=mask, key_padding_mask=padding, average_attn_weights=False)

    module = Cross().eval()
    inputs = {"q": torch.randn(5, H), "k": torch.randn(7, D), "padding": torch.arange(7) > 4}
    graph = load(
        module, inputs, ImportOptions(shapes={"q": ("T", H), "k": ("S", D), "padding": ("S",)})
    ).graph
    inputs = {"q": torch.randn(3, H), "k": torch.randn(6, D), "padding": torch.arange(6) > 2}
    with torch.no_grad():
        expected = module(**inputs)
    found = run(graph, arrays_of(inputs)).outputs
    for name, array in zip(("output", "output_1"), expected, strict=True):
        np.testing.assert_allclose(found[name], array.numpy(), rtol=0, atol=1e-5)
