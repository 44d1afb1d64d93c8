"""Layers as torch.export should see them.

torch.export unrolls nn.LSTM or fixes its number of frames to that of the example. While `leaves`
is active nn.LSTM and nn.GRU call one custom operator each instead, which the exporter keeps whole
and whose shapes follow from its operands, so time stays open. Multi-head attention is written
without merging batch and heads into one axis, so that both stay what they are. Packed sequences
are refused.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

import nnaq.kernels  # noqa: F401  (fills the operator table)
from nnaq.errors import FrontendError
from nnaq.frontends.torch_heads import multi_head_attention
from nnaq.ir.op import lookup

LSTM, GRU, RUNNING_MEAN = "nnaq::lstm", "nnaq::gru", "nnaq::running_mean"


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
    _must_share_batch(x, (h, c), batch_first)
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
    _must_share_batch(x, (h,), batch_first)
    y = x.new_empty((*x.shape[:-1], units * (1 + bidirectional)))
    return y, _initial(x, layers, units, bidirectional, batch_first)


def _must_share_batch(x: Tensor, states: tuple[Tensor | None, ...], batch_first: bool) -> None:
    """Tell the exporter that x and the states have one batch."""
    for state in states:
        if state is not None and x.dim() == 3:
            batch = x.shape[0 if batch_first else 1]
            torch._check(state.shape[1] == batch, lambda: "x and states differ in batch")  # type: ignore[no-untyped-call]


@torch.library.custom_op(RUNNING_MEAN, mutates_args=())
def _running_mean(x: Tensor, total: Tensor, count: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The operator running_mean; results are tensors of their own, as a custom operator's must be."""
    mean, total, count = lookup("running_mean").real(torch, {}, x, total, count)
    return mean.clone(), total.clone(), count.clone()


@_running_mean.register_fake
def _(x: Tensor, total: Tensor, count: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(x), torch.empty_like(total), torch.empty_like(count)


def running_mean(x: Tensor, total: Tensor, count: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The mean of all frames so far, for a causal squeeze-and-excite: what global pooling is to a stream.

    x [T,B,C], total [B,C] and count [B,1] (both zeros before the first frame) -> the mean after each
    frame [T,B,C], and the next total and count, which a model hands out as states. In integers the total
    is an exact 32-bit sum; see the operator running_mean. Differentiable.
    """
    if torch.compiler.is_exporting():
        mean, total, count = _running_mean(x, total, count)
        return mean, total, count
    mean, total, count = lookup("running_mean").real(torch, {}, x, total, count)
    return mean, total, count


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


def _packing_is_refused(*_: Any, **__: Any) -> None:
    raise FrontendError(
        "packed sequences have no graph; run the layer over the padded batch and take out what lies "
        "behind each end with a mask"
    )


@contextmanager
def leaves() -> Iterator[None]:
    """Within the block layers run as the module's docstring says."""
    packing = nn.utils.rnn
    held: list[tuple[Any, str, Any]] = [
        (nn.LSTM, "forward", _lstm_forward),
        (nn.GRU, "forward", _gru_forward),
        (functional, "multi_head_attention_forward", multi_head_attention),
        (packing, "pack_padded_sequence", _packing_is_refused),
        (packing, "pack_sequence", _packing_is_refused),
    ]
    before = [getattr(owner, name) for owner, name, _ in held]
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    for owner, name, ours in held:
        setattr(owner, name, ours)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        for (owner, name, _), was in zip(held, before, strict=True):
            setattr(owner, name, was)
