"""The committed figures of conformance: complete, without a mismatch, and shown as they are."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from comparisons import GOLDEN, TABLE, Key, Measured, measure

from nnaq.ir.op import table

ROOT = Path(__file__).parents[1]
RECORDS = json.loads((ROOT / "benchmarks" / "results" / "conformance.json").read_text())
INDEX = json.loads((GOLDEN / "index.json").read_text())
# Vectors that lie ready for an operator nnaq does not have yet.
WAITING = {"tflm__softmax_int8.npz": "softmax"}


def key_of(record: dict) -> Key:
    return Key(record["oracle"], record["op"], record["mode"])


def test_every_comparison_has_one_record():
    assert sorted(key_of(record) for record in RECORDS) == sorted(TABLE)


def test_every_golden_file_is_compared_in_all_its_modes():
    promised = {
        Key(entry["oracle"], entry["op"], mode)
        for name, entry in INDEX.items()
        if name not in WAITING
        for mode in entry["mode"].split(",")
    }
    assert promised <= set(TABLE)
    assert {f"{key.file}.npz" for key in TABLE} == set(INDEX) - set(WAITING)


@pytest.mark.parametrize("op", WAITING.values())
def test_what_waits_for_an_operator_has_none(op):
    assert op not in table()


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: str(key_of(record)))
def test_no_value_differs(record):
    key = key_of(record)
    assert record["mismatches"] == 0
    assert measure(key) == Measured(record["values"], 0)
    assert record["versions"] == INDEX[f"{key.file}.npz"]["versions"]


def test_a_wrong_value_is_counted(monkeypatch):
    key = Key("tosa", "table_int8", "exact")
    honest = TABLE[key]

    def wrong(*given):
        for number, (ours, theirs) in enumerate(honest(*given)):
            yield (np.where(np.arange(ours.size) == 3, ours ^ 1, ours) if number == 1 else ours), theirs

    monkeypatch.setitem(TABLE, key, wrong)
    found = measure(key)
    assert found.mismatches == 1
    assert found.first.startswith("pair 1, value 3: ")


@pytest.mark.parametrize("script", ["conformance.py", "render.py"])
def test_pages_show_the_committed_results(script):
    command = [sys.executable, str(ROOT / "benchmarks" / script), "--check"]
    finished = subprocess.run(command, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
