"""Small torch modules that several tests share."""

import numpy as np
import torch
from torch import nn

from nnaq.frontends.ports import ImportOptions
from nnaq.frontends.torch import load

OPTIONS = ImportOptions(time={"x": 2, "y": 0}, states={"h": "h_next", "c": "c_next"})
OUTPUTS = ("y", "h_next", "c_next")


class Speech(nn.Module):
    """Conv1d, LSTM with explicit states, Linear: frames [1,4,T] in, [T,1,3] out."""

    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.conv = nn.Conv1d(4, 8, 3, padding=1)
        self.lstm = nn.LSTM(8, 6)
        self.fc = nn.Linear(6, 3)

    def forward(self, x, h, c):
        frames = torch.relu(self.conv(x)).permute(2, 0, 1)
        hidden, (h, c) = self.lstm(frames, (h, c))
        return torch.sigmoid(self.fc(hidden)), h, c


def examples(frames=6, units=6):
    return torch.randn(1, 4, frames), torch.zeros(1, 1, units), torch.zeros(1, 1, units)


def speech_graph(seed=0):
    module = Speech(seed).eval()
    return module, load(module, examples(), OPTIONS, OUTPUTS).graph


def noise(frames, seed):
    return np.random.default_rng(seed).normal(size=(1, 4, frames)).astype(np.float32)
