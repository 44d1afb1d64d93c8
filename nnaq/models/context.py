"""What was done and said before in a dialogue, as a model that understands the next utterance attends to it.

    A_j = relu(W_a W_e a_j)                      dialogue acts of a turn; a_j: the mean of one-hot pairs
    U_j = W_u gru(said_j)                        an utterance before, its last state
    c   = [null; A_j + e_j; U_j + e_j]           the context: J vectors, a learned null first, e: of distance
    k_j = W_k c_j,  v_j = W_v c_j                once a turn: kept while the utterance goes by
    attentive   w_t,j = softmax over j of q_t·k_j / sqrt(d / heads),  q_t = W_q h_t, for each head
    averaged    w_t,j = share_j                  1 / n for the n contexts there are, 0 for absent ones
    o_t = W_o Σ_j w_t,j v_j
    h'_t = [h_t; sigmoid(W_g [h_t; o_t] + b_g) ⊙ o_t]

W_e a is the mean over pairs of an action's and a slot's embedding, as each a is a mean of their one-hot
codes. What is absent (in a dialogue's first turns) has share 0 and takes no part; the null always does.
Keys and values of a turn are what a device keeps as state: ContextEncoder runs once a turn, Carryover once a
step. Absent words are 0, whose embedding is zero, and the GRU has no biases, so that zeros before an
utterance leave it where it starts.

**This is a reconstruction.** That earlier utterances and dialogue acts are encoded, attended to by several
heads, gated, and compared with their average is published; sizes and the form of the gate were not found.
Source: K. Wei et al., Attentive contextual carryover for multi-turn end-to-end spoken language understanding,
ASRU 2021 (arXiv 2112.06743).
"""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from nnaq.errors import DataError

Arm = Literal["none", "averaged", "attentive"]
ARMS: tuple[Arm, ...] = get_args(Arm)
ABSENT = 0.01  # shares below are of contexts that are not there; the least of what is there is 1 / J


@dataclass(frozen=True)
class ContextSizes:
    """How much context there is, and how wide.

    kinds: actions and slots of acts together; acts, utterances: how many turns back; words: that an utterance
    may hold, 0 among them; width: d; heads divide it.
    """

    kinds: int
    words: int
    acts: int = 4
    utterances: int = 4
    embedding: int = 32
    width: int = 64
    heads: int = 4

    def __post_init__(self) -> None:
        if min(vars(self).values()) < 1 or self.width % self.heads:
            raise DataError(f"sizes of a context are 1 or more, and heads divide its width; found {self}")

    @property
    def count(self) -> int:
        """J, the null among them."""
        return 1 + self.acts + self.utterances


class ContextEncoder(nn.Module):
    """Keys and values float32 [J,N,width] of a turn's context; see the module.

    acts float32 [acts,N,kinds], the present turn's first; said int64 [L,utterances,N], words of earlier
    utterances, the last one first, each ending at L and 0 before it begins.
    """

    def __init__(self, sizes: ContextSizes) -> None:
        super().__init__()
        own, width = sizes, sizes.width
        self.pairs = nn.Linear(own.kinds, own.embedding, bias=False)
        self.act = nn.Linear(own.embedding, width)
        self.words = nn.Embedding(own.words, own.embedding, padding_idx=0)
        self.gru = nn.GRU(own.embedding, width, bias=False)
        self.utterance = nn.Linear(width, width)
        self.places = nn.Parameter(torch.randn(own.count, 1, width) * 0.1)  # the null, then all e_j
        self.key, self.value = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, acts: Tensor, said: Tensor) -> tuple[Tensor, Tensor]:
        done = torch.relu(self.act(self.pairs(acts)))
        last = self.gru(self.words(said.flatten(1)))[1].squeeze(0)
        before = self.utterance(torch.unflatten(last, 0, said.shape[1:]))
        context = functional.pad(torch.cat([done, before]), (0, 0, 0, 0, 1, 0)) + self.places
        return self.key(context), self.value(context)


class Carryover(nn.Module):
    """h' [T,N,hidden + width] of h [T,N,hidden] and a turn's keys and values; see the module.

    share float32 [J,N]: 1 / n for the n contexts that are there, 0 for the others.
    """

    def __init__(self, hidden: int, sizes: ContextSizes, arm: Arm) -> None:
        super().__init__()
        self.heads, self.attentive = sizes.heads, arm == "attentive"
        if self.attentive:
            self.query = nn.Linear(hidden, sizes.width)
        self.out = nn.Linear(sizes.width, sizes.width)
        self.gate = nn.Linear(hidden + sizes.width, sizes.width)

    def forward(self, h: Tensor, keys: Tensor, values: Tensor, share: Tensor) -> Tensor:
        present = share.transpose(0, 1)[:, None, None]
        if self.attentive:
            query = self.query(h) * (keys.shape[-1] // self.heads) ** -0.5
            scores = self._parted(query) @ self._parted(keys).transpose(-1, -2)
            weights = scores.masked_fill(present < ABSENT, -torch.inf).softmax(-1)
            carried = (weights @ self._parted(values)).permute(2, 0, 1, 3).flatten(2)
        else:
            carried = (present[:, 0] @ values.transpose(0, 1)).transpose(0, 1) + torch.zeros_like(h[..., :1])
        o = self.out(carried)
        return torch.cat([h, torch.sigmoid(self.gate(torch.cat([h, o], -1))) * o], -1)

    def _parted(self, y: Tensor) -> Tensor:
        """Heads apart: [T,N,width] to [N,heads,T,width / heads]."""
        return torch.unflatten(y, -1, (self.heads, -1)).permute(1, 2, 0, 3)
