"""Words in their dialogue: how they are heard and encoded, what is found turn by turn, what is learned."""

import numpy as np
import pytest
import torch
from small_dialogues import write_dialogues

from nnaq.errors import DataError
from nnaq.tasks.contextual_slu import IGNORED, chosen, make_task
from nnaq.tasks.conversation import judged, understood_dialogues
from nnaq.tasks.heard_words import Confusions, best
from nnaq.tasks.lexicon import DELAY, INPUTS, Lexicon, context_of
from nnaq.tasks.semantic_errors import Meaning
from nnaq.tasks.simulated_dialogues import Slot, read_dialogue_sets
from nnaq.tasks.understander import read_understander
from nnaq.train.config import load_config
from nnaq.train.factories import make_task as named_task

SMALL = {"embedding": 6, "hidden": 8, "width": 8, "heads": 2, "acts_back": 2, "said_back": 2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_dialogues(tmp_path_factory.mktemp("dialogues"))


@pytest.fixture(scope="module")
def task(folder):
    return make_task(folder, **SMALL)


def heard_right(dialogues):
    return [[tuple((word, "") for word in turn.words) for turn in dialogue] for dialogue in dialogues]


def test_a_share_of_words_is_heard_as_a_pair():
    confusions = Confusions(("am", "pm", "six", "sixteen", "zoo"))
    assert confusions.like("pm") == ["am"] and confusions.like("zoo") == []
    words = ("pm", "zoo") * 400
    heard = confusions.heard(words, 0.5, np.random.default_rng(0))
    assert set(heard[1::2]) == {("zoo", "")}
    assert set(heard[::2]) == {("pm", ""), ("pm", "am"), ("am", "pm")}
    unsure = sum(second != "" for _, second in heard)
    assert 160 < unsure < 240 and 60 < sum(a != b for a, b in zip(best(heard), words, strict=True)) < 140
    assert confusions.heard(words, 0.0, np.random.default_rng(0)) == tuple((word, "") for word in words)


def test_inputs_hold_words_and_context(folder):
    sets = read_dialogue_sets(folder)
    lexicon, dialogue = Lexicon.of(sets.train, acts_back=2, said_back=2), sets.train[0]
    context = context_of(dialogue, 1, [turn.words for turn in dialogue])
    made = lexicon.inputs([((("6", "16"),), context), (((("monday", "")),) * 3, context_of(dialogue, 0, []))])
    number = dict(zip(lexicon.words, range(3, 99), strict=False))
    assert tuple(made) == INPUTS
    assert made["first"][:, 0].tolist() == [number["6"], 1, 1, 0, 0]
    assert made["second"][:, 0].tolist() == [number["16"], 0, 0, 0, 0]
    assert made["said"][-3:, 0, 0].tolist() == [0, *(number[w] for w in ("which", "num_tickets"))]
    assert made["said"][-3:, 1, 0].tolist() == [number[w] for w in ("tickets", "for", "monday")]
    assert lexicon.kinds == ("REQUEST", "of num_tickets", "of time")
    assert made["acts"][:, 0].tolist() == [[1, 1, 0], [0, 0, 0]]
    assert made["share"][:, 0] == pytest.approx([1 / 4, 1 / 4, 0, 1 / 4, 1 / 4])
    assert made["share"][:, 1].tolist() == [1, 0, 0, 0, 0]


def test_tags_and_slots_are_each_other_s_inverse(task):
    slots = [Slot("time", 0, 2), Slot("time", 2, 3), Slot("date", 4, 5)]
    assert task.lexicon.spans(task.lexicon.tags(6, slots)) == slots
    inside = 2 + 2 * task.lexicon.slots.index("time")
    assert task.lexicon.spans([inside, inside, 0, inside]) == [Slot("time", 0, 2), Slot("time", 3, 4)]


def test_a_table_holds_the_lexicon(task):
    assert Lexicon.from_table(task.lexicon.to_table(), "x") == task.lexicon
    with pytest.raises(DataError, match=r"x: table \[lexicon\] is not as nnaq writes it"):
        Lexicon.from_table({"words": ["a"], "colour": 1}, "x")
    with pytest.raises(DataError, match="hold no words"):
        Lexicon.of([])


def test_what_is_found_is_the_context_of_the_next_turn(task):
    """A model that always takes the second word: its choice, not the best word, is what was said before."""
    dialogues, lexicon, seen = task.sets.test[:1], task.lexicon, []

    def answer(inputs):
        seen.append(inputs)
        scores = np.zeros((*inputs["first"].shape, sum(lexicon.sizes)), np.float32)
        scores[..., 1] = 1
        return scores

    heard = [[tuple(("6", word) for word in turn.words) for turn in dialogues[0]]]
    found = understood_dialogues(lexicon, answer, dialogues, heard)
    assert [one.words for one in found[0]] == [turn.words for turn in dialogues[0]]
    assert found[0][0].meaning == Meaning((), lexicon.acts[0])
    assert judged(dialogues, found)["wer"] == 0
    assert seen[1]["said"][-3:, 1, 0].tolist() == lexicon.encode(dialogues[0][0].words)


def test_shuffled_context_is_another_dialogue_s(task):
    dialogues, contexts = task.sets.test, []

    def answer(inputs):
        contexts.append(inputs["said"])
        return np.zeros((*inputs["first"].shape, sum(task.lexicon.sizes)), np.float32)

    for shuffled in (False, True):
        understood_dialogues(task.lexicon, answer, dialogues, heard_right(dialogues), "true", shuffled)
    assert np.array_equal(np.roll(contexts[1], -1, 2), contexts[4])
    assert not np.array_equal(contexts[1], contexts[4])


def test_an_epoch_has_every_turn_once_and_repeats(task):
    first, again = (task.batches(3, seed=7) for _ in range(2))
    assert sum(len(batch.last) for batch in first) == 27
    for one, other in zip(first, again, strict=True):
        assert all(torch.equal(*pair) for pair in zip(one.inputs, other.inputs, strict=True))


def test_the_loss_is_over_what_there_is_to_choose(task):
    batch = task.batches(0, seed=0)[0]
    scores = torch.zeros(*batch.inputs[0].shape, sum(task.lexicon.sizes))
    wanted = [np.log(size) for size in task.lexicon.sizes]
    expected = wanted[0] + wanted[1] + 0.5 * wanted[2] + 0.2 * wanted[3]
    assert (batch.second != IGNORED).any()
    assert float(task.loss(lambda *inputs: scores, batch)) == pytest.approx(expected, rel=1e-5)
    assert chosen(torch.ones(2, 3), torch.full((2,), IGNORED)) == 0


def test_it_learns_what_a_number_means_by_the_question(folder):
    """Half of the turns are the same words with other tags: only with context can all be right."""
    errors = {}
    for context in ("none", "attentive"):
        task = make_task(folder, context=context, noise=0.0, batch=9, dropout=0.0, **SMALL)
        optimizer = torch.optim.Adam(task.module.parameters(), 0.02)
        for epoch in range(12):
            for batch in task.batches(epoch, seed=0):
                optimizer.zero_grad()
                task.loss(task.module, batch).backward()
                optimizer.step()
        errors[context] = task.judge(task.module)["semer"]
    assert errors["attentive"] == 0


def test_what_ships_is_read_back(task, tmp_path):
    task.ship(tmp_path, {"seed": 0}, exact=False)
    found = read_understander(tmp_path)
    inputs = task.batches(0, seed=0)[0].inputs
    with torch.no_grad():
        assert torch.equal(found.module(*inputs), task.module.eval()(*inputs))
    (tmp_path / "weights.safetensors").write_bytes(b"x")
    with pytest.raises(DataError, match="does not hold the parameters"):
        read_understander(tmp_path)
    with pytest.raises(DataError, match=r"holds no understander\.toml"):
        read_understander(tmp_path / "nowhere")


def test_the_configuration_that_ships_names_the_task(folder):
    small = (f"options.{name}={size}" for name, size in SMALL.items())
    changes = [
        f"data={str(folder)!r}",
        "options.context=none",
        *small,
    ]
    made = named_task(load_config("contextual-slu", changes))
    assert made.module.arm == "none" and len(made.calibration()) == 27
    assert set(made.calibration()[0]) == {"first", "second"} and len(made.calibration()[0]["first"]) > DELAY


@pytest.mark.parametrize("option", [{"batch": 0}, {"noise": 1.5}, {"dropout": 1.0}, {"act": -1.0}])
def test_options_out_of_their_range_are_refused(folder, option):
    with pytest.raises(DataError, match="batch is 1 or more"):
        make_task(folder, **option)
