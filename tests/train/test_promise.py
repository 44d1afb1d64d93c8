"""Integers of the training forward == integers of the simulator == integers of the exported file."""

import pytest
from train.promise import SUBJECTS


@pytest.mark.filterwarnings("ignore:LSTM with projections")
@pytest.mark.parametrize("name", SUBJECTS)
def test_training_simulator_and_file_compute_the_same_integers(name):
    found = SUBJECTS[name]()
    assert found.values > 0
    assert (found.simulator_mismatches, found.file_mismatches) == (0, 0)
