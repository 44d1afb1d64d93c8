"""Tuning of a lowered graph: it learns, its log makes it again bit for bit, a cut changes nothing."""

import json

import numpy as np
import pytest
from train.small_layers import WEIGHTS, network, task

from nnaq.errors import DataError, LoweringError
from nnaq.interpret import run
from nnaq.ir.verify import verify
from nnaq.train.zeroth_order.estimator import Estimator
from nnaq.train.zeroth_order.examples import Examples
from nnaq.train.zeroth_order.masks import arm
from nnaq.train.zeroth_order.surfaces import Scales, Weights, scalable, tunable
from nnaq.train.zeroth_order.tuning import Tuning, mean_loss, replay, tune

HOW = Tuning(Estimator(seed=7, amplitude=2, queries=2), rate=150.0, steps=12)


def masks(graph, kept=0.5):
    return {name: arm("random", graph.constants[name], kept, 1, n) for n, name in enumerate(WEIGHTS)}


def surface():
    graph = network()
    return Weights(graph, masks(graph))


def loss(seed=3):
    return mean_loss({"one": task(1), "two": task(1)}, 16, seed)


def test_a_network_of_integers_learns_by_forward_passes_alone(tmp_path):
    graph, examples = network(), task(4)
    how = Tuning(Estimator(seed=1, amplitude=2, queries=2), rate=6000.0, steps=150)
    dense = {name: np.ones(graph.constants[name].shape, bool) for name in WEIGHTS}
    made = tune(Weights(graph, dense), mean_loss({"one": examples}, 64), how, tmp_path / "log")
    assert examples.correct(graph) < 0.5
    assert examples.correct(made) > 0.95
    assert examples.losses(made).mean() < 0.3 * examples.losses(graph).mean()


def test_only_kept_weights_move_and_types_stay(tmp_path):
    graph = network()
    made = tune(surface(), loss(), HOW, tmp_path / "log")
    verify(made)
    assert made.types == graph.types
    for name, mask in masks(graph).items():
        np.testing.assert_array_equal(made.constants[name][~mask], graph.constants[name][~mask])
        assert (made.constants[name] != graph.constants[name])[mask].any()
        assert made.constants[name].dtype == np.int8
    assert all(
        np.array_equal(made.constants[n], graph.constants[n]) for n in graph.constants if n not in WEIGHTS
    )


def test_a_log_makes_the_same_integers_without_a_forward_pass(tmp_path):
    made = tune(surface(), loss(), HOW, tmp_path / "log")
    assert replay(surface(), HOW, tmp_path / "log") == made
    rows = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert [row["step"] for row in rows[1:]] == list(range(12))
    assert {row["seed"] for row in rows[1:]} == {7}
    assert all(len(row["coefficients"]) == 2 for row in rows[1:])


@pytest.mark.parametrize("cut", [0, 30, -1, -20, -200])
def test_a_run_that_was_cut_goes_on_as_if_it_had_not_been(tmp_path, cut):
    made = tune(surface(), loss(), HOW, tmp_path / "log")
    whole = (tmp_path / "log").read_bytes()
    (tmp_path / "log").write_bytes(whole[:cut])
    assert tune(surface(), loss(), HOW, tmp_path / "log") == made
    assert (tmp_path / "log").read_bytes() == whole


def test_more_steps_go_on_from_fewer(tmp_path):
    few = Tuning(HOW.estimator, HOW.rate, 5)
    tune(surface(), loss(), few, tmp_path / "log")
    assert tune(surface(), loss(), HOW, tmp_path / "log") == tune(surface(), loss(), HOW, tmp_path / "other")


def test_a_log_of_another_run_is_refused(tmp_path):
    tune(surface(), loss(), HOW, tmp_path / "log")
    with pytest.raises(DataError, match="rate"):
        replay(surface(), Tuning(HOW.estimator, 1.0, 12), tmp_path / "log")
    other = Weights(network(5), masks(network(5)))
    with pytest.raises(DataError, match="parameters"):
        tune(other, loss(), HOW, tmp_path / "log")
    lines = (tmp_path / "log").read_text().splitlines(keepends=True)
    (tmp_path / "log").write_text("".join(lines[:3] + lines[4:]))
    with pytest.raises(DataError, match="step 2"):
        replay(surface(), HOW, tmp_path / "log")


def test_a_batch_depends_on_the_step_alone():
    graph = network()
    assert loss()(graph, 4) == loss()(graph, 4)
    assert loss()(graph, 4) != loss()(graph, 5)


def test_scales_are_tuned_while_codes_stay(tmp_path):
    graph = network()
    scales = Scales(graph, {"first": np.arange(8) % 2 == 0})
    assert scalable(graph) == ("first",)  # the second hands out its sums
    made = tune(scales, loss(), Tuning(Estimator(amplitude=0.05), 0.5, 10), tmp_path / "log")
    verify(made)
    for name in ("first.weight", "first.bias", "second.weight"):
        np.testing.assert_array_equal(made.constants[name], graph.constants[name])
    changed = made.constants["first.multiplier"] != graph.constants["first.multiplier"]
    assert changed[::2].any()
    assert not changed[1::2].any()
    gains = np.array(made.types["first.weight"].quant.scale) / 0.004
    stands = made.constants["first.multiplier"] * 2.0 ** made.constants["first.shift"]
    stood = graph.constants["first.multiplier"] * 2.0 ** graph.constants["first.shift"]
    np.testing.assert_allclose(stands / stood, gains, rtol=2**-29)


def test_tuned_integers_are_those_of_the_reference(tmp_path):
    made, x = tune(surface(), loss(), HOW, tmp_path / "log"), task(1, 5).inputs
    fast, reference = (run(made, x, mode).outputs["second.y"] for mode in ("fast", "reference"))
    np.testing.assert_array_equal(fast, reference)


def test_the_loss_is_read_from_codes():
    graph, examples = network(), task(1, 8)
    logits = run(graph, examples.inputs).outputs["second.y"] * graph.types["second.y"].scale
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    expected = -np.log(p[np.arange(8), examples.labels])
    np.testing.assert_allclose(examples.losses(graph), expected)


def test_labels_that_do_not_fit_are_refused():
    x = task(1, 4).inputs
    with pytest.raises(DataError, match="below 2"):
        Examples(x, np.array([0, 1, 2, 0]), "second.y").losses(network())
    with pytest.raises(DataError, match="no output"):
        Examples(x, np.zeros(4, int), "y").losses(network())
    left_out = Examples(x, np.array([-1, 0, -1, 1]), "second.y").losses(network())
    assert left_out[[0, 2]].tolist() == [0, 0]


def test_what_cannot_be_tuned_is_refused():
    graph = network()
    assert tunable(graph) == WEIGHTS
    with pytest.raises(DataError, match=r"first\.weight"):
        Weights(graph, {"first.bias": np.ones(8, bool)})
    with pytest.raises(DataError, match="first"):
        Scales(graph, {"second": np.ones(2, bool)})


def test_sums_that_kept_weights_could_overflow_are_refused():
    graph = network()
    graph.constants["second.bias"][:] = 2**31 - 1 - 90 * 8 * 255
    with pytest.raises(LoweringError, match="accumulator"):
        Weights(graph, masks(graph, 1.0))
