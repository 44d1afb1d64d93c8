"""The LSTM: compiled equals plain integers, chunks equal the whole, the fused node equals its graph."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recurrent_nodes import (
    LSTM,
    Arrays,
    Choice,
    Sizes,
    assert_equal,
    choices,
    complete,
    in_chunks,
    lstm_node,
    lstm_types,
    prepared,
)

from nnaq import interpret
from nnaq.ir.op import Signature
from nnaq.ir.verify import verify
from nnaq.kernels import recurrent
from nnaq.kernels.lstm_numbers import operand_names


@given(choices())
def test_fast_equals_reference(choice: Choice) -> None:
    signature, arrays = lstm_node(choice)
    given = [array for array in arrays if array is not None]
    before = [array.copy() for array in given]
    assert_equal(LSTM.fast(signature, *arrays), LSTM.reference(signature, *arrays))
    for array, copy in zip(given, before, strict=True):
        np.testing.assert_array_equal(array, copy, "a kernel wrote into its operand")


@pytest.mark.parametrize("fraction", range(9, 16))
@pytest.mark.parametrize("rounding", ["single", "double"])
def test_fast_equals_reference_at_every_cell_format(fraction: int, rounding: str) -> None:
    """Random weights of three gains, and all codes at the ends of their ranges."""
    for gain in (0.25, 2.0, 12.0):
        for extreme in (False, True):
            sizes = Sizes(6, 2, 5, 5)
            choice = Choice(sizes, fraction=fraction, rounding=rounding, gain=gain, extreme=extreme)
            signature, arrays = lstm_node(choice)
            assert_equal(LSTM.fast(signature, *arrays), LSTM.reference(signature, *arrays))


@given(choices(), st.sampled_from([8, 11, 19, 40]))
@settings(max_examples=40)
def test_fast_equals_reference_over_vectors_of_units(choice: Choice, units: int) -> None:
    """Units that fill vectors, and some that are left behind them."""
    sizes = replace(choice.sizes, frames=2, width=3, units=units)
    signature, arrays = lstm_node(replace(choice, sizes=sizes))
    assert_equal(LSTM.fast(signature, *arrays), LSTM.reference(signature, *arrays))


@given(choices(), st.sampled_from([1, 3, 7]))
@settings(max_examples=50)
def test_chunks_equal_the_whole(choice: Choice, size: int) -> None:
    choice = replace(choice, sizes=replace(choice.sizes, frames=8))
    signature, arrays = lstm_node(choice)
    assert_equal(in_chunks(LSTM, signature, arrays, size), LSTM.fast(signature, *arrays))


@given(choices())
@settings(max_examples=40)
def test_rows_of_a_batch_are_independent(choice: Choice) -> None:
    signature, (x, h, c, *constants) = lstm_node(choice)
    whole = LSTM.fast(signature, x, h, c, *constants)
    for b in range(choice.sizes.batch):
        one = LSTM.fast(signature, x[:, b : b + 1], h[b : b + 1], c[b : b + 1], *constants)
        assert_equal(one, (whole[0][:, b : b + 1], whole[1][b : b + 1], whole[2][b : b + 1]))


@pytest.mark.parametrize("projection", [0, 2])
@pytest.mark.parametrize("h", ["i8", "i16"])
def test_no_frames_return_the_states(projection: int, h: str) -> None:
    signature, arrays = lstm_node(Choice(Sizes(frames=0), h=h, projection=projection))
    for call in (LSTM.fast, LSTM.reference):
        y, last, c = call(signature, *arrays)
        assert y.shape == (0, 2, projection or 3)
        assert y.dtype == arrays[1].dtype
        np.testing.assert_array_equal(last, arrays[1])
        np.testing.assert_array_equal(c, arrays[2])


@given(choices())
@settings(max_examples=50)
def test_fused_equals_the_graph_of_primitives(choice: Choice) -> None:
    choice = replace(choice, sizes=replace(choice.sizes, frames=3))
    signature, (x, h, c, *rest) = lstm_node(choice)
    y, last_h, last_c = LSTM.fast(signature, x, h, c, *rest)
    graph = LSTM.primitives(signature)
    assert graph is not None
    constants = {
        n: v for n, v in zip(operand_names(signature.attrs)[3:], rest, strict=False) if v is not None
    }
    assert [port.name for port in verify(graph).inputs] == ["x", "h", "c", *constants]
    for t in range(len(x)):
        values = {"x": x[t], "h": h, "c": c, **constants}
        step = interpret.run(graph, values, mode="reference").outputs
        h, c = step["h_next"], step["c_next"]
        np.testing.assert_array_equal(h, y[t])
    np.testing.assert_array_equal(h, last_h)
    np.testing.assert_array_equal(c, last_c)


def test_primitives_of_symbolic_batch_and_time_are_one_frame() -> None:
    for projection in (0, 2):
        signature, _ = lstm_node(Choice(projection=projection))
        x, h, c, *rest = (kind for kind in signature.inputs if kind is not None)
        x, h, c = x.with_shape(("T", "B", 4)), h.with_shape(("B", h.shape[1])), c.with_shape(("B", 3))
        graph = LSTM.primitives(Signature((x, h, c, *rest), signature.outputs, signature.attrs))
        assert graph is not None
        verify(graph)
        assert graph.types["x"].shape == ("B", 4)
        assert graph.types["h_next"] == h
        assert graph.types["c_next"] == c


# Known answers


def still(
    fraction: int, rounding: str, c0: int, bias: tuple[float, ...], **more: Any
) -> tuple[Signature, Arrays]:
    """One unit with all weights 0: only the bias of its gates i, f, g, o (or f, g, o) speaks."""
    choice = Choice(
        Sizes(4, 1, 1, 1),
        fraction=fraction,
        rounding=rounding,
        zero_points=(9, -5),
        cifg=len(bias) == 3,
        **more,
    )
    types, rows = lstm_types(choice), len(bias)
    zeros = np.zeros((rows, 1), np.int8)
    arrays = {
        0: np.full((4, 1, 1), 9, np.int8),
        1: np.full((1, 1), -5, np.int8),
        2: np.full((1, 1), c0, np.int16),
    }
    arrays |= {3: zeros, 4: zeros, 5: np.array(bias), 6: np.full((1, 1), 127, np.int8)}
    return complete(types, prepared(LSTM, types, arrays, rounding), arrays)


@pytest.mark.parametrize(
    ("rounding", "c0", "halved"),
    [("single", 2001, 1001), ("single", -2001, -1000), ("double", 2001, 1001), ("double", -2001, -1001)],
)
def test_a_cell_of_zero_weights_halves(rounding: str, c0: int, halved: int) -> None:
    """f = 2^14 exactly, so f*c / 2^15 is a tie: half up under single, half away under double."""
    signature, arrays = still(11, rounding, c0, (0.0, 0.0, 0.0, 0.0))
    for call in (LSTM.fast, LSTM.reference):
        _, _, c = call(signature, arrays[0][:1], *arrays[1:])
        assert c.item() == halved


def test_h_of_a_still_cell_is_its_zero_point() -> None:
    signature, arrays = still(11, "single", 0, (0.0, 0.0, 0.0, 0.0))
    y, h, c = LSTM.fast(signature, *arrays)
    assert set(y.ravel().tolist()) == {-5}
    assert (h.item(), c.item()) == (-5, 0)


@pytest.mark.parametrize("bias_f", [-7.9, 0.0, 7.9])
def test_a_coupled_gate_lets_in_what_the_other_forgets(bias_f: float) -> None:
    """c stays at 1 while g is 1: f + i = 1 - 2^-15 whatever f is."""
    signature, arrays = still(14, "single", 2**14, (bias_f, 7.99, 0.0))
    for call in (LSTM.fast, LSTM.reference):
        _, _, c = call(signature, *arrays)
        assert 2**14 - 8 <= c.item() <= 2**14


def test_a_projection_reads_the_hidden_value_in_its_own_codes() -> None:
    """m = tanh(1) / 2 in steps of 2^-7; the projection's only weight is 127 * scale."""
    signature, arrays = still(14, "single", 2**14, (-7.9, 7.9, 0.0, 0.0), projection=1)
    weight = signature.input(6)
    assert weight.quant is not None
    m = round(np.tanh(1.0) / 2 * 128)
    meant = round(m * 2.0**-7 * 127 * weight.quant.scale[0] / signature.input(1).scale) - 5
    for call in (LSTM.fast, LSTM.reference):
        y, _, _ = call(signature, arrays[0][:1], *arrays[1:])
        assert y.item() == meant


def test_saturations_of_the_cell_are_counted() -> None:
    """i, f, g near 1 and n = 15: the first frame fits (0.998), every later one does not."""
    signature, arrays = still(15, "single", 0, (7.9, 7.9, 7.9, 7.9))
    assert recurrent.count_cell_saturations(signature, *arrays) == 3
    signature, arrays = still(15, "single", 0, (7.9, 7.9, -7.9, 7.9))
    assert recurrent.count_cell_saturations(signature, *arrays) == 3
    signature, arrays = still(12, "single", 0, (7.9, 7.9, 7.9, 7.9))
    assert recurrent.count_cell_saturations(signature, *arrays) == 0
