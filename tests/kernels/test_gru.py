"""The GRU: compiled equals plain integers, chunks equal the whole, the fused node equals its graph."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recurrent_nodes import (
    GRU,
    Arrays,
    Choice,
    Sizes,
    assert_equal,
    choices,
    complete,
    gru_node,
    gru_types,
    in_chunks,
    prepared,
)

from nnaq import interpret
from nnaq.ir.op import Signature
from nnaq.ir.verify import verify
from nnaq.kernels.gru_numbers import NAMES


@given(choices())
def test_fast_equals_reference(choice: Choice) -> None:
    signature, arrays = gru_node(choice)
    before = [array.copy() for array in arrays]
    assert_equal(GRU.fast(signature, *arrays), GRU.reference(signature, *arrays))
    for array, copy in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(array, copy, "a kernel wrote into its operand")


@pytest.mark.parametrize("rounding", ["single", "double", "half_even"])
@pytest.mark.parametrize("linear_before_reset", [True, False])
def test_fast_equals_reference_at_the_ends_of_ranges(rounding: str, linear_before_reset: bool) -> None:
    for gain in (0.25, 2.0, 12.0):
        for h in ("i8", "i16"):
            choice = Choice(Sizes(6, 2, 5, 5), h=h, rounding=rounding, gain=gain, extreme=True)
            signature, arrays = gru_node(replace(choice, linear_before_reset=linear_before_reset))
            assert_equal(GRU.fast(signature, *arrays), GRU.reference(signature, *arrays))


@given(choices(), st.sampled_from([8, 11, 19, 40]))
@settings(max_examples=40)
def test_fast_equals_reference_over_vectors_of_units(choice: Choice, units: int) -> None:
    """Units that fill vectors, and some that are left behind them."""
    sizes = replace(choice.sizes, frames=2, width=3, units=units)
    signature, arrays = gru_node(replace(choice, sizes=sizes))
    assert_equal(GRU.fast(signature, *arrays), GRU.reference(signature, *arrays))


@given(choices(), st.sampled_from([1, 3, 7]))
@settings(max_examples=40)
def test_chunks_equal_the_whole(choice: Choice, size: int) -> None:
    choice = replace(choice, sizes=replace(choice.sizes, frames=8))
    signature, arrays = gru_node(choice)
    assert_equal(in_chunks(GRU, signature, arrays, size), GRU.fast(signature, *arrays))


@given(choices())
@settings(max_examples=30)
def test_rows_of_a_batch_are_independent(choice: Choice) -> None:
    signature, (x, h, *constants) = gru_node(choice)
    y, last = GRU.fast(signature, x, h, *constants)
    for b in range(choice.sizes.batch):
        one = GRU.fast(signature, x[:, b : b + 1], h[b : b + 1], *constants)
        assert_equal(one, (y[:, b : b + 1], last[b : b + 1]))


@pytest.mark.parametrize("h", ["i8", "i16"])
def test_no_frames_return_the_state(h: str) -> None:
    signature, arrays = gru_node(Choice(Sizes(frames=0), h=h, zero_points=(3, -7)))
    for call in (GRU.fast, GRU.reference):
        y, last = call(signature, *arrays)
        assert y.shape == (0, 2, 3)
        assert y.dtype == arrays[1].dtype
        np.testing.assert_array_equal(last, arrays[1])


@given(choices())
@settings(max_examples=40)
def test_fused_equals_the_graph_of_primitives(choice: Choice) -> None:
    choice = replace(choice, sizes=replace(choice.sizes, frames=3))
    signature, (x, h, *constants) = gru_node(choice)
    graph = GRU.primitives(signature)
    assert graph is not None
    names = [port.name for port in verify(graph).inputs]
    assert names == ["x", "h", *NAMES[2:]]
    y, last = GRU.fast(signature, x, h, *constants)
    for t in range(len(x)):
        values = dict(zip(names, (x[t], h, *constants), strict=True))
        h = interpret.run(graph, values, mode="reference").outputs["h_next"]
        np.testing.assert_array_equal(h, y[t])
    np.testing.assert_array_equal(h, last)


def test_primitives_of_symbolic_batch_and_time_are_one_frame() -> None:
    signature, _ = gru_node(Choice())
    x, h, *rest = (kind for kind in signature.inputs if kind is not None)
    x, h = x.with_shape(("T", "B", 4)), h.with_shape(("B", 3))
    graph = GRU.primitives(Signature((x, h, *rest), signature.outputs, signature.attrs))
    assert graph is not None
    verify(graph)
    assert graph.types["x"].shape == ("B", 4)
    assert graph.types["h_next"] == h


# Known answers


def still(
    choice: Choice, h0: int, biases: tuple[float, float, float], recurrent: tuple[float, float, float]
) -> tuple[Signature, Arrays]:
    """One unit with all weights 0: only the biases of its gates r, z, n speak."""
    choice = replace(choice, sizes=Sizes(choice.sizes.frames, 1, 1, 1))
    types = gru_types(choice)
    x, h, *_ = types.inputs
    assert x is not None and h is not None
    arrays = {
        0: np.full(x.shape, x.zero_point, np.int8),
        1: np.full(h.shape, h0, choice.h.replace("i", "int")),
    }
    arrays |= {2: np.zeros((3, 1), np.int8), 3: np.zeros((3, 1), np.int8)}
    arrays |= {4: np.array(biases), 5: np.array(recurrent)}
    return complete(types, prepared(GRU, types, arrays, choice.rounding), arrays)


@pytest.mark.parametrize(
    ("rounding", "h0", "halved"),
    [("single", 51, 26), ("single", -51, -25), ("double", 51, 26), ("double", -51, -26)],
)
def test_a_state_without_drive_halves(rounding: str, h0: int, halved: int) -> None:
    """z = 2^14 exactly, n = 0: half of 51 is a tie, half up under single, half away under double."""
    signature, arrays = still(Choice(Sizes(1), rounding=rounding), h0, (0, 0, 0), (0, 0, 0))
    for call in (GRU.fast, GRU.reference):
        assert call(signature, *arrays)[1].item() == halved


@pytest.mark.parametrize("linear_before_reset", [True, False])
@pytest.mark.parametrize("reset", [-7.9, 7.9])
def test_the_reset_gate_meets_the_recurrent_bias_in_one_form_only(
    linear_before_reset: bool, reset: float
) -> None:
    """z ~ 0, so h = n = tanh(r * 1) or tanh(1)."""
    choice = Choice(Sizes(1), h="i16", linear_before_reset=linear_before_reset)
    signature, arrays = still(choice, 0, (reset, -7.9, 0), (0, 0, 1.0))
    meant = np.tanh(1.0 if reset > 0 or not linear_before_reset else 0.0)
    for call in (GRU.fast, GRU.reference):
        assert abs(call(signature, *arrays)[1].item() * 2.0**-15 - meant) < 2.0**-10


def test_a_state_at_its_goal_stays() -> None:
    """n and p weigh 2^15 together: the extreme code stays for ever, whatever z is."""
    for bias_z in (-7.9, -1.0, 0.3, 2.0, 7.9):
        signature, arrays = still(Choice(Sizes(50), h="i16"), 32767, (0, bias_z, 7.99), (0, 0, 0))
        y, _ = GRU.fast(signature, *arrays)
        assert set(y.ravel().tolist()) <= {32766, 32767}


def test_a_slow_state_sticks_in_8_bits_and_moves_in_16() -> None:
    """z = 0.982 and n = 0.1: a frame would move the state by less than half a code of 2^-7."""
    for h, moved in (("i8", False), ("i16", True)):
        signature, arrays = still(Choice(Sizes(400), h=h), 0, (0, 4.0, 0.1003), (0, 0, 0))
        assert bool(GRU.fast(signature, *arrays)[1].item()) == moved
        if moved:
            assert abs(GRU.fast(signature, *arrays)[1].item() * 2.0**-15 - 0.1) < 2.0**-9
