"""Streaming blocks as users write them in torch: what they look back on is handed in and out.

Time is the last axis but one of x [1, T, D] throughout; any number of frames makes a step.
"""

import torch
from torch import nn
from torch.nn import functional

import nnaq

WIDTH, HEADS, LOOK_BACK, KERNEL = 16, 2, 5, 3


class FeedForward(nn.Sequential):
    """Half a step of a macaron."""

    def __init__(self) -> None:
        super().__init__(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 32), nn.SiLU(), nn.Linear(32, WIDTH))


class CachedAttention(nn.Module):
    """Self-attention over the frame itself and the LOOK_BACK frames before it, with relative positions.

    keys, values [1, LOOK_BACK, D] and there [1, LOOK_BACK] (1 where a frame has been) are the states.
    """

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.project, self.out = (
            nn.LayerNorm(WIDTH),
            nn.Linear(WIDTH, 3 * WIDTH),
            nn.Linear(WIDTH, WIDTH),
        )
        self.position = nn.Parameter(torch.randn(HEADS, LOOK_BACK + 1) * 0.5)

    def forward(self, x, keys, values, there):
        time = x.shape[1]
        q, k, v = self.project(self.norm(x)).chunk(3, -1)
        keys, values = torch.cat([keys, k], 1), torch.cat([values, v], 1)
        there = torch.cat([there, torch.ones_like(x[..., 0])], 1)
        queries, ks, vs = (t.unflatten(-1, (HEADS, -1)).transpose(1, 2) for t in (q, keys, values))
        distance = (torch.arange(time) + LOOK_BACK)[:, None] - torch.arange(keys.shape[1])[None]
        near = (distance >= 0) & (distance <= LOOK_BACK)
        bias = self.position[:, distance.clamp(0, LOOK_BACK)]
        scores = queries @ ks.transpose(-1, -2) * (WIDTH // HEADS) ** -0.5 + bias
        scores = scores.masked_fill(~(near & (there[:, None, None] > 0.5)), -torch.inf)
        y = (scores.softmax(-1) @ vs).transpose(1, 2).flatten(2)
        return x + self.out(y), keys[:, -LOOK_BACK:], values[:, -LOOK_BACK:], there[:, -LOOK_BACK:]


class CausalConvolution(nn.Module):
    """Pointwise, GLU, causal depthwise, batch norm, Swish, pointwise.

    past [1, D, KERNEL - 1] is the state.
    """

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.into = nn.LayerNorm(WIDTH), nn.Conv1d(WIDTH, 2 * WIDTH, 1)
        self.depthwise = nn.Conv1d(WIDTH, WIDTH, KERNEL, groups=WIDTH)
        self.batch, self.out = nn.BatchNorm1d(WIDTH), nn.Conv1d(WIDTH, WIDTH, 1)

    def forward(self, x, past):
        y = functional.glu(self.into(self.norm(x).transpose(1, 2)), 1)
        y = torch.cat([past, y], 2)
        past = y[..., 1 - KERNEL :]
        y = self.out(functional.silu(self.batch(self.depthwise(y))))
        return x + y.transpose(1, 2), past


class ConformerBlock(nn.Module):
    """Half a feed-forward, attention, convolution, half a feed-forward, layer norm."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.attention = FeedForward(), CachedAttention()
        self.convolution, self.second, self.norm = CausalConvolution(), FeedForward(), nn.LayerNorm(WIDTH)

    def forward(self, x, keys, values, there, past):
        x = x + 0.5 * self.first(x)
        x, keys, values, there = self.attention(x, keys, values, there)
        x, past = self.convolution(x, past)
        return self.norm(x + 0.5 * self.second(x)), keys, values, there, past

    @staticmethod
    def states() -> dict[str, torch.Tensor]:
        """What a stream begins with."""
        shapes = {"keys": (1, LOOK_BACK, WIDTH), "values": (1, LOOK_BACK, WIDTH), "there": (1, LOOK_BACK)}
        return {
            name: torch.zeros(shape) for name, shape in {**shapes, "past": (1, WIDTH, KERNEL - 1)}.items()
        }


class TransducerEncoder(nn.Module):
    """Two LSTM layers, the first with a projection, layer norm after each."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.LSTM(WIDTH, 24, proj_size=12, batch_first=True)
        self.second = nn.LSTM(12, 20, batch_first=True)
        self.norms = nn.ModuleList([nn.LayerNorm(12), nn.LayerNorm(20)])
        self.out = nn.Linear(20, 8)

    def forward(self, x, h1, c1, h2, c2):
        x, (h1, c1) = self.first(x, (h1, c1))
        x, (h2, c2) = self.second(self.norms[0](x), (h2, c2))
        return self.out(self.norms[1](x)), h1, c1, h2, c2

    @staticmethod
    def states() -> dict[str, torch.Tensor]:
        """What a stream begins with."""
        sizes = {"h1": 12, "c1": 24, "h2": 20, "c2": 20}
        return {name: torch.zeros(1, 1, size) for name, size in sizes.items()}


class GatedRecurrent(nn.Module):
    """A GRU behind a squeeze-and-excite gate from the mean of all frames so far."""

    def __init__(self) -> None:
        super().__init__()
        self.gru, self.gate = nn.GRU(WIDTH, 12, batch_first=True), nn.Linear(WIDTH, WIDTH)

    def forward(self, x, h, total, count):
        mean, total, count = nnaq.running_mean(x.transpose(0, 1), total, count)
        x = x * torch.sigmoid(self.gate(mean.transpose(0, 1)))
        y, h = self.gru(x, h)
        return y, h, total, count

    @staticmethod
    def states() -> dict[str, torch.Tensor]:
        """What a stream begins with."""
        return {"h": torch.zeros(1, 1, 12), "total": torch.zeros(1, WIDTH), "count": torch.zeros(1, 1)}
