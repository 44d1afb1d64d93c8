"""Every tier of vectors gives the same integers: the property tests of its own rooms, under each of them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from nnaq.errors import NnaqError
from nnaq.kernels.machine import tiers

HERE = Path(__file__).parent
ROOMS = ("test_multiply.py", "test_lanes.py", "test_conv_runs.py", "test_recurrent_passes.py")


@pytest.mark.parametrize("name", [tier.name for tier in tiers.TIERS if tier != tiers.tier()])
def test_another_tier_gives_the_same_integers(name):
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        *(str(HERE / f) for f in ROOMS),
    ]
    environment = {**os.environ, tiers.VARIABLE: name}
    done = subprocess.run(
        command, env=environment, cwd=HERE.parent.parent, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:]


def test_a_tier_that_is_none_is_told(monkeypatch):
    monkeypatch.setenv(tiers.VARIABLE, "words_9")
    with pytest.raises(NnaqError, match=r"words_9: no such tier; there are words_16, words_8"):
        tiers.tier.__wrapped__()
