"""Small torch modules that several tests share."""

import numpy as np
import torch
from torch import nn

from nnaq.frontends.ports import ImportOptions
from nnaq.frontends.torch import load
from nnaq.interpret import run

OPTIONS = ImportOptions(time={"x": 2, "y": 0}, states={"h": "h_next", "c": "c_next"})
OUTPUTS = ("y", "h_next", "c_next")
FRAMES = 7  # other than the example's, so that nothing may have been fixed to it
FLAT, ROWS, STEPS, IMAGE = ("T", 4), ("T", 2, 4), (2, 4, "T"), (1, 4, "T", 6)


class Of(nn.Module):
    """A module that applies a function; `layers` become its submodules."""

    def __init__(self, function, **layers):
        super().__init__()
        self.function = function
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, x):
        return self.function(self, x)


def layer(made):
    return Of(lambda m, x: m.inner(x), inner=made)


def example_of(shape, frames):
    generator = torch.Generator().manual_seed(frames)
    return torch.randn([frames if dim == "T" else dim for dim in shape], generator=generator)


def same_as_torch(module, shape, frames=FRAMES, traced=5):
    """The graph of a module, traced with 5 frames, after a look that it means the same with others."""
    read = load(module, [example_of(shape, traced)], ImportOptions(shapes={"x": shape}))
    assert read.graph.types["x"].shape == tuple(shape)
    x = example_of(shape, frames)
    with torch.no_grad():
        expected = module.eval()(x).numpy().astype(np.float32)
    found = run(read.graph, {"x": x.numpy()}).outputs["output"]
    np.testing.assert_allclose(found, expected, rtol=0, atol=3e-6 * max(1, np.abs(expected).max()))
    return read.graph


class Speech(nn.Module):
    """Conv1d, LSTM with explicit states, Linear: frames [1,4,T] in, [T,1,3] out."""

    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.conv = nn.Conv1d(4, 8, 3, padding=1)
        self.lstm = nn.LSTM(8, 6)
        self.fc = nn.Linear(6, 3)

    def forward(self, x, h, c):
        frames = torch.relu(self.conv(x)).permute(2, 0, 1)
        hidden, (h, c) = self.lstm(frames, (h, c))
        return torch.sigmoid(self.fc(hidden)), h, c


def examples(frames=6, units=6):
    return torch.randn(1, 4, frames), torch.zeros(1, 1, units), torch.zeros(1, 1, units)


def speech_graph(seed=0):
    module = Speech(seed).eval()
    return module, load(module, examples(), OPTIONS, OUTPUTS).graph


def noise(frames, seed):
    return np.random.default_rng(seed).normal(size=(1, 4, frames)).astype(np.float32)
