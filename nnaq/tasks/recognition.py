"""Streaming speech recognition by transducers: sound in, words out as the sound goes by.

    sound -> (speed, noise) -> log mel features -> normalised -> (SpecAugment) -> transducer -> words
    loss     of the transducer over all alignments, with a share of connectionist temporal classification
             (CTC) on the encoder while the model is a float module: it finds alignments sooner, the more so
             where the encoder trains alone in the first epochs. Where CTC is all of the loss, the encoder is
             judged by its own best path. A further share may go to CTC of phones, which words have in
             common: with few words of each kind to learn from, the encoder hears far more (multi-task)
    judged   by word errors of greedy search

The data is a folder of AN4, of Picovoice's speech-to-intent orders, or one that holds both as `an4` and
`s2i`. Development utterances are cut from the training tables, the test tables stay unseen; where there is
AN4, development and test are its own, so that figures compare with those of others on AN4.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from inspect import signature
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from nnaq.errors import DataError
from nnaq.frontends import ImportOptions
from nnaq.ir.graph import Graph
from nnaq.models.named_sizes import named_size
from nnaq.models.sizes import make_transducer
from nnaq.models.transducer import Transducer
from nnaq.passes import MakeStreaming
from nnaq.tasks.augment import Augment
from nnaq.tasks.batching import Lazy, mixed_by_length, padded, shard_of
from nnaq.tasks.decoding import Errors, character_errors, word_errors
from nnaq.tasks.hearing import Hearing, recogniser_at
from nnaq.tasks.log_mel import LogMel, Normalization
from nnaq.tasks.pronunciations import Pronunciations, find_dictionary, read_dictionary
from nnaq.tasks.recogniser import Recogniser, read_recogniser
from nnaq.tasks.sounds import Sounds, spread
from nnaq.tasks.spec_augment import SpecAugment
from nnaq.tasks.speech_sets import read_speech
from nnaq.tasks.transcriber import Transcriber
from nnaq.tasks.transducer_greedy import aligned, greedy
from nnaq.tasks.transducer_loss import transducer_loss
from nnaq.tasks.transducer_parts import part_graphs
from nnaq.tasks.units import BLANK, Kind, Units

MEASURED = 2000  # utterances over which features are normalised, spread over the table
EVALUATION_BATCH = 32
CALIBRATION_UTTERANCES = 40

BatchSearch = Callable[[Transducer, Tensor, Tensor], list[list[int]]]


@dataclass(frozen=True)
class Teaching:
    """What is asked of a transducer beside its own loss, while it is a float module.

    auxiliary: CTC's share of the loss; alone: epochs at the beginning in which only the encoder trains, by
    CTC; forgotten: share of utterances whose labels the predictor reads as blanks, so that the joint learns
    to do without it and small sets are not learned by heart; phones: share of the whole loss that goes to
    CTC of phones. Raises DataError for shares outside of 0 … 1.
    """

    auxiliary: float
    alone: int
    forgotten: float
    phones: float = 0.0

    def __post_init__(self) -> None:
        shares = 0 <= self.auxiliary <= 1 and 0 <= self.forgotten < 1 and 0 <= self.phones < 1
        if not shares or self.alone < 0:
            raise DataError(
                "auxiliary is 0 to 1, forgotten and phones 0 to below 1 and alone 0 or more; found "
                f"{self.auxiliary}, {self.forgotten}, {self.phones} and {self.alone}"
            )

    def share(self, epoch: int) -> float:
        """CTC's share in an epoch."""
        return 1.0 if epoch < self.alone else self.auxiliary


@runtime_checkable
class Crossed(Protocol):
    """A model that computes by integers: the twin of a transducer."""

    def convert(self) -> Graph:
        """The integers, over whole utterances."""


@dataclass(frozen=True)
class Batch:
    """Utterances side by side.

    x: float32 [T,N,F], zeros after an utterance's end; steps: int64 [N], how many frames the encoder gives
    for each; targets: int64 [N,U], blanks after their end; counts: int64 [N], how many there are; y: int64
    [U+1,N], what the predictor reads: the blank and then the targets, of some utterances blanks. share: of
    CTC in the loss. phones: what each is pronounced like, none where that is not known.
    """

    x: Tensor
    steps: Tensor
    y: Tensor
    targets: Tensor
    counts: Tensor
    share: float = 0.0
    phones: tuple[list[int], ...] = ()


class RecognitionTask:
    """What trains, on what, judged how; see the module. `module` is fresh and seeded."""

    goal = ("wer", "min")

    def __init__(
        self,
        recogniser: Recogniser,
        sounds: tuple[Sounds, Sounds, Sounds],
        batch: int,
        mask: SpecAugment,
        teaching: Teaching,
        pronunciations: Pronunciations | None = None,
    ) -> None:
        self.recogniser, self.module, self.hearing = recogniser, recogniser.module, recogniser.hearing
        self.train, self.development, self.test = sounds
        self.batch, self.mask, self.pronunciations = batch, mask, pronunciations
        self.teaching, self._share = teaching, teaching.share(0)

    @property
    def example_inputs(self) -> tuple[Tensor, ...]:
        return self.recogniser.example_inputs

    @property
    def options(self) -> ImportOptions:
        return self.recogniser.options

    def batches(self, epoch: int, seed: int, shard: int = 0, shards: int = 1) -> Sequence[Batch]:
        """An epoch over the training set; every utterance is augmented by (seed, epoch, its number)."""
        self._share = self.teaching.share(epoch)
        lengths = [round(100 * u.seconds) for u in self.train.utterances]
        drawn = mixed_by_length(lengths, self.batch, np.random.default_rng([seed, epoch]))
        mine = shard_of(drawn, shard, shards)
        return Lazy(len(mine), lambda n: self._augmented(mine[n], epoch, seed))

    def _augmented(self, numbers: Sequence[int], epoch: int, seed: int) -> Batch:
        drawn = [self._drawn(number, epoch, seed) for number in numbers]
        batch = self._batch(drawn, np.random.default_rng([seed, epoch, *numbers]))
        return replace(batch, share=self.teaching.share(epoch))

    def _drawn(self, number: int, epoch: int, seed: int) -> tuple[np.ndarray, str]:
        generator = np.random.default_rng([seed, epoch, number])
        features = self.hearing.normalization(self.train.drawn(number, generator))
        return self.mask(features, generator), self.train.utterances[number].text

    def _batch(
        self, drawn: Sequence[tuple[np.ndarray, str]], forget: np.random.Generator | None = None
    ) -> Batch:
        """Features and texts side by side, time filled up to whole frames of the encoder."""
        reduction, labels = self.hearing.reduction, [self.hearing.units.encode(text) for _, text in drawn]
        x = padded([whole(features, reduction) for features, _ in drawn])
        y = np.full((1 + max(map(len, labels)), len(labels)), BLANK)
        for place, found in enumerate(labels):
            y[1 : 1 + len(found), place] = found
        targets = torch.from_numpy(y[1:].T.copy())
        if forget is not None:
            y[:, forget.random(len(labels)) < self.teaching.forgotten] = BLANK
        steps = [-(-len(features) // reduction) for features, _ in drawn]
        counts = torch.tensor([len(found) for found in labels])
        known = self.pronunciations
        phones = tuple(known.encode(text) for _, text in drawn) if known else ()
        return Batch(
            torch.from_numpy(x), torch.tensor(steps), torch.from_numpy(y), targets, counts, phones=phones
        )

    def loss(self, model: Callable[..., Tensor], batch: Batch) -> Tensor:
        """The transducer's loss per label, and CTC's shares where the model shows its encoder."""
        total = batch.counts.sum().clamp(min=1)
        if not isinstance(model, Transducer):
            return self._transduced(model(batch.x, batch.y), batch) / total
        encoded = model.encoder(batch.x)
        words = self._taught(model, model.hear(encoded), batch)
        if model.pronounce is None:
            return words / total
        share, spoken = self.teaching.phones, model.pronounce(encoded)
        return ((1 - share) * words + share * pronounced(spoken, batch)) / total

    def _taught(self, model: Transducer, f: Tensor, batch: Batch) -> Tensor:
        """Transducer and CTC by their shares, summed over the labels; what has no share is not computed."""
        share = batch.share
        by_itself = (
            ctc(model.aligned(f), batch.targets, batch.steps, batch.counts) if share else f.new_zeros(())
        )
        if share == 1:
            return by_itself
        whole = self._transduced(model.joined(f, model.said(batch.y)), batch)
        return (1 - share) * whole + share * by_itself

    def _transduced(self, logits: Tensor, batch: Batch) -> Tensor:
        return transducer_loss(logits, batch.targets, batch.steps, batch.counts, BLANK, "sum")

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Figures on the development set: `wer`, `cer` (word and character errors, 1 = all).

        While the encoder trains alone, the transducer says nothing: all words count as wrong, and
        `encoder_wer` is what the encoder hears by itself.
        """
        if self._share < 1 or self.teaching.auxiliary == 1:
            return self.judged(model, self.development)
        assert isinstance(model, Transducer)
        return {"wer": 1.0, "cer": 1.0, "encoder_wer": self._errors(model, self.development, aligned)[0].rate}

    def judge(self, model: nn.Module) -> dict[str, float]:
        """The same figures on the test set: at the very end, once."""
        return self.judged(model, self.test)

    def judged(self, model: nn.Module, sounds: Sounds) -> dict[str, float]:
        """Figures of a model on any recordings."""
        search = aligned if self.teaching.auxiliary == 1 else greedy
        words, characters = self._errors(model, sounds, search)
        return {"wer": words.rate, "cer": characters.rate}

    def _errors(self, model: nn.Module, sounds: Sounds, search: BatchSearch) -> tuple[Errors, Errors]:
        """Word and character errors on recordings."""
        found = self.transcribe(model, sounds, search)
        truths = [utterance.text for utterance in sounds.utterances]
        return word_errors(truths, found), character_errors(truths, found)

    def transcribe(self, model: nn.Module, sounds: Sounds, search: BatchSearch = greedy) -> list[str]:
        """What the model hears in each recording; of a twin, its integers as a device would hear it."""
        if isinstance(model, Crossed):
            transcriber = Transcriber(part_graphs(MakeStreaming().run(model.convert())), self.hearing)
            return [transcriber.transcribe(sounds.audio(n)) for n in range(len(sounds.utterances))]
        assert isinstance(model, Transducer)
        features = [self._features(sounds, n) for n in range(len(sounds.utterances))]
        order = sorted(range(len(features)), key=lambda number: len(features[number]))
        heard = [""] * len(features)
        for start in range(0, len(order), EVALUATION_BATCH):
            numbers = order[start : start + EVALUATION_BATCH]
            batch = self._batch([(features[number], "") for number in numbers])
            for number, labels in zip(numbers, search(model, batch.x, batch.steps), strict=True):
                heard[number] = self.hearing.units.decode(labels)
        return heard

    def _features(self, sounds: Sounds, number: int) -> np.ndarray:
        return self.hearing.normalization(sounds.plain(number))

    def ship(self, folder: Path, facts: Mapping[str, Any], exact: bool) -> None:
        """Write the recogniser into a folder, with what is to be known of its training."""
        replace(self.recogniser, training=facts).save(folder, half=not exact)

    def calibration(self) -> list[dict[str, np.ndarray]]:
        """About 40 training utterances, evenly spread over the table, with what is said in them."""
        numbers = spread(len(self.train.utterances), CALIBRATION_UTTERANCES)
        drawn = [(self._features(self.train, n), self.train.utterances[n].text) for n in numbers]
        batches = [self._batch([one]) for one in drawn]
        return [{"x": batch.x.numpy(), "y": batch.y.numpy()} for batch in batches]


def ctc(scores: Tensor, targets: Tensor, steps: Tensor, counts: Tensor) -> Tensor:
    """CTC's loss, summed over the labels, of scores [T,N,V]; what cannot be aligned counts nothing."""
    logarithms = scores.log_softmax(-1)
    loss: Tensor = nn.functional.ctc_loss(
        logarithms, targets, steps, counts, BLANK, "sum", zero_infinity=True
    )
    return loss


def pronounced(scores: Tensor, batch: Batch) -> Tensor:
    """CTC's loss of phones, summed over them, of scores [T,N,V]."""
    counts = torch.tensor([len(phones) for phones in batch.phones])
    targets = torch.tensor([phone for phones in batch.phones for phone in phones], dtype=torch.int64)
    spoken = counts > 0
    if not spoken.any():
        return scores.new_zeros(())
    return ctc(scores[:, spoken], targets, batch.steps[spoken], counts[spoken])


def whole(features: np.ndarray, reduction: int) -> np.ndarray:
    """Features [T,F], zeros (the mean) after their end until T is a multiple of `reduction`."""
    return np.pad(features, ((0, -len(features) % reduction), (0, 0)))


def make_task(
    data: str | Path,
    seed: int = 0,
    *,
    start: Path | None = None,
    model: str = "rnnt",
    size: str | dict[str, Any] | None = None,
    units: Kind = "pieces",
    pieces: int = 120,
    batch: int = 16,
    bands: int = 40,
    stack: int = 3,
    predictor: int = 128,
    joint: int = 192,
    dropout: float = 0.2,
    auxiliary: float = 0.3,
    alone: int = 0,
    forgotten: float = 0.2,
    phones: float = 0.0,
    speeds: tuple[float, ...] = (0.9, 1.0, 1.1),
    noisy: float = 0.2,
    frequency_masks: int = 2,
    frequency_width: int = 8,
    time_masks: int = 2,
    time_width: int = 12,
) -> RecognitionTask:
    """The task on a folder of speech; see the module.

    start: a recogniser to go on from, its folder or the name of one that ships: its network, units and
    features are the task's. model, size: the encoder and what it takes, or the name of a size
    (nnaq.models.named_sizes), which also says predictor and joint. Other options: docs/recognition.md. Raises
    DataError.
    """
    named = named_size(model, size) if isinstance(size, str) else size or {}
    own = {"stack": stack} if model == "convrnnt" else {}  # its convolutions know the frames of a step
    sizes = {"encoder": model, "predictor": predictor, "joint": joint, **own, **named}
    begun = None if start is None else read_recogniser(recogniser_at(start))
    if begun is not None:
        _must_agree(start, begun, {**sizes, "units": units, "bands": bands, "stack": stack})
        sizes = dict(begun.model)
    speech, log_mel = read_speech(Path(data)), LogMel(bands, stack=stack, stride=stack)
    log_mel = log_mel if begun is None else begun.hearing.log_mel
    known = begun.hearing.units if begun else Units.of(units, [u.text for u in speech.train], pieces)
    pronunciations = read_dictionary(find_dictionary(Path(data))) if phones else None
    augment = Augment(speeds, speech.noise if noisy else None, noisy)
    parts = speech.train, speech.development, speech.test
    train, development, test = (Sounds(part, log_mel, augment) for part in parts)
    measured = (train.plain(n) for n in spread(len(speech.train), MEASURED))
    normalization = begun.hearing.normalization if begun else Normalization.of(measured)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = make_transducer(log_mel.features, len(known), dropout=dropout, **sizes)
        if begun is not None:
            module.load_state_dict(begun.module.state_dict())
        if pronunciations is not None:
            module.learn_phones(1 + len(pronunciations.phones))
    hearing = Hearing(known, log_mel, normalization, module.reduction)
    mask = SpecAugment(log_mel.bands, frequency_masks, frequency_width, time_masks, time_width)
    recogniser = Recogniser(module, sizes, hearing)
    teaching = Teaching(auxiliary, alone, forgotten, phones)
    return RecognitionTask(recogniser, (train, development, test), batch, mask, teaching, pronunciations)


def _must_agree(start: Path | None, begun: Recogniser, asked: Mapping[str, Any]) -> None:
    """Raise DataError where options, as far as they say anything of structure, ask for another one."""
    log_mel, labels = begun.hearing.log_mel, begun.hearing.units
    there = {**begun.model, "units": labels.kind, "bands": log_mel.bands, "stack": log_mel.stack}
    known = signature(make_task).parameters
    silent = {name: known[name].default for name in ("predictor", "joint", "units", "bands", "stack")}
    said = json.loads(json.dumps(asked))  # lists, as a file has them
    differ = [name for name in {**there, **said} if said.get(name) != there.get(name)]
    if differ and asked != {"encoder": known["model"].default, **silent}:
        name = differ[0]
        raise DataError(
            f"{start} has {name} {there.get(name)!r}, the options say {said.get(name)!r}; a recogniser keeps "
            "its model, size, units, bands, stack, predictor and joint: repeat them or leave all of them out"
        )
