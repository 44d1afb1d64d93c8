"""Speech recognition by transducers on a folder of tones: batches a seed repeats, and a model that learns."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from spoken_tones import SMALL, learned, write_orders, write_sets, write_table
from torch import nn

from nnaq.errors import DataError
from nnaq.tasks.recogniser import Recogniser, read_recogniser
from nnaq.tasks.recognition import Teaching, ctc, make_task, whole
from nnaq.tasks.speech_sets import read_speech
from nnaq.tasks.transducer_loss import transducer_loss
from nnaq.train.config import load_config, shipped_configs
from nnaq.train.task import Shipping, Task


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("an4")
    write_sets(made)
    (made / "tones.dic").write_text("YES Y EH S\nNO N OW\nGO G OW\n")
    return made


@pytest.fixture(scope="module")
def task(folder):
    return make_task(folder, seed=3, **{**SMALL, "speeds": (0.9, 1.0), "time_masks": 1})


pytestmark = pytest.mark.usefixtures("one_thread")


def test_it_is_a_task_that_ships(task):
    assert isinstance(task, Task) and isinstance(task, Shipping)


def test_an_epoch_is_drawn_from_its_seed_alone(task):
    first, again = list(task.batches(2, seed=5)), task.batches(2, seed=5)
    for place, batch in enumerate(first):
        for name in ("x", "steps", "y", "targets", "counts"):
            assert torch.equal(getattr(batch, name), getattr(again[place], name))
    assert sum(len(batch.steps) for batch in first) == len(task.train.utterances)
    assert any(not torch.equal(a.x, b.x) for a, b in zip(first, task.batches(3, seed=5), strict=True))


def test_a_batch_begins_with_the_blank_and_is_filled_up(task):
    batch = next(iter(task.batches(0, seed=0)))
    assert not batch.y[0].any()
    assert len(batch.x) % task.hearing.reduction == 0
    assert (batch.targets > 0).sum(1).tolist() == batch.counts.tolist()
    read = batch.y[1:].T
    assert all(not row.any() or torch.equal(row, line) for row, line in zip(read, batch.targets, strict=True))
    assert 0 < int((read > 0).sum()) < int(batch.counts.sum())  # some are forgotten
    assert int(batch.steps.max()) * task.hearing.reduction == len(batch.x)


def test_whole_frames():
    assert whole(np.ones((5, 3)), 2).shape == (6, 3)
    assert not whole(np.ones((5, 3)), 2)[5].any()
    assert whole(np.ones((4, 3)), 2).shape == (4, 3)


def test_the_auxiliary_share_weighs_ctc_against_the_transducer(folder, task):
    batch = task.batches(0, seed=0)[0]
    losses = {}
    for share in (0.0, 0.25, 1.0):
        with torch.no_grad():
            losses[share] = task.loss(task.module.eval(), replace(batch, share=share))
    torch.testing.assert_close(losses[0.25], 0.75 * losses[0.0] + 0.25 * losses[1.0])
    logits = task.module(batch.x, batch.y)
    plain = transducer_loss(logits, batch.targets, batch.steps, batch.counts, 0, "sum")
    torch.testing.assert_close(losses[0.0], plain.detach() / batch.counts.sum())


def test_phones_take_their_share_of_the_loss_and_never_ship(tmp_path):
    write_sets(tmp_path)
    with pytest.raises(DataError, match="holds 0 files"):
        make_task(tmp_path, phones=0.25, **SMALL)
    (tmp_path / "tones.dic").write_text("YES Y EH1 S\nNO N OW\n")
    task = make_task(tmp_path, phones=0.25, **SMALL)
    batch = replace(task.batches(0, seed=0)[0], share=1.0)
    texts = [task.hearing.units.decode(row[row > 0].tolist()) for row in batch.targets]
    assert [not phones for phones in batch.phones] == ["GO" in text for text in texts]
    with torch.no_grad():
        encoded = task.module.eval().encoder(batch.x)
        words = ctc(task.module.aligned(task.module.hear(encoded)), batch.targets, batch.steps, batch.counts)
        phones = sum(
            nn.functional.ctc_loss(
                task.module.pronounce(encoded[: batch.steps[n], n]).log_softmax(-1),
                torch.tensor(said), batch.steps[n], torch.tensor(len(said)), reduction="sum",
            )
            for n, said in enumerate(batch.phones) if said
        )  # fmt: skip
        whole = task.loss(task.module, batch) * batch.counts.sum()
    torch.testing.assert_close(whole, 0.75 * words + 0.25 * phones)
    task.recogniser.save(tmp_path)
    assert read_recogniser(tmp_path).module.pronounce is None


def test_what_pads_an_utterance_does_not_touch_its_loss(task):
    task.module.eval()
    batch = task.batches(0, seed=0)[0]
    alone = 0.0
    for n in range(len(batch.steps)):
        steps, count = int(batch.steps[n]), int(batch.counts[n])
        single = type(batch)(
            batch.x[: steps * task.hearing.reduction, n : n + 1],
            batch.steps[n : n + 1],
            batch.y[: count + 1, n : n + 1],
            batch.targets[n : n + 1, :count],
            batch.counts[n : n + 1],
            batch.share,
        )
        alone += float(task.loss(task.module, single).detach()) * count
    together = float(task.loss(task.module, batch).detach()) * int(batch.counts.sum())
    assert together == pytest.approx(alone, rel=1e-4)


def test_the_model_learns_the_words_and_ships(folder, tmp_path):
    task = learned(folder)
    assert task.evaluate(task.module)["wer"] < 0.1
    assert task.judge(task.module)["wer"] < 0.1
    task.ship(tmp_path, {"seed": 0}, exact=False)
    again = read_recogniser(tmp_path)
    assert again.training == {"seed": 0}
    for n in range(4):
        x = again.hearing.features(task.test.audio(n))[:, None]
        assert again.hearing.units.decode(again.greedy(x)) == task.test.utterances[n].text


def test_the_encoder_trains_alone_at_first(folder):
    task = make_task(folder, alone=2, auxiliary=0.25, **SMALL)
    assert [task.batches(epoch, seed=0)[0].share for epoch in range(4)] == [1.0, 1.0, 0.25, 0.25]
    with pytest.raises(DataError, match="auxiliary is 0 to 1"):
        make_task(folder, auxiliary=1.5, **SMALL)


def test_an_encoder_alone_learns_the_words_and_is_judged_by_its_best_path(folder):
    task = learned(folder, auxiliary=1.0)
    assert task.evaluate(task.module)["wer"] < 0.1
    task.teaching = Teaching(0.3, 0, 0.0)
    assert task.evaluate(task.module)["wer"] > 0.5  # nobody trained the rest


def test_two_sets_are_joined_and_an4_judges(tmp_path):
    (tmp_path / "an4").mkdir()
    (tmp_path / "s2i").mkdir()
    write_table(tmp_path / "an4", "train.tsv", [f"m{n}" for n in range(10)], 2)
    write_table(tmp_path / "an4", "test.tsv", ["f0"], 2)
    write_orders(tmp_path / "s2i", "train.tsv", 12)
    write_orders(tmp_path / "s2i", "test.tsv", 2)
    both, own = read_speech(tmp_path), read_speech(tmp_path / "an4")
    assert both.test == own.test and both.development == own.development
    assert len(both.train) == len(own.train) + len(read_speech(tmp_path / "s2i").train)


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(DataError, match="no folders an4 and s2i, and no train-clean"):
        read_speech(Path(tmp_path))


def test_sound_is_read_at_its_rate(tmp_path):
    write_table(tmp_path, "train.tsv", [f"m{n}" for n in range(10)], 1)
    write_table(tmp_path, "test.tsv", ["f0"], 1)
    soundfile.write(tmp_path / "f00.flac", np.zeros(800), 8000)
    task = make_task(tmp_path, **SMALL)
    with pytest.raises(DataError, match="8000 Hz"):
        task.judge(task.module)


FLOAT = [
    name
    for name in sorted(shipped_configs())
    if name.startswith("speech_") and load_config(name, ["data=x"]).emulation.recipe == "none"
]


@pytest.mark.parametrize("name", FLOAT)
def test_a_configuration_that_ships_trains_and_says_its_words(folder, name, tmp_path):
    config = load_config(name, [f"data={str(folder)!r}"])
    task = make_task(folder, **config.options)
    loss = task.loss(task.module, task.batches(0, seed=0)[0])
    assert torch.isfinite(loss) and task.batches(0, seed=0)[0].share == 1.0
    task.ship(tmp_path, {"configuration": config.tables()}, exact=False)
    x = np.zeros((4, 1, task.hearing.log_mel.features), np.float32)
    assert read_recogniser(tmp_path).greedy(x) == Recogniser.greedy(halved(task.recogniser), x)


def test_a_task_goes_on_from_a_recogniser(folder, task, tmp_path):
    task.ship(tmp_path, {}, exact=False)
    given = {key: SMALL[key] for key in ("units", "bands", "predictor", "joint", "size")}
    for options in ({}, given):
        again = make_task(folder, start=tmp_path, dropout=0.5, **options)
        assert again.hearing.to_table() == task.hearing.to_table()
        x = np.ones((4, 1, again.hearing.log_mel.features), np.float32)
        again.module.eval()
        assert again.recogniser.greedy(x) == read_recogniser(tmp_path).greedy(x)
        assert again.example_inputs[0].shape == task.example_inputs[0].shape
        assert any(part.p == 0.5 for part in again.module.modules() if isinstance(part, torch.nn.Dropout))
    for options, told in (
        ({"model": "conformer"}, "encoder 'rnnt'"),
        ({**given, "bands": 20}, "has bands 12"),
    ):
        with pytest.raises(DataError, match=told):
            make_task(folder, start=tmp_path, **options)


def halved(recogniser):
    """The same with its parameters as float16 keeps them."""
    for tensor in recogniser.module.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(tensor.half().float())
    return recogniser
