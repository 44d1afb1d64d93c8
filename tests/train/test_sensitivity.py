"""Slopes and curvatures of a lowered layer from forward passes, and the masks made of them."""

from dataclasses import replace

import numpy as np
import pytest
from train.small_layers import WEIGHTS, network, task

from nnaq.errors import DataError
from nnaq.train.zeroth_order.examples import Examples
from nnaq.train.zeroth_order.sensitivity import Probe, mazo_masks, sensitivity


def analytic(graph, examples):
    """Slopes [O, K] and curvatures [O] of the last layer: cross-entropy of softmax, in accumulator steps."""
    _, values = examples.run(graph, ("first.y",))
    x = values["first.y"].astype(float) - graph.types["first.y"].zero_point
    kind = graph.types["second.y"]
    logits = values["second.y"] * kind.scale
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    slope = (p - np.eye(p.shape[1])[examples.labels]) * kind.scale
    return slope.T @ x / len(x), (p * (1 - p)).mean(axis=0) * kind.scale**2, x.T @ x / len(x)


def test_slopes_and_curvatures_come_out_of_forward_passes():
    """With 300 queries and 3 classes slopes are known to about (3 / 300)^1/2 = 0.1 of their norm."""
    graph, examples = network(1, 3), task(4, 40)
    one = sensitivity(graph, "second.weight", examples, Probe(300))
    slope, curvature, moment = analytic(graph, examples)
    np.testing.assert_allclose(one.second_moment, moment)
    assert np.linalg.norm(one.gradient - slope) <= 0.25 * np.linalg.norm(slope)
    assert np.linalg.norm(one.curvature - curvature) <= 0.6 * np.linalg.norm(curvature)


def test_masks_of_tasks_keep_the_same_number_in_every_row_and_come_again():
    graph, tasks = network(), {"one": task(1, 24), "two": task(2, 24)}
    masks = mazo_masks(graph, WEIGHTS, tasks, 0.5, probe=Probe(4))
    again = mazo_masks(graph, WEIGHTS, tasks, 0.5, probe=Probe(4))
    for name in WEIGHTS:
        assert masks[name].shape == graph.constants[name].shape
        assert set(masks[name].sum(axis=1).tolist()) == {masks[name].shape[1] // 2}
        np.testing.assert_array_equal(masks[name], again[name])


def test_an_input_that_is_always_zero_is_never_kept():
    graph, one = network(), task(1, 24)
    x = one.inputs["x"].copy()
    x[:, 2] = graph.types["x"].zero_point
    masks = mazo_masks(
        graph, WEIGHTS[:1], {"one": Examples({"x": x}, one.labels, one.output)}, 0.5, probe=Probe(8)
    )
    live = ~np.all(masks["first.weight"][:, :2], axis=1)  # rows of dead outputs are uniform: first of equals
    assert not masks["first.weight"][live, 2].any()


def test_other_layers_have_no_scores():
    with pytest.raises(DataError, match="magnitude"):
        sensitivity(network(), "first.bias", task(1, 8), Probe(1))


def positions(graph, examples):
    """The network as one over two positions an example, both of the same input: [N, 2, 6]."""
    types = dict(graph.types)
    for name in ("x", "first.y", "second.y"):
        size, width = types[name].shape
        types[name] = types[name].with_shape((size, 2, width))
    x, labels = (np.stack([array, array], 1) for array in (examples.inputs["x"], examples.labels))
    return replace(graph, types=types), Examples({"x": x}, labels, examples.output)


def test_layers_over_positions_have_scores():
    """The loss is the mean of two equal positions, so slopes and curvatures over both are those of one."""
    graph, examples = network(1, 3), task(4, 40)
    slope, curvature, moment = analytic(graph, examples)
    wide, both = positions(graph, examples)
    one = sensitivity(wide, "second.weight", both, Probe(200))
    np.testing.assert_allclose(one.second_moment, moment)
    assert np.linalg.norm(one.gradient - slope) <= 0.25 * np.linalg.norm(slope)
    assert np.linalg.norm(one.curvature - curvature) <= 0.6 * np.linalg.norm(curvature)
