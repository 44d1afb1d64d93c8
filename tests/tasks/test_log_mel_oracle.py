"""Kaldi's features against the golden ones of kaldi-native-fbank, and against fresh ones.

Kaldi computes in float32. That is heard where a band holds hardly anything of its frame (80 dB below all of
it), and where a bin next to the end of a triangle outshines the others: in one of 50,000 features by more
than 2e-4. The golden ones hold no such feature.
"""

import os
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from oracles.vectors import load_vectors

from nnaq.tasks.log_mel import LogMel
from nnaq.tasks.log_mel_module import LogMelModule

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden" / "features"
SEED = int(os.environ.get("NNAQ_ORACLE_SEED", secrets.randbelow(2**31)))
CLOSE, FARTHEST = 2e-4, 4e-3
FAR = 1e-3  # the share of fresh features that may be farther than close


def cases(folder: Path) -> Iterator[tuple[LogMel, np.ndarray, np.ndarray]]:
    """Definition, samples and Kaldi's features of every case."""
    for case in load_vectors(folder / "kaldi__fbank.npz")[1]:
        made = LogMel.kaldi(int(case["bands"]), int(case["rate"]))
        yield made, case["samples"].astype(np.float32) / 2**15, case["features"]


def errors(folder: Path, listen: Callable[[LogMel, np.ndarray], np.ndarray]) -> np.ndarray:
    """How far each feature of all cases is from Kaldi's."""
    found = []
    for made, audio, theirs in cases(folder):
        before = -(-made.window // made.hop) - 1
        ours = listen(made, audio)[before : before + len(theirs)]
        assert len(theirs) == max(0, 1 + (len(audio) - made.window) // made.hop)
        assert ours.shape == theirs.shape
        found.append(np.abs(ours - theirs).ravel())
    return np.concatenate(found)


def in_numpy(made: LogMel, audio: np.ndarray) -> np.ndarray:
    return made(audio)


def in_torch(made: LogMel, audio: np.ndarray) -> np.ndarray:
    module = LogMelModule(made)
    with torch.no_grad():
        return module(torch.from_numpy(module.hops(audio)))[:, 0].numpy()


@pytest.mark.parametrize("listen", [in_numpy, in_torch])
def test_golden_features(listen):
    found = errors(GOLDEN, listen)
    assert found.size > 20_000 and found.max() < CLOSE


def test_the_golden_sounds_are_loud_faint_and_silent():
    """What the comparison would miss: features that are all at the floor, or none."""
    features = np.concatenate([theirs.ravel() for _, _, theirs in cases(GOLDEN)])
    floor = np.log(np.float32(2.0**-23))
    assert features.min() == floor and 0.05 < np.mean(features == floor) < 0.5
    assert features.max() > 9
    assert min(len(theirs) for _, _, theirs in cases(GOLDEN)) == 0


@pytest.mark.oracle
def test_fresh_features(tmp_path):
    if not (ROOT / ".oracles" / "kaldi" / "bin" / "python").exists():
        pytest.skip("no environment of the oracle 'kaldi': run `make oracles`")
    script = [sys.executable, str(ROOT / "tests" / "oracles" / "generate.py"), "--oracle", "kaldi"]
    wanted = ["--seed", str(SEED), "--out", str(tmp_path)]
    made = subprocess.run([*script, *wanted], capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    for listen in (in_numpy, in_torch):
        found = errors(tmp_path, listen)
        assert found.max() < FARTHEST, f"NNAQ_ORACLE_SEED={SEED} repeats it"
        assert np.mean(found > CLOSE) < FAR, f"NNAQ_ORACLE_SEED={SEED} repeats it"
