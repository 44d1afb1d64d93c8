"""The task on a folder of tones: split by speaker, batches that a seed repeats, and a model that learns it.

With the real AN4, where NNAQ_DATA names the folder above it, its tables are read whole.
"""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from spoken_tones import write_table

import nnaq
from nnaq import pipeline
from nnaq.errors import DataError
from nnaq.tasks.an4 import read_sets, split_by_speaker
from nnaq.tasks.evaluating import evaluating
from nnaq.tasks.spoken_words import batch_of, ctc, make_task
from nnaq.tasks.units import Units

SMALL = {"bands": 12, "stack": 3, "stride": 3, "front": 24, "hidden": 24, "layers": 1, "dropout": 0.0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("an4")
    write_table(made, "train.tsv", [f"m{n}" for n in range(12)], 5)
    write_table(made, "test.tsv", ["f0", "f1"], 4)
    return made


@pytest.fixture(scope="module")
def task(folder):
    return make_task(folder, seed=3, batch=6, **SMALL)


pytestmark = pytest.mark.usefixtures("one_thread")


# --- data


def test_no_speaker_is_in_two_sets(folder):
    sets = read_sets(folder)
    speakers = [{u.speaker for u in part} for part in (sets.train, sets.development, sets.test)]
    assert [len(part) for part in speakers] == [4, 8, 2]
    assert not speakers[0] & speakers[1] and not (speakers[0] | speakers[1]) & speakers[2]
    assert len(sets.train) + len(sets.development) == 60
    assert read_sets(folder) == sets


def test_the_order_of_the_table_does_not_move_a_speaker(folder):
    train = read_sets(folder, 5).train
    assert {u.speaker for u in split_by_speaker(train, 2)[1]} == {
        u.speaker for u in split_by_speaker(train[::-1], 2)[1]
    }
    for held_out in (0, 7):
        with pytest.raises(DataError, match="found 7 speakers to train on; cannot hold"):
            split_by_speaker(train, held_out)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (None, "there is no .*train.tsv; make a folder of AN4"),
        ("", "expected rows with columns path, speaker, seconds, text"),
        ("path\tspeaker\n", "expected rows with columns"),
        ("path\tspeaker\ttext\na.flac\tann\tYES\n", "expected rows with columns"),
        (
            "path\tspeaker\tseconds\ttext\na.flac\tann\t1.0\t \n",
            "line 2: path, text or another column is missing",
        ),
        ("path\tspeaker\tseconds\ttext\na.flac\tann\n", "line 2: path, text or another column is missing"),
        ("path\tspeaker\tseconds\ttext\ngone.flac\tann\t1.0\tYES\n", "line 2: there is no file .*gone.flac"),
        ("path\tspeaker\tseconds\ttext\na.flac\tann\tlong\tYES\n", "line 2: found 'long', expected a number"),
    ],
)
def test_a_folder_that_is_not_an4_is_refused_with_the_way_out(tmp_path, table, said):
    (tmp_path / "a.flac").write_bytes(b"")
    if table is not None:
        (tmp_path / "train.tsv").write_text(table)
    with pytest.raises(DataError, match=said):
        read_sets(tmp_path)


def test_a_speaker_in_both_tables_is_refused(tmp_path):
    write_table(tmp_path, "train.tsv", [f"m{n}" for n in range(9)], 1)
    write_table(tmp_path, "test.tsv", ["m3"], 1)
    with pytest.raises(DataError, match="speaker m3 is in both tables"):
        read_sets(tmp_path)


# --- units


def test_units_are_words_or_characters():
    words = Units.of("words", ["YES NO", "GO"])
    assert words.symbols == ("GO", "NO", "YES") and len(words) == 4
    assert words.encode("NO NEVER GO") == [2, 1]
    assert words.decode([2, 1]) == "NO GO"
    characters = Units.of("characters", ["NO GO"])
    assert characters.symbols == (" ", "G", "N", "O")
    assert characters.decode(characters.encode("GO ON")) == "GO ON"
    with pytest.raises(DataError, match="found 'phones'"):
        Units.of("phones", ["A"])


# --- batches


def same(a, b):
    return all(torch.equal(getattr(a, name), getattr(b, name)) for name in vars(a))


def test_an_epoch_is_drawn_from_its_seed_alone(task):
    torch.manual_seed(1)
    first = list(task.batches(2, seed=5))
    torch.manual_seed(2)
    np.random.seed(0)
    again = task.batches(2, seed=5)
    assert all(same(a, again[place]) for place, a in enumerate(first))
    for other in (task.batches(3, seed=5), task.batches(2, seed=6)):
        shapes = [batch.features.shape for batch in first] == [batch.features.shape for batch in other]
        assert not (shapes and all(same(a, b) for a, b in zip(first, other, strict=True)))
    assert sum(len(batch.steps) for batch in first) == len(task.train)


def test_shards_share_every_batch(task):
    whole = task.batches(1, seed=0)
    parts = [task.batches(1, seed=0, shard=shard, shards=2) for shard in range(2)]
    for number, batch in enumerate(whole):
        steps = torch.cat([part[number].steps for part in parts]).sort().values
        assert torch.equal(steps, batch.steps.sort().values)
        longest = parts[0][number].features
        assert torch.equal(longest[:, 0], batch.features[: len(longest), 0])  # the same masks too


def test_a_batch_holds_its_utterances(task):
    examples = task.train[:3]
    batch = batch_of(examples)
    assert batch.features.shape == (max(len(e.features) for e in examples), 3, 36)
    assert batch.steps.tolist() == [len(e.features) for e in examples]
    assert batch.labels.tolist() == [n for e in examples for n in e.labels]
    assert batch.label_counts.tolist() == [len(e.text.split()) for e in examples]
    assert not batch.features[batch.steps[0] :, 0].any()


def test_what_pads_an_utterance_does_not_touch_its_loss(task):
    examples = task.train[:4]
    task.module.eval()
    with torch.no_grad():
        together = ctc(task.module(batch_of(examples).features), batch_of(examples))
        alone = sum(ctc(task.module(batch_of([e]).features), batch_of([e])) for e in examples)
    torch.testing.assert_close(together, alone)


# --- learning and judging


def test_evaluation_restores_the_mode_of_a_module(task):
    for training in (True, False):
        task.module.train(training)
        with evaluating(task.module):
            assert not task.module.training
        assert task.module.training == training
    with evaluating(abs):
        pass


def test_a_seed_gives_the_same_first_weights_whatever_came_before(folder, task):
    torch.manual_seed(99)
    before = torch.random.get_rng_state()
    again, other = (make_task(folder, seed=s, **SMALL).module.head.weight for s in (3, 4))
    assert torch.equal(torch.random.get_rng_state(), before)
    first = make_task(folder, seed=3, **SMALL).module.head.weight
    assert torch.equal(again, first) and not torch.equal(other, first)


def test_the_model_learns_the_words_and_its_integers_hear_the_same(folder):
    task = make_task(folder, seed=0, batch=4, frequency_masks=0, time_masks=0, **SMALL)
    blank = torch.tensor([9.0, 0, 0, 0])
    deaf = task.evaluate(lambda x: blank.expand(*x.shape[:2], 4))
    assert deaf["wer"] == 1.0 and deaf["cer"] == 1.0
    optimiser = torch.optim.Adam(task.module.parameters(), 2e-2)
    for epoch in range(25):
        for batch in task.batches(epoch, seed=0):
            optimiser.zero_grad()
            task.loss(task.module, batch).backward()
            torch.nn.utils.clip_grad_norm_(task.module.parameters(), 1.0)
            optimiser.step()
    assert task.evaluate(task.module)["wer"] < 0.1
    assert task.judge(task.module)["wer"] < 0.1
    graph = nnaq.load_module(task.module, task.example_inputs, task.options).graph
    real = pipeline.simplify(graph)
    ranges = nnaq.quantize.calibrate.calibrate(real, task.calibration())
    crossing = pipeline.cross(real, ranges, pipeline.Options(nnaq.load_target("edge8")))
    assert not crossing.islands
    integer = task.evaluate(lambda x: nnaq.Emulated(crossing)({"x": x})[0]["output"])
    assert integer["wer"] < 0.1


def test_calibration_is_some_of_the_training_set(task):
    recordings = task.calibration()
    assert len(recordings) == 20  # all four speakers' utterances: fewer than 40
    assert all(r["x"].shape[1:] == (1, 36) and r["x"].dtype == np.float32 for r in recordings)


@pytest.mark.skipif("NNAQ_DATA" not in os.environ, reason="set NNAQ_DATA to a folder that holds an4/")
def test_the_real_tables_are_read_whole():
    sets = read_sets(Path(os.environ["NNAQ_DATA"]) / "an4")
    assert [len(part) for part in (sets.train, sets.development, sets.test)] == [846, 102, 130]
    assert {speaker[0] for speaker in {u.speaker for u in sets.development}} == {"f", "m"}
    assert len(Units.of("words", [u.text for u in sets.train])) == 99
