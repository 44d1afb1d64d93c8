"""Which layer lost the accuracy: error inherited from before, and error a layer added itself."""

import numpy as np
import pytest
from frontends.onnx_models import normal

from nnaq import pipeline
from nnaq.ir.build import Builder
from nnaq.ir.graph import Graph
from nnaq.ir.types import TensorType
from nnaq.quantize.calibrate import calibrate
from nnaq.quantize.error import LayerError, codes_of, decibel, input_codes, layer_errors
from nnaq.targets import load_target

X = {"x": normal(200, 8)}


def two_layers() -> Graph:
    """bad = tanh(x) -> fine = bad W: only the first is given coarse codes."""
    b = Builder("two")
    x = b.input("x", TensorType("f32", ("T", 8)), time_axis=0)
    (bad,) = b.node("tanh", [x], outputs=["bad"])
    (moved,) = b.node("reshape", [bad], {"shape": (-1, 8)}, ["moved"])
    weight = b.constant("w", normal(8, 8))
    b.output(b.node("fully_connected", [moved, weight], {"activation": "none"}, ["fine"])[0], time_axis=0)
    return b.build()


@pytest.fixture(scope="module")
def crossing() -> pipeline.Crossing:
    real = pipeline.simplify(two_layers())
    options = pipeline.Options(load_target("edge8"), dtypes={"x": "i16", "fine": "i16"})
    return pipeline.cross(real, calibrate(real, [X]), options)


@pytest.fixture(scope="module")
def errors(crossing) -> dict[str, LayerError]:
    return {e.value: e for e in layer_errors(crossing.real, crossing.integer, [X])}


def test_the_layer_that_rounds_coarsely_added_the_error(errors):
    """tanh goes from 16 to 8 bits; what follows inherits that and adds only its weights' rounding."""
    bad, fine = errors["bad"], errors["fine"]
    assert bad.added_db == pytest.approx(bad.sqnr_db, abs=1)
    assert fine.sqnr_db < fine.added_db - 1


def test_a_layer_that_only_moves_adds_nothing(errors):
    moved = errors["moved"]
    assert moved.added_db is None
    assert moved.sqnr_db == errors["bad"].sqnr_db
    assert not moved.exact


def test_rounding_noise_is_a_twelfth_of_a_squared_step(crossing, errors):
    """The input quantiser: SQNR = signal / (scale² / 12), to within what 1,600 values tell."""
    scale = crossing.integer.types[input_codes(crossing.integer, "x")].scale
    expected = 10 * np.log10(np.square(X["x"]).mean() / (scale**2 / 12))
    assert errors["x"].sqnr_db == pytest.approx(expected, abs=0.5)
    assert errors["x"].op == "quantize"


def test_the_worst_comes_first(crossing):
    found = layer_errors(crossing.real, crossing.integer, [X])
    assert [e.sqnr_db for e in found] == sorted(e.sqnr_db for e in found)


def test_recordings_add_up(crossing):
    """Over a recording twice, every ratio is what it is over it once."""
    once, twice = (layer_errors(crossing.real, crossing.integer, [X] * n) for n in (1, 2))
    assert [e.value for e in once] == [e.value for e in twice]
    assert [e.sqnr_db for e in twice] == pytest.approx([e.sqnr_db for e in once])


def test_16_bits_add_less(crossing, errors):
    options = pipeline.Options(crossing.options.target, "i16")
    finer = pipeline.cross(crossing.real, crossing.ranges, options)
    found = {e.value: e for e in layer_errors(finer.real, finer.integer, [X])}
    assert found["bad"].added_db > errors["bad"].added_db + 20


def test_the_value_to_raise_is_the_one_that_added_most(crossing):
    assert pipeline.worst_value(crossing, [X]).value == "bad"


def test_codes_are_found_by_the_name_of_their_value(crossing):
    assert codes_of(crossing.integer, "fine") == "fine.codes"
    assert codes_of(crossing.integer, "bad") == "bad"
    assert codes_of(crossing.integer, "w") is None
    assert codes_of(crossing.integer, "x") is None
    assert input_codes(crossing.integer, "x") == "x.fq"


def test_decibels():
    assert decibel(100.0, 1.0) == 20.0
    assert decibel(1.0, 0.0) is None
    assert decibel(0.0, 1.0) == -300.0
    assert LayerError("a", "a", "relu", None, None).exact
