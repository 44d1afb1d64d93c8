"""The task of dialogue acts on a made folder: sets, weak labels, features, what is trained and what ships."""

import numpy as np
import pytest
import soundfile
import torch

from nnaq.errors import DataError
from nnaq.frontends import ImportOptions, load
from nnaq.interpret import run
from nnaq.models.dialogue_acts import DialogueActs
from nnaq.tasks.act_sets import read_acts
from nnaq.tasks.dialogue_acts import ends_aligned, inputs_of, macro_f1, make_task, mean_gate
from nnaq.train.config import load_config
from nnaq.train.factories import make_task as named_task

COLUMNS = "path", "speaker", "seconds", "act", "text"


def tone(rises, seconds, seed):
    """A buzz of four harmonics whose pitch rises or falls by half an octave, and a breath of noise."""
    random = np.random.default_rng(seed)
    count = int(seconds * 16000)
    bend = np.linspace(-0.25, 0.25, count) * (1 if rises else -1)
    phase = np.cumsum(random.uniform(100, 200) * 2.0**bend) * 2 * np.pi / 16000
    sound = sum(np.sin(n * phase) / n for n in range(1, 5)) * 0.1
    return (sound + random.standard_normal(count) * 1e-3).astype(np.float32)


def write_table(folder, name, rows):
    lines = ["\t".join(COLUMNS), *("\t".join(map(str, row)) for row in rows)]
    (folder / name).write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("acts")
    for table, speakers in (("train", "abc"), ("dev", "d"), ("test", "e")):
        rows = []
        for speaker in speakers:
            for number, act in enumerate(("asks", "states") * 2):
                path, seconds = f"{speaker}{number}.wav", 0.4 + 0.05 * number
                soundfile.write(made / path, tone(act == "asks", seconds, [ord(speaker), number]), 16000)
                rows.append((path, speaker, seconds, act, "yes"))
        write_table(made, f"{table}.tsv", rows)
    return made


@pytest.fixture(scope="module")
def task(folder):
    return make_task(folder, hidden=8, batch=5)


def test_examples_are_features_with_a_one_and_an_act(task):
    assert [len(part) for part in (task.train, task.development, task.test)] == [12, 4, 4]
    assert task.acts == ("asks", "states")
    first = task.train[0]
    assert first.x.shape == (14, 121) and first.p.shape == (14, 18) and (first.x[:, -1] == 1).all()
    assert [example.act for example in task.train] == [0, 1] * 6
    frames = np.concatenate([example.p for example in task.train])
    assert np.abs(frames.mean(axis=0)).max() < 1e-4 and np.abs(frames.std(axis=0) - 1).max() < 1e-3


def test_an_epoch_has_every_utterance_once_and_repeats(task):
    first, again = (task.batches(3, seed=7) for _ in range(2))
    assert sum(len(batch.acts) for batch in first) == 12
    for one, other in zip(first, again, strict=True):
        assert torch.equal(one.x, other.x) and torch.equal(one.acts, other.acts)
    assert not torch.equal(first[0].x[0], task.batches(4, seed=7)[0].x[0])


def test_utterances_end_together():
    made = ends_aligned([np.ones((2, 3)), np.full((4, 3), 2.0)])
    assert made[:, 0, 0].tolist() == [0, 0, 1, 1] and made[:, 1, 0].tolist() == [2, 2, 2, 2]


def test_open_gates_cost(task):
    batch = task.batches(0, seed=0)[0]
    module = task.module.eval()
    with torch.no_grad():
        scores, gates = module.gated(batch.x, batch.p)
        wanted = torch.nn.functional.cross_entropy(scores, batch.acts) + task.closing * (
            mean_gate(gates["local"], batch.x) + gates["global"].mean()
        )
        assert torch.allclose(task.loss(module, batch), wanted)
        assert task.loss(lambda x, p: module(x, p), batch) < wanted


def test_gates_are_averaged_where_there_is_sound():
    gate = torch.tensor([9.0, 0.25, 0.75]).reshape(3, 1, 1)
    there = torch.tensor([0.0, 1.0, 1.0]).reshape(3, 1, 1)
    assert mean_gate(gate, there) == 0.5


def test_figures_have_accuracy_and_gates(task):
    figures = task.evaluate(task.module)
    assert set(figures) == {"accuracy", "macro_f1", "loss", "gate_local", "gate_global"}
    assert set(make_figures(task)) == {"accuracy", "macro_f1", "loss"}


def make_figures(task):
    """Of a model that shows no gates, such as a twin."""
    return task.judge(lambda x, p: task.module(x, p))


def test_macro_f1_is_the_mean_over_acts():
    assert macro_f1(np.array([0, 0, 1, 2]), np.array([0, 0, 1, 1]), 3) == pytest.approx((1 + 2 / 3 + 0) / 3)


def test_it_learns_what_rises_and_what_falls(folder):
    task = make_task(folder, hidden=8, batch=6, dropout=0.0)
    optimizer = torch.optim.Adam(task.module.parameters(), 0.02)
    for epoch in range(12):
        for batch in task.batches(epoch, seed=0):
            optimizer.zero_grad()
            task.loss(task.module, batch).backward()
            optimizer.step()
    assert task.judged(task.module, task.train)["accuracy"] == 1.0


def test_what_ships_is_what_nnaq_lower_takes(task, tmp_path):
    task.ship(tmp_path, {}, exact=False)
    graph = load(tmp_path / "float.onnx", ImportOptions(time={"x": 0, "p": 0})).graph
    example = task.test[0]
    (found,) = run(graph, inputs_of(example)).outputs.values()
    with torch.no_grad():
        wanted = task.module.eval()(*(torch.from_numpy(one) for one in inputs_of(example).values()))
    assert np.abs(found - wanted.numpy()).max() < 1e-5
    with np.load(tmp_path / "calibrate" / "000.npz") as kept:
        assert np.array_equal(kept["x"], task.train[0].x[:, None]) and kept["p"].shape[1:] == (1, 18)
    assert len(list((tmp_path / "calibrate").iterdir())) == 12


def test_the_configuration_that_ships_names_the_task(folder):
    config = load_config("dialogue-acts", [f"data={str(folder)!r}", "options.hidden=4"])
    made = named_task(config)
    assert isinstance(made.module, DialogueActs) and made.module.arm == "both"


def test_without_a_table_for_it_speakers_are_held_out(tmp_path):
    for name in ("a.wav", "b.wav"):
        (tmp_path / name).write_bytes(b"")
    rows = [("a.wav", f"s{n}", 1.0, "asks" if n % 2 else "states", "yes") for n in range(20)]
    rows = [(f"{n}.wav", *row[1:]) for n, row in enumerate(rows)]
    for row in rows:
        (tmp_path / row[0]).write_bytes(b"")
    write_table(tmp_path, "train.tsv", rows)
    write_table(tmp_path, "test.tsv", rows[:1])
    sets = read_acts(tmp_path)
    assert (len(sets.train), len(sets.development), len(sets.test)) == (18, 2, 1)
    assert not {one.spoken.speaker for one in sets.train} & {one.spoken.speaker for one in sets.development}


def test_orders_ask_or_command_by_their_beginning(tmp_path):
    lines = ["path\tseconds\tedit_distance\twords\ttext"]
    said = ["can i get tea", "make me tea", "i want tea", "may i have tea", "brew tea now"]
    for number, text in enumerate(said):
        (tmp_path / f"{number}.flac").write_bytes(b"")
        lines.append(f"{number}.flac\t1.0\t0\t4\t{text}")
    for name in ("train.tsv", "dev.tsv", "test.tsv"):
        (tmp_path / name).write_text("\n".join(lines) + "\n")
    sets = read_acts(tmp_path)
    acts = [(one.spoken.path.name, one.act) for one in sets.test]
    assert acts == [
        ("0.flac", "asking"), ("1.flac", "commanding"), ("3.flac", "asking"), ("4.flac", "commanding")
    ]  # fmt: skip


def test_mistakes_in_tables_are_told(tmp_path):
    with pytest.raises(DataError, match="make a folder of dialogue acts"):
        read_acts(tmp_path)
    (tmp_path / "a.wav").write_bytes(b"")
    good = [("a.wav", "s", 1.0, act, "yes") for act in ("asks", "states")]
    write_table(tmp_path, "train.tsv", good)
    write_table(tmp_path, "dev.tsv", good)
    write_table(tmp_path, "test.tsv", [("a.wav", "s", 1.0, "sings", "yes")])
    with pytest.raises(DataError, match=r"found acts asks, states .* missing sings"):
        read_acts(tmp_path)
    write_table(tmp_path, "test.tsv", [("a.wav", "s", "long", "asks", "yes")])
    with pytest.raises(DataError, match="found 'long', expected a number of seconds"):
        read_acts(tmp_path)
    write_table(tmp_path, "test.tsv", [("a.wav", "s", 1.0, "", "yes")])
    with pytest.raises(DataError, match="act or speaker is missing"):
        read_acts(tmp_path)


@pytest.mark.parametrize(
    "option", [{"batch": 0}, {"hidden": 0}, {"dropout": 1.0}, {"forgotten": 1.0}, {"closing": -0.1}]
)
def test_options_out_of_their_range_are_refused(tmp_path, option):
    with pytest.raises(DataError, match="batch and hidden are 1 or more"):
        make_task(tmp_path, **option)
