"""Every torch operator that is read: the graph's meaning over the reals equals the module's own result."""

import numpy as np
import pytest
import torch
from frontends.torch_modules import FLAT, FRAMES, IMAGE, ROWS, STEPS, Of, example_of, layer
from torch import nn
from torch.nn import functional

from nnaq.errors import FrontendError
from nnaq.frontends.ports import ImportOptions
from nnaq.frontends.torch import load
from nnaq.interpret import run
from nnaq.ir.text import parse_graph, print_graph


def normed(rank):
    conv, norm = (nn.Conv1d, nn.BatchNorm1d) if rank == 3 else (nn.Conv2d, nn.BatchNorm2d)
    made = nn.Sequential(conv(4, 6, 3, bias=rank == 3), norm(6))
    nn.init.uniform_(made[1].running_mean)
    nn.init.uniform_(made[1].running_var, 0.5, 2)
    nn.init.uniform_(made[1].weight, 0.5, 2)
    return made


def alone(features):
    norm = nn.BatchNorm1d(features)
    nn.init.uniform_(norm.running_mean)
    nn.init.uniform_(norm.running_var, 0.5, 2)
    return norm


W = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))

CASES = {
    "linear": (layer(nn.Linear(4, 3)), ROWS, "fully_connected"),
    "linear without bias": (layer(nn.Linear(4, 3, bias=False)), FLAT, "fully_connected"),
    "conv1d": (layer(nn.Conv1d(4, 6, 3, stride=2, padding=1, dilation=2)), STEPS, "conv1d"),
    "conv1d grouped": (layer(nn.Conv1d(4, 6, 3, groups=2, bias=False)), STEPS, "conv1d"),
    "conv1d same": (layer(nn.Conv1d(4, 6, 4, padding="same")), STEPS, "conv1d"),
    "conv2d": (layer(nn.Conv2d(4, 5, (3, 2), padding=(1, 0), stride=(1, 2))), IMAGE, "conv2d"),
    "conv1d batch norm": (layer(normed(3)), STEPS, "conv1d"),
    "conv2d batch norm": (layer(normed(4)), IMAGE, "conv2d"),
    "batch norm": (layer(alone(4)), STEPS, "batch_norm"),
    "relu": (Of(lambda m, x: torch.relu(x)), FLAT, "relu"),
    "sigmoid": (layer(nn.Sigmoid()), FLAT, "sigmoid"),
    "tanh exp": (Of(lambda m, x: torch.tanh(x).exp()), FLAT, "tanh exp"),
    "log sqrt square": (Of(lambda m, x: (x.sigmoid().log() ** 2) ** 0.5), FLAT, "sigmoid log square sqrt"),
    "silu": (layer(nn.SiLU()), FLAT, "silu"),
    "glu": (layer(nn.GLU()), FLAT, "slice slice sigmoid mul"),
    "add sub": (Of(lambda m, x: (x + x.tanh()) - 0.5), FLAT, "tanh add sub"),
    "mul div": (Of(lambda m, x: x * x.tanh() / 3), FLAT, "tanh mul mul"),
    "add parameter": (Of(lambda m, x: x + m.inner.weight[0], inner=nn.Linear(4, 1)), FLAT, "add"),
    "view": (Of(lambda m, x: x.view(x.shape[0], 8)), ROWS, "reshape"),
    "reshape": (Of(lambda m, x: x.reshape(-1, 2, 2).relu()), FLAT, "reshape relu"),
    "flatten": (Of(lambda m, x: x.flatten(1)), ROWS, "reshape"),
    "flatten time": (Of(lambda m, x: x.flatten(0, 1)), ROWS, "reshape"),
    "squeeze": (Of(lambda m, x: x.unsqueeze(1).relu().squeeze(1)), FLAT, "reshape relu reshape"),
    "permute": (Of(lambda m, x: x.permute(2, 0, 1)), ROWS, "transpose"),
    "transpose": (Of(lambda m, x: x.transpose(-1, 0)), ROWS, "transpose"),
    "slice": (Of(lambda m, x: x[:, 1:, ::2]), ROWS, "slice slice"),
    "slice of fixed time": (Of(lambda m, x: x[2:-1]), (7, 4), "slice"),
    "slice of open time": (Of(lambda m, x: x[2:-1]), FLAT, "slice"),
    "select": (Of(lambda m, x: x[:, -1]), ROWS, "slice reshape"),
    "chunk": (
        Of(lambda m, x: torch.cat([p.relu() for p in x.chunk(2, -1)], -1)),
        FLAT,
        "slice slice relu relu concat",
    ),
    "split": (Of(lambda m, x: x.split([1, 3], -1)[1].tanh()), FLAT, "slice tanh"),
    "cat": (Of(lambda m, x: torch.cat([x, x.relu()], -1)), FLAT, "relu concat"),
    "stack": (Of(lambda m, x: torch.stack([x, x.relu()], 1)), FLAT, "relu reshape reshape concat"),
    "pad": (Of(lambda m, x: functional.pad(x, (1, 2))), STEPS, "pad"),
    "pad mirrored": (Of(lambda m, x: functional.pad(x, (1, 2), "reflect")), STEPS, "pad"),
    "pad with the edge": (Of(lambda m, x: functional.pad(x, (1, 2), "replicate")), STEPS, "pad"),
    "matmul": (Of(lambda m, x: x @ x.transpose(1, 2)), ROWS, "transpose matmul"),
    "bmm": (Of(lambda m, x: torch.bmm(x, x.transpose(1, 2))), ROWS, "transpose matmul"),
    "matmul constant": (Of(lambda m, x: x @ W), ROWS, "fully_connected"),
    "max_pool1d": (layer(nn.MaxPool1d(3, 2, padding=1)), (2, 4, 9), "max_pool"),
    "max_pool2d": (layer(nn.MaxPool2d(2)), IMAGE, "max_pool"),
    "avg_pool1d": (layer(nn.AvgPool1d(3, 1, padding=1)), STEPS, "average_pool"),
    "avg_pool2d": (layer(nn.AvgPool2d((2, 3), count_include_pad=False)), IMAGE, "average_pool"),
    "dropout": (layer(nn.Dropout(0.5)), FLAT, "reshape"),
    "lstm": (Of(lambda m, x: m.inner(x)[0], inner=nn.LSTM(4, 5)), ROWS, "lstm"),
    "lstm of two layers": (
        Of(lambda m, x: m.inner(x)[0], inner=nn.LSTM(4, 5, 2, bias=False)),
        ROWS,
        "lstm lstm",
    ),
    "lstm batch first": (
        Of(lambda m, x: m.inner(x)[0], inner=nn.LSTM(4, 5, batch_first=True)),
        (2, "T", 4),
        "transpose lstm transpose",
    ),
    "lstm states": (
        Of(lambda m, x: torch.cat(m.inner(x)[1]), inner=nn.LSTM(4, 5, 2)),
        ROWS,
        "lstm lstm reshape reshape concat reshape reshape concat concat",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_graph_means_what_the_module_means(name):
    module, shape, ops = CASES[name]
    graph = load(module, [example_of(shape, 5)], ImportOptions(shapes={"x": shape})).graph
    assert sorted(node.op for node in graph.nodes) == sorted(ops.split())
    assert parse_graph(print_graph(graph), graph.constants) == graph
    x = example_of(shape, FRAMES)
    with torch.no_grad():
        expected = module.eval()(x).numpy()
    found = run(graph, {"x": x.numpy()}).outputs["output"]
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6 * max(1, np.abs(expected).max()))


REFUSED = {
    "power of two values": (Of(lambda m, x: x**x), "aten::pow at 'pow_1': its exponent is computed"),
    "dilated pool": (layer(nn.MaxPool1d(2, 1, dilation=2)), "ceil_mode, dilation"),
    "pad with one": (Of(lambda m, x: functional.pad(x, (1, 1), value=1.0)), "pad with zeros"),
    "alpha": (Of(lambda m, x: torch.add(x, x, alpha=2)), "alpha=2"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_there_is_refused_with_its_place(name):
    module, said = REFUSED[name]
    with pytest.raises(FrontendError, match=said):
        load(module, [torch.randn(5, 2, 4)], ImportOptions(time={"x": 0}))


def test_all_unknown_operators_are_listed_at_once():
    module = Of(lambda m, x: torch.fft.fft(m.block(x).sort(-1).values).real, block=nn.ChannelShuffle(2))
    with pytest.raises(FrontendError) as caught:
        load(module, [torch.randn(3, 4, 2)])
    said = str(caught.value)
    assert "nodes that cannot be imported" in said
    assert "channel_shuffle at 'block'" in said
    assert "aten::sort at 'sort'" in said
    assert "on the host, behind the outputs" in said
    assert "aten::fft_fft at 'fft_fft'" in said


def test_an_axis_that_the_code_fixes_is_noted():
    module = Of(lambda m, x: sum(x[t] for t in range(x.shape[0])))
    read = load(module, [torch.randn(6, 2, 4)], ImportOptions(time={"x": 0}))
    assert read.graph.types["x"].shape == (6, 2, 4)
    assert any("fixes axis 0 (T) to 6" in note for note in read.notes)
