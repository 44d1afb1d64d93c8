"""A small streaming recogniser: features -> linear -> LSTM layers -> one score per unit and step.

    y[t] = relu(front(x[t]))          [T,N,W]
    y    = lstm(y) for each layer     [T,N,H], forward in time only
    out  = head(y)                    [T,N,V], no softmax: that is for training and stays on the host

Nothing looks ahead. `SpokenWords` hears whole utterances, many at once: what is trained.
`StreamingWords` has the same parameters and keeps the states of its layers from call to call: what is
exported for a device, which hears one utterance step by step.

Each layer is an nn.LSTM of its own, which starts from zeros of its own: states that shared their zeros
would share their codes too.
"""

import torch
from torch import Tensor, nn

from nnaq.models.causal import start_lstm


class SpokenWords(nn.Module):
    """Scores of units from features; see the module. dropout: share of values dropped after each layer."""

    def __init__(
        self,
        features: int,
        units: int,
        front: int = 96,
        hidden: int = 128,
        layers: int = 2,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        self.front = nn.Linear(features, front)
        self.layers = nn.ModuleList(nn.LSTM(hidden if n else front, hidden) for n in range(layers))
        self.head = nn.Linear(hidden, units)
        self.dropout = nn.Dropout(dropout)
        self._start()

    def _start(self) -> None:
        """First weights that keep the spread of what passes them.

        torch's own start is weaker with each layer, and CTC then waits for thousands of steps before it
        learns more than blanks.
        """
        nn.init.kaiming_normal_(self.front.weight, nonlinearity="relu")
        nn.init.xavier_uniform_(self.head.weight)
        for linear in (self.front, self.head):
            nn.init.zeros_(linear.bias)
        for layer in self.layers:
            start_lstm(layer)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """Scores float32 [T,N,units] of features float32 [T,N,features]."""
        y = self.dropout(torch.relu(self.front(x)))
        for layer in self.layers:
            y = self.dropout(layer(y)[0])
        scores: Tensor = self.head(y)
        return scores


class StreamingWords(SpokenWords):
    """The same for one utterance in pieces, which continue each other.

    Takes the parameters of a SpokenWords of the same sizes. The states of its layers are buffers h0, c0,
    h1, …, float32 [1,1,hidden]; they are no part of its state_dict.
    """

    def __init__(self, *sizes: int, **named: float) -> None:
        super().__init__(*sizes, **named)  # type: ignore[arg-type]
        for name in (f"{state}{number}" for number in range(len(self.layers)) for state in "hc"):
            self.register_buffer(name, torch.zeros(1, 1, self.head.in_features), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Scores float32 [T,1,units] of the next T steps [T,1,features]."""
        y = torch.relu(self.front(x))
        for number, layer in enumerate(self.layers):
            h, c = (self.get_buffer(f"{state}{number}") for state in "hc")
            y, (next_h, next_c) = layer(y, (h, c))
            h.copy_(next_h)
            c.copy_(next_c)
        scores: Tensor = self.head(y)
        return scores
