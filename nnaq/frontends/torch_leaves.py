"""Recurrent layers as leaves of torch.export.

torch.export unrolls nn.LSTM or fixes its number of frames to that of the example. While
`recurrent_leaves` is active nn.LSTM and nn.GRU call one custom operator each instead, which the
exporter keeps whole and whose shapes follow from its operands, so time stays open.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

LSTM, GRU = "nnaq::lstm", "nnaq::gru"


@torch.library.custom_op(LSTM, mutates_args=())
def lstm(
    x: Tensor,
    h: Tensor | None,
    c: Tensor | None,
    weights: list[Tensor],
    layers: int,
    units: int,
    width: int,
    bias: bool,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """nn.LSTM in evaluation mode; without states it starts from zeros.

    x [T,B,I] ([B,T,I] if batch_first); h [layers * directions, B, width], c [.., B, units] ->
    y [T,B,width * directions], h, c. width: `proj_size` where there is one, else `units`.
    """
    first = _initial(x, layers, width, bidirectional, batch_first) if h is None else h
    cell = _initial(x, layers, units, bidirectional, batch_first) if c is None else c
    state = (first, cell)
    y, h, c = torch.lstm(x, state, weights, bias, layers, 0.0, False, bidirectional, batch_first)
    return y, h, c


@lstm.register_fake
def _(
    x: Tensor,
    h: Tensor | None,
    c: Tensor | None,
    weights: list[Tensor],
    layers: int,
    units: int,
    width: int,
    bias: bool,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    y = x.new_empty((*x.shape[:-1], width * (1 + bidirectional)))
    h, c = (_initial(x, layers, size, bidirectional, batch_first) for size in (width, units))
    return y, h, c


@torch.library.custom_op(GRU, mutates_args=())
def gru(
    x: Tensor,
    h: Tensor | None,
    weights: list[Tensor],
    layers: int,
    units: int,
    bias: bool,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[Tensor, Tensor]:
    """nn.GRU in evaluation mode, with the operands of `lstm`."""
    first = _initial(x, layers, units, bidirectional, batch_first) if h is None else h
    y, h = torch.gru(x, first, weights, bias, layers, 0.0, False, bidirectional, batch_first)
    return y, h


@gru.register_fake
def _(
    x: Tensor,
    h: Tensor | None,
    weights: list[Tensor],
    layers: int,
    units: int,
    bias: bool,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[Tensor, Tensor]:
    y = x.new_empty((*x.shape[:-1], units * (1 + bidirectional)))
    return y, _initial(x, layers, units, bidirectional, batch_first)


def _initial(x: Tensor, layers: int, size: int, bidirectional: bool, batch_first: bool) -> Tensor:
    """Zeros in the shape of a state; x without a batch axis gives states without one."""
    batch = (x.shape[0 if batch_first else 1],) if x.dim() == 3 else ()
    return x.new_zeros((layers * (1 + bidirectional), *batch, size))


def _lstm_forward(layer: nn.LSTM, x: Tensor, hx: Any = None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    h, c = (None, None) if hx is None else hx
    width = layer.proj_size or layer.hidden_size
    y, h, c = lstm(x, h, c, _weights(layer), layer.num_layers, layer.hidden_size, width, *_flags(layer))
    return y, (h, c)


def _gru_forward(layer: nn.GRU, x: Tensor, hx: Tensor | None = None) -> tuple[Tensor, Tensor]:
    y, h = gru(x, hx, _weights(layer), layer.num_layers, layer.hidden_size, *_flags(layer))
    return y, h


def _weights(layer: nn.RNNBase) -> list[Tensor]:
    """The layer's parameters by name: the flat list it also keeps is unknown to the exporter."""
    return [getattr(layer, name) for name in layer._flat_weights_names]


def _flags(layer: nn.RNNBase) -> tuple[bool, bool, bool]:
    return layer.bias, layer.bidirectional, layer.batch_first


@contextmanager
def recurrent_leaves() -> Iterator[None]:
    """Within the block every nn.LSTM and nn.GRU runs as one custom operator."""
    before = nn.LSTM.forward, nn.GRU.forward
    nn.LSTM.forward, nn.GRU.forward = _lstm_forward, _gru_forward  # type: ignore[assignment]
    try:
        yield
    finally:
        nn.LSTM.forward, nn.GRU.forward = before  # type: ignore[method-assign]
