"""Whole blocks of streaming models, in integers: chunks of any size give the bits of the whole."""

from functools import cache

import numpy as np
import pytest
import torch
from export.runtimes import runtimes_agree
from streaming_models import WIDTH, ConformerBlock, GatedRecurrent, TransducerEncoder

from nnaq import pipeline
from nnaq.frontends import ImportOptions
from nnaq.frontends.torch import load
from nnaq.interpret import run
from nnaq.ir.graph import Graph
from nnaq.quantize.calibrate import calibrate
from nnaq.targets import load_target

BLOCKS = (ConformerBlock, TransducerEncoder, GatedRecurrent)
FRAMES = 23


def recording(seed: int, frames: int = FRAMES) -> dict[str, np.ndarray]:
    """Noise that grows and fades."""
    random = np.random.default_rng(seed)
    loudness = 0.2 + np.abs(np.sin(np.arange(frames) / 7))[None, :, None]
    return {"x": (loudness * random.normal(0, 1, (1, frames, WIDTH))).astype(np.float32)}


@cache
def crossing(block: type, activations: str = "i8") -> pipeline.Crossing:
    """A block with random weights, imported with open time and crossed to integers."""
    torch.manual_seed(0)
    module = block().eval()
    states = module.states()
    after = {name: f"{name}_next" for name in states}
    options = ImportOptions(time={"x": 1}, states=after)
    examples = (torch.zeros(1, 4, WIDTH), *states.values())
    graph = load(module, examples, options, ("y", *after.values())).graph
    real = pipeline.simplify(graph)
    ranges = calibrate(real, [recording(seed, 60) for seed in (1, 2)])
    return pipeline.cross(real, ranges, pipeline.Options(load_target("edge8"), activations))


def integers(graph: Graph, chunk: int | None) -> dict[str, np.ndarray]:
    result = run(graph, recording(3), chunk=chunk)
    return {**result.outputs, **result.states}


@pytest.mark.parametrize("activations", ["i8", "i16"])
@pytest.mark.parametrize("block", BLOCKS)
def test_chunks_give_the_bits_of_the_whole(block, activations):
    graph = crossing(block, activations).integer
    whole = integers(graph, None)
    assert whole["y"].shape[1] == FRAMES
    for chunk in (1, 3, 7):
        made = integers(graph, chunk)
        assert made.keys() == whole.keys()
        for name, array in whole.items():
            np.testing.assert_array_equal(made[name], array, err_msg=f"{name}, chunks of {chunk}")


@pytest.mark.parametrize("block", BLOCKS)
def test_nothing_of_a_block_stays_with_the_host(block):
    assert crossing(block).islands == {}
    assert all(t.dtype != "f32" for v, t in crossing(block).integer.types.items() if v not in ("x", "y"))


@pytest.mark.parametrize("block", BLOCKS)
def test_the_integers_follow_the_reals(block):
    made = crossing(block, "i16")
    found, exact = (run(graph, recording(3)).outputs["y"] for graph in (made.integer, made.real))
    error = np.square(found.astype(np.float64) - exact).sum() / np.square(exact.astype(np.float64)).sum()
    assert -10 * np.log10(error) > 25  # 8-bit weights


def test_the_exported_blocks_compute_the_same_integers(tmp_path):
    runtimes_agree([(crossing(block).integer, recording(3, 9), 4) for block in BLOCKS], tmp_path)
