"""The curvature of the loss: equal to the exact Hessian, and an order that measurements confirm."""

import sys
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import spearmanr
from search.small_models import frames, network

from nnaq import pipeline
from nnaq.codebooks.choice import PaletteChoice
from nnaq.interpret import run
from nnaq.ir.build import Builder
from nnaq.ir.types import TensorType
from nnaq.quantize.calibrate import calibrate
from nnaq.search.hessian import (
    CurvatureError,
    Guess,
    curvatures,
    guesses,
    preselect,
    undominated,
)
from nnaq.targets import load_target

CHOICES = [PaletteChoice(bits, method=method) for bits in (1, 2, 3, 4) for method in ("optimal", "uniform")]


def exact_diagonals(graph, recordings):
    """2 Σ J² / signal, derived by hand."""
    c = {name: array.astype(np.float64) for name, array in graph.constants.items()}
    x = np.concatenate([r["x"] for r in recordings]).astype(np.float64)
    h = np.tanh(x @ c["w1"].T + c["b"])
    signal = np.square(h @ c["w2"].T).sum()
    slope = np.square(1 - h**2) * np.square(c["w2"]).sum(0)  # Σ_o (∂y_o / ∂ sum)², [frames, hidden]
    return {
        "w1": 2 * np.einsum("nk,ni->ki", slope, x**2) / signal,
        "w2": 2 * np.broadcast_to(np.square(h).sum(0), c["w2"].shape) / signal,
    }


def test_one_output_of_one_frame_is_exact():
    graph = network(outputs=1)
    recordings = frames(graph, 1)
    found = curvatures(graph, recordings, ["w1", "w2"], samples=2)
    for name, exact in exact_diagonals(graph, recordings).items():
        np.testing.assert_allclose(found[name].diagonal, exact, rtol=1e-4)
        assert found[name].trace == pytest.approx(exact.sum(), rel=1e-4)
        assert found[name].error <= 1e-6 * found[name].trace


def test_the_trace_is_the_exact_one_within_its_standard_error():
    graph = network()
    recordings = frames(graph, 5, 7)
    found = curvatures(graph, recordings, ["w1", "w2"], samples=300)
    for name, exact in exact_diagonals(graph, recordings).items():
        trace, error = found[name].trace, found[name].error
        assert 0.01 < error / trace < 0.1
        assert abs(trace - exact.sum()) < 3 * error
        assert trace == pytest.approx(found[name].diagonal.sum())
        assert np.corrcoef(found[name].diagonal.ravel(), exact.ravel())[0, 1] > (
            0.95 if name == "w1" else 0.9
        )


def test_the_hessian_is_that_of_autograd_by_two_derivatives():
    """Independent of the identity H = 2 JᵀDJ: the loss itself, derived twice by torch."""
    import torch

    graph = network(outputs=1)
    recordings = frames(graph, 1)
    c = {name: torch.tensor(array, dtype=torch.float64) for name, array in graph.constants.items()}
    x = torch.tensor(recordings[0]["x"], dtype=torch.float64)
    still = torch.tanh(x @ c["w1"].T + c["b"]) @ c["w2"].T

    def loss(w1):
        moved = torch.tanh(x @ w1.T + c["b"]) @ c["w2"].T
        return (moved - still).square().sum() / still.square().sum()

    whole = torch.autograd.functional.hessian(loss, c["w1"]).reshape(c["w1"].numel(), -1)
    found = curvatures(graph, recordings, ["w1"], samples=2)["w1"]
    np.testing.assert_allclose(found.diagonal.ravel(), whole.diagonal().numpy(), rtol=1e-4)


def test_seeds_decide_the_samples():
    graph = network()
    recordings = frames(graph, 6)
    first, again, other = (
        curvatures(graph, recordings, ["w1"], samples=4, seed=seed)["w1"] for seed in (0, 0, 1)
    )
    assert first.trace == again.trace != other.trace


def recurrent(seed=3):
    random = np.random.default_rng(seed)
    build = Builder("recurrent")
    x = build.input("x", TensorType("f32", ("T", 1, 3)), time_axis=0)
    h, c = (build.value(name, TensorType("f32", (1, 4))) for name in ("h", "c"))
    weights = [
        build.constant(name, random.normal(0, 0.5, shape).astype(np.float32))
        for name, shape in (("w_input", (16, 3)), ("w_recurrent", (16, 4)), ("bias", (16,)))
    ]
    y, _, _ = build.node("lstm", [x, h, c, *weights], {}, ("y", "h1", "c1"))
    build.state("h", h, "h1", np.zeros((1, 4), np.float32))
    build.state("c", c, "c1", np.zeros((1, 4), np.float32))
    build.output(y, time_axis=0)
    return build.build()


def test_an_error_in_a_recurrent_weight_costs_what_the_curvature_says():
    graph = recurrent()
    random = np.random.default_rng(5)
    inputs = {"x": random.normal(0, 1, (20, 1, 3)).astype(np.float32)}
    found = curvatures(graph, [inputs], ["w_recurrent"], samples=200)["w_recurrent"]
    still = run(graph, inputs).outputs["y"].astype(np.float64)
    ratios = []
    for _ in range(60):
        step = 0.02 * random.choice([-1.0, 1.0], found.diagonal.shape)
        moved = {**graph.constants, "w_recurrent": (graph.constants["w_recurrent"] + step).astype(np.float32)}
        y = run(replace(graph, constants=moved), inputs).outputs["y"]
        noise = np.square(y - still).sum() / np.square(still).sum()
        ratios.append(noise / (0.5 * (found.diagonal * step**2).sum()))
    assert np.mean(ratios) == pytest.approx(1.0, abs=0.2)


def crossing_of(graph, recordings):
    target = load_target("edge8-sub8")
    return pipeline.cross(graph, calibrate(graph, recordings), pipeline.Options(target, "i16"))


def noise_of(crossing, recordings, weight, choice):
    """Through the integers."""
    options = replace(crossing.options, palettes={} if choice is None else {weight: choice})
    integer = pipeline.cross(crossing.real, crossing.ranges, options).integer
    pairs = [(run(crossing.real, r).outputs["y"], run(integer, r).outputs["y"]) for r in recordings]
    wrong = sum(float(np.square(real - found).sum()) for real, found in pairs)
    return wrong / sum(float(np.square(real).sum()) for real, _ in pairs)


def test_the_order_of_choices_is_that_of_measurements():
    graph = network(inputs=8, hidden=24, outputs=6)
    recordings = frames(graph, 60)
    crossing = crossing_of(graph, recordings)
    found = curvatures(graph, recordings, ["w1", "w2"], samples=32)
    guessed, measured = [], []
    for weight in ("w1", "w2"):
        guessed += [g.noise for g in guesses(crossing, found[weight], weight, CHOICES)]
        measured += [noise_of(crossing, recordings, weight, choice) for choice in CHOICES]
    assert spearmanr(guessed, measured).statistic > 0.95
    assert all(0.4 < g / m < 2.5 for g, m in zip(guessed, measured, strict=True) if m < 0.1)


def test_preselection_keeps_what_nothing_beats():
    graph = network(inputs=8, hidden=24, outputs=6)
    recordings = frames(graph, 30)
    crossing = crossing_of(graph, recordings)
    choices = {"w1": CHOICES, "w2": CHOICES[:1]}
    strict = preselect(crossing, recordings, choices, margin=1.0)
    assert strict["w2"] == CHOICES[:1]
    assert [(c.bits, c.method) for c in strict["w1"]] == [(bits, "optimal") for bits in (1, 2, 3, 4)]
    assert preselect(crossing, recordings, choices, margin=1e9) == choices


def test_beaten_guesses_go_and_the_first_of_equals_stays():
    choices = [PaletteChoice(bits) for bits in range(1, 7)]
    figures = [(10, 0.5), (10, 0.4), (20, 0.4), (30, 0.1), (30, 0.1), (25, 0.3)]
    found = [Guess(choice, *pair) for choice, pair in zip(choices, figures, strict=True)]
    assert undominated(found) == [found[1], found[3], found[5]]
    assert undominated(found, margin=1.2) == [found[1], found[2], found[3], found[4], found[5]]
    assert undominated(found, margin=1.3) == found
    assert undominated([]) == []


def test_a_weight_that_no_output_follows_costs_nothing():
    graph = network()
    graph = replace(graph, constants={**graph.constants, "idle": np.ones(3, np.float32)})
    found = curvatures(graph, frames(graph, 2), ["w1", "idle"])
    assert found["idle"].trace == curvatures(graph, frames(graph, 2), ["idle"])["idle"].trace == 0
    assert found["w1"].trace > 0


def test_what_cannot_be_done_is_said(monkeypatch):
    graph = network()
    with pytest.raises(CurvatureError, match="needs 2 samples or more, found 1"):
        curvatures(graph, frames(graph, 2), ["w1"], samples=1)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(CurvatureError, match=r"needs torch; install it with .*nnaq\[torch\]"):
        curvatures(graph, frames(graph, 2), ["w1"])
