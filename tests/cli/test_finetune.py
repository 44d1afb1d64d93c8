"""`nnaq finetune`: a folder in, a folder out, gone on with after a kill, refused in one sentence."""

import json
import shutil

import numpy as np
import onnx
import pytest
from command_line import files, one_line, refused
from frontends.onnx_models import model, normal

from nnaq.artifact import read_golden
from nnaq.export.read import read_lowered
from nnaq.finetune import run as finetuning
from nnaq.interpret import run
from nnaq.train.zeroth_order import tuning

NETWORK = """(float[N,6] x) => (float[N,2] one, float[N,2] two) {
    hidden = Gemm(x, w, b)
    kept = Relu(hidden)
    one = MatMul(kept, v)
    two = MatMul(kept, u)
}"""
WORDS = ("--steps", 6, "--kept", 0.5, "--batch", 8, "--scoring", 2, "--seed", 3, "--rate", 1)


def write_task(path, output, seed, count=40):
    generator = np.random.default_rng(seed)
    x = generator.standard_normal((count, 6)).astype(np.float32)
    np.savez(path, x=x, labels=(x @ generator.standard_normal(6) > 0).astype(np.int64), output=output)
    return path


@pytest.fixture(scope="module")
def network(tmp_path_factory, nnaq_once):
    """A folder with a lowered network, out/, and two tasks for it."""
    place = tmp_path_factory.mktemp("network")
    weights = {"w": normal(6, 8, seed=1), "b": 0.1 * normal(8, seed=2), "v": normal(8, 2, seed=3)}
    onnx.save(model(NETWORK, {**weights, "u": normal(8, 2, seed=4)}), place / "network.onnx")
    (place / "data").mkdir()
    for number in range(3):
        np.savez(place / "data" / f"{number}.npz", x=normal(20, 6, seed=number))
    words = ("--calibrate", place / "data", "-o", place / "out", "--activations", 8, "--json")
    nnaq_once("lower", place / "network.onnx", *words)
    write_task(place / "one.npz", "one", 1)
    write_task(place / "two.npz", "two", 2)
    return place


@pytest.fixture(scope="module")
def tuned(network, nnaq_once):
    """The tuned folder, and what the command said."""
    said = nnaq_once("finetune", network / "out", *tasks(network), *WORDS, "-o", network / "tuned", "--json")
    return network / "tuned", json.loads(said)


def tasks(network):
    return ("--tasks", network / "one.npz", "--tasks", network / "two.npz")


def test_a_tuned_folder_has_what_a_lowered_one_has(network, tuned):
    folder, said = tuned
    assert set(files(network / "out")) < set(files(folder))
    assert json.loads((folder / "finetune.json").read_text()) == said
    graph, old = (read_lowered(place / "model.onnx") for place in (folder, network / "out"))
    assert graph.types == old.types
    changed = {n for n in graph.constants if not np.array_equal(graph.constants[n], old.constants[n])}
    assert changed
    assert all(graph.types[name].dtype == "i8" for name in changed)
    inputs, expected = read_golden(folder / "golden.npz", graph)
    for name, array in run(graph, inputs).outputs.items():
        np.testing.assert_array_equal(array, expected.outputs[name])
    report = json.loads((folder / "report.json").read_text())
    assert report["checks"]["file_equals_simulator"]["mismatches"] == 0
    assert report["checks"]["file_equals_simulator"]["values"] > 0
    assert report["accuracy"]["accuracy:one"]["integer"] == said["tasks"]["after"]["one"]["accuracy"]
    assert not (network / "tuned.tuning").exists()


def test_mean_and_worst_are_those_of_the_tasks(tuned):
    _, said = tuned
    found = [one["accuracy"] for one in said["tasks"]["after"].values()]
    assert said["mean_after"] == pytest.approx(sum(found) / 2)
    assert said["worst_after"] == min(found)


def test_the_log_in_the_folder_makes_the_same_integers(nnaq, network, tuned, tmp_path, monkeypatch):
    """With the log there no step is done again: the passes of steps would fail."""
    folder, _ = tuned
    shutil.copytree(folder / "tuning", tmp_path / "again.tuning")
    monkeypatch.setattr(tuning.Estimator, "coefficients", None)
    said = nnaq("finetune", network / "out", *tasks(network), *WORDS, "-o", tmp_path / "again", "--json")
    assert said.code == 0, said
    assert (tmp_path / "again" / "model.onnx").read_bytes() == (folder / "model.onnx").read_bytes()


def test_a_killed_run_goes_on_where_it_was(nnaq, network, tuned, tmp_path, monkeypatch):
    folder, _ = tuned
    words = ("finetune", network / "out", *tasks(network), *WORDS, "-o", tmp_path / "out", "--json")
    whole, done = tuning.Estimator.descend, []

    def killed(self, *given):
        done.append(given)
        if len(done) == 3:
            raise KeyboardInterrupt
        whole(self, *given)

    settings = finetuning.Settings(kept=0.5, steps=6, batch=8, scoring=2, seed=3, rate=1.0)
    paths = [network / "one.npz", network / "two.npz"]
    with monkeypatch.context() as patch:
        patch.setattr(tuning.Estimator, "descend", killed)
        with pytest.raises(KeyboardInterrupt):
            finetuning.finetune(network / "out", paths, tmp_path / "out", settings)
    assert files(tmp_path) == [
        f"out.tuning{n}" for n in ("", "/log.jsonl", "/masks.npz", "/rate.json", "/run.json")
    ]
    assert nnaq(*words).code == 0
    assert (tmp_path / "out" / "model.onnx").read_bytes() == (folder / "model.onnx").read_bytes()
    assert (tmp_path / "out" / "tuning" / "log.jsonl").read_bytes() == (
        folder / "tuning" / "log.jsonl"
    ).read_bytes()


@pytest.mark.parametrize("method", ["dense", "small"])
def test_a_model_is_tuned_in_place(nnaq, network, tmp_path, method):
    shutil.copytree(network / "out", tmp_path / "out")
    said = nnaq("finetune", tmp_path / "out", *tasks(network), *WORDS, "--method", method, "--in-place")
    assert said.code == 0, said
    assert "mean" in said.out
    old, new = (read_lowered(place / "out" / "model.onnx") for place in (network, tmp_path))
    assert old != new


def test_weights_are_chosen_by_name_and_the_rest_is_frozen(nnaq, network, tmp_path):
    last = [n for n, a in read_lowered(network / "out" / "model.onnx").constants.items() if a.shape == (2, 8)]
    words = ("--weights", last[0], *WORDS, "-o", tmp_path / "out")
    assert nnaq("finetune", network / "out", *tasks(network), *words).code == 0
    graph, old = (read_lowered(p / "out" / "model.onnx") for p in (tmp_path, network))
    assert {n for n in old.constants if not np.array_equal(graph.constants[n], old.constants[n])} <= {last[0]}


def test_dry_tells_the_budget_and_writes_nothing(nnaq, network, tuned, tmp_path):
    before = files(network)
    said = nnaq("finetune", network / "out", *tasks(network), *WORDS, "--dry", "--json")
    assert (said.code, files(network)) == (0, before)
    budget = json.loads(said.out)
    assert budget == tuned[1]["budget"]
    assert budget["passes"]["tune"] == 2 * 6 * (8 + 8)
    assert budget["kept"] * 2 == budget["weights"]


def test_a_folder_is_one_task(nnaq, network, tmp_path):
    (tmp_path / "both").mkdir()
    for seed in (1, 2):
        write_task(tmp_path / "both" / f"{seed}.npz", "one", seed, 10)
    words = ("--tasks", tmp_path / "both", "--steps", 1, "--dry", "--json")
    assert (
        json.loads(nnaq("finetune", network / "out", *words).out)["passes"]["freeze"] == 16
    )  # a fifth held out


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"x": np.zeros((4, 6)), "labels": np.zeros(4, int)}, ["output", "one, two"]),
        ({"x": np.zeros((4, 6)), "labels": np.zeros(3, int), "output": "one"}, ["labels", "4"]),
        ({"x": np.zeros((4, 6)), "labels": np.zeros(4), "output": "one"}, ["whole numbers", "float64"]),
        ({"x": np.zeros((4, 6)), "output": "one"}, ["labels"]),
        ({"x": np.zeros((4, 6)), "labels": np.zeros(4, int), "output": "three"}, ["three"]),
        ({"x": np.zeros(4), "labels": np.zeros(4, int), "output": "one"}, ["axes"]),
        ({"x": np.full((9, 6), 9), "labels": np.full(9, 7), "output": "one"}, ["below 2"]),
        ({"x": np.array([object()]), "labels": np.zeros(1, int)}, ["npz arrays"]),
    ],
)  # fmt: skip
def test_wrong_tasks_are_refused(nnaq, network, tmp_path, arrays, words):
    np.savez(tmp_path / "wrong.npz", **arrays)
    said = nnaq(
        "finetune", network / "out", "--tasks", tmp_path / "wrong.npz", "-o", tmp_path / "out", "--json"
    )
    refused(said, *words)
    one_line(said)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["--kept", 0], ["--kept", "fraction"]),
        (["--method", "mezo"], ["mezo", "mazo, dense"]),
        (["--weights", "nobody*"], ["nobody*"]),
        (["--in-place"], ["--in-place", "one of them"]),
        (["--evaluate", "one.npz"], ["--evaluate", "same names"]),
        (["--tasks", "none.npz"], ["none.npz", "does not exist"]),
    ],
)
def test_wrong_choices_are_refused(nnaq, network, tmp_path, monkeypatch, given, words):
    monkeypatch.chdir(network)
    refused(nnaq("finetune", "out", *tasks(network), *given, "-o", tmp_path / "out", "--json"), *words)
    assert files(tmp_path) == []


def test_an_unfinished_run_of_another_kind_is_refused(nnaq, network, tuned, tmp_path):
    shutil.copytree(tuned[0] / "tuning", tmp_path / "out.tuning")
    words = (
        "finetune",
        network / "out",
        *tasks(network),
        *WORDS,
        "--kept",
        0.25,
        "-o",
        tmp_path / "out",
        "--json",
    )
    refused(nnaq(*words), "another kept", "--fresh")
    assert nnaq(*words, "--fresh").code == 0


def test_what_is_no_lowered_folder_is_refused(nnaq, network, tmp_path):
    words = (*tasks(network), "-o", tmp_path / "out", "--json")
    refused(nnaq("finetune", network / "data", *words), "model.onnx")
