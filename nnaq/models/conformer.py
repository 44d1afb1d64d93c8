"""A Conformer encoder that streams: attention and convolutions that look back a bounded time.

    x <- x + ½ FF(x);  x <- x + attention(x);  x <- x + convolution(x);  x <- norm(x + ½ FF(x))

Source: Gulati et al., Conformer: Convolution-augmented transformer for speech recognition, Interspeech 2020.
Here a frame attends to itself and the frames of its chunk and to `past` frames before it, all convolutions
are causal, and relative positions are learned, one vector per distance, as there are not many: Shaw et al.,
Self-attention with relative position representations, NAACL 2018.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from nnaq.models.causal import CausalConv1d, stacked


class FeedForward(nn.Sequential):
    """Layer norm, linear to `inner`, Swish, linear back; over the last axis."""

    def __init__(self, width: int, inner: int, dropout: float) -> None:
        super().__init__(
            *(nn.LayerNorm(width), nn.Linear(width, inner), nn.SiLU(), nn.Dropout(dropout)),
            *(nn.Linear(inner, width), nn.Dropout(dropout)),
        )


@dataclass(frozen=True)
class Reach:
    """How far attention reaches: frame i sees frame j where i - j <= past and j is no later than i.

    chunk: above 1 frames come `chunk` at a time, and each sees all of its chunk, 1 - chunk <= i - j, and
    nothing behind it: an utterance may be cut at multiples of `chunk`.
    """

    past: int
    chunk: int = 1

    @property
    def distances(self) -> int:
        return self.past + self.chunk

    def unseen(self, x: Tensor) -> Tensor:
        """Flags [N,1,T,past + T] for x [T,N,C]: which frames take no part, `past` of them before the first.

        Those before the first are within reach but have not been heard: a row beside the frames, zeros and
        then ones, says so.
        """
        heard = functional.pad(torch.ones_like(x[..., 0]), (0, 0, self.past, 0))
        frame = torch.arange(x.shape[0])[:, None]
        distance = frame + self.past - torch.arange(x.shape[0] + self.past)[None]
        nearest = frame % self.chunk - (self.chunk - 1) if self.chunk > 1 else 0
        near = (distance <= self.past) & (distance >= nearest)
        return ~(near & (heard.transpose(0, 1)[:, None, None] > 0.5))

    def places(self, x: Tensor) -> Tensor:
        """int64 [2 T + past - 1]: past - (i - j) of every i - j there is, from the farthest to the nearest.

        What is out of reach stands beside what is just within it.
        """
        time = x.shape[0]
        return torch.arange(1 - time, time + self.past).clamp(0, self.distances - 1)


class RelativeAttention(nn.Module):
    """Self-attention within a reach: x [T,N,width] to the same shape; unseen, places: of Reach.

        s[i,j] = q[i] · (k[j] + r[past - (i - j)]) / sqrt(width / heads)

    Keys and values before the first frame are zeros and take no part. r: one vector per head and distance.
    """

    def __init__(self, width: int, heads: int, reach: Reach, dropout: float) -> None:
        super().__init__()
        self.heads, self.past = heads, reach.past
        self.norm, self.project = nn.LayerNorm(width), nn.Linear(width, 3 * width)
        self.positions = nn.Parameter(torch.randn(reach.distances, width) * 0.1)
        self.out, self.dropout = nn.Linear(width, width), nn.Dropout(dropout)

    def forward(self, x: Tensor, unseen: Tensor, places: Tensor) -> Tensor:
        q, k, v = self.project(self.norm(x)).chunk(3, -1)
        k, v = (functional.pad(y, (0, 0, 0, 0, self.past, 0)) for y in (k, v))
        q = q * (q.shape[-1] // self.heads) ** -0.5
        queries, keys, values = (self._parted(y).permute(1, 2, 0, 3) for y in (q, k, v))
        positions = self._parted(self.positions[places]).permute(1, 2, 0)
        scores = queries @ keys.transpose(-1, -2) + shifted(queries @ positions)
        shares = self.dropout(scores.masked_fill(unseen, -torch.inf).softmax(-1))
        y: Tensor = self.dropout(self.out((shares @ values).permute(2, 0, 1, 3).flatten(2)))
        return x + y

    def _parted(self, y: Tensor) -> Tensor:
        """Heads apart: [...,width] to [...,heads,width / heads]."""
        return torch.unflatten(y, -1, (self.heads, -1))


def shifted(scores: Tensor) -> Tensor:
    """y[...,i,j] = x[...,i,Q - 1 - i + j]: x [...,Q,P] by distance to y [...,Q,P - Q + 1] by place.

    Source: Dai et al., Transformer-XL, ACL 2019, appendix B.
    """
    *lead, queries, distances = scores.shape
    padded = functional.pad(scores, (1, 0)).view(*lead, distances + 1, queries)
    return padded[..., 1:, :].view(*lead, queries, distances)[..., : distances - queries + 1]


class ConvolutionModule(nn.Module):
    """Pointwise, GLU, depthwise over the last `kernel` frames, norm, Swish, pointwise; x [T,N,width].

    norm: "batch" folds into the weights; "layer" does not depend on what else is in a batch.
    """

    def __init__(self, width: int, kernel: int, norm: str, dropout: float) -> None:
        super().__init__()
        self.start, self.into = nn.LayerNorm(width), nn.Linear(width, 2 * width)
        self.depthwise = CausalConv1d(width, width, kernel, groups=width, bias=False)
        self.batch_norm = nn.BatchNorm1d(width) if norm == "batch" else None
        self.layer_norm = nn.LayerNorm(width) if norm == "layer" else None
        self.out, self.dropout = nn.Linear(width, width), nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.glu(self.into(self.start(x)), -1)
        y = self.depthwise(y.permute(1, 2, 0))
        y = (y if self.batch_norm is None else self.batch_norm(y)).permute(2, 0, 1)
        y = functional.silu(y if self.layer_norm is None else self.layer_norm(y))
        heard: Tensor = self.dropout(self.out(y))
        return x + heard


class ConformerBlock(nn.Module):
    """See the module: x [T,N,width] to the same shape; unseen, places: of Reach."""

    def __init__(
        self, width: int, heads: int, reach: Reach, inner: int, kernel: int, norm: str, dropout: float
    ) -> None:
        super().__init__()
        self.first, self.second = (FeedForward(width, inner, dropout) for _ in range(2))
        self.attention = RelativeAttention(width, heads, reach, dropout)
        self.convolution = ConvolutionModule(width, kernel, norm, dropout)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, unseen: Tensor, places: Tensor) -> Tensor:
        x = self.convolution(self.attention(x + 0.5 * self.first(x), unseen, places))
        y: Tensor = self.norm(x + 0.5 * self.second(x))
        return y


class ConformerEncoder(nn.Module):
    """[T,N,features] to [T/reduction,N,width]: frames stacked, a linear layer, then `layers` blocks.

    past, chunk: of Reach, in steps of `reduction` frames; inner: of the feed-forwards, 4 width where it is 0;
    kernel, norm: of ConvolutionModule
    """

    def __init__(
        self, features: int, width: int, layers: int, reduction: int = 2, dropout: float = 0.0, *,
        heads: int = 4, past: int = 32, chunk: int = 1, inner: int = 0, kernel: int = 15, norm: str = "batch",
    ) -> None:  # fmt: skip
        super().__init__()
        self.width, self.reduction, self.reach = width, reduction, Reach(past, chunk)
        self.into, self.dropout = nn.Linear(reduction * features, width), nn.Dropout(dropout)
        sizes = width, heads, self.reach, inner or 4 * width, kernel, norm, dropout
        self.blocks = nn.ModuleList(ConformerBlock(*sizes) for _ in range(layers))

    def forward(self, x: Tensor) -> Tensor:
        x = self.dropout(self.into(stacked(x, self.reduction)))
        unseen, places = self.reach.unseen(x), self.reach.places(x)
        for block in self.blocks:
            x = block(x, unseen, places)
        return x
