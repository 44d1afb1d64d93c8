"""ConvRNN-T: an RNN-T encoder behind convolutions, local ones and global ones.

    m = local(x)                       convolutions over (time, bands), then maps of bands
    c = global(m)                      blocks whose dilation doubles, each scaled by what was heard so far
    y = lstm(norm(P [m, c, x]))        the layers of `LstmEncoder`

The local part sees a few frames, the global one tens to hundreds, the LSTM layers all of the past. Either
may be left out (the ablations): without both it is the LSTM encoder alone. Batch norm follows its convolution
at once and goes before ReLU, so that it folds into the weights; the squeeze-excite's mean is a running one.
That x itself is joined (`skip`) is ours: with few hours of speech the layers learn far sooner.
Source: Radfar et al., ConvRNN-T: Convolutional augmented recurrent neural network transducers for streaming
speech recognition, Interspeech 2022.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from nnaq.models.causal import CausalConv1d, CausalConv2d, SqueezeExcite
from nnaq.models.rnnt import LstmEncoder


class LocalEncoder(nn.Module):
    """Convolutions over neighbouring frames and bands: [N,stack,T,bands] to [N,maps bands',T].

    channels: of each layer, which are convolution, batch norm, ReLU; kernel, stride: of all of them, over
    (time, bands) and over bands, so that bands' = ceil(bands / stride^layers). A 1x1 convolution makes `maps`
    of the last one's channels, 0 for none. The result's frames hold map after map, each all bands.
    """

    def __init__(
        self, stack: int, bands: int, channels: Sequence[int], kernel: int | tuple[int, int],
        stride: int = 1, maps: int = 1,
    ) -> None:  # fmt: skip
        super().__init__()
        inputs = (stack, *channels)
        layers = [_layer(n, outputs, kernel, stride) for n, outputs in pairwise(inputs)]
        self.layers = nn.Sequential(*layers, *([nn.Conv2d(inputs[-1], maps, 1)] if maps else []))
        for _ in channels:
            bands = -(-bands // stride)
        self.width = (maps or inputs[-1]) * bands

    def forward(self, x: Tensor) -> Tensor:
        maps: Tensor = self.layers(x)
        return maps.transpose(2, 3).flatten(1, 2)


def _layer(inputs: int, outputs: int, kernel: int | tuple[int, int], stride: int) -> nn.Module:
    convolution = CausalConv2d(inputs, outputs, kernel, stride=(1, stride), bias=False)
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
    local, kernel, stride, maps: of LocalEncoder; local = () leaves it out
    channels, inner, blocks, squeeze: of GlobalEncoder, which hears the local part's maps, or the features
        without it; blocks = 0 leaves it out, squeeze = 0 its squeeze-excites
    skip: whether what the LSTM layers hear is made from the features, too
    hidden, layers, projection, reduction, dropout, joined: of LstmEncoder
    """

    def __init__(
        self, features: int, hidden: int, layers: int, projection: int = 0, reduction: int = 2,
        dropout: float = 0.0, *, stack: int = 3, local: Sequence[int] = (16, 16, 8, 8),
        kernel: int | tuple[int, int] = 3, stride: int = 1, maps: int = 1, channels: int = 64,
        inner: int = 128, blocks: int = 4, squeeze: int = 16, skip: bool = False, joined: int = 128,
    ) -> None:  # fmt: skip
        super().__init__()
        self.stack, bands = stack, features // stack
        self.local = LocalEncoder(stack, bands, local, kernel, stride, maps) if local else None
        heard = self.local.width if self.local else features
        self.global_ = GlobalEncoder(heard, channels, inner, blocks, squeeze, dropout) if blocks else None
        self.skip = skip and bool(local or blocks)
        width = heard + (channels if blocks else 0) + (features if self.skip else 0)
        self.lstm = LstmEncoder(width, hidden, layers, projection, reduction, dropout, joined)
        self.width, self.reduction = self.lstm.width, reduction

    def forward(self, x: Tensor) -> Tensor:
        convolved = self._convolved(x).permute(2, 0, 1)
        y: Tensor = self.lstm(torch.cat([convolved, x], 2) if self.skip else convolved)
        return y

    def _convolved(self, x: Tensor) -> Tensor:
        """What the convolutions hear, the features themselves without them: [N,C,T]."""
        if self.local is None:
            heard = x.permute(1, 2, 0)
        else:
            heard = self.local(torch.unflatten(x, 2, (self.stack, -1)).permute(1, 2, 0, 3))
        return heard if self.global_ is None else torch.cat([heard, self.global_(heard)], 1)
