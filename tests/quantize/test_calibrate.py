"""Ranges over whole recordings: states rolled through time, started anew at each recording."""

import numpy as np
import pytest
from frontends.onnx_models import normal

from nnaq.errors import DataError
from nnaq.ir.build import Builder
from nnaq.ir.graph import Graph
from nnaq.ir.types import TensorType
from nnaq.ir.verify import verify
from nnaq.quantize import calibrate as module
from nnaq.quantize.calibrate import Ranges, calibrate, observed_values


def counter() -> Graph:
    """y = h + x, h = y: one frame at a time, a state that grows with every frame."""
    b = Builder("counter")
    x = b.input("x", TensorType("f32", ("T", 1)), time_axis=0)
    h = b.value("h", TensorType("f32", (1, 1)))
    (total,) = b.node("add", [h, x], outputs=["y"])
    b.output(total, time_axis=0)
    (last,) = b.node("matmul", [b.constant("one", np.ones((1, 1))), h], outputs=["h2"])
    (after,) = b.node("add", [last, b.constant("step", np.full((1, 1), 0.5))], outputs=["h3"])
    b.state("h", h, after, np.zeros((1, 1)))
    return verify(b.build())


def test_states_are_rolled_through_the_recording(monkeypatch):
    monkeypatch.setattr(module, "CHUNK", 1)
    recording = {"x": np.ones((100, 1), np.float32)}
    ranges = calibrate(counter(), [recording])
    assert ranges["h3"] == (0.5, 50.0)  # after 100 frames, not after one
    assert ranges["y"] == (1.0, 50.5)
    assert ranges["x"] == (1.0, 1.0)
    assert ranges["step"] == (0.5, 0.5)


def test_states_start_anew_at_each_recording(monkeypatch):
    monkeypatch.setattr(module, "CHUNK", 1)
    recordings = [{"x": np.ones((size, 1), np.float32)} for size in (3, 10, 5)]
    assert calibrate(counter(), recordings)["h3"] == (0.5, 5.0)


def test_a_long_recording_is_taken_in_pieces(monkeypatch):
    b = Builder("plain")
    x = b.input("x", TensorType("f32", ("T", 2)), time_axis=0)
    b.output(b.node("tanh", [x], outputs=["y"])[0], time_axis=0)
    graph, recording = b.build(), {"x": normal(50, 2)}
    whole = calibrate(graph, [recording])
    monkeypatch.setattr(module, "CHUNK", 7)
    assert calibrate(graph, [recording]) == whole
    assert whole["y"] == (np.tanh(recording["x"]).min(), np.tanh(recording["x"]).max())


def test_everything_but_constants_is_observed():
    assert observed_values(counter()) == ["x", "y", "h2", "h3"]


def test_a_recording_of_other_inputs_is_refused():
    with pytest.raises(DataError, match="graph 'counter' takes x; found z"):
        calibrate(counter(), [{"z": normal(3, 2)}])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_refused_by_name(value):
    with pytest.raises(DataError, match="value 'x' of model 'counter' is not finite on the calibration data"):
        calibrate(counter(), [{"x": np.full((2, 1), value, np.float32)}])


def test_no_recording_is_refused():
    with pytest.raises(DataError, match="at least one recording"):
        calibrate(counter(), [])


def test_a_union_covers_what_was_observed_and_zero():
    ranges = Ranges({"a": (1.0, 2.0), "b": (-3.0, -1.0)})
    assert ranges.union(["a"]) == (0.0, 2.0)
    assert ranges.union(["a", "b", "unseen"]) == (-3.0, 2.0)
    assert ranges.union(["unseen"]) == (0.0, 0.0)
