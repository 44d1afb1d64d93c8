"""The comparisons of the golden vectors, on vectors that the outside runtimes make now, with a new seed.

`pytest -m oracle tests/kernels/test_oracle_live.py`; needs `make oracles`. A failure names its
seed; NNAQ_ORACLE_SEED=n repeats it.
"""

import os
import secrets
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from comparisons import KERNELS, TABLE, Key, Measured, measure

REPOSITORY = Path(__file__).parents[2]
GENERATE = REPOSITORY / "tests" / "oracles" / "generate.py"
SEED = int(os.environ.get("NNAQ_ORACLE_SEED", secrets.randbelow(2**31)))


def has_environment(oracle: str) -> bool:
    return (REPOSITORY / ".oracles" / oracle / "bin" / "python").exists()


@pytest.fixture(scope="session")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Per oracle, the folder of its fresh vectors; they are made when first asked for."""

    @cache
    def make(oracle: str) -> Path:
        folder = tmp_path_factory.mktemp(oracle)
        command = [
            sys.executable,
            str(GENERATE),
            "--oracle",
            oracle,
            "--seed",
            str(SEED),
            "--out",
            str(folder),
        ]
        made = subprocess.run(command, capture_output=True, text=True)
        assert made.returncode == 0, made.stderr
        return folder

    return make


@pytest.mark.oracle
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("key", TABLE, ids=str)
def test_fresh_vectors(key: Key, kernel: str, fresh: Callable[[str], Path]) -> None:
    if not has_environment(key.oracle):
        pytest.skip(f"no environment of the oracle {key.oracle!r}: run `make oracles`")
    found = measure(key, fresh(key.oracle), kernel)
    assert found == Measured(found.values, 0), f"{found}; NNAQ_ORACLE_SEED={SEED} repeats it"
