"""A Conformer encoder that streams: attention and convolutions that look back a bounded time.

    x <- x + ½ FF(x);  x <- x + attention(x);  x <- x + convolution(x);  x <- norm(x + ½ FF(x))

Source: Gulati et al., Conformer: Convolution-augmented transformer for speech recognition, Interspeech 2020.
Here a frame attends to itself and to `past` frames before it, all convolutions are causal, and a position is
one learned number per head and distance, added to the scores, as in Raffel et al., Exploring the limits of
transfer learning, JMLR 2020: distances are few, and an accelerator adds without a product of its own.
"""

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


def surroundings(x: Tensor, past: int) -> tuple[Tensor, Tensor]:
    """What frames of x [T,N,C] see: themselves and `past` before, those before the first included.

    unseen: flags [N,1,T,past + T] of what takes no part: what is out of reach, and what is within it but has
    not been heard, which a row beside the frames says, zeros and then ones.
    distances: int64 [T,past + T], how many frames back, with what is out of reach beside what is just within.
    """
    heard = functional.pad(torch.ones_like(x[..., 0]), (0, 0, past, 0))
    distance = torch.arange(x.shape[0])[:, None] + past - torch.arange(heard.shape[0])
    near = (distance >= 0) & (distance <= past)
    return ~(near & (heard.transpose(0, 1)[:, None, None] > 0.5)), distance.clamp(0, past)


class RelativeAttention(nn.Module):
    """Self-attention to `past` frames back: x [T,N,width] to the same shape; the rest is of `surroundings`.

        s[i,j] = q[i] · k[j] / sqrt(width / heads) + r[i - j]

    Keys and values before the first frame are zeros and take no part. r: one number per head and distance.
    """

    def __init__(self, width: int, heads: int, past: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.past = heads, past
        self.norm, self.project = nn.LayerNorm(width), nn.Linear(width, 3 * width)
        self.positions = nn.Parameter(torch.randn(heads, past + 1) * 0.1)
        self.out, self.dropout = nn.Linear(width, width), nn.Dropout(dropout)

    def forward(self, x: Tensor, unseen: Tensor, distances: Tensor) -> Tensor:
        q, k, v = self.project(self.norm(x)).chunk(3, -1)
        k, v = (functional.pad(y, (0, 0, 0, 0, self.past, 0)) for y in (k, v))
        q = q * (q.shape[-1] // self.heads) ** -0.5
        queries, keys, values = (self._parted(y) for y in (q, k, v))
        scores = queries @ keys.transpose(-1, -2) + self.positions[:, distances]
        shares = self.dropout(scores.masked_fill(unseen, -torch.inf).softmax(-1))
        y: Tensor = self.dropout(self.out((shares @ values).permute(2, 0, 1, 3).flatten(2)))
        return x + y

    def _parted(self, y: Tensor) -> Tensor:
        """Heads apart: [T,N,width] to [N,heads,T,width / heads]."""
        return torch.unflatten(y, -1, (self.heads, -1)).permute(1, 2, 0, 3)


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
    """See the module: x [T,N,width] to the same shape; the rest is of `surroundings`."""

    def __init__(
        self, width: int, heads: int, past: int, inner: int, kernel: int, norm: str, dropout: float
    ) -> None:
        super().__init__()
        self.first, self.second = (FeedForward(width, inner, dropout) for _ in range(2))
        self.attention = RelativeAttention(width, heads, past, dropout)
        self.convolution = ConvolutionModule(width, kernel, norm, dropout)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, unseen: Tensor, distances: Tensor) -> Tensor:
        x = self.convolution(self.attention(x + 0.5 * self.first(x), unseen, distances))
        y: Tensor = self.norm(x + 0.5 * self.second(x))
        return y


class ConformerEncoder(nn.Module):
    """[T,N,features] to [T/reduction,N,width]: frames stacked, a linear layer, then `layers` blocks.

    past: how far attention reaches, in steps of `reduction` frames
    inner: of the feed-forwards, 4 width where it is 0; kernel, norm: of ConvolutionModule
    """

    def __init__(
        self, features: int, width: int, layers: int, reduction: int = 2, dropout: float = 0.0, *,
        heads: int = 4, past: int = 32, inner: int = 0, kernel: int = 15, norm: str = "batch",
    ) -> None:  # fmt: skip
        super().__init__()
        self.width, self.reduction, self.past = width, reduction, past
        self.into, self.dropout = nn.Linear(reduction * features, width), nn.Dropout(dropout)
        sizes = width, heads, past, inner or 4 * width, kernel, norm, dropout
        self.blocks = nn.ModuleList(ConformerBlock(*sizes) for _ in range(layers))

    def forward(self, x: Tensor) -> Tensor:
        x = self.dropout(self.into(stacked(x, self.reduction)))
        unseen, distances = surroundings(x, self.past)
        for block in self.blocks:
            x = block(x, unseen, distances)
        return x
