"""Lowerings that are killed, that meet, and that run elsewhere: nothing is half there, and the bytes stay."""

import errno
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command_line import files, lower_words

from nnaq import lowering

MOMENTS = int(os.environ.get("NNAQ_KILLS", "2"))
LONG = MOMENTS > 2  # compiling every kernel anew takes minutes


def lower(place: Path, *more: object, **variables: str) -> subprocess.Popen:
    """`nnaq lower` in a process of its own."""
    words = [*lower_words(place), "--evaluate", place / "held", *more]
    command = [sys.executable, "-m", "nnaq", "lower", *map(str, words)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **variables}
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def same(one: Path, other: Path) -> None:
    for name in ("model.onnx", "recipe.toml", "plan.json", "golden.npz"):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name


def test_a_lowering_killed_at_any_moment_leaves_nothing_half(nnaq, place, lowered):
    """NNAQ_KILLS: how many moments, drawn over the seconds that a whole one takes (`make kill`)."""
    before, draw, start = files(place), random.Random(0), time.monotonic()
    assert lower(place, "--force").wait() == 0
    whole = time.monotonic() - start
    same(place / "out", lowered)
    for _ in range(MOMENTS):
        with lower(place, "--force") as killed:
            time.sleep(draw.uniform(0, whole))
            killed.send_signal(signal.SIGKILL)
        same(place / "out", lowered)  # the one before, or the next one: whole
    assert nnaq("lower", *lower_words(place), "--evaluate", place / "held", "--force").code == 0
    same(place / "out", lowered)
    left = [name for name in files(place) if not name.startswith("out/") and name != "out"]
    assert left == before


def test_other_threads_hashes_and_code_make_the_same_bytes(place, lowered):
    """Two threads and another order of hashes; in `make kill` kernels of a CPU without vectors, too."""
    plain = (
        {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": "", "NNAQ_CACHE": str(place / "cache")}
        if LONG
        else {}
    )
    with lower(place, PYTHONHASHSEED="7", NUMBA_NUM_THREADS="2", NNAQ_THREADS="2", **plain) as run:
        assert run.wait() == 0
    same(place / "out", lowered)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EFBIG])
def test_a_disk_that_is_full_or_closed_is_one_sentence(nnaq, place, monkeypatch, code):
    def fails(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    before = files(place)
    monkeypatch.setattr(lowering, "write_golden", fails)
    said = nnaq("lower", *lower_words(place), "--evaluate", place / "held")
    assert said.code == 2 and said.out == ""
    assert said.err.splitlines()[-1] == f"nnaq: cannot write {place / 'out'}: {os.strerror(code)}"
    assert "Traceback" not in said.err
    assert files(place) == before
