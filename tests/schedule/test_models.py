"""Streaming detectors lowered whole: their compiled steps give the interpreter's integers, chunk by chunk."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
from schedule.step_graphs import same
from test_silero import integer, lowering, sound  # noqa: F401  (fixtures)
from voice_models import FRAME, RECIPE, detector

from nnaq.crossing import import_options, lower_graph
from nnaq.frontends import load
from nnaq.interpret import run
from nnaq.quantize.recipe import load_recipe
from nnaq.schedule import compile_step, execute_plan
from nnaq.targets import load_target

EDGE8 = load_target("edge8")


def short_of_sram(size: int):
    return replace(EDGE8, sram=replace(EDGE8.sram, bytes=size))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """The detector of the voice tests, crossed to integers."""
    folder = tmp_path_factory.mktemp("tiny")
    onnx.save(detector(), folder / "model.onnx")
    (folder / "recipe.toml").write_text(RECIPE)
    recipe = load_recipe(str(folder / "recipe.toml"))
    real = load(folder / "model.onnx", import_options(recipe)).graph
    noise = {"x": np.random.default_rng(0).uniform(-1, 1, (60, FRAME)).astype(np.float32)}
    return lower_graph(real, [noise], [noise], recipe, EDGE8).crossing.integer


@pytest.mark.parametrize("size", [1 << 19, 1 << 10])
@pytest.mark.parametrize("pinning", ["none", "greedy"])
def test_a_small_detector(tiny, size, pinning):
    frames = {"x": np.random.default_rng(1).uniform(-1, 1, (7, FRAME)).astype(np.float32)}
    expected = run(tiny, frames)
    found = execute_plan(tiny, short_of_sram(size), frames, chunk=3, pinning=pinning)
    assert same(found.outputs, expected.outputs)
    assert same(found.states, expected.states)


@pytest.mark.parametrize("size", [1 << 19, 1 << 15])
def test_silero(integer, size):  # noqa: F811
    frames = {"input": sound(5)}
    expected = run(integer, frames)
    found = execute_plan(integer, short_of_sram(size), frames, chunk=2)
    assert same(found.outputs, expected.outputs)
    assert same(found.states, expected.states)


def test_a_detector_in_a_small_sram_fits_by_streaming(integer):  # noqa: F811
    step = compile_step(integer, short_of_sram(1 << 15))
    assert step.plan.fits
    assert step.plan.weight_bytes > 8 * (1 << 15)
    assert sum(command.dram_bytes for command in step.commands) > step.plan.weight_bytes // 2
