"""The transducer's loss, forward and backward, beside its peers, in turns; writes results/transducer.json.

    python benchmarks/transducer.py [PYTHON]

PYTHON: an interpreter with torchaudio, in an environment of its own: its wheels ask for their own torch.
`peers/requirements-torchaudio.txt` has the versions. Without it two peers are left: the same loss as torch
writes it, autograd through anti-diagonals in float64, and log_softmax alone, forward and backward, which is
less than the loss and says what reading and writing so many logits costs. Logits are float32. Mixed lengths
are between half of the axis and all of it. Errors are the largest beside the float64 loss of nnaq itself,
for which the tests answer: of the loss relative, of the gradient absolute (of a gradient of the sum). The
ratio is the peer's time divided by ours: above 1 nnaq is the faster.
"""

import json
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from measuring import circumstances, on_one_thread, race, seconds_of, write_results
from torch import Tensor
from torch.nn.functional import pad

from nnaq.tasks.transducer_loss import transducer_loss

ROUNDS = 15
BATCH, FRAMES, LABELS, SYMBOLS = 8, 200, 50, 128
HERE = Path(__file__).parent
NEVER = -1e30  # autograd through logaddexp of two -inf is NaN

Batch = tuple[Tensor, Tensor, Tensor, Tensor]
Loss = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def batch(mixed: bool) -> Batch:
    """Logits, targets and both lengths."""
    own = torch.Generator().manual_seed(0)
    logits = torch.randn(BATCH, FRAMES, LABELS + 1, SYMBOLS, generator=own)
    targets = torch.randint(1, SYMBOLS, (BATCH, LABELS), generator=own)
    share = torch.linspace(0.5, 1, BATCH) if mixed else torch.ones(BATCH)
    return logits, targets, (share * FRAMES).long(), (share.flip(0) * LABELS).long()


def by_autograd(logits: Tensor, targets: Tensor, frames: Tensor, labels: Tensor) -> Tensor:
    """The sum of the losses by autograd alone: one step per anti-diagonal t + u = n."""
    log_p = logits.log_softmax(-1)
    blank = log_p[..., 0].double()
    chosen = targets[:, None, :, None].expand(-1, FRAMES, -1, -1)
    label = log_p[:, :, :-1].gather(3, chosen)[..., 0].double()
    diagonals = [pad(torch.zeros(BATCH, 1, dtype=torch.float64), (0, LABELS), value=NEVER)]
    columns = torch.arange(LABELS + 1)
    for n in range(1, FRAMES + LABELS):
        rows = n - 1 - columns
        inside, at = (rows >= 0) & (rows < FRAMES), rows.clamp(0, FRAMES - 1)
        stay = torch.where(inside, diagonals[-1] + blank[:, at, columns], NEVER)
        step = torch.where(inside[:-1], diagonals[-1][:, :-1] + label[:, at[:-1], columns[:-1]], NEVER)
        diagonals.append(torch.logaddexp(stay, pad(step, (1, 0), value=NEVER)))
    each = torch.arange(BATCH)
    alpha = torch.stack(diagonals)[frames - 1 + labels, each, labels]
    return -(alpha + blank[each, frames - 1, labels]).sum()


def ours(logits: Tensor, targets: Tensor, frames: Tensor, labels: Tensor) -> Tensor:
    return transducer_loss(logits, targets, frames, labels, reduction="sum")


def only_log_softmax(logits: Tensor, *_: Tensor) -> Tensor:
    return logits.log_softmax(-1)


def found(loss: Loss, given: Batch) -> tuple[Tensor, Tensor]:
    """The loss and its gradient by the logits."""
    leaf = given[0].detach().requires_grad_()
    value = loss(leaf, *given[1:])
    value.backward(given[0] if value.ndim else None)
    assert leaf.grad is not None
    return value.detach(), leaf.grad


@cache
def exact(mixed: bool) -> tuple[float, np.ndarray]:
    """Loss and gradient in float64."""
    logits, *rest = batch(mixed)
    value, gradient = found(ours, (logits.double(), *rest))
    return value.item(), gradient.numpy()


def errors(value: float, gradient: np.ndarray, mixed: bool) -> dict[str, float]:
    """How far a loss and its gradient are from those in float64."""
    wanted, slope = exact(mixed)
    return {
        "loss_error": abs(value - wanted) / wanted,
        "gradient_error": float(np.abs(gradient - slope).max()),
    }


class Torch:
    """A peer of torch's own, measured in this process."""

    def __init__(self, name: str, loss: Loss, mixed: bool) -> None:
        self.name, self.versions = name, dict[str, str]()
        self.loss, self.batch = loss, batch(mixed)
        value, gradient = found(loss, self.batch)
        self.errors = {} if value.ndim else errors(value.item(), gradient.numpy(), mixed)

    def seconds(self) -> float:
        return seconds_of(lambda: found(self.loss, self.batch))


class TorchAudio:
    """torchaudio's rnnt_loss in its own environment and process; see `torchaudio_peer.py`."""

    name = "torchaudio, rnnt_loss"

    def __init__(self, python: str, mixed: bool) -> None:
        self.folder = TemporaryDirectory()
        names = ("logits", "targets", "logit_lengths", "target_lengths")
        arrays = {name: tensor.numpy() for name, tensor in zip(names, batch(mixed), strict=True)}
        np.savez(f"{self.folder.name}/inputs.npz", **arrays)
        command = [python, str(HERE / "torchaudio_peer.py"), self.folder.name]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        answer = json.loads(self._answer())
        self.versions: dict[str, str] = answer["versions"]
        self.errors = errors(answer["loss"], np.load(f"{self.folder.name}/gradient.npy"), mixed)

    def _answer(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline()

    def seconds(self) -> float:
        assert self.process.stdin
        self.process.stdin.write("measure\n")
        self.process.stdin.flush()
        return float(self._answer())

    def close(self) -> None:
        self.process.communicate()
        self.folder.cleanup()


def contest(peer: Torch | TorchAudio, mixed: bool) -> dict[str, object]:
    """One race, as a row."""
    given = batch(mixed)
    figures: dict[str, object] = {**race(lambda: found(ours, given), peer, ROUNDS)}
    value, gradient = found(ours, given)
    theirs = {f"peer_{name}": size for name, size in peer.errors.items()}
    theirs["peer_versions"] = peer.versions
    lengths = "mixed lengths" if mixed else "full lengths"
    print(f"{lengths}: {1e3 * figures['seconds']:.1f} ms, {figures['ratio']:.2f} of {peer.name}")
    return {
        "work": f"transducer_loss, forward and backward, {lengths}",
        "peer": peer.name,
        **figures,
        **errors(value.item(), gradient.numpy(), mixed),
        **theirs,
    }


def main() -> None:
    """All races, printed and written."""
    on_one_thread()
    torch.set_num_threads(1)
    shape = {"batch": BATCH, "frames": FRAMES, "labels": LABELS, "symbols": SYMBOLS}
    common = {"shape": shape, "threads": 1, "rounds": ROUNDS, **circumstances()}
    common["versions"] = {**common["versions"], "torch": version("torch")}
    records: list[dict[str, object]] = []
    for mixed in (False, True):
        for name, loss in (
            ("torch, autograd through anti-diagonals in float64", by_autograd),
            ("torch, log_softmax alone, forward and backward", only_log_softmax),
        ):
            records.append({**contest(Torch(name, loss, mixed), mixed), **common})
        for python in sys.argv[1:2]:
            peer = TorchAudio(python, mixed)
            records.append({**contest(peer, mixed), **common})
            peer.close()
    write_results("transducer", records)


if __name__ == "__main__":
    main()
