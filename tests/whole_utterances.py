"""Causal models over whole utterances, [T,N,WIDTH] to [T / step,N,…], as they are trained."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from nnaq.models.causal import CausalConv1d, CausalConv2d, RecurrentLayer, SqueezeExcite, stacked
from nnaq.models.rnnt import LstmEncoder
from nnaq.models.transducer import Transducer

WIDTH, HEADS, LOOK_BACK, UNITS = 6, 2, 3, 7


class Recurrences(nn.Module):
    """An LSTM with a projection, two frames stacked, and a GRU."""

    step = 2

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = RecurrentLayer(WIDTH, 8, 5), nn.GRU(10, 6)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.second(stacked(self.first(x), 2))[0]
        return y


class Convolutions(nn.Module):
    """A dilated convolution, a strided one, and a gate from the mean of what was heard."""

    step = 2

    def __init__(self) -> None:
        super().__init__()
        self.dilated, self.strided = (
            CausalConv1d(WIDTH, 4, 3, dilation=2),
            CausalConv1d(4, WIDTH, 4, stride=2),
        )
        self.gate = SqueezeExcite(WIDTH, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.dilated(x.permute(1, 2, 0)))
        y = self.gate(self.strided(y))
        return y.permute(2, 0, 1)


class Bands(nn.Module):
    """Convolutions over time and bands, the first with strides in both."""

    step = 2

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = CausalConv2d(1, 3, (3, 3), stride=(2, 2)), CausalConv2d(3, 2, (3, 3))

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.first(x.transpose(0, 1)[:, None]))
        return self.second(y).transpose(1, 2).flatten(2).transpose(0, 1)


class Attention(nn.Module):
    """Self-attention over a frame and the LOOK_BACK before it, with relative positions.

    Keys, values and the flag that there was a frame are padded in front, so that query i sees the keys
    i .. i + LOOK_BACK of the padded ones.
    """

    step = 1

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.project = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 3 * WIDTH)
        self.position = nn.Parameter(torch.randn(HEADS, LOOK_BACK + 1) * 0.5)

    def forward(self, x: Tensor) -> Tensor:
        x = x.transpose(0, 1)
        q, k, v = self.project(self.norm(x)).chunk(3, -1)
        keys, values = (functional.pad(t, (0, 0, LOOK_BACK, 0)) for t in (k, v))
        there = functional.pad(torch.ones_like(x[..., 0]), (LOOK_BACK, 0))
        queries, ks, vs = (t.unflatten(-1, (HEADS, -1)).transpose(1, 2) for t in (q, keys, values))
        places = torch.arange(keys.shape[1])[None]
        distance = (torch.arange(x.shape[1]) + LOOK_BACK)[:, None] - places
        near = (distance >= 0) & (distance <= LOOK_BACK)
        scores = queries @ ks.transpose(-1, -2) + self.position[:, distance.clamp(0, LOOK_BACK)]
        scores = scores.masked_fill(~(near & (there[:, None, None] > 0.5)), -torch.inf)
        y = (scores.softmax(-1) @ vs).transpose(1, 2).flatten(2)
        return (x + y).transpose(0, 1)


def transducer() -> Transducer:
    """A whole RNN-T: three LSTM layers that stack two frames, a predictor, a joint."""
    return Transducer(LstmEncoder(WIDTH, 8, 3), UNITS, 5, 8, 8)
