"""Crossings of the small speech module that the tests of training share."""

import numpy as np
from frontends.torch_modules import noise, speech_graph

from nnaq import pipeline
from nnaq.quantize.calibrate import calibrate
from nnaq.targets import load_target


def crossing(activations="i8", **options):
    """Conv1d, LSTM, Linear in integers; ranges from four recordings of noise."""
    _, graph = speech_graph()
    real = pipeline.simplify(graph)
    ranges = calibrate(real, [{"x": noise(60, seed)} for seed in range(4)])
    return pipeline.cross(real, ranges, pipeline.Options(load_target("edge8"), activations, **options))


def inputs(frames=24, seed=9):
    return {"x": noise(frames, seed)}


def codes(reals, kind):
    """The codes that reals on the grid of `kind` stand for."""
    whole = np.rint(reals.astype(np.float64) / kind.quant.scales(reals.ndim)) + kind.zero_point
    return whole.astype(np.int64)
