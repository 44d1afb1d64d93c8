"""Dialogue acts: what an utterance does (states, asks, …), from sound alone, with prosody behind gates.

    sound -> log mel features x, prosody p, 30 ms a step -> DialogueActs -> one score per act
    loss     cross-entropy, plus `closing` times the mean of every gate of the arm
    judged   by accuracy and by macro F1 (the mean over acts of F1)

The data is a folder as nnaq.tasks.act_sets takes it. The penalty on gates is ours: without one nothing asks a
gate to close where prosody does not help. Gate means of the development set stand in the log as `gate_local`
(over frames) and `gate_global`. Of a share of the training utterances, `forgotten`, prosody is zeros, so that
the acoustics are learned too where both would do.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nnaq.errors import DataError
from nnaq.frontends import ImportOptions
from nnaq.models.dialogue_acts import Arm, DialogueActs, matched_hidden
from nnaq.tasks.act_sets import Acted, ActSets, read_acts
from nnaq.tasks.an4 import SAMPLE_RATE
from nnaq.tasks.batching import Lazy, mixed_by_length, shard_of
from nnaq.tasks.evaluating import evaluating
from nnaq.tasks.log_mel import LogMel, Normalization
from nnaq.tasks.prosody import Prosody
from nnaq.tasks.recordings import read_audio
from nnaq.tasks.sounds import spread

EVALUATION_BATCH = 32
CALIBRATION_UTTERANCES = 40
MODEL = "float.onnx"


@dataclass(frozen=True, eq=False)
class Example:
    """An utterance as the model hears it: x float32 [T,F] (the last one 1), p float32 [T,P], its act."""

    x: np.ndarray
    p: np.ndarray
    act: int


@dataclass(frozen=True)
class Batch:
    """Utterances side by side, ends aligned: x float32 [T,N,F], p float32 [T,N,P], acts int64 [N].

    Zeros before an utterance's beginning.
    """

    x: Tensor
    p: Tensor
    acts: Tensor


class DialogueActsTask:
    """What trains, on what, judged how; see the module. `module` is fresh and seeded."""

    goal = ("accuracy", "max")

    def __init__(
        self,
        module: nn.Module,
        acts: Sequence[str],
        examples: tuple[Sequence[Example], Sequence[Example], Sequence[Example]],
        batch: int,
        closing: float,
        forgotten: float,
    ) -> None:
        self.module, self.acts, self.batch = module, tuple(acts), batch
        self.closing, self.forgotten = closing, forgotten
        self.train, self.development, self.test = examples

    @property
    def example_inputs(self) -> tuple[Tensor, ...]:
        one = self.train[0]
        return torch.zeros(5, 2, one.x.shape[1]), torch.zeros(5, 2, one.p.shape[1])

    @property
    def options(self) -> ImportOptions:
        """Time and batch are open."""
        x, p = self.example_inputs
        shapes = {"x": ("T", "N", x.shape[2]), "p": ("T", "N", p.shape[2])}
        return ImportOptions(time={"x": 0, "p": 0}, shapes=shapes)

    def batches(self, epoch: int, seed: int, shard: int = 0, shards: int = 1) -> Sequence[Batch]:
        """An epoch over the training set; what is forgotten is drawn by (seed, epoch, number)."""
        lengths = [len(example.x) for example in self.train]
        drawn = mixed_by_length(lengths, self.batch, np.random.default_rng([seed, epoch]))
        mine = shard_of(drawn, shard, shards)
        return Lazy(len(mine), lambda number: batch_of([self._drawn(n, epoch, seed) for n in mine[number]]))

    def _drawn(self, number: int, epoch: int, seed: int) -> Example:
        example = self.train[number]
        forget = np.random.default_rng([seed, epoch, number]).random() < self.forgotten
        return replace(example, p=np.zeros_like(example.p)) if forget else example

    def loss(self, model: Callable[..., Tensor], batch: Batch) -> Tensor:
        """The mean cross-entropy, and what open gates cost where the model shows them; a scalar."""
        if not isinstance(model, DialogueActs):
            return nn.functional.cross_entropy(model(batch.x, batch.p).float(), batch.acts)
        scores, gates = model.gated(batch.x, batch.p)
        open_gates = sum((mean_gate(gate, batch.x) for gate in gates.values()), scores.new_zeros(()))
        return nn.functional.cross_entropy(scores, batch.acts) + self.closing * open_gates

    def evaluate(self, model: Callable[..., Tensor]) -> dict[str, float]:
        """Figures on the development set: `accuracy`, `macro_f1`, `loss`, and the means of gates."""
        return self.judged(model, self.development)

    def judge(self, model: Callable[..., Tensor]) -> dict[str, float]:
        """The same figures on the test set: at the very end, once."""
        return self.judged(model, self.test)

    def judged(self, model: Callable[..., Tensor], examples: Sequence[Example]) -> dict[str, float]:
        """Figures of a model on any examples."""
        scores, gates = self.scores(model, examples)
        truth = np.array([example.act for example in examples])
        loss = nn.functional.cross_entropy(torch.from_numpy(scores), torch.from_numpy(truth))
        found = scores.argmax(axis=1)
        return {
            "accuracy": float((found == truth).mean()),
            "macro_f1": macro_f1(truth, found, len(self.acts)),
            "loss": float(loss),
            **gates,
        }

    def scores(
        self, model: Callable[..., Tensor], examples: Sequence[Example]
    ) -> tuple[np.ndarray, dict[str, float]]:
        """Scores float32 [examples, acts], and the mean of each gate over utterances."""
        order = sorted(range(len(examples)), key=lambda number: len(examples[number].x))
        found = np.zeros((len(examples), len(self.acts)), np.float32)
        sums: dict[str, float] = {}
        with torch.no_grad(), evaluating(model):
            for start in range(0, len(order), EVALUATION_BATCH):
                numbers = order[start : start + EVALUATION_BATCH]
                batch = batch_of([examples[number] for number in numbers])
                gates: dict[str, Tensor] = {}
                if isinstance(model, DialogueActs):
                    found_here, gates = model.gated(batch.x, batch.p)
                else:
                    found_here = model(batch.x, batch.p)
                found[numbers] = found_here.numpy()
                for name, gate in gates.items():
                    share = len(numbers) / len(examples)
                    sums[name] = sums.get(name, 0.0) + share * float(mean_gate(gate, batch.x))
        return found, {f"gate_{name}": mean for name, mean in sums.items()}

    def calibration(self) -> list[dict[str, np.ndarray]]:
        """About 40 training utterances, evenly spread over the table, as recordings of a batch of one."""
        numbers = spread(len(self.train), CALIBRATION_UTTERANCES)
        return [inputs_of(self.train[number]) for number in numbers]

    def ship(self, folder: Path, facts: Mapping[str, Any], exact: bool) -> None:
        """Write what `nnaq lower` takes: the float model as float.onnx, and recordings to calibrate on."""
        if exact:
            return  # the integers stand in model.onnx already
        write_onnx(self.module, tuple(one[:, :1] for one in self.example_inputs), folder / MODEL)
        (folder / "calibrate").mkdir(exist_ok=True)
        for number, inputs in enumerate(self.calibration()):
            np.savez(folder / "calibrate" / f"{number:03d}.npz", **inputs)  # type: ignore[arg-type]


def write_onnx(module: nn.Module, inputs: tuple[Tensor, ...], path: Path) -> None:
    """The float model of one utterance at a time as an ONNX file, time open."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls the exporter deprecated that keeps an LSTM whole
        torch.onnx.export(
            module.eval(), inputs, str(path), input_names=["x", "p"], output_names=["output"],
            dynamic_axes={"x": {0: "T"}, "p": {0: "T"}}, dynamo=False,
        )  # fmt: skip


def mean_gate(gate: Tensor, x: Tensor) -> Tensor:
    """The mean of a gate over utterances, and over their frames where it is [T,N,width]."""
    if gate.dim() == 2:
        return gate.mean()
    there = x[..., -1:]
    return (gate * there).sum() / (there.sum().clamp(min=1) * gate.shape[-1])


def macro_f1(truth: np.ndarray, found: np.ndarray, acts: int) -> float:
    """The mean over acts of F1 = 2 both / (found + true), 0 for an act that is neither found nor true.

    >>> macro_f1(np.array([0, 0, 1]), np.array([0, 1, 1]), 2)
    0.6666666666666666
    """
    pairs = [(truth == act, found == act) for act in range(acts)]
    scores = [2 * (a & b).sum() / max(a.sum() + b.sum(), 1) for a, b in pairs]
    return float(np.mean(scores))


def batch_of(examples: Sequence[Example]) -> Batch:
    """Examples side by side, ends aligned."""
    x, p = ([getattr(example, name) for example in examples] for name in ("x", "p"))
    acts = torch.tensor([example.act for example in examples])
    return Batch(torch.from_numpy(ends_aligned(x)), torch.from_numpy(ends_aligned(p)), acts)


def ends_aligned(utterances: Sequence[np.ndarray]) -> np.ndarray:
    """Utterances [T_n,F] side by side, zeros before their beginnings: float32 [T,N,F]."""
    longest = max(map(len, utterances))
    padded = [np.pad(one, ((longest - len(one), 0), (0, 0))) for one in utterances]
    return np.stack(padded, axis=1).astype(np.float32)


def inputs_of(example: Example) -> dict[str, np.ndarray]:
    """A batch of one, as the graph takes it."""
    return {"x": example.x[:, None], "p": example.p[:, None]}


def read_examples(
    sets: ActSets, log_mel: LogMel, prosody: Prosody
) -> tuple[list[Example], list[Example], list[Example]]:
    """The features of all sets, normalised by the training set's."""

    def heard(part: Sequence[Acted]) -> list[tuple[np.ndarray, np.ndarray]]:
        sounds = (read_audio(one.spoken.path, SAMPLE_RATE) for one in part)
        return [(log_mel(sound), prosody(sound)) for sound in sounds]

    parts = (sets.train, sets.development, sets.test)
    features = [heard(part) for part in parts]
    acoustic, prosodic = (Normalization.of(pair[n] for pair in features[0]) for n in (0, 1))

    acts = sets.acts

    def example(one: Acted, x: np.ndarray, p: np.ndarray) -> Example:
        there = np.ones((len(x), 1), np.float32)
        return Example(np.hstack([acoustic(x), there]), prosodic(p), acts.index(one.act))

    made = [
        [example(one, *pair) for one, pair in zip(part, found, strict=True)]
        for part, found in zip(parts, features, strict=True)
    ]
    return made[0], made[1], made[2]


def make_task(
    data: str | Path,
    seed: int = 0,
    *,
    arm: Arm = "both",
    batch: int = 16,
    bands: int = 40,
    hidden: int = 64,
    dropout: float = 0.2,
    closing: float = 0.02,
    forgotten: float = 0.0,
) -> DialogueActsTask:
    """The task on a folder of dialogue acts; see the module.

    arm: see nnaq.models.dialogue_acts; hidden: cells of `both`, of which every arm gets the parameters.
    Raises DataError.
    """
    if batch < 1 or hidden < 1 or not (0 <= dropout < 1 and 0 <= forgotten < 1) or closing < 0:
        raise DataError(
            f"batch and hidden are 1 or more, dropout and forgotten below 1 and closing 0 or more; found "
            f"{batch}, {hidden}, {dropout}, {forgotten} and {closing}"
        )
    sets = read_acts(Path(data))
    prosody = Prosody()
    examples = read_examples(sets, LogMel(bands, stack=prosody.stack, stride=prosody.stack), prosody)
    module = make_module(examples[0][0], len(sets.acts), arm, hidden, dropout, seed)
    return DialogueActsTask(module, sets.acts, examples, batch, closing, forgotten)


def make_module(
    example: Example, acts: int, arm: Arm, hidden: int, dropout: float, seed: int
) -> DialogueActs:
    """A fresh model of an arm, as large as `both` with so many cells."""
    features, prosody = example.x.shape[1], example.p.shape[1]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        width = matched_hidden(features, prosody, acts, arm, hidden)
        return DialogueActs(features, prosody, acts, arm, hidden=width, dropout=dropout)
