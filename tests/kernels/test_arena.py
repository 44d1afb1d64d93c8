"""Weights in one arena: where they are, what they hold, and how long it lasts."""

import gc
import mmap
import weakref

import numpy as np
import pytest
from simulate.lowered import layer

from nnaq.interpret import Interpreter
from nnaq.kernels import arena as arenas
from nnaq.kernels.arena import arena, at_rest
from nnaq.kernels.weight_panels import weights_of

pytestmark = pytest.mark.skipif(not hasattr(mmap, "MADV_HUGEPAGE"), reason="huge pages are Linux's")


def owner(array: np.ndarray) -> object:
    """What holds the memory of an array."""
    while isinstance(array, np.ndarray) and array.base is not None:
        array = array.base
    return array


def test_arrays_stand_side_by_side_as_long_as_there_is_room():
    arrays = [np.arange(n, dtype=np.int16) for n in (5, 0, 33, 7)]
    with arena(arenas.LEAST):
        placed = [at_rest(array) for array in arrays]
        large = np.zeros(2 * arenas.LEAST, np.int8)
        assert at_rest(large) is large
        with arena(arenas.LEAST - 1):
            assert at_rest(arrays[0]) is arrays[0]
        assert at_rest(arrays[0]) is not arrays[0]
    assert at_rest(arrays[0]) is arrays[0]
    places = [array.ctypes.data for array in placed if array.size]
    assert places[0] % arenas.PAGE == 0
    assert [place - places[0] for place in places] == [0, 64, 192]
    for found, array in zip(placed, arrays, strict=True):
        np.testing.assert_array_equal(found, array, strict=True)


def test_an_arena_lasts_as_long_as_its_arrays():
    with arena(arenas.LEAST):
        first, second = at_rest(np.arange(9)), at_rest(np.arange(8))
    seen = weakref.ref(owner(first).obj)
    assert isinstance(seen(), mmap.mmap)
    del first
    gc.collect()
    assert seen() is not None
    del second
    gc.collect()
    assert seen() is None


def test_an_interpreter_places_its_weights(monkeypatch):
    monkeypatch.setattr(arenas, "LEAST", 1)
    made, place = [], arenas.Arena.place
    monkeypatch.setattr(
        arenas.Arena, "place", lambda self, array: made.append(place(self, array)) or made[-1]
    )
    graph = layer(rows=3)
    interpreter = Interpreter(graph)
    (panels,) = made
    np.testing.assert_array_equal(panels, weights_of(graph.constants["weight"], 0)[2])
    x = np.random.default_rng(0).integers(-128, 128, (3, 64)).astype(np.int8)
    expected = Interpreter(graph, "reference").step({"x": x}).outputs["y"]
    for _ in range(3):
        np.testing.assert_array_equal(interpreter.step({"x": x}).outputs["y"], expected)
