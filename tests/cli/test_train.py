"""`nnaq train`: what it writes, what it refuses, and that a killed one ends the same."""

import json
import os
import re
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import command_line
import numpy as np
import onnx
import pytest
import torch
from command_line import Said, files, one_line
from onnx.reference import ReferenceEvaluator
from train import tiny_task

from nnaq.cli import app
from nnaq.train.checkpoint import read_tensors
from nnaq.train.config import Config, load_config
from nnaq.train.factories import make_task
from nnaq.train.logs import Logs
from nnaq.train.settings import TrainingError

TESTS = Path(__file__).parent.parent
DOING = re.compile("epoch |reading |calibrating |judging ")  # what a training says on its way
WRITTEN = [
    "best.safetensors",
    "checkpoint.safetensors",
    "config.toml",
    "log.csv",
    "log.jsonl",
    "summary.json",
]
CONFIG = """\
task = "train.tiny_task:make_task"
data = "{data}"

[options]
dropout = 0.3

[training]
epochs = 2
rate = 0.05
log_every = 1
checkpoint_every = 3
accumulate = 2
average = 0.9
schedule = "cosine"
"""


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def place(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "x.toml").write_text(CONFIG.format(data=tmp_path / "data"))
    return tmp_path


def words(place, *more):
    return ["train", "--config", place / "x.toml", "-o", place / "out", *more]


def summary(place):
    return json.loads((place / "out" / "summary.json").read_text())


def test_a_training_writes_its_folder(nnaq, place):
    said = nnaq(*words(place))
    assert said.code == 0, said.err
    assert files(place / "out") == WRITTEN
    assert said.out.splitlines()[0].startswith("dev   error ")
    assert said.out.endswith(f"\nwrote {place / 'out'}\n")
    told = [line.split("  ")[0] for line in said.err.splitlines()]
    judged = "judging the best parameters on the test set"
    assert told == [f"reading {place / 'data'}", "epoch 1/2", "epoch 2/2", judged]
    found = summary(place)
    assert (found["state"], found["epochs"], found["steps"], found["stopped_early"]) == (
        "finished",
        2,
        8,
        False,
    )
    rows = [json.loads(line) for line in (place / "out" / "log.jsonl").read_text().splitlines()]
    best = [row for row in rows if row.get("best")][-1]
    assert found["dev"] == best["dev"]
    assert found["test"].keys() == {"error", "loss"} and found["test"] != found["dev"]
    assert found["versions"].keys() == {"python", "nnaq", "torch", "numpy", "safetensors"}


def test_the_test_set_is_judged_once_and_by_the_best_parameters(nnaq, place, monkeypatch):
    made = []

    def remembered(data: Path, seed: int, dropout: float = 0.0) -> tiny_task.TinyTask:
        made.append(tiny_task.TinyTask(data, seed, dropout))
        return made[-1]

    monkeypatch.setattr(tiny_task, "make_task", remembered)
    assert nnaq(*words(place)).code == 0
    (task,) = made
    assert task.judged == 1
    kept, _ = read_tensors(place / "out" / "best.safetensors")
    task.module.load_state_dict(kept)
    with torch.no_grad():
        assert task.figures(task.module.eval(), 2) == summary(place)["test"]


def test_with_json_standard_output_holds_the_summary_alone(nnaq, place):
    said = nnaq(*words(place, "--json"))
    assert (json.loads(said.out), said.err) == (summary(place), "")


def test_the_resolved_configuration_is_written_and_trains_the_same(nnaq, place):
    assert nnaq(*words(place, "--set", "training.epochs=1", "--set", "training.schedule=cosine")).code == 0
    resolved = tomllib.loads((place / "out" / "config.toml").read_text())
    assert (resolved["training"]["epochs"], resolved["training"]["schedule"]) == (1, "cosine")
    assert resolved["training"]["momentum"] == 0.9
    again = ["train", "--config", place / "out" / "config.toml", "-o", place / "again"]
    assert nnaq(*again).code == 0
    for name in ("config.toml", "log.jsonl", "log.csv", "best.safetensors"):
        assert (place / "out" / name).read_bytes() == (place / "again" / name).read_bytes(), name


def test_a_killed_training_ends_the_same(nnaq, place):
    environment = {**os.environ, "PYTHONPATH": str(TESTS), "OMP_NUM_THREADS": "1", "KILL_AT": "10"}
    command = [sys.executable, "-m", "nnaq", *map(str, words(place))]
    killed = subprocess.run(command, env=environment, capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert summary(place)["state"] == "running"
    steps = [json.loads(line)["step"] for line in (place / "out" / "log.jsonl").read_text().splitlines()]
    assert read_tensors(place / "out" / "checkpoint.safetensors")[1]["place"]["steps"] == 4
    assert steps[-1] == 5  # a line after the checkpoint, which must not stand there twice
    said = nnaq(*words(place, "--resume"))
    assert said.code == 0, said.err
    assert nnaq("train", "--config", place / "x.toml", "-o", place / "straight").code == 0
    assert files(place / "out") == files(place / "straight") == WRITTEN
    for name in ("best.safetensors", "config.toml", "log.csv", "log.jsonl"):
        assert (place / "out" / name).read_bytes() == (place / "straight" / name).read_bytes(), name
    one, other = (read_tensors(place / out / "checkpoint.safetensors")[0] for out in ("out", "straight"))
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())
    assert summary(place)["test"] == json.loads((place / "straight" / "summary.json").read_text())["test"]


def test_parameters_of_one_training_start_another(nnaq, place):
    assert nnaq(*words(place)).code == 0
    more = ["--set", f"start={place / 'out' / 'best.safetensors'}", "--set", "training.rate=1e-12"]
    assert nnaq("train", "--config", place / "x.toml", "-o", place / "more", *more).code == 0
    first = json.loads((place / "more" / "log.jsonl").read_text().splitlines()[4])
    assert first["dev"]["error"] == summary(place)["dev"]["error"]


RECIPE = """\
name = "tiny"
[quantize]
activations = "8"
[palettes."hidden.weight"]
bits = 4
"""


def test_training_through_integers_writes_the_model_that_was_judged(nnaq, place):
    """The float training starts the emulated one, whose figures on the test set are those of the file."""
    assert nnaq(*words(place)).code == 0
    (place / "recipe.toml").write_text(RECIPE)
    changes = [
        f"start={place / 'out' / 'best.safetensors'}", f"emulation.recipe={place / 'recipe.toml'}",
        "emulation.target=edge8-sub8", "training.epochs=1",
    ]  # fmt: skip
    command = ["train", "--config", place / "x.toml", "-o", place / "more"]
    command += [word for change in changes for word in ("--set", change)]
    said = nnaq(*command)
    assert said.code == 0, said.err
    assert files(place / "more") == sorted([*WRITTEN, "codebooks.npz", "model.onnx", "recipe.toml"])
    model = onnx.load(place / "more" / "model.onnx")
    x, wanted = tiny_task.drawn(np.random.default_rng(2), 64)
    (scores,) = ReferenceEvaluator(model).run(["output"], {"x": x.numpy()})
    found = json.loads((place / "more" / "summary.json").read_text())
    wrong = torch.from_numpy(scores).argmax(-1) != wanted
    assert found["test"]["error"] == float(wrong.float().mean())
    loss = torch.nn.functional.cross_entropy(torch.from_numpy(scores), wanted)
    assert found["test"]["loss"] == pytest.approx(float(loss), rel=1e-6)
    (place / "recipe.toml").write_text(RECIPE.replace("4", "3"))
    refused(nnaq(*command, "--resume"), "emulation.recipe has changed")


def test_two_processes_train_one_model(place):
    """`torchrun -m nnaq train`: one summary, and a checkpoint with two replicas' generators."""
    environment = {**os.environ, "PYTHONPATH": str(TESTS), "OMP_NUM_THREADS": "1"}
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    command = [*torchrun, "-m", "nnaq", *map(str, words(place, "--set", "training.epochs=1"))]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if "gloo" in done.stderr and done.returncode:
        pytest.skip("torch has no gloo here")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\nwrote ") == 1
    assert (summary(place)["replicas"], summary(place)["steps"]) == (2, 2)
    assert len(read_tensors(place / "out" / "checkpoint.safetensors")[0]["random.torch"]) == 2


def without_doing(said):
    """What was said but for the lines that tell how far a training is."""
    kept = "".join(f"{line}\n" for line in said.err.splitlines() if not DOING.match(line))
    return Said(said.code, said.out, kept)


def refused(said, *told):
    command_line.refused(without_doing(said), *told)


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--set", "data=nowhere"], "there is no data 'nowhere'"),
        (["--set", "task=an4_word"], "no task 'an4_word'; did you mean 'an4_words'?"),
        (["--set", "task=no_package:make"], "No module named 'no_package'; install it, or set PYTHONPATH"),
        (["--set", "task=train.tiny_task:make"], "module train.tiny_task has no function 'make'"),
        (["--set", "options.droput=1"], "do not suit task 'train.tiny_task:make_task': make_task() got"),
        (["--set", "task=train.tiny_task:make_handed_on", "--set", "options.width=1"], "got an unexpected"),
        (["--set", "options.dropout=much"], "dropout: found 'much'; input should be a valid number"),
        (["--set", "options.norm=1"], "norm: found 1; input should be a valid boolean"),
        (["--set", "training.epochs=0"], "--set, training.epochs: found 0; input should be greater than"),
        (["--set", "training"], "--set takes KEY=VALUE"),
        (["--set", "task.name=3"], "--set task.name=3: 'task' is no table"),
        (["--set", "start=nothing"], "there is no file or folder nothing"),
        (["--start", "."], ". holds no recogniser to start from; name a folder"),
        (["--start", "rnnt"], "is a recogniser, and task 'train.tiny_task:make_task' starts from a file"),
        (["--set", "emulation.recipe=nothing"], "no recipe 'nothing'"),
        (["--resume"], "holds no checkpoint to resume from; begin without --resume"),
        (["--resume", "--force"], "give one of them"),
        (["--set", "training.rate=1e30", "--set", "training.optimizer=sgd"], "lower training.rate"),
        (["--set", "options.nan_at=9"], "training stopped at step 5 (epoch 1): the loss is nan"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_told_in_one_line(nnaq, place, more, told):
    said = without_doing(nnaq(*words(place, *more)))
    command_line.refused(said, told)
    one_line(said)


def test_a_bug_in_a_task_is_not_taken_for_a_wrong_option(place):
    config = load_config(place / "x.toml", ["task=train.tiny_task:make_broken"])
    with pytest.raises(TypeError, match="a bug of one's own"):
        make_task(config)


def test_what_is_no_task_is_told(nnaq, place):
    text = 'task = "train.tiny_task:make_nothing"\ndata = "."\n'
    (place / "x.toml").write_text(text)
    refused(nnaq(*words(place)), "is no task: it has no batches, calibration, evaluate, example_inputs, goal")


def test_all_mistakes_of_a_file_are_told_with_their_lines(nnaq, place):
    (place / "x.toml").write_text(
        'taks = "x"\ndata = 3\n[training]\nepoch = 3\nrate = "fast"\noptimizer = "adamww"\n'
        "clip = -1.0\n[emulation]\ntarget = 8\n"
    )
    said = nnaq(*words(place))
    refused(said, "has 8 mistakes")
    assert [line.strip() for line in said.err.splitlines()[1:]] == [
        "task: is missing",
        "line 1, taks: no such key; did you mean 'task'?",
        "line 2, data: found 3; input should be a valid string",
        "line 4, training.epoch: no such key; did you mean 'epochs'?",
        "line 5, training.rate: found 'fast'; input should be a valid number",
        "line 6, training.optimizer: found 'adamww', expected 'adamw', 'adam' or 'sgd'; did you mean 'adamw'?",  # noqa: E501
        "line 7, training.clip: found -1.0; input should be greater than 0",
        "line 9, emulation.target: found 8; input should be a valid string",
    ]


def test_a_file_that_is_none_is_told(nnaq, place):
    (place / "x.toml").write_text("task = ")
    refused(nnaq(*words(place)), "is no TOML")
    (place / "x.toml").unlink()
    refused(nnaq(*words(place)), "x.toml cannot be read")


def test_an_earlier_training_is_kept_unless_forced(nnaq, place):
    assert nnaq(*words(place, "--set", "training.epochs=1")).code == 0
    kept = {name: (place / "out" / name).read_bytes() for name in WRITTEN}
    refused(nnaq(*words(place)), "holds a training; go on with --resume, or replace it with --force")
    refused(nnaq(*words(place, "--resume")), "training.epochs was 1, is now 2")
    assert {name: (place / "out" / name).read_bytes() for name in WRITTEN} == kept
    assert nnaq(*words(place, "--force")).code == 0
    assert summary(place)["epochs"] == 2


def test_a_folder_in_use_is_left_alone(nnaq, place):
    assert nnaq(*words(place, "--set", "training.epochs=1")).code == 0
    kept = files(place / "out")
    with Logs(place / "out"):
        for more in ([], ["--force"], ["--resume"]):
            refused(nnaq(*words(place, *more)), "is in use by another training")
    assert files(place / "out") == kept


def test_a_folder_of_something_else_is_left_alone(nnaq, place):
    (place / "out").mkdir()
    (place / "out" / "mine.txt").write_text("mine")
    for more in ([], ["--force"]):
        refused(nnaq(*words(place, *more)), "is not empty and holds no training")
    assert files(place / "out") == ["mine.txt"]
    (place / "file").write_text("")
    refused(nnaq("train", "--config", place / "x.toml", "-o", place / "file"), "is a file; name a folder")


def test_missing_packages_are_told(nnaq, place, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    refused(
        nnaq(*words(place)), "training needs torch and safetensors; install with `pip install 'nnaq[train]'`"
    )


def test_a_configuration_is_read_back_equal(place):
    (place / "x.toml").write_text(
        CONFIG.format(data="d") + "clip = 1\npatience = 3\n[emulation]\nrecipe = 'r'\n"
    )
    config = load_config(place / "x.toml", ["options.name=a b", "options.sizes=[1, 2]"])
    assert (config.options["name"], config.options["sizes"], config.training.clip) == ("a b", [1, 2], 1.0)
    (place / "y.toml").write_text(config.to_toml())
    assert load_config(place / "y.toml") == config
    assert isinstance(config, Config)
    (place / "z.toml").write_text("data = '.'")
    with pytest.raises(TrainingError, match="task: is missing"):
        load_config(place / "z.toml")


def test_the_command_is_listed():
    assert "train" in [command.callback.__name__ for command in app.registered_commands]
