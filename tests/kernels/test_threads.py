"""Large products in threads: the same bits, whatever is shared out."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from strategies import integer_node, quantised

from nnaq.errors import NnaqError
from nnaq.kernels import threads
from nnaq.kernels.bound import InTurn
from nnaq.kernels.multiply import TILE
from nnaq.kernels.threads import SideBySide, blocks, thread_count


@pytest.fixture
def three(monkeypatch):
    """Three threads, even for the smallest products."""
    monkeypatch.setattr(threads, "thread_count", lambda: 3)
    monkeypatch.setattr(threads, "LEAST", 1)


@given(st.integers(0, 100), st.integers(1, 12))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_blocks_are_whole_units_and_cover_all_rows_once(three, rows, unit):
    found = list(blocks(rows, 1, unit))
    assert 1 <= len(found) <= 3
    assert [row for own in found for row in range(rows)[own]] == list(range(rows))
    assert all(own.start % unit == 0 for own in found)


def test_little_is_not_shared(monkeypatch):
    monkeypatch.setattr(threads, "thread_count", lambda: 3)
    assert len(list(blocks(100, threads.LEAST // 100, TILE))) == 1
    assert len(list(blocks(100, threads.LEAST // 99, TILE))) == 3
    monkeypatch.setattr(threads, "thread_count", lambda: 1)
    assert len(list(blocks(100, threads.LEAST, TILE))) == 1


def product(name: str, *shapes: tuple[int, ...]):
    """A node whose operands are random codes, and those."""
    random = np.random.default_rng(0)
    kinds = [quantised("i8", shape, 0.01) for shape in shapes]
    arrays = [random.integers(-128, 128, kind.shape).astype(np.int8) for kind in kinds]
    computed = (0,) if name == "fully_connected" else (0, 1)
    pairs = list(zip(kinds, arrays, strict=True))
    return integer_node(name, pairs, quantised("i8", (), 0.02, 3), computed=computed)


@pytest.mark.parametrize(
    ("name", "shapes"),
    [("fully_connected", ((2, 20, 24), (17, 24))), ("matmul", ((4, 5, 24), (4, 24, 17)))],
)
def test_shared_products_have_the_bits_of_whole_ones(three, name, shapes):
    op, signature, arrays = product(name, *shapes)
    constants = [None if i < (1 if name == "fully_connected" else 2) else a for i, a in enumerate(arrays)]
    (found,), run = op.load(signature, tuple(constants)).bind(*arrays)
    assert isinstance(run, InTurn)
    assert any(isinstance(one, SideBySide) and len(one.runs) > 1 for one in run.runs)
    (expected,) = op.reference(signature, *arrays)
    for _ in range(3):
        found[...] = 0
        run()
        np.testing.assert_array_equal(found, expected)


def test_an_error_in_a_thread_is_raised():
    def broken():
        raise ValueError("from a thread")

    with pytest.raises(ValueError, match="from a thread"):
        SideBySide((list, broken))()


@pytest.mark.parametrize(("said", "count"), [("", 1), ("1", 1), ("4", 4)])
def test_the_environment_says_how_many(monkeypatch, said, count):
    monkeypatch.setenv(threads.VARIABLE, said)
    assert thread_count.__wrapped__() == count


@pytest.mark.parametrize("said", ["0", "-1", "two", "1.5"])
def test_other_words_are_refused(monkeypatch, said):
    monkeypatch.setenv(threads.VARIABLE, said)
    with pytest.raises(NnaqError, match=f"NNAQ_THREADS={said}: it takes a whole number of threads"):
        thread_count.__wrapped__()
