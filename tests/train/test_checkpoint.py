"""Checkpoints: whatever moment a training ends at, resumed it ends with the same bits.

Here the end is an exception; tests/cli/test_train.py has one that is killed for good.
"""

import os
import random

import numpy as np
import pytest
import torch
from torch import nn
from train.test_loop import trained
from train.tiny_task import BATCHES, TinyTask

from nnaq.quantize.recipe import parse_recipe
from nnaq.train.checkpoint import (
    generator_states,
    read_parameters,
    read_tensors,
    seed_generators,
    set_generators,
    write_bytes,
    write_parameters,
    write_tensors,
)
from nnaq.train.loop import train
from nnaq.train.prepare import prepare
from nnaq.train.settings import Settings, TrainingError

LAST, BEST = "checkpoint.safetensors", "best.safetensors"


pytestmark = pytest.mark.usefixtures("one_thread")


def settings(**changes):
    chosen = {
        "epochs": 3, "rate": 0.05, "schedule": "cosine", "warmup": 2, "average": 0.8, "clip": 1.0,
        "checkpoint_every": 2, "log_every": 1, "accumulate": 2,
    }  # fmt: skip
    return Settings(**{**chosen, **changes})


def assert_equal_folders(one, other):
    """Every bit of both trainings, the time they took apart."""
    (tensors, facts), (others, other_facts) = (read_tensors(folder / LAST) for folder in (one, other))
    assert tensors.keys() == others.keys()
    for name, tensor in tensors.items():
        assert tensor.dtype == others[name].dtype
        assert torch.equal(tensor, others[name]), name
    for found in (facts, other_facts):
        found["place"].pop("seconds")
    assert facts == other_facts
    for name in (BEST, "log.jsonl", "log.csv"):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """The folder of a training that nothing stopped."""
    folder = tmp_path_factory.mktemp("straight")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    trained(folder, settings())
    torch.set_num_threads(threads)
    return folder


@pytest.mark.parametrize("call", [5, 6, BATCHES, BATCHES + 1, 2 * BATCHES, 3 * BATCHES])
def test_stopped_anywhere_and_resumed_all_bits_are_the_same(tmp_path, straight, call):
    with pytest.raises(InterruptedError):
        trained(tmp_path, settings(), stop_at=call)
    _stir()
    trained(tmp_path, settings(), resume=True)
    assert_equal_folders(tmp_path, straight)


def _stir():
    """Another process has other generators."""
    torch.manual_seed(99)
    np.random.seed(99)
    random.seed(99)


def test_stopped_again_and_again(tmp_path, straight):
    with pytest.raises(InterruptedError):
        trained(tmp_path, settings(), stop_at=5)
    ends = 0
    while ends < 20:
        _stir()
        try:
            trained(tmp_path, settings(), resume=True, stop_at=6)
        except InterruptedError:
            ends += 1
        else:
            break
    assert 3 <= ends < 20
    assert_equal_folders(tmp_path, straight)


def test_stopped_between_the_best_parameters_and_the_checkpoint(tmp_path, straight, monkeypatch):
    def refuse(*arguments):
        raise InterruptedError

    with monkeypatch.context() as patched:
        patched.setattr("nnaq.train.logs.Logs.epoch", refuse)
        with pytest.raises(InterruptedError):
            trained(tmp_path, settings())
    assert (tmp_path / BEST).is_file()
    _stir()
    trained(tmp_path, settings(), resume=True)
    assert_equal_folders(tmp_path, straight)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_the_state_of_every_optimizer_is_kept(tmp_path, optimizer):
    trained(tmp_path / "straight", settings(optimizer=optimizer))
    with pytest.raises(InterruptedError):
        trained(tmp_path / "stopped", settings(optimizer=optimizer), stop_at=9)
    trained(tmp_path / "stopped", settings(optimizer=optimizer), resume=True)
    assert_equal_folders(tmp_path / "stopped", tmp_path / "straight")


@pytest.mark.parametrize("ranges", ["moving", "learned"])
def test_a_twin_is_resumed_to_the_same_bits(tmp_path, ranges):
    """Centroids, schemes that follow the progress, ranges, batch norm folded halfway: all of it is kept."""
    fold = 0.5 if ranges == "moving" else 0.0  # learned ranges begin on the folded model
    recipe = parse_recipe(
        f'name = "tiny"\n[quantize]\nactivations = "8"\n[palettes."hidden.weight"]\nbits = 3\n'
        f'[training]\nscheme = "general_quantizer"\nranges = "{ranges}"\nfold_batch_norm = {fold}\n'
    )

    def twin():
        task = TinyTask("data", 1)
        return prepare(
            task.module, task.example_inputs, recipe, "edge8-sub8",
            calibration=task.calibration(), options=task.options,
        )  # fmt: skip

    trained(tmp_path / "straight", settings(), twin())
    for call in (5, BATCHES + 5):
        with pytest.raises(InterruptedError):
            trained(tmp_path / f"{call}", settings(), twin(), stop_at=call)
        _stir()
        trained(tmp_path / f"{call}", settings(), twin(), resume=True)
        assert_equal_folders(tmp_path / f"{call}", tmp_path / "straight")


def test_a_finished_training_resumes_to_itself(tmp_path, straight):
    trained(tmp_path, settings())
    trained(tmp_path, settings(), resume=True)
    assert_equal_folders(tmp_path, straight)


def test_generators_go_on_where_they_were():
    seed_generators(4, 1)
    torch.randn(3), np.random.normal(), random.gauss(0, 1)  # each keeps half of a pair
    states = generator_states()
    drawn = [(torch.randn(2).tolist(), np.random.normal(), random.gauss(0, 1), np.random.bytes(5))]
    _stir()
    set_generators(states)
    assert drawn == [(torch.randn(2).tolist(), np.random.normal(), random.gauss(0, 1), np.random.bytes(5))]


def refused(folder, told, chosen=None, model=None, identity=None):
    task = TinyTask("data", 1)
    model = model or task.module
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(TrainingError) as refusal:
        train(task, model, chosen or settings(), folder, resume=True, identity=identity)
    assert told in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_checkpoints_of_others_are_refused(tmp_path, straight):
    refused(straight, "training.rate was 0.05, is now 0.1", settings(rate=0.1))
    refused(straight, "task was None, is now 'an4_words'", identity={"task": "an4_words"})
    refused(straight, "recipe has changed", identity={"recipe": "x" * 200})
    refused(straight, "'weight' is missing in the file, float32 [2, 2] in the model", model=nn.Linear(2, 2))
    wide = TinyTask("data", 1).module
    wide.out = nn.Linear(8, 4)
    refused(straight, "'out.weight' is float32 [3, 8] in the file, float32 [4, 8] in the model", model=wide)
    refused(tmp_path, "there is no checkpoint")


def test_files_that_are_no_checkpoints_are_refused(tmp_path):
    (tmp_path / LAST).write_bytes(b"no tensors")
    refused(tmp_path, "cannot be read as a safetensors file")
    write_parameters(tmp_path / LAST, nn.Linear(2, 2))
    refused(tmp_path, "is no checkpoint of a training")


def test_logs_shorter_than_the_checkpoint_says_are_told(tmp_path):
    trained(tmp_path, settings())
    (tmp_path / "log.jsonl").write_text("")
    with pytest.raises(TrainingError, match=r"log\.jsonl is shorter than at the checkpoint"):
        trained(tmp_path, settings(), resume=True)


def test_tied_parameters_and_scalars_are_written(tmp_path):
    model = nn.ModuleDict({"a": nn.Linear(3, 3), "b": nn.Linear(3, 3)})
    model["b"].weight = model["a"].weight
    model.register_buffer("flag", torch.tensor(True))
    write_parameters(tmp_path / "file", model)
    again = nn.ModuleDict({"a": nn.Linear(3, 3), "b": nn.Linear(3, 3)})
    again.register_buffer("flag", torch.tensor(False))
    read_parameters(tmp_path / "file", again)
    assert all(torch.equal(again.state_dict()[name], tensor) for name, tensor in model.state_dict().items())


def test_parameters_of_a_twin_start_its_module_and_those_of_another_do_not(tmp_path):
    twin = nn.Linear(2, 3)
    tensors = {**twin.state_dict(), "nnaq_schemes.weight.centroids": torch.zeros(4)}
    write_tensors(tmp_path / "twin", tensors, {})
    plain = nn.Linear(2, 3)
    read_parameters(tmp_path / "twin", plain)
    assert torch.equal(plain.weight, twin.weight)
    with pytest.raises(TrainingError, match=r"'weight' is float32 .3, 2. in the file, float32 .3, 5."):
        read_parameters(tmp_path / "twin", nn.Linear(5, 3))
    with pytest.raises(TrainingError, match="there is no file"):
        read_parameters(tmp_path / "missing", plain)


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_bytes(path, b"first")

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(TrainingError, match="No space left on device"):
        write_bytes(path, b"second")
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("file", b"first")]
