"""A ContextNet encoder that streams: convolutions scaled by what was heard so far.

    block:  y = silu(SE(f(… f(x))) + P x),   f = silu(BN(pointwise(depthwise x)))

SE is the squeeze-excite with a running mean, all convolutions are causal; P, pointwise with a batch norm,
brings x to y's channels. A block of stride s has it in its last depthwise convolution, and its P hears s
frames side by side.
Source: Han et al., ContextNet: Improving convolutional neural networks for automatic speech recognition with
global context, Interspeech 2020, whose mean is that of the whole utterance.
"""

from collections.abc import Sequence
from math import prod

from torch import Tensor, nn

from nnaq.models.causal import CausalConv1d, SqueezeExcite, stacked


class Separable(nn.Sequential):
    """Depthwise over the last `kernel` frames, pointwise, batch norm, Swish.

    [N,inputs,T] to [N,outputs,T/stride].
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1) -> None:
        super().__init__(
            CausalConv1d(inputs, inputs, kernel, stride, groups=inputs, bias=False),
            nn.Conv1d(inputs, outputs, 1, bias=False),
            nn.BatchNorm1d(outputs),
            nn.SiLU(),
        )


class ContextBlock(nn.Module):
    """See the module: x [N,inputs,T] to [N,outputs,T/stride].

    squeeze: SE's narrow width is outputs / squeeze; 0 leaves it out.
    """

    def __init__(
        self, inputs: int, outputs: int, layers: int, kernel: int, stride: int, squeeze: int, dropout: float
    ) -> None:
        super().__init__()
        sizes = [(inputs, outputs)] + [(outputs, outputs)] * (layers - 1)
        strides = [1] * (layers - 1) + [stride]
        self.layers = nn.Sequential(
            *(Separable(*size, kernel, own) for size, own in zip(sizes, strides, strict=True)),
            *([SqueezeExcite(outputs, squeeze)] if squeeze else []),
            nn.Dropout(dropout),
        )
        shortcut = nn.Conv1d(stride * inputs, outputs, 1, bias=False)
        self.stride, self.shortcut = stride, nn.Sequential(shortcut, nn.BatchNorm1d(outputs))
        self.activation = nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        side_by_side = x
        if self.stride > 1:
            side_by_side = stacked(x.permute(2, 0, 1), self.stride).permute(1, 2, 0)
        y: Tensor = self.activation(self.layers(x) + self.shortcut(side_by_side))
        return y


class ContextNetEncoder(nn.Module):
    """[T,N,features] to [T/reduction,N,width]: a layer, blocks, a layer of `width`.

    blocks: the channels and the stride of each; reduction is the product of the strides
    layers: of a block; kernel: of all depthwise convolutions; squeeze: of the blocks, 0 for none
    """

    def __init__(
        self, features: int, width: int, blocks: Sequence[tuple[int, int]], dropout: float = 0.0, *,
        layers: int = 5, kernel: int = 5, squeeze: int = 8,
    ) -> None:  # fmt: skip
        super().__init__()
        self.width, self.reduction = width, prod(stride for _, stride in blocks)
        channels = [blocks[0][0], *(outputs for outputs, _ in blocks)]
        self.layers = nn.Sequential(
            Separable(features, channels[0], kernel),
            *(
                ContextBlock(inputs, outputs, layers, kernel, stride, squeeze, dropout)
                for inputs, (outputs, stride) in zip(channels, blocks, strict=False)
            ),
            Separable(channels[-1], width, kernel),
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x.permute(1, 2, 0))
        return y.permute(2, 0, 1)
