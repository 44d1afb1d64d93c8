"""Layers that look back and never ahead, over whole utterances: what a recogniser that streams is made of.

Time is one axis of what they take, and the past before its first frame is silence: a convolution pads zeros
on the side of the past, a recurrent layer starts from zeros, a mean over the past counts from nothing.
Modules are written for whole utterances, many at once, as they are trained; `nnaq.passes.MakeStreaming` turns
each of these beginnings into a state, so that the same integers come out chunk by chunk.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from nnaq.frontends.torch_leaves import running_mean


class CausalConv1d(nn.Conv1d):
    """A convolution over the last kernel_size frames, dilated: [N,C,T] to [N,outputs,T / stride].

    y[t] = bias + Σ_k weight[:, :, k] x[t - (kernel - 1 - k) dilation],  x = 0 before the first frame
    """

    def forward(self, x: Tensor) -> Tensor:
        reach = self.dilation[0] * (self.kernel_size[0] - 1) + 1 - self.stride[0]
        y: Tensor = super().forward(functional.pad(x, (reach, 0)))
        return y


class CausalConv2d(nn.Conv2d):
    """A convolution over the last frames and over neighbouring bands: [N,C,T,F] to [N,outputs,T / stride,F].

    Time is causal, bands are padded by zeros on both sides; strides are those of time and bands.
    """

    def forward(self, x: Tensor) -> Tensor:
        reach = self.dilation[0] * (self.kernel_size[0] - 1) + 1 - self.stride[0]
        bands = self.kernel_size[1] - 1
        y: Tensor = super().forward(functional.pad(x, (bands // 2, bands - bands // 2, reach, 0)))
        return y


class SqueezeExcite(nn.Module):
    """Channels scaled by what was heard so far: y[t] = x[t] sigmoid(V relu(U mean over s <= t of x[s])).

    x [N,C,T]. The mean is a running one, so that nothing looks ahead (ConvRNN-T; the published first form
    takes the mean of the whole utterance, which cannot stream).
    """

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        self.squeeze = nn.Linear(channels, channels // reduction)
        self.excite = nn.Linear(channels // reduction, channels)

    def forward(self, x: Tensor) -> Tensor:
        frames = x.permute(2, 0, 1)
        zeros = frames.new_zeros((frames.shape[1], frames.shape[2]))
        mean, _, _ = running_mean(frames, zeros, zeros[:, :1])
        gate = torch.sigmoid(self.excite(torch.relu(self.squeeze(mean))))
        return x * gate.permute(1, 2, 0)


class RecurrentLayer(nn.Module):
    """An LSTM and the layer norm of what it says: [T,N,inputs] to [T,N,outputs].

    projection: outputs of a projection within the LSTM, its state; without one outputs = hidden.
    """

    def __init__(self, inputs: int, hidden: int, projection: int = 0) -> None:
        super().__init__()
        self.lstm = nn.LSTM(inputs, hidden, proj_size=projection)
        self.norm = nn.LayerNorm(projection or hidden)
        start_lstm(self.lstm)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.norm(self.lstm(x)[0])
        return y


def start_lstm(lstm: nn.LSTM) -> None:
    """First weights that keep the spread of what passes; forget gates open, so that slopes reach back.

    Gates i, f, g, o: input weights by Glorot, recurrent ones orthogonal, biases 0 but that of f, which is 1.
    """
    for gate in lstm.get_parameter("weight_ih_l0").chunk(4):
        nn.init.xavier_uniform_(gate)
    for gate in lstm.get_parameter("weight_hh_l0").chunk(4):
        nn.init.orthogonal_(gate)
    for name, bias in lstm.named_parameters():
        if "bias" in name:
            nn.init.zeros_(bias)
    if lstm.bias:
        nn.init.ones_(lstm.get_parameter("bias_ih_l0").chunk(4)[1])


def stacked(x: Tensor, frames: int) -> Tensor:
    """Every `frames` frames side by side: [T,N,F] to [T / frames,N,frames F], the oldest first.

    What is left of an utterance whose length is no multiple is not heard.
    """
    steps, batch, features = x.shape
    return x.transpose(0, 1).reshape(batch, steps // frames, frames * features).transpose(0, 1)
