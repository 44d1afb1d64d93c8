"""Several processes that train one model: each sees its own shard, all take the same step.

Started by `torchrun --nproc-per-node N -m nnaq train …`; without torchrun there is one replica and nothing
here costs anything. After the gradients of a step are there,

    gradient = sum over replicas of (batches of the replica * its gradient) / batches of all

in one all_reduce over one vector, whose result is the same bits on every replica; so are the
parameters, then, for ever. Observed ranges become the widest of all replicas, other buffers (statistics of
batch norm) those of the first. A replica whose shard ends earlier goes on with no batches until all have
ended. The gradients are reduced as autograd left them, so custom autograd functions need nothing.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from itertools import chain, repeat
from typing import TypeVar

import torch
from torch import Tensor, distributed, nn

from nnaq.train.settings import TrainingError

Item = TypeVar("Item")


class Replicas:
    """Which of how many replicas this process is, and what they do together."""

    def __init__(self, rank: int = 0, count: int = 1) -> None:
        self.rank, self.count = rank, count

    @property
    def is_first(self) -> bool:
        """Whether this is the one that writes files and speaks."""
        return self.rank == 0

    def together(self, groups: Iterable[Sequence[Item]]) -> Iterator[Sequence[Item]]:
        """The groups of this replica, then empty ones until those of every replica have ended."""
        for group in chain(groups, repeat(())):
            if self.most(len(group)) == 0:
                return
            yield group

    def average(self, parameters: Sequence[Tensor], loss: float, batches: int) -> float:
        """Average the gradients in place; returns the average loss. See the module."""
        if self.count == 1:
            return loss
        own = [torch.zeros_like(p) if p.grad is None else p.grad * batches for p in parameters]
        sums = torch.cat([gradient.float().flatten() for gradient in own])
        distributed.all_reduce(sums)
        known = [float(p.grad is not None) for p in parameters]
        facts = torch.tensor([*known, loss * batches, batches], dtype=torch.float64)
        distributed.all_reduce(facts)
        *used, total, count = facts.tolist()
        parts = (sums / count).split([p.numel() for p in parameters])
        for parameter, part, there in zip(parameters, parts, used, strict=True):
            parameter.grad = part.view_as(parameter).to(parameter.dtype).clone() if there else None
        return float(total / count)

    def most(self, number: int) -> int:
        """The largest of the replicas' numbers."""
        if self.count == 1:
            return number
        found = torch.tensor(number)
        distributed.all_reduce(found, distributed.ReduceOp.MAX)
        return int(found)

    def of_first(self, number: float) -> float:
        """The first replica's number."""
        if self.count == 1:
            return number
        found = torch.tensor(number, dtype=torch.float64)
        distributed.broadcast(found, 0)
        return float(found)

    def spread(self, tensors: Iterable[Tensor]) -> None:
        """Put the first replica's values into the tensors of all."""
        if self.count > 1:
            for tensor in tensors:
                distributed.broadcast(tensor.detach(), 0)

    def widen(self, tables: Iterable[Tensor]) -> None:
        """Give all replicas the lowest low (column 0) and the highest high (column 1) of each row."""
        if self.count > 1:
            for table in tables:
                ends = torch.stack([-table[:, 0], table[:, 1]])
                distributed.all_reduce(ends, distributed.ReduceOp.MAX)
                table.copy_(torch.stack([-ends[0], ends[1]], dim=1))

    def gathered(self, tensor: Tensor) -> Tensor:
        """The tensors of all replicas, of one shape, stacked by rank; every replica gets them."""
        if self.count == 1:
            return tensor[None]
        found = [torch.empty_like(tensor) for _ in range(self.count)]
        distributed.all_gather(found, tensor.contiguous())
        return torch.stack(found)

    def wait(self) -> None:
        """Go on when all replicas are here."""
        if self.count > 1:
            distributed.barrier()

    def must_be_equal(self, model: nn.Module, step: int) -> None:
        """Raise TrainingError where two replicas hold other parameters or buffers, by one bit."""
        found = self.gathered(_digest(model))
        if bool((found != found[0]).any()):
            raise TrainingError(
                f"after step {step} the replicas hold different parameters; something in the model or the "
                "task changes parameters by other than gradients: make it the same in every process, or "
                "train in one"
            )


ALONE = Replicas()


@contextmanager
def replicas() -> Iterator[Replicas]:
    """The replicas that torchrun started, over gloo, or this process alone."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield ALONE
        return
    # The others wait while the first one evaluates, as long as that may take.
    distributed.init_process_group("gloo", timeout=timedelta(days=1))
    try:
        yield Replicas(distributed.get_rank(), count)
    finally:
        distributed.destroy_process_group()


def _digest(model: nn.Module) -> Tensor:
    """32 bytes that depend on every bit of the model's parameters and buffers."""
    digest = hashlib.sha256()
    for tensor in model.state_dict().values():
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return torch.tensor(list(digest.digest()), dtype=torch.uint8)
