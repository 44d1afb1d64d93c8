"""Gradients of recurrent layers whose internals have fewer than 16 bits: taken at the coarse values."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from recurrent_nodes import GRU, LSTM, Choice, Sizes, choices, gru_node, lstm_node
from train.test_recurrent_gradient import (
    NEAREST,
    OPS,
    SIZES,
    VARIANTS,
    assert_near,
    by_primitives,
    meanings,
    ran,
)

from nnaq.kernels.recurrent import count_cell_saturations
from nnaq.train import gru_trace, lstm_trace
from nnaq.train.recurrent import gradients

WIDTHS = st.sampled_from([6, 7, 8, 12])


pytestmark = pytest.mark.usefixtures("one_thread")


def narrow(choice: Choice, bits: int, **more) -> Choice:
    return replace(choice, contract=(*choice.contract, ("internal_bits", bits)), **more)


@given(choices(normed=False), WIDTHS)
@settings(max_examples=40)
def test_the_traces_end_at_the_codes_of_their_nodes(choice: Choice, bits: int) -> None:
    signature, arrays = lstm_node(narrow(choice, bits))
    y, _, c = LSTM.fast(signature, *arrays)
    found = lstm_trace.trace(signature, arrays, y)
    np.testing.assert_array_equal((found.m if found.h is None else found.h).values, y)
    assert found.c.clipped.sum() == count_cell_saturations(signature, *arrays)
    low = 2 ** (16 - bits) - 1
    coarse = (found.a, found.i, found.f, found.g, found.o, found.c, found.k)
    assert not any((codes.values & low).any() for codes in coarse)
    if len(y):
        np.testing.assert_array_equal(found.c.values[-1], c)
    signature, arrays = gru_node(narrow(choice, bits))
    y, _ = GRU.fast(signature, *arrays)
    inside = gru_trace.trace(signature, arrays, y)
    np.testing.assert_array_equal(inside.h.values, y)
    coarse = (inside.a, inside.r, inside.z, inside.rest, inside.n)
    assert not any((codes.values & low).any() for codes in coarse)


@pytest.mark.parametrize("op", OPS)
@given(choices(normed=False), NEAREST, SIZES, WIDTHS)
@settings(max_examples=25)
def test_the_gradient_is_that_of_the_primitives_node_by_node(
    op: str, choice: Choice, rounding: str, sizes: Sizes, bits: int
) -> None:
    """Where a coarse value saturates its clip stops the gradient, else the rounding lets it through."""
    choice = narrow(choice, bits, sizes=sizes, rounding=rounding)
    signature, arrays, operands, _, given, found = ran(op, choice)
    expected = by_primitives(OPS[op], signature, arrays, operands, given)
    for position, (one, other) in enumerate(zip(found, expected, strict=True)):
        assert (one is None) == (other is None)
        if one is not None:
            assert_near(one, other, 1e-4, 1e-5, position)


@pytest.mark.parametrize(("op", "choice"), VARIANTS.values(), ids=VARIANTS)
def test_eight_bits_still_point_the_way_of_the_reals(op: str, choice: Choice) -> None:
    """On fine codes of x, h and weights 8-bit internals turn the gradient, though not far."""
    found = [g for g in ran(op, narrow(choice, 8), torch.float64)[-1] if g is not None]
    exact = [g for g in ran(op, choice, torch.float64)[-1] if g is not None]
    for one, other in zip(found, exact, strict=True):
        assert not torch.equal(one, other)
        assert torch.nn.functional.cosine_similarity(one.flatten(), other.flatten(), 0) > 0.95


@pytest.mark.parametrize(("bits", "stops"), [(6, True), (12, False)])
def test_a_tanh_of_the_cell_that_rounds_to_1_stops_the_gradient(bits: int, stops: bool) -> None:
    """tanh(4) = 0.99933: beyond 31/32 and half a step, but not beyond 2047/2048 and half of one."""
    signature, arrays = lstm_node(narrow(Choice(Sizes(1, 1, 2, 1), h="i16", fraction=12), bits))
    steps = signature.input(0).scale * signature.input(3).quant.scales(2)[:, 0]
    zeros = [np.full_like(arrays[p], signature.input(p).zero_point) for p in (0, 1)]
    zeros += [np.full_like(arrays[2], 3 * 2**12), np.zeros_like(arrays[3]), np.zeros_like(arrays[4])]
    arrays = (*zeros, np.rint(7.9 / steps).astype(arrays[5].dtype), *arrays[6:])
    made = LSTM.fast(signature, *arrays)
    given = [torch.ones(made[0].shape), *(torch.zeros(array.shape) for array in made[1:])]
    found = gradients("lstm", signature, arrays, made, meanings("lstm", signature, arrays), given)
    assert (found[2].item() == 0.0) == stops
