"""Twenty shapes of speech models as their users write them, small: what a front-end has to read.

`ZOO` holds, by name: the module, its inputs for a batch and a number of frames, the open axes, the
names of its outputs. Batch is open wherever nothing in the module fixes it, and so is time.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import nn
from torch._higher_order_ops.scan import scan
from torch.nn import functional

D, H = 6, 8  # features in, units inside
Inputs = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Entry:
    """One module; `shapes` gives an input's axes with the open ones by name."""

    make: Callable[[], nn.Module]
    inputs: Callable[[int, int], Inputs]
    shapes: Mapping[str, tuple[int | str, ...]]
    outputs: tuple[str, ...] = ("output",)
    states: Mapping[str, str] = field(default_factory=dict)
    fixed: tuple[int | None, int | None] = (None, None)  # a batch or a time that the module fixes
    host: frozenset[str] = frozenset()  # operators that stay on the host


def frames(batch: int, time: int, width: int = D, name: str = "x") -> Inputs:
    return {name: torch.randn(batch, time, width)}


# --- recurrent layers


class StackedLSTM(nn.Module):
    """Two layers with states handed in and out."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(D, H, 2, batch_first=True)

    def forward(self, x, h, c):
        y, (h, c) = self.lstm(x, (h, c))
        return y, h, c


class Recurrent(nn.Module):
    """A recurrent layer that starts from zeros."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x):
        y, _ = self.layer(x)
        return y


class Packed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(D, H, batch_first=True)

    def forward(self, x, lengths):
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        y, _ = nn.utils.rnn.pad_packed_sequence(self.lstm(packed)[0], batch_first=True)
        return y


class CellLoop(nn.Module):
    """A Python loop over frames."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(D, H)

    def forward(self, x):
        h = c = x.new_zeros(x.shape[0], H)
        ys = []
        for t in range(x.shape[1]):
            h, c = self.cell(x[:, t], (h, c))
            ys.append(h)
        return torch.stack(ys, 1)


class CellScan(nn.Module):
    """A scan over frames, time first."""

    def __init__(self, cell: nn.Module) -> None:
        super().__init__()
        self.cell = cell

    def forward(self, x):
        h = x.new_zeros(x.shape[1], H)
        if isinstance(self.cell, nn.LSTMCell):

            def step(carry, frame):
                h, c = self.cell(frame, carry)
                return (h, c), h.clone()

            _, y = scan(step, (h, h.clone()), x)
            return y

        def turn(carry, frame):
            h = self.cell(frame, carry)
            return h, h.clone()

        _, y = scan(turn, h, x)
        return y


class Remembering(nn.Module):
    """States in buffers that every call moves on."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(D, H, batch_first=True)
        self.register_buffer("h", torch.zeros(1, 1, H))
        self.register_buffer("c", torch.zeros(1, 1, H))

    def forward(self, x):
        y, (h, c) = self.lstm(x, (self.h, self.c))
        self.h.copy_(h)
        self.c.copy_(c)
        return y


# --- attention


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(H, 2, batch_first=True)

    def forward(self, x, padding):
        y, weights = self.attention(x, x, x, key_padding_mask=padding)
        return y, weights


class ScaledDotProduct(nn.Module):
    """Plain, masked and causal."""

    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Linear(D, 3 * H)

    def forward(self, x, keep):
        q, k, v = self.project(x).unflatten(-1, (3, 2, H // 2)).permute(2, 0, 3, 1, 4)
        masked = functional.scaled_dot_product_attention(q, k, v, attn_mask=keep[:, None, None], scale=0.3)
        causal = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return (masked + causal).transpose(1, 2).flatten(2)


class RelativeAttention(nn.Module):
    """Self-attention with relative positions as in Transformer-XL, by the shift of Conformer code."""

    def __init__(self, longest: int = 32) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(H, H) for _ in range(3))
        self.place = nn.Linear(H, H, bias=False)
        self.out = nn.Linear(H, H)
        self.u = nn.Parameter(torch.randn(2, H // 2) * 0.1)
        self.v = nn.Parameter(torch.randn(2, H // 2) * 0.1)
        self.center = longest
        self.register_buffer("table", positions(longest), persistent=False)

    def shift(self, scores):
        batch, heads, rows, columns = scores.shape
        padded = torch.cat([scores.new_zeros(batch, heads, rows, 1), scores], -1)
        padded = padded.view(batch, heads, columns + 1, rows)
        return padded[:, :, 1:].view_as(scores)[..., : columns // 2 + 1]

    def forward(self, x, keep=None):
        batch, time, _ = x.shape
        q = self.query(x).view(batch, time, 2, H // 2)
        k = self.key(x).view(batch, time, 2, H // 2).transpose(1, 2)
        v = self.value(x).view(batch, time, 2, H // 2).transpose(1, 2)
        table = self.table[self.center - time : self.center + time - 1]
        p = self.place(table).view(2 * time - 1, 2, H // 2).transpose(0, 1)[None]
        content = (q + self.u).transpose(1, 2) @ k.transpose(-2, -1)
        place = self.shift((q + self.v).transpose(1, 2) @ p.transpose(-2, -1))
        scores = (content + place) / (H // 2) ** 0.5
        if keep is not None:
            scores = scores.masked_fill(~keep, float("-inf"))
        y = scores.softmax(-1) @ v
        return self.out(y.transpose(1, 2).reshape(batch, time, H))


def positions(longest: int) -> torch.Tensor:
    """Sines and cosines of the distances longest-1 down to 1-longest."""
    distance = torch.arange(longest - 1, -longest, -1.0)[:, None]
    angles = distance * torch.exp(torch.arange(0, H, 2) * (-4.0 / H))
    return torch.stack([angles.sin(), angles.cos()], -1).flatten(1)


class Convolution(nn.Module):
    """Conformer's convolution module; causal, it pads or takes the frames before as `cache`."""

    def __init__(self, width: int = 3) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(H)
        self.inward = nn.Conv1d(H, 2 * H, 1)
        self.depthwise = nn.Conv1d(H, H, width, groups=H)
        self.batch_norm = nn.BatchNorm1d(H)
        self.outward = nn.Conv1d(H, H, 1)
        self.width = width
        nn.init.uniform_(self.batch_norm.running_mean, -0.1, 0.1)
        nn.init.uniform_(self.batch_norm.running_var, 0.5, 1.5)

    def forward(self, x, cache=None):
        x = functional.glu(self.inward(self.norm(x).transpose(1, 2)), dim=1)
        x = functional.pad(x, (self.width - 1, 0)) if cache is None else torch.cat([cache, x], -1)
        y = functional.silu(self.batch_norm(self.depthwise(x)))
        return self.outward(y).transpose(1, 2), x[..., -(self.width - 1) :]


def feed_forward() -> nn.Module:
    return nn.Sequential(
        nn.LayerNorm(H), nn.Linear(H, 2 * H), nn.SiLU(), nn.Dropout(0.1), nn.Linear(2 * H, H)
    )


class ConformerBlock(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = feed_forward(), feed_forward()
        self.attention_norm, self.norm = nn.LayerNorm(H), nn.LayerNorm(H)
        self.attention, self.convolution = RelativeAttention(), Convolution()

    def forward(self, x, keep=None):
        x = x + 0.5 * self.first(x)
        x = x + self.attention(self.attention_norm(x), keep)
        x = x + self.convolution(x)[0]
        return self.norm(x + 0.5 * self.second(x))


class ChunkedConformer(nn.Module):
    """A Conformer whose frames see their own chunk and `left` chunks before it."""

    def __init__(self, chunk: int = 2, left: int = 1) -> None:
        super().__init__()
        self.block, self.chunk, self.left = ConformerBlock(), chunk, left

    def forward(self, x):
        place = torch.arange(x.shape[1], device=x.device) // self.chunk
        behind = place[:, None] - place[None, :]
        return self.block(x, (behind >= 0) & (behind <= self.left))


class StreamingConformer(nn.Module):
    """One step over any number of frames; the last keys, values and frames of the convolution are kept."""

    def __init__(self, kept: int = 4) -> None:
        super().__init__()
        self.first, self.convolution = feed_forward(), Convolution()
        self.norm, self.project, self.out = nn.LayerNorm(H), nn.Linear(H, 3 * H), nn.Linear(H, H)
        self.kept = kept

    def forward(self, x, keys, values, context):
        x = x + 0.5 * self.first(x)
        q, k, v = self.project(self.norm(x)).chunk(3, -1)
        keys, values = torch.cat([keys, k], 1), torch.cat([values, v], 1)
        heads = [t.unflatten(-1, (2, H // 2)).transpose(1, 2) for t in (q, keys, values)]
        y = functional.scaled_dot_product_attention(*heads)
        x = x + self.out(y.transpose(1, 2).flatten(2))
        y, context = self.convolution(x, context)
        return x + y, keys[:, -self.kept :], values[:, -self.kept :], context


# --- transducer


class TransducerEncoder(nn.Module):
    """LSTM layers with layer norm; every two frames become one after the first."""

    def __init__(self) -> None:
        super().__init__()
        self.lower, self.upper = nn.LSTM(D, H, batch_first=True), nn.LSTM(2 * H, H, batch_first=True)
        self.lower_norm, self.upper_norm = nn.LayerNorm(H), nn.LayerNorm(H)

    def forward(self, x):
        x = self.lower_norm(self.lower(x)[0])
        x = functional.pad(x, (0, 0, 0, x.shape[1] % 2))
        x = x.reshape(x.shape[0], x.shape[1] // 2, 2 * H)
        return self.upper_norm(self.upper(x)[0])


class Predictor(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(12, D, padding_idx=0)
        self.lstm = nn.LSTM(D, H, batch_first=True)

    def forward(self, tokens, h, c):
        y, (h, c) = self.lstm(self.embedding(tokens), (h, c))
        return y, h, c


class Joiner(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.out = nn.Linear(D, H), nn.Linear(H, H), nn.Linear(H, 12)

    def forward(self, frames, labels):
        joint = torch.tanh(self.left(frames).unsqueeze(2) + self.right(labels).unsqueeze(1))
        return functional.log_softmax(self.out(joint), -1)


# --- convolutional


class SqueezeExcite(nn.Module):
    """Channels weighed by the mean of all frames so far."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(H, 4), nn.Linear(4, H)

    def forward(self, x):  # [B,C,T]
        count = torch.arange(1, x.shape[-1] + 1, device=x.device, dtype=x.dtype)
        mean = (x.cumsum(-1) / count).transpose(1, 2)
        gate = torch.sigmoid(self.up(torch.relu(self.down(mean))))
        return x * gate.transpose(1, 2)


class GlobalBlock(nn.Module):
    """Depthwise and dilated, causal."""

    def __init__(self, dilation: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv1d(H, H, 3, groups=H, dilation=dilation)
        self.pointwise, self.norm = nn.Conv1d(H, H, 1), nn.BatchNorm1d(H)
        self.excite, self.reach = SqueezeExcite(), 2 * dilation

    def forward(self, x):
        y = self.pointwise(self.depthwise(functional.pad(x, (self.reach, 0))))
        return x + self.excite(functional.relu(self.norm(y)))


class ConvFront(nn.Module):
    """ConvRNN-T's front: causal 2-d convolutions over time and frequency, then global blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, stride=(1, 2))
        self.flat = nn.Conv1d(4 * 3, H, 3)
        self.blocks = nn.ModuleList(GlobalBlock(d) for d in (1, 2))
        self.lstm = nn.LSTM(H, H, batch_first=True)

    def forward(self, x):
        x = torch.relu(self.conv(functional.pad(x.unsqueeze(1), (1, 1, 2, 0))))
        x = x.permute(0, 1, 3, 2).flatten(1, 2)
        x = functional.relu(self.flat(functional.pad(x, (2, 0))))
        for block in self.blocks:
            x = block(x)
        return self.lstm(x.transpose(1, 2))[0]


class GatedProsody(nn.Module):
    """A gated local encoder and a global one of several widths, pooled over time."""

    def __init__(self) -> None:
        super().__init__()
        self.content, self.gate = (nn.Conv1d(3, H, 3, padding=1) for _ in range(2))
        self.wide = nn.ModuleList(nn.Conv1d(3, 4, k, padding=k // 2) for k in (3, 5, 7))
        self.out = nn.Linear(H + 3 * 4, 5)

    def forward(self, x):
        x = x.transpose(1, 2)
        local = (self.content(x) * torch.sigmoid(self.gate(x))).mean(-1)
        overall = [functional.adaptive_avg_pool1d(torch.relu(c(x)), 1).squeeze(-1) for c in self.wide[:1]]
        overall += [torch.relu(conv(x)).amax(-1) for conv in self.wide[1:]]
        return self.out(torch.cat([local, *overall], -1))


BTD = ("B", "T", D)
BTH = ("B", "T", H)


def with_states(batch: int, time: int, layers: int) -> Inputs:
    return frames(batch, time) | {"h": torch.randn(layers, batch, H), "c": torch.randn(layers, batch, H)}


def attended(batch: int, time: int, width: int, name: str, keep: bool) -> Inputs:
    """Frames and a mask of which the last frames of the first recording are not."""
    there = torch.ones(batch, time, dtype=torch.bool)
    there[0, time - 2 :] = False
    return frames(batch, time, width) | {name: there if keep else ~there}


def stream(batch: int, time: int) -> Inputs:
    caches = {name: torch.randn(batch, 4, H) for name in ("keys", "values")}
    return frames(batch, time, H) | caches | {"context": torch.randn(batch, H, 2)}


ZOO = {
    "lstm": Entry(
        StackedLSTM,
        lambda b, t: with_states(b, t, 2),
        {"x": BTD, "h": (2, "B", H), "c": (2, "B", H)},
        ("y", "h_next", "c_next"),
    ),
    "bidirectional lstm": Entry(
        lambda: Recurrent(nn.LSTM(D, H, batch_first=True, bidirectional=True)), frames, {"x": BTD}
    ),
    "lstm with projection": Entry(
        lambda: Recurrent(nn.LSTM(D, H, 2, batch_first=True, proj_size=4)), frames, {"x": BTD}
    ),
    "lstm from zeros": Entry(lambda: Recurrent(nn.LSTM(D, H, batch_first=True)), frames, {"x": BTD}),
    "gru": Entry(
        lambda: Recurrent(nn.GRU(D, H, 2, batch_first=True, bidirectional=True)), frames, {"x": BTD}
    ),
    "packed sequence": Entry(
        Packed,
        lambda b, t: frames(b, t) | {"lengths": torch.full((b,), t)},
        {"x": BTD, "lengths": ("B",)},
    ),
    "loop over cells": Entry(CellLoop, frames, {"x": BTD}, fixed=(None, 5)),
    "scan over lstm cells": Entry(
        lambda: CellScan(nn.LSTMCell(D, H)), lambda b, t: {"x": torch.randn(t, b, D)}, {"x": ("T", "B", D)}
    ),
    "scan over gru cells": Entry(
        lambda: CellScan(nn.GRUCell(D, H)), lambda b, t: {"x": torch.randn(t, b, D)}, {"x": ("T", "B", D)}
    ),
    "multi-head attention": Entry(
        Attention,
        lambda b, t: attended(b, t, H, "padding", keep=False),
        {"x": BTH, "padding": ("B", "T")},
        ("y", "weights"),
    ),
    "scaled dot product": Entry(
        ScaledDotProduct, lambda b, t: attended(b, t, D, "keep", keep=True), {"x": BTD, "keep": ("B", "T")}
    ),
    "transformer layer": Entry(
        lambda: nn.TransformerEncoderLayer(H, 2, 16, activation="gelu", batch_first=True),
        lambda b, t: frames(b, t, H, "src"),
        {"src": BTH},
    ),
    "conformer": Entry(ConformerBlock, lambda b, t: frames(b, t, H), {"x": BTH}),
    "chunked conformer": Entry(ChunkedConformer, lambda b, t: frames(b, t, H), {"x": BTH}),
    "streaming conformer": Entry(
        StreamingConformer,
        stream,
        {"x": BTH, "keys": ("B", 4, H), "values": ("B", 4, H), "context": ("B", H, 2)},
        ("y", "keys_next", "values_next", "context_next"),
    ),
    "lstm with buffers": Entry(Remembering, frames, {"x": (1, "T", D)}, fixed=(1, None)),
    "transducer encoder": Entry(TransducerEncoder, frames, {"x": BTD}),
    "predictor": Entry(
        Predictor,
        lambda b, t: {"tokens": torch.randint(0, 12, (b, t))} | {k: torch.randn(1, b, H) for k in "hc"},
        {"tokens": ("B", "T"), "h": (1, "B", H), "c": (1, "B", H)},
        ("y", "h_next", "c_next"),
    ),
    "joiner": Entry(
        Joiner,
        lambda b, t: {"frames": torch.randn(b, t, D), "labels": torch.randn(b, t // 2 + 1, H)},
        {"frames": BTD, "labels": ("B", "U", H)},
        host=frozenset({"log_softmax"}),
    ),
    "convolutional front": Entry(ConvFront, frames, {"x": BTD}),
    "gated prosody": Entry(GatedProsody, lambda b, t: frames(b, t, 3), {"x": ("B", "T", 3)}),
}
