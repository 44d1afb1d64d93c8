"""Two processes train one model: equal to the last bit, and as good as one process that sees both shards."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import distributed
from train.test_checkpoint import assert_equal_folders
from train.test_loop import trained
from train.tiny_task import BATCHES

from nnaq.train.checkpoint import read_tensors
from nnaq.train.replicas import ALONE, Replicas
from nnaq.train.settings import Settings

TESTS = Path(__file__).parent.parent
pytestmark = pytest.mark.skipif(
    not (distributed.is_available() and distributed.is_gloo_available()), reason="torch has no gloo here"
)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """What two replicas left behind, see replica_program.py."""
    folder = tmp_path_factory.mktemp("replicas")
    environment = {**os.environ, "PYTHONPATH": str(TESTS), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    program = [str(TESTS / "train" / "replica_program.py"), str(folder)]
    done = subprocess.run([*command, *program], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("name", ["plain", "noisy", "stopped"])
def test_replicas_hold_the_same_bits(place, name):
    (one, _), (other, _) = (read_tensors(place / name / f"replica{rank}") for rank in (0, 1))
    assert len(one) > 3
    for tensor, twin in zip(one.values(), other.values(), strict=True):
        assert torch.equal(tensor, twin)


def test_replicas_stopped_and_resumed_end_the_same(place):
    assert_equal_folders(place / "stopped", place / "noisy")


def test_each_replica_has_its_own_generators(place):
    states = read_tensors(place / "noisy" / "checkpoint.safetensors")[0]["random.torch"]
    assert len(states) == 2
    assert not torch.equal(*states)


def test_two_replicas_are_one_process_with_double_batches(place, tmp_path):
    """The same gradients, summed in another order: float32 rounding, over 8 steps of AdamW at rate 0.05.

    AdamW divides by the gradient's size, so the difference of a step is relative to it: 1e-6 at most in
    a step and observed below 1e-5 in all. The last of 7 batches has no partner in either.
    """
    settings = Settings(epochs=2, rate=0.05, average=0.9, clip=0.5, log_every=1, accumulate=2)
    task = trained(tmp_path / "one", settings, seed=0, dropout=0.0, norm=False)
    both = read_tensors(place / "plain" / "checkpoint.safetensors")[0]
    alone = read_tensors(tmp_path / "one" / "checkpoint.safetensors")[0]
    for name in task.module.state_dict():
        torch.testing.assert_close(both[f"model.{name}"], alone[f"model.{name}"], rtol=0, atol=1e-4)
    lines = (place / "plain" / "log.jsonl").read_text().splitlines()
    assert len(lines) == len(task.rows) == 2 * (-(-BATCHES // 2)) + 2
    for line, row in zip(map(json.loads, lines), task.rows, strict=True):
        assert line["loss"] == pytest.approx(row["loss"], abs=1e-4)


def test_ranges_that_replicas_observe_are_those_of_all_their_values(place):
    found = [read_tensors(place / "observed" / f"replica{rank}")[0]["table"] for rank in (0, 1)]
    assert [table.tolist() for table in found] == [[[-3.0, 4.0]]] * 2  # half way to (-5, 7)


def test_replicas_that_stray_are_told(place):
    for rank in (0, 1):
        told = (place / "strayed" / f"error{rank}").read_text()
        assert told.startswith("after step 5 the replicas hold different parameters")


def test_one_process_has_nothing_to_do():
    parameter = torch.zeros(2, requires_grad=True)
    parameter.grad = torch.ones(2)
    assert ALONE.average([parameter], 3.5, 2) == 3.5
    assert parameter.grad.tolist() == [1, 1]
    assert list(ALONE.together([[1, 2], [3]])) == [[1, 2], [3]]
    assert ALONE.of_first(2.0) == 2.0
    assert Replicas(1, 2).is_first is False
