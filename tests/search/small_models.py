"""A small network with two weights, and recordings for it."""

import numpy as np

from nnaq.ir.build import Builder
from nnaq.ir.types import TensorType

LINEAR = {"activation": "none"}


def network(inputs=3, hidden=4, outputs=2, seed=0):
    """w2 tanh(w1 x + b), with a constant that no output follows."""
    random = np.random.default_rng(seed)

    def constant(name, *shape):
        return build.constant(name, random.normal(0, 0.6, shape).astype(np.float32))

    build = Builder("network")
    x = build.input("x", TensorType("f32", ("T", inputs)), time_axis=0)
    (h,) = build.node("fully_connected", [x, constant("w1", hidden, inputs), constant("b", hidden)], LINEAR)
    (t,) = build.node("tanh", [h])
    (y,) = build.node("fully_connected", [t, constant("w2", outputs, hidden)], LINEAR, ["y"])
    build.output(y, time_axis=0)
    return build.build()


def frames(graph, *counts, seed=1):
    random = np.random.default_rng(seed)
    inputs = int(graph.types["x"].shape[-1])
    return [{"x": random.normal(0, 1, (count, inputs)).astype(np.float32)} for count in counts]
