"""What a graph takes as inputs: the quick check of repeated steps says what the slow one says."""

from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulate.lowered import Lowered

from nnaq.errors import DataError
from nnaq.interpret import InputCheck, check_inputs
from nnaq.ir.graph import Graph
from nnaq.ir.types import parse_type
from nnaq.ir.verify import verify


def real_input(code: str = "i8[T]<0.1, 3>") -> Graph:
    build = Lowered("codes")
    build.input("x", parse_type("f32[T]"), time_axis=0)
    build.node("quantize", ("x",), {"rounding": "half_even"}, ("q",), (parse_type(code),))
    build.output("q")
    return verify(build.build())


ARRAYS = (
    np.array([1.0, -2.0], np.float32),
    np.array([1e30, -1e30], np.float32),
    np.array([np.nan, 1.0], np.float32),
    np.array([np.inf, 0.0], np.float32),
    np.array([0.0, -np.inf], np.float32),
    np.array([1.5, 2.0]),
    np.array([1e300, 2.0]),
    np.array([1, 2]),
    np.array([1.0, 2.0, 3.0], np.float32)[::2],
    np.zeros(0, np.float32),
    np.zeros((1, 2), np.float32),
    np.array(["1", "2"]),
    [1.0, 2.0],
)


@given(st.lists(st.sampled_from(range(len(ARRAYS))), min_size=1, max_size=6), st.booleans())
@settings(max_examples=60)
def test_a_quick_check_takes_and_refuses_what_the_slow_one_does(order, whole):
    graph = real_input("i32[T]<1.0, 0>" if whole else "i8[T]<0.1, 3>")
    check = InputCheck(graph)
    for index in order:
        found, expected = (
            outcome(one, {"x": ARRAYS[index]}) for one in (check, partial(check_inputs, graph))
        )
        assert type(found) is type(expected)
        np.testing.assert_array_equal(found, expected, strict=isinstance(expected, np.ndarray))


def outcome(check, inputs) -> np.ndarray | str:
    """What a check lets through, or what it says."""
    try:
        return check(inputs)["x"]
    except DataError as error:
        return str(error)


def test_other_names_are_refused_at_any_step():
    check = InputCheck(real_input())
    check({"x": np.zeros(1, np.float32)})
    for names in ((), ("y",), ("x", "y")):
        with pytest.raises(DataError, match="graph 'codes' takes x; found"):
            check(dict.fromkeys(names, np.zeros(1, np.float32)))
