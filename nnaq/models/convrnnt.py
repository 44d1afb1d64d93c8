"""ConvRNN-T: an RNN-T encoder behind convolutions, local ones and global ones.

    m = local(x)                       convolutions over (time, bands), then one map of bands
    c = global(m)                      blocks whose dilation doubles, each scaled by what was heard so far
    y = lstm(norm(P [m, c]))           the layers of `LstmEncoder`

The local part sees a few frames, the global one tens to hundreds, the LSTM layers all of the past. Either
may be left out (the ablations): without both it is the LSTM encoder alone. Batch norm follows its convolution
at once and goes before ReLU, so that it folds into the weights; the squeeze-excite's mean is a running one.
Source: Radfar et al., ConvRNN-T: Convolutional augmented recurrent neural network transducers for streaming
speech recognition, Interspeech 2022.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nnaq.models.causal import CausalConv1d, CausalConv2d, SqueezeExcite
from nnaq.models.rnnt import LstmEncoder


class LocalEncoder(nn.Module):
    """Convolutions over neighbouring frames and bands: [N,stack,T,bands] to [N,maps bands,T].

    channels: of each layer, which are convolution, batch norm, ReLU; a 1x1 convolution makes `maps` of the
    last. The result's frames hold map after map, each all bands.
    """

    def __init__(self, stack: int, bands: int, channels: Sequence[int], kernel: int, maps: int = 1) -> None:
        super().__init__()
        self.width = maps * bands
        inputs = (stack, *channels)
        self.layers = nn.Sequential(
            *(_layer(n, outputs, kernel) for n, outputs in zip(inputs, channels, strict=False)),
            nn.Conv2d(inputs[-1], maps, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        maps: Tensor = self.layers(x)
        return maps.transpose(2, 3).flatten(1, 2)


def _layer(inputs: int, outputs: int, kernel: int) -> nn.Module:
    convolution = CausalConv2d(inputs, outputs, kernel, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU())


class GlobalBlock(nn.Module):
    """A residual block that looks 2 dilation frames back: x [N,channels,T] to the same shape.

        a = relu(BN(PW1 x)),  b = relu(BN(DW a)),  y = x + dropout(SE(PW2 b))

    PW pointwise, to `inner` channels and back; DW depthwise over 3 frames, dilated; SE squeeze-excite, its
    narrow width channels / squeeze, left out where squeeze is 0.
    """

    def __init__(self, channels: int, inner: int, dilation: int, squeeze: int, dropout: float) -> None:
        super().__init__()
        depthwise = CausalConv1d(inner, inner, 3, dilation=dilation, groups=inner, bias=False)
        self.layers = nn.Sequential(
            *(nn.Conv1d(channels, inner, 1, bias=False), nn.BatchNorm1d(inner), nn.ReLU()),
            *(depthwise, nn.BatchNorm1d(inner), nn.ReLU()),
            nn.Conv1d(inner, channels, 1),
            *([SqueezeExcite(channels, squeeze)] if squeeze else []),
            nn.Dropout(dropout),
        )

    def forward(self, x: Tensor) -> Tensor:
        heard: Tensor = self.layers(x)
        return x + heard


class GlobalEncoder(nn.Sequential):
    """Blocks whose dilation doubles from 1: [N,inputs,T] to [N,channels,T]. See GlobalBlock."""

    def __init__(
        self, inputs: int, channels: int, inner: int, blocks: int, squeeze: int, dropout: float
    ) -> None:
        each = (GlobalBlock(channels, inner, 2**block, squeeze, dropout) for block in range(blocks))
        super().__init__(nn.Conv1d(inputs, channels, 1), *each)
        self.width = channels


class ConvRnntEncoder(nn.Module):
    """[T,N,features] to [T/reduction,N,width].

    stack: how many of the front end's frames a frame holds, the oldest first; they are the channels of the
        local part, whose bands are features / stack
    local, kernel, maps: channels, kernel and maps of LocalEncoder; () leaves it out
    channels, inner, blocks, squeeze: of GlobalEncoder, which hears the local part's maps, or the features
        without it; blocks = 0 leaves it out, squeeze = 0 its squeeze-excites
    joined: the width of what the LSTM layers hear, of no use where both parts are left out; a layer norm
        brings it to the size of normalised features, without which the LSTM layers learn little for long
    hidden, layers, projection, reduction, dropout: of LstmEncoder
    """

    def __init__(
        self, features: int, hidden: int, layers: int, projection: int = 0, reduction: int = 2,
        dropout: float = 0.0, *, stack: int = 3, local: Sequence[int] = (16, 16, 8, 8), kernel: int = 3,
        maps: int = 1, channels: int = 64, inner: int = 128, blocks: int = 4, squeeze: int = 16,
        joined: int = 128,
    ) -> None:  # fmt: skip
        super().__init__()
        self.stack, bands = stack, features // stack
        self.local = LocalEncoder(stack, bands, local, kernel, maps) if local else None
        heard = self.local.width if self.local else features
        self.global_ = GlobalEncoder(heard, channels, inner, blocks, squeeze, dropout) if blocks else None
        self.join = None
        if local or blocks:
            width = heard + (channels if blocks else 0)
            self.join = nn.Sequential(nn.Linear(width, joined), nn.LayerNorm(joined))
        inputs = joined if self.join else features
        self.lstm = LstmEncoder(inputs, hidden, layers, projection, reduction, dropout)
        self.width, self.reduction = self.lstm.width, reduction

    def forward(self, x: Tensor) -> Tensor:
        if self.join is not None:
            x = self.join(self._convolved(x).permute(2, 0, 1))
        y: Tensor = self.lstm(x)
        return y

    def _convolved(self, x: Tensor) -> Tensor:
        """What the convolutions hear: [N,C,T]."""
        if self.local is None:
            heard = x.permute(1, 2, 0)
        else:
            heard = self.local(torch.unflatten(x, 2, (self.stack, -1)).permute(1, 2, 0, 3))
        return heard if self.global_ is None else torch.cat([heard, self.global_(heard)], 1)
