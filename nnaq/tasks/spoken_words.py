"""Spoken words: the task of recognising AN4's letters, digits and words, which trains in minutes.

    sound -> log mel features, 60 ms a step -> SpokenWords (a streaming LSTM) -> scores per unit and step
    loss      connectionist temporal classification (CTC) of log_softmax of the scores, on the host
    judged    by word errors of greedy decoding

Units are characters or whole words, both after the blank, which is unit 0. Words that the training speakers
never say cannot be recognised as whole words; such words count as errors.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from nnaq.errors import DataError
from nnaq.frontends import ImportOptions
from nnaq.models.spoken_words import SpokenWords
from nnaq.tasks.an4 import SAMPLE_RATE, read_sets
from nnaq.tasks.batching import Lazy, mixed_by_length, padded, shard_of
from nnaq.tasks.decoding import best_path, character_errors, word_errors
from nnaq.tasks.evaluating import evaluating
from nnaq.tasks.log_mel import LogMel, Normalization
from nnaq.tasks.recordings import read_audio
from nnaq.tasks.spec_augment import SpecAugment
from nnaq.tasks.units import BLANK, Units

EVALUATION_BATCH = 32
CALIBRATION_UTTERANCES = 40


@dataclass(frozen=True)
class Example:
    """An utterance as the task reads it: normalised features float32 [T, F], its text, its units."""

    features: np.ndarray
    text: str
    labels: tuple[int, ...]


@dataclass(frozen=True)
class Batch:
    """Utterances side by side.

    features: float32 [T, N, F], zeros after an utterance's end; steps: int64 [N], how long each is; labels:
    int64, those of all utterances one after the other; label_counts: int64 [N].
    """

    features: Tensor
    steps: Tensor
    labels: Tensor
    label_counts: Tensor


class SpokenWordsTask:
    """What trains, on what, judged how; see the module. `module` is fresh and seeded."""

    goal = ("wer", "min")

    def __init__(
        self,
        module: nn.Module,
        units: Units,
        log_mel: LogMel,
        normalization: Normalization,
        examples: tuple[Sequence[Example], Sequence[Example], Sequence[Example]],
        batch: int,
        augment: SpecAugment,
    ) -> None:
        self.module, self.units, self.log_mel, self.normalization = module, units, log_mel, normalization
        self.train, self.development, self.test = examples
        self.batch, self.augment = batch, augment

    @property
    def example_inputs(self) -> tuple[Tensor, ...]:
        return (torch.zeros(5, 2, self.log_mel.features),)

    @property
    def options(self) -> ImportOptions:
        return ImportOptions(time={"x": 0}, shapes={"x": ("T", "N", self.log_mel.features)})

    def batches(self, epoch: int, seed: int, shard: int = 0, shards: int = 1) -> Sequence[Batch]:
        """An epoch over the training set; every utterance is augmented by (seed, epoch, its number)."""
        lengths = [len(example.features) for example in self.train]
        drawn = mixed_by_length(lengths, self.batch, np.random.default_rng([seed, epoch]))
        mine = shard_of(drawn, shard, shards)
        return Lazy(len(mine), lambda number: batch_of([self._drawn(n, epoch, seed) for n in mine[number]]))

    def _drawn(self, number: int, epoch: int, seed: int) -> Example:
        example = self.train[number]
        features = self.augment(example.features, np.random.default_rng([seed, epoch, number]))
        return Example(features, example.text, example.labels)

    def loss(self, model: Callable[[Tensor], Tensor], batch: Batch) -> Tensor:
        """CTC per unit of the truth, over the batch together; a scalar."""
        return ctc(model(batch.features), batch) / batch.label_counts.sum().clamp(min=1)

    def evaluate(self, model: Callable[[Tensor], Tensor]) -> dict[str, float]:
        """Figures on the development set: `wer`, `cer` (word and character errors, 1 = all) and `loss`."""
        return self.judged(model, self.development)

    def judge(self, model: Callable[[Tensor], Tensor]) -> dict[str, float]:
        """The same figures on the test set: at the very end, once."""
        return self.judged(model, self.test)

    def judged(self, model: Callable[[Tensor], Tensor], examples: Sequence[Example]) -> dict[str, float]:
        """Figures of a model on any examples."""
        found, loss = self.transcribe(model, examples)
        truths = [example.text for example in examples]
        words, characters = word_errors(truths, found), character_errors(truths, found)
        return {"wer": words.rate, "cer": characters.rate, "loss": loss}

    def transcribe(
        self, model: Callable[[Tensor], Tensor], examples: Sequence[Example]
    ) -> tuple[list[str], float]:
        """What the model hears in each example, and the CTC loss per unit."""
        order = sorted(range(len(examples)), key=lambda number: len(examples[number].features))
        heard, loss, labels = [""] * len(examples), 0.0, 0
        with torch.no_grad(), evaluating(model):
            for start in range(0, len(order), EVALUATION_BATCH):
                numbers = order[start : start + EVALUATION_BATCH]
                batch = batch_of([examples[number] for number in numbers])
                scores = model(batch.features)
                loss += float(ctc(scores, batch))
                labels += len(batch.labels)
                for place, number in enumerate(numbers):
                    path = best_path(scores[: int(batch.steps[place]), place].numpy(), BLANK)
                    heard[number] = self.units.decode(path)
        return heard, loss / max(labels, 1)

    def calibration(self) -> list[dict[str, np.ndarray]]:
        """About 40 training utterances, evenly spread over the table, as recordings of a batch of one."""
        spread = np.linspace(0, len(self.train) - 1, min(CALIBRATION_UTTERANCES, len(self.train)))
        return [{"x": self.train[n].features[:, None, :]} for n in spread.round().astype(int)]


def batch_of(examples: Sequence[Example]) -> Batch:
    """Examples side by side."""
    return Batch(
        torch.from_numpy(padded([example.features for example in examples])),
        torch.tensor([len(example.features) for example in examples]),
        torch.tensor([label for example in examples for label in example.labels], dtype=torch.int64),
        torch.tensor([len(example.labels) for example in examples]),
    )


def ctc(scores: Tensor, batch: Batch) -> Tensor:
    """The CTC loss of scores [T, N, units], summed over the batch; 0 for what is too short for its text."""
    return nn.functional.ctc_loss(
        scores.float().log_softmax(-1),
        batch.labels,
        batch.steps,
        batch.label_counts,
        blank=BLANK,
        reduction="sum",
        zero_infinity=True,
    )


def make_task(
    data: str | Path,
    seed: int = 0,
    *,
    units: Literal["words", "characters"] = "words",
    batch: int = 8,
    bands: int = 40,
    stack: int = 8,
    stride: int = 6,
    front: int = 96,
    hidden: int = 128,
    layers: int = 2,
    dropout: float = 0.2,
    frequency_masks: int = 2,
    frequency_width: int = 6,
    time_masks: int = 2,
    time_width: int = 6,
) -> SpokenWordsTask:
    """The task on an AN4 folder (see nnaq.tasks.an4).

    seed: of the module's first weights. batch: utterances. bands, stack, stride: of LogMel; front, hidden,
    layers, dropout: of SpokenWords; masks and widths: of SpecAugment, widths in bands and in steps. Raises
    DataError where the folder is not as it should be.
    """
    if min(batch, front, hidden, layers) < 1 or not 0 <= dropout < 1:
        raise DataError(
            f"batch, front, hidden and layers are 1 or more and dropout is below 1; found {batch}, {front}, "
            f"{hidden}, {layers} and {dropout}"
        )
    sets, log_mel = read_sets(data), LogMel(bands, stack=stack, stride=stride)
    parts = (sets.train, sets.development, sets.test)
    known = Units.of(units, (utterance.text for utterance in sets.train))
    sounds = [[log_mel(read_audio(u.path, SAMPLE_RATE)) for u in part] for part in parts]
    normalization = Normalization.of(sounds[0])
    train, development, test = (
        [Example(normalization(x), u.text, tuple(known.encode(u.text))) for x, u in zip(*pair, strict=True)]
        for pair in zip(sounds, parts, strict=True)
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = SpokenWords(log_mel.features, len(known), front, hidden, layers, dropout)
    augment = SpecAugment(bands, frequency_masks, frequency_width, time_masks, time_width)
    return SpokenWordsTask(module, known, log_mel, normalization, (train, development, test), batch, augment)
