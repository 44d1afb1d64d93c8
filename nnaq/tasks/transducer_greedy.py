"""Greedy search of a float transducer over many utterances at once, as it is judged while it trains.

At every frame the best unit is taken until it is the blank, at most MOST labels. Utterances go on together;
each has read its own labels. `nnaq.tasks.transducer_search` is the search of one stream, on integers.
"""

import torch
from torch import Tensor

from nnaq.models.transducer import Transducer
from nnaq.tasks.decoding import best_path
from nnaq.tasks.evaluating import evaluating
from nnaq.tasks.transducer_search import MOST
from nnaq.tasks.units import BLANK


def greedy(model: Transducer, x: Tensor, steps: Tensor) -> list[list[int]]:
    """The labels of each utterance of x [T,N,F]; steps: how many frames of the encoder count, int64 [N]."""
    with torch.no_grad(), evaluating(model):
        return _searched(model, model.heard(x), steps)


def aligned(model: Transducer, x: Tensor, steps: Tensor) -> list[list[int]]:
    """The labels that the encoder alone finds, by the best path of its CTC scores."""
    with torch.no_grad(), evaluating(model):
        scores = model.aligned(model.heard(x)).cpu().numpy()
    return [best_path(scores[: int(count), place], BLANK) for place, count in enumerate(steps)]


def _searched(model: Transducer, f: Tensor, steps: Tensor) -> list[list[int]]:
    batch = f.shape[1]
    found: list[list[int]] = [[] for _ in range(batch)]
    g, state = model.read_one(torch.full((1, batch), BLANK, device=f.device), None)
    for time in range(len(f)):
        going = steps > time
        for _ in range(MOST):
            best = model.joined(f[time : time + 1], g)[:, 0, 0].argmax(-1)
            going = going & (best != BLANK)
            if not going.any():
                break
            for place in going.nonzero()[:, 0].tolist():
                found[place].append(int(best[place]))
            further, (h, c) = model.read_one(best[None], state)
            keep = going[None, :, None]
            g = torch.where(keep, further, g)
            state = torch.where(keep, h, state[0]), torch.where(keep, c, state[1])
    return found
