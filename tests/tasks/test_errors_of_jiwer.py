"""Errors of each kind against jiwer: 1,000 pairs by words, 200 by characters, and fresh ones on demand."""

import hashlib
import json
import os
import secrets
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from oracles.vectors import load_vectors

from nnaq.tasks.decoding import Errors, character_errors, word_errors

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden" / "jiwer"
INDEX = json.loads((GOLDEN / "index.json").read_text())
OURS = {"word_errors": word_errors, "character_errors": character_errors}
SEED = int(os.environ.get("NNAQ_ORACLE_SEED", secrets.randbelow(2**31)))


def text_of(codes: np.ndarray) -> str:
    return codes.tobytes().decode("ascii")


def hold(folder: Path, op: str) -> list[Errors]:
    """Compare all pairs of one file; what was counted."""
    _, cases, _ = load_vectors(folder / f"jiwer__{op}.npz")
    counted = []
    for case in cases:
        truth, found = text_of(case["truth"]), text_of(case["found"])
        ours = OURS[op]([truth], [found])
        assert [ours.substitutions, ours.deletions, ours.insertions] == case["counts"].tolist(), (
            truth,
            found,
        )
        counted.append(ours)
    return counted


@pytest.mark.parametrize("op", OURS)
def test_golden_pairs(op):
    counted = hold(GOLDEN, op)
    assert 3 * len(counted) == INDEX[f"jiwer__{op}.npz"]["values_compared"]
    kinds = np.array([[errors.substitutions, errors.deletions, errors.insertions] for errors in counted])
    assert ((kinds > 0).sum(axis=0) > len(counted) / 4).all()  # every kind in many pairs


def test_there_are_a_thousand_pairs_of_words():
    assert len(hold(GOLDEN, "word_errors")) == 1000


def test_the_index_names_the_committed_files():
    assert set(INDEX) == {path.name for path in GOLDEN.glob("*.npz")}
    for name, entry in INDEX.items():
        assert hashlib.sha256((GOLDEN / name).read_bytes()).hexdigest() == entry["sha256"], name


@pytest.mark.oracle
@pytest.mark.parametrize("op", OURS)
def test_fresh_pairs(op, tmp_path):
    if not (ROOT / ".oracles" / "jiwer" / "bin" / "python").exists():
        pytest.skip("no environment of the oracle 'jiwer': run `make oracles`")
    script = [sys.executable, str(ROOT / "tests" / "oracles" / "generate.py"), "--oracle", "jiwer"]
    wanted = ["--op", op, "--seed", str(SEED), "--out", str(tmp_path)]
    made = subprocess.run([*script, *wanted], capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    assert hold(tmp_path, op), f"NNAQ_ORACLE_SEED={SEED} repeats it"
