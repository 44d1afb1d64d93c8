"""Integers of the training forward == integers of the simulator == integers of the exported file.

Here stand every operator and one model of each kind; `benchmarks/training_promise.py` counts all of them,
and its committed results must hold every subject there is.
"""

import json
from pathlib import Path

import pytest
from train.promise import SUBJECTS

RESULTS = Path(__file__).resolve().parents[2] / "benchmarks" / "results" / "training_promise.json"
MODELS = ("model lstm", "model gru", "model conformer", "model speech", "model spoken words, palettes")
HERE = [
    name
    for name in SUBJECTS
    if name in MODELS
    or name.startswith(("graph", "model speech"))
    or name.endswith(" i8")
    or "lstm i16" in name
]


@pytest.mark.filterwarnings("ignore:LSTM with projections")
@pytest.mark.parametrize("name", HERE)
def test_training_simulator_and_file_compute_the_same_integers(name):
    found = SUBJECTS[name]()
    assert found.values > 0
    assert (found.simulator_mismatches, found.file_mismatches) == (0, 0)


def test_the_committed_counts_hold_every_subject_and_no_mismatch():
    rows = json.loads(RESULTS.read_text())["rows"]
    assert {row["subject"] for row in rows} == set(SUBJECTS)
    assert all(row["values"] > 0 for row in rows)
    assert not any(row["simulator_mismatches"] or row["file_mismatches"] for row in rows)
