"""Calls of kernels and copies as one function: what they do one by one, whatever they are given."""

from functools import partial
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nnaq.jit import jit
from nnaq.kernels.bound import Copy, InTurn, single
from nnaq.kernels.machine.calls import Calls, can_be_called

INTEGERS = [np.int8, np.int16, np.int32, np.int64]


class Numbers(NamedTuple):
    factor: int
    negative: bool


@jit
def scale(x, numbers, offset, parts, out):
    total = 0
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            value = numbers.factor * x[i, j] + offset + parts[0][1] + parts[1][j]
            out[i, j] = -value if numbers.negative else value
            total += x[i, j]
    return total


@jit
def halve(x, divisor):
    if divisor == 0:
        raise ValueError("there is nothing to divide by")
    x[:] = x // divisor


@jit
def pair(x):
    return x, x


@pytest.mark.parametrize("offset", [0.5, np.float32(0.1), np.int8(-3), True])
def test_kernels_are_called_with_whatever_they_take(offset):
    x, column = np.arange(6, dtype=np.int16).reshape(2, 3), np.array([5, 6, 7], np.int8)
    out = np.empty((2, 3))
    call = partial(scale, x[:, ::2], Numbers(3, True), offset, ((1, 2), column), out[:, ::2])
    call()
    run = Calls([call])
    for factor in (1, 4):
        x *= factor
        expected, out[:] = (lambda: (call(), out.copy())[1])(), 0
        run()
        np.testing.assert_array_equal(out[:, ::2], expected[:, ::2])
        assert (out[:, 1] == 0).all()


def test_runs_are_made_in_turn_and_errors_are_raised():
    x, y, divisor = np.array([8, 9]), np.zeros(2, np.int8), 2
    half, broken = partial(halve, x, divisor), partial(halve, x, 0)
    half()
    with pytest.raises(ValueError, match="nothing to divide"):
        broken()
    run = Calls(list(single(InTurn((half, Copy(y, x), InTurn((half,)))))))
    x[:] = 40, 44
    run()
    assert (x.tolist(), y.tolist()) == ([10, 11], [20, 22])
    x[:] = 40, 44
    with pytest.raises(ValueError, match="nothing to divide"):
        Calls([half, broken, half])()
    assert x.tolist() == [20, 22]


def test_what_can_be_called():
    x = np.arange(4)
    assert not can_be_called(partial(halve, x.astype(np.int16), 2))  # not compiled yet
    assert not can_be_called(lambda: None)
    assert not can_be_called(partial(np.copyto, x, x))
    pair(x)
    assert not can_be_called(partial(pair, x))  # who would own the result?
    assert not can_be_called(Copy(np.zeros(4, np.float32), x))
    assert can_be_called(Copy(np.zeros(4, np.float32), np.zeros(1, np.float32)))


@st.composite
def copies(draw):
    """A place, somewhere in a larger array, and a source that it takes."""
    shape = tuple(draw(st.lists(st.integers(0, 4), max_size=4)))
    cut = [draw(st.sampled_from([(0, 1), (1, 1), (0, 2), (2, 3)])) for _ in shape]
    order = draw(st.permutations(range(len(shape))))

    def somewhere(dims, dtype, seed):
        whole = np.random.default_rng(seed).integers(-100, 100, [3 * n + 3 for n in dims]).astype(dtype)
        parts = [slice(b, b + s * n, s) for n, (b, s) in zip(dims, cut[: len(dims)], strict=True)]
        return whole, whole[(..., *parts)]

    whole, place = somewhere([shape[a] for a in order], draw(st.sampled_from(INTEGERS)), 0)
    place = place.transpose(np.argsort(order))
    dims = [n if draw(st.booleans()) else 1 for n in shape][draw(st.integers(0, len(shape))) :]
    return whole, place, somewhere(dims, draw(st.sampled_from(INTEGERS)), 1)[1]


@given(copies())
@settings(max_examples=60)
def test_copies(drawn):
    whole, place, source = drawn
    before = whole.copy()
    Copy(place, source)()
    expected, whole[...] = whole.copy(), before
    Calls([Copy(place, source)])()
    np.testing.assert_array_equal(whole, expected)
