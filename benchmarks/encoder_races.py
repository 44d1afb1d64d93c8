"""Whole encoders of `kernels.py`: modules of torch, lowered to integers, against ONNX Runtime in float32.

The encoder of a recurrent transducer takes one frame per step; a Conformer takes a whole utterance. Both run
as the simulator runs them, node by node, ends in float included.
"""

import io
import warnings
from collections.abc import Iterator
from functools import cache

import kernel_peers as peers
import numpy as np
import onnx
import torch
from kernel_races import RUNTIME, STEPS, Rival, Work, warmed
from measuring import Here, Peer, Timed
from torch import Tensor, nn
from torch.nn import functional

import nnaq
from nnaq.interpret import Interpreter
from nnaq.ir.graph import Graph
from nnaq.quantize.recipe import parse_recipe

FEATURES, UNITS, LAYERS = 80, 640, 5
FRAMES, WIDTH, HEADS, BLOCKS, TAPS = 250, 176, 4, 14, 31  # ten seconds in frames of 40 ms; 10 M weights
RECIPE = parse_recipe('name = "benchmark"\n[quantize]\nactivations = "8"\n')


class LSTMEncoder(nn.Module):
    """Layers of LSTM; h and c [LAYERS, N, UNITS] are handed in and out."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(FEATURES, UNITS, LAYERS)

    def forward(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        y, (h, c) = self.lstm(x, (h, c))
        return y, h, c


class FeedForward(nn.Sequential):
    """Half a step of a macaron."""

    def __init__(self) -> None:
        wide = nn.Linear(WIDTH, 4 * WIDTH)
        super().__init__(nn.LayerNorm(WIDTH), wide, nn.SiLU(), nn.Linear(4 * WIDTH, WIDTH))


class Attention(nn.Module):
    """Self-attention of a whole utterance."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.project, self.out = (
            nn.LayerNorm(WIDTH),
            nn.Linear(WIDTH, 3 * WIDTH),
            nn.Linear(WIDTH, WIDTH),
        )

    def forward(self, x: Tensor) -> Tensor:
        parts = self.project(self.norm(x)).chunk(3, -1)
        q, k, v = (part.unflatten(-1, (HEADS, -1)).transpose(1, 2) for part in parts)
        return self.out(functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class Convolution(nn.Module):
    """Pointwise, GLU, depthwise, batch norm, Swish, pointwise."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.into = nn.LayerNorm(WIDTH), nn.Conv1d(WIDTH, 2 * WIDTH, 1)
        self.depthwise = nn.Conv1d(WIDTH, WIDTH, TAPS, padding=TAPS // 2, groups=WIDTH)
        self.batch, self.out = nn.BatchNorm1d(WIDTH), nn.Conv1d(WIDTH, WIDTH, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.glu(self.into(self.norm(x).transpose(1, 2)), 1)
        return self.out(functional.silu(self.batch(self.depthwise(y)))).transpose(1, 2)


class Block(nn.Module):
    """Half a feed-forward, attention, convolution, half a feed-forward, layer norm."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.attention = FeedForward(), Attention()
        self.convolution, self.second, self.norm = Convolution(), FeedForward(), nn.LayerNorm(WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        x = x + 0.5 * self.first(x)
        x = x + self.attention(x)
        x = x + self.convolution(x)
        return self.norm(x + 0.5 * self.second(x))


@cache
def lstm_graph() -> Graph:
    """The integer graph of the recurrent encoder, a stream."""
    states = {name: torch.zeros(LAYERS, 1, UNITS) for name in "hc"}
    options = nnaq.ImportOptions(
        time={"x": 0}, shapes={"x": ("T", 1, FEATURES)}, states={"h": "h1", "c": "c1"}
    )
    example = {"x": torch.randn(3, 1, FEATURES), **states}
    recordings = [{"x": peers.normal(50, 1, FEATURES)}]
    outputs = "y", "h1", "c1"
    torch.manual_seed(0)
    return nnaq.lower(
        LSTMEncoder().eval(), example, recordings, None, RECIPE, options=options, outputs=outputs
    ).crossing.integer


@cache
def conformer() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(*(Block() for _ in range(BLOCKS))).eval()


@cache
def utterance() -> np.ndarray:
    return peers.normal(1, FRAMES, WIDTH)


def conformer_graph() -> Graph:
    """The integer graph of a Conformer over one utterance."""
    example = torch.from_numpy(utterance())
    return nnaq.lower(conformer(), example, [[utterance()]], None, RECIPE).crossing.integer


def conformer_peer() -> Peer:
    """The same module in the runtime."""
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            conformer(),
            (torch.from_numpy(utterance()),),
            file,
            input_names=["x"],
            dynamo=False,
            opset_version=17,
        )
    return Peer(onnx.load_from_string(file.getvalue()), {"x": utterance()})


def steps_of_lstm() -> Timed:
    """One frame after the other."""
    interpreter = Interpreter(lstm_graph())
    frames = [{"x": peers.normal(1, 1, FEATURES)} for _ in range(STEPS)]

    def stream() -> None:
        interpreter.reset()
        for frame in frames:
            interpreter.step(frame)

    return warmed(stream)


def whole_conformer() -> Timed:
    graph = conformer_graph()
    interpreter, inputs = Interpreter(graph), {graph.inputs[0].name: utterance()}
    return Here(lambda: interpreter.step(inputs))


def encoders() -> Iterator[Work]:
    """Both."""
    weights = 4 * UNITS * (FEATURES + (2 * LAYERS - 1) * UNITS)
    rival = Rival(RUNTIME, 4.0, lambda: peers.lstm_steps(LAYERS, STEPS, FEATURES, UNITS))
    name = f"streaming step of an encoder, {LAYERS} LSTM layers of {UNITS} units"
    yield Work(name, steps_of_lstm, (rival,), 2 * weights, weights, weights, steps=STEPS)
    per_frame = WIDTH * (16 * WIDTH + 4 * WIDTH + 3 * WIDTH + TAPS)  # feed-forward, attention, convolution
    products = BLOCKS * FRAMES * (per_frame + 2 * FRAMES * WIDTH)
    held = BLOCKS * per_frame
    name = f"whole utterance of a Conformer, {held / 1e6:.0f} M weights, {FRAMES} frames"
    rival = Rival(RUNTIME, 2.0, conformer_peer)
    yield Work(name, whole_conformer, (rival,), 2 * products, held, held)
