"""Understanding of an utterance as it is recognised, with what was done and said before in the dialogue.

    x_t = relu(conv over the last 3 of E first_t + F second_t)
    h_t = lstm(x)_t
    h'  = carryover of the context, see nnaq.models.context; h without one
    y_t = W lstm(h')_t + b

first is the recogniser's best word at a place, second another one where it is not sure, else 0. y [T,N,V] has
scores, no softmax, of four choices side by side (`Choices`): is it the second word, the slot tag, the act,
the intent. All is causal: an answer about a word comes `delay` steps after it (nnaq.tasks.contextual_slu), so
that the words just behind it count.

`matched_hidden` makes the LSTMs of an arm so wide that all have about as many parameters.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nnaq.errors import DataError
from nnaq.models.causal import CausalConv1d, start_lstm
from nnaq.models.context import ARMS, Arm, Carryover, ContextEncoder, ContextSizes

KERNEL = 3


@dataclass(frozen=True)
class Choices:
    """How many tags, acts and intents there are to choose from."""

    tags: int
    acts: int
    intents: int

    @property
    def sizes(self) -> tuple[int, ...]:
        """The widths in which y is split: word, tag, act, intent."""
        return 2, self.tags, self.acts, self.intents


class ContextualSlu(nn.Module):
    """Scores float32 [T,N,V] of words int64 [T,N] and a context; see the module.

    acts, said, share: of ContextEncoder and Carryover; the arm `none` takes words alone. In its graph keys
    and values are called context.key and context.value: nnaq.tasks.understander_parts cuts it there.
    """

    def __init__(
        self,
        sizes: ContextSizes,
        choices: Choices,
        arm: Arm = "attentive",
        embedding: int = 48,
        hidden: int = 80,
        dropout: float = 0.3,
    ) -> None:
        super().__init__()
        if arm not in ARMS:
            raise DataError(f"expected context {', '.join(ARMS)}, found {arm!r}")
        if min(embedding, hidden) < 1:
            raise DataError("embedding and hidden are 1 or more")
        self.arm, self.dropout = arm, nn.Dropout(dropout)
        self.first, self.second = (nn.Embedding(sizes.words, embedding, padding_idx=0) for _ in range(2))
        self.near = CausalConv1d(embedding, hidden, KERNEL)
        self.lstm = nn.LSTM(hidden, hidden)
        self.context = ContextEncoder(sizes) if arm != "none" else None
        self.carryover = Carryover(hidden, sizes, arm) if arm != "none" else None
        self.understand = nn.LSTM(hidden + (sizes.width if arm != "none" else 0), hidden)
        self.say = nn.Linear(hidden, sum(choices.sizes))
        for lstm in (self.lstm, self.understand):
            start_lstm(lstm)

    def forward(
        self,
        first: Tensor,
        second: Tensor,
        acts: Tensor | None = None,
        said: Tensor | None = None,
        share: Tensor | None = None,
    ) -> Tensor:
        words = self.dropout(self.first(first) + self.second(second))
        x = torch.relu(self.near(words.permute(1, 2, 0))).permute(2, 0, 1)
        h = self.dropout(self.lstm(self.dropout(x))[0])
        if self.context is not None and self.carryover is not None:
            h = self.carryover(h, *self.context(acts, said), share)
        y: Tensor = self.say(self.dropout(self.understand(h)[0]))
        return y


def matched_hidden(sizes: ContextSizes, choices: Choices, arm: Arm, embedding: int, hidden: int) -> int:
    """How wide the LSTMs of an arm are, so that it has no fewer parameters than `attentive` with `hidden`.

    It is the narrowest such width: what an arm has too many are less than the parameters of one more cell.
    """

    def parameters(of: Arm, width: int) -> int:
        with torch.device("meta"):
            made = ContextualSlu(sizes, choices, of, embedding, width)
        return sum(p.numel() for p in made.parameters())

    budget = parameters("attentive", hidden)
    while parameters(arm, hidden) < budget:
        hidden += 1
    return hidden
