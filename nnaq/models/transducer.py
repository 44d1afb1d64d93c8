"""Transducers (RNN-T): an encoder that hears, a predictor that has read what was said, a joint of both.

    f[t]    = P encoder(x)[t]                    [T,N,J]
    g[u]    = Q predictor(y)[u]                  [U+1,N,J]; y[0] is the blank, which stands for the beginning
    z[t,u]  = W tanh(f[t] + g[u])                [N,T,U+1,V], no softmax: logits, which greedy search ranks

Source: A. Graves, Sequence transduction with recurrent neural networks, 2012; additive joint as usual since.
`Transducer` is the whole: what is trained, calibrated and crossed to integers, so that the parts share the
codes of f and g. A device runs the three parts (nnaq.tasks.transducer_parts): the encoder once per chunk of
sound, the predictor once per label, the joint once per step of the search.
"""

import torch
from torch import Tensor, nn

from nnaq.models.causal import RecurrentLayer


class Predictor(nn.Module):
    """Labels so far to a vector each: embedding, LSTM, layer norm. y int64 [U,N] to [U,N,width]."""

    def __init__(self, units: int, embedding: int, width: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.embedding = nn.Embedding(units, embedding)
        self.layer = RecurrentLayer(embedding, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, y: Tensor) -> Tensor:
        read: Tensor = self.dropout(self.layer(self.dropout(self.embedding(y))))
        return read


class Transducer(nn.Module):
    """An encoder of [T,N,F] to [T/r,N,encoder.width] with its predictor and joint; see the module.

    joint: J, the width in which f and g are added. In its graph f is called `hear` and g `read`.
    """

    def __init__(
        self, encoder: nn.Module, units: int, embedding: int, predictor: int, joint: int, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.encoder, self.reduction = encoder, int(encoder.reduction)  # type: ignore[arg-type]
        self.hear = nn.Linear(int(encoder.width), joint)  # type: ignore[arg-type]
        self.predictor = Predictor(units, embedding, predictor, dropout)
        self.read = nn.Linear(predictor, joint, bias=False)
        self.say = nn.Linear(joint, units)
        # An encoder that was trained alone speaks through `say` already: what was read comes in softly.
        nn.init.normal_(self.read.weight, std=0.02)
        self.pronounce: nn.Linear | None = None

    def learn_phones(self, count: int) -> None:
        """Add scores of phones by what is heard, `pronounce`: for training only, they are never shipped."""
        self.pronounce = nn.Linear(self.hear.in_features, count)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Logits float32 [N,T/r,U,V] of features float32 [T,N,F] and labels int64 [U,N], y[0] = blank."""
        return self.joined(self.heard(x), self.said(y))

    def heard(self, x: Tensor) -> Tensor:
        """f: float32 [T/r,N,J]."""
        f: Tensor = self.hear(self.encoder(x))
        return f

    def said(self, y: Tensor) -> Tensor:
        """g: float32 [U,N,J]."""
        g: Tensor = self.read(self.predictor(y))
        return g

    def aligned(self, f: Tensor) -> Tensor:
        """Scores of units by what is heard alone, as if nothing was read, [T,N,V]: for CTC in training."""
        scores: Tensor = self.say(torch.tanh(f))
        return scores

    def read_one(
        self, y: Tensor, state: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """g and the next state after labels y [U,N], behind a state (None: nothing was said)."""
        layer = self.predictor.layer
        read, state = layer.lstm(self.predictor.embedding(y), state)
        return self.read(layer.norm(read)), state

    def joined(self, f: Tensor, g: Tensor) -> Tensor:
        """Logits [N,T,U,V] of f [T,N,J] and g [U,N,J]."""
        z: Tensor = self.say(torch.tanh(f.transpose(0, 1)[:, :, None] + g.transpose(0, 1)[:, None]))
        return z
