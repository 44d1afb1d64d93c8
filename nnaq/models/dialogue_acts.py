"""Dialogue acts of whole utterances: a recurrent acoustic encoder, and prosody behind gates.

    a_t  = relu(W_a x_t)                                        acoustics, x_t with a 1 where there is sound
    l_t  = sigmoid(W_g [a_t; p_t]) ⊙ tanh(W_l p_t)              local: is this frame's prosody heard?
    h_t  = lstm([a_t; l_t; 1])
    v_w  = max over t of relu(conv_w [p; 1]_t),  w in widths    global: shapes of some length, anywhere
    u    = W_u [v_w for all w]
    r    = sigmoid(W_r [h_T; u] + b_r)
    y    = W [h_T; r ⊙ u] + b                                   one score per act, no softmax

Arms: `none` hears x only; `concat` has p_t in the place of l_t; `local` and `global` have one of the two
paths, `both` has both. `matched_hidden` makes the LSTM of an arm so wide that all have about as many
parameters.

**This is a reconstruction.** That prosody is encoded at the frame and over the utterance, and that a gate is
learned, is published; where the gates stand and what they are made of was not found.

Time comes first: x [T,N,F], p [T,N,6 stack]. An utterance may begin with zeros in both (nothing is there yet,
the 1 of x neither): a, l, LSTM and convolutions have no biases, so zeros leave the LSTM where it starts
and no maximum sees them, and utterances of different lengths stand side by side with their ends aligned.
All is causal but the maximum, which waits for the end.

Source: K. Wei et al., A neural prosody encoder for end-to-end dialogue act classification, ICASSP 2022
(arXiv 2205.05590).
"""

from collections.abc import Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from nnaq.errors import DataError
from nnaq.models.causal import CausalConv1d, start_lstm

Arm = Literal["none", "concat", "local", "global", "both"]
ARMS: tuple[Arm, ...] = get_args(Arm)


class DialogueActs(nn.Module):
    """Scores float32 [N,acts] of x float32 [T,N,features] and p float32 [T,N,prosody]; see the module.

    The last feature of x is 1 where there is sound. front, hidden, local, summary: numbers a_t, h_t, l_t and
    u have; filters: of each width, in steps. dropout: share of a_t, h_T and u that is dropped in training.
    """

    def __init__(
        self,
        features: int,
        prosody: int,
        acts: int,
        arm: Arm = "both",
        front: int = 48,
        hidden: int = 64,
        local: int = 32,
        filters: int = 8,
        widths: Sequence[int] = (2, 3, 8, 17),
        summary: int = 32,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        if arm not in ARMS:
            raise DataError(f"expected arm {', '.join(ARMS)}, found {arm!r}")
        if min(features, prosody, acts, front, hidden, local, filters, summary, *widths) < 1:
            raise DataError("sizes and widths of a model of dialogue acts are 1 or more")
        self.arm, self.dropout = arm, nn.Dropout(dropout)
        self.front = nn.Linear(features, front, bias=False)
        beside = {"none": 0, "concat": prosody, "local": local, "global": 0, "both": local}[arm]
        self.lstm = nn.LSTM(front + beside + 1, hidden, bias=False)
        start_lstm(self.lstm)
        with torch.no_grad():  # what the 1 says is the bias: forget gates begin open
            self.lstm.get_parameter("weight_ih_l0")[:, -1] = 0
            self.lstm.get_parameter("weight_ih_l0")[hidden : 2 * hidden, -1] = 1
        after = hidden
        if arm in ("local", "both"):
            self.local = nn.Linear(prosody, local, bias=False)
            self.local_gate = nn.Linear(front + prosody, local, bias=False)
        if arm in ("global", "both"):
            self.shapes = nn.ModuleList(
                CausalConv1d(prosody + 1, filters, width, bias=False) for width in widths
            )
            self.summary = nn.Linear(filters * len(self.shapes), summary)
            self.global_gate = nn.Linear(hidden + summary, summary)
            after += summary
        self.head = nn.Linear(after, acts)

    def forward(self, x: Tensor, p: Tensor) -> Tensor:
        scores: Tensor = self.gated(x, p)[0]
        return scores

    def gated(self, x: Tensor, p: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Scores, and the gates of the arm: `local` [T,N,local], `global` [N,summary]."""
        gates: dict[str, Tensor] = {}
        heard = self.dropout(torch.relu(self.front(x)))
        if self.arm == "concat":
            heard = torch.cat([heard, p], -1)
        if self.arm in ("local", "both"):
            gates["local"] = torch.sigmoid(self.local_gate(torch.cat([heard, p], -1)))
            heard = torch.cat([heard, gates["local"] * torch.tanh(self.local(p))], -1)
        _, (last, _) = self.lstm(torch.cat([heard, x[..., -1:]], -1))
        last = self.dropout(last.squeeze(0))
        if self.arm in ("global", "both"):
            u = self.dropout(self.summary(self._largest(x, p)))
            gates["global"] = torch.sigmoid(self.global_gate(torch.cat([last, u], -1)))
            last = torch.cat([last, gates["global"] * u], -1)
        return self.head(last), gates

    def _largest(self, x: Tensor, p: Tensor) -> Tensor:
        """The largest value of every filter, [N,filters of all widths]."""
        frames = torch.cat([p, x[..., -1:]], -1).permute(1, 2, 0)
        return torch.cat([torch.relu(shape(frames)).amax(-1) for shape in self.shapes], -1)


def matched_hidden(features: int, prosody: int, acts: int, arm: Arm, hidden: int, **sizes: Any) -> int:
    """How wide the LSTM of an arm is made, so that it has no fewer parameters than `both` with `hidden`.

    It is the narrowest such width: what an arm has too many are less than the parameters of one more cell.
    """

    def parameters(of: Arm, width: int) -> int:
        with torch.device("meta"):
            made = DialogueActs(features, prosody, acts, of, hidden=width, **sizes)
        return sum(p.numel() for p in made.parameters())

    budget = parameters("both", hidden)
    while parameters(arm, hidden) < budget:
        hidden += 1
    return hidden
