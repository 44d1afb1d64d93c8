"""The examples run and show what they say."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.fixture
def example(monkeypatch):
    """Import an example by its name."""

    def load(name):
        spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(__import__("sys").modules, name, module)
        spec.loader.exec_module(module)
        return module

    return load


def test_write_a_pass(example, capsys):
    example("write_a_pass").main()
    said = capsys.readouterr().out
    assert "6 nodes became 4" in said
    assert "pass 'cancel-transposes' keeps bits, but 'y' made by relu 'y' moved" in said


def test_train_through_integers_in_short_form(example):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    losses = example("train_through_integers").experiment(seed=0, real_steps=60, integer_steps=10)
    torch.set_num_threads(threads)
    assert np.isfinite([losses.real, losses.integer, losses.tuned]).all()
    assert losses.tuned < losses.integer
