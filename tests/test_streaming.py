"""Streams: a recording in chunks of any size gives the bits of the recording at once.

A causal layer keeps what it will look back on: its state is joined in front of a chunk, and the last
frames of the two together are the next state.
"""

from functools import cache

import numpy as np
import pytest
from export.runtimes import runtimes_agree
from hypothesis import given
from hypothesis import strategies as st

from nnaq import pipeline
from nnaq.interpret import Result, run
from nnaq.ir.build import Builder
from nnaq.ir.graph import Graph
from nnaq.ir.types import TensorType
from nnaq.ir.verify import verify
from nnaq.quantize.calibrate import calibrate
from nnaq.targets import load_target

CHANNELS, WIDTH, LOOK_BACK = 4, 6, 5
TO_THE_END = 2**31 - 1


def f32(*shape: int | str) -> TensorType:
    return TensorType("f32", shape)


def remembered(build: Builder, x: str, frames: int, axis: int) -> str:
    """x with the last `frames` frames before it in front; without any, x itself."""
    if frames == 0:
        return x
    shape = [frames if a == axis else size for a, size in enumerate(build.types[x].shape)]
    past = build.value(f"{x}.past", f32(*shape))
    (joined,) = build.node("concat", [past, x], {"axis": axis})
    last = {"axes": (axis,), "starts": (-frames,), "ends": (TO_THE_END,), "steps": (1,)}
    (kept,) = build.node("slice", [joined], last)
    build.state(f"{x}.memory", past, kept, np.zeros(shape, np.float32))
    return joined


def crossed(build: Builder, shape: tuple[int, ...]) -> Graph:
    """The integer graph, calibrated on noise of `shape`."""
    real = pipeline.simplify(verify(build.build()))
    noise = {"x": np.random.default_rng(0).normal(0, 1, shape).astype(np.float32)}
    return pipeline.cross(real, calibrate(real, [noise]), pipeline.Options(load_target("edge8"))).integer


@cache
def convolution(kernel: int, dilation: int, stride: int, streaming: bool = True) -> Graph:
    """A causal conv1d over [1, channels, T] that keeps its past, or pads with zeros instead."""
    random, build = np.random.default_rng(kernel), Builder("convolution")
    past = max((kernel - 1) * dilation + 1 - stride, 0)
    x = build.input("x", f32(1, CHANNELS, "T"), time_axis=2)
    weight = build.constant("weight", random.normal(0, 1, (3, CHANNELS, kernel)).astype(np.float32))
    joined = remembered(build, x, past, 2) if streaming else x
    padding = (0 if streaming else past, 0)
    attrs = {"stride": stride, "dilation": dilation, "padding": padding, "groups": 1, "activation": "relu"}
    (y,) = build.node("conv1d", [joined, weight], attrs, ["y"])
    build.output(y, time_axis=2)
    return crossed(build, (1, CHANNELS, 60))


@cache
def attention() -> Graph:
    """Causal self-attention over [1, T, width] that looks back on LOOK_BACK frames: a band of its scores."""
    random, build = np.random.default_rng(3), Builder("attention")
    x = build.input("x", f32(1, "T", WIDTH), time_axis=1)
    queries, keys, values = (
        build.node(
            "fully_connected",
            [x, build.constant(name, random.normal(0, 0.5, (WIDTH, WIDTH)).astype(np.float32))],
            {"activation": "none"},
            [f"{name}.y"],
        )[0]
        for name in ("queries", "keys", "values")
    )
    keys, values = (remembered(build, value, LOOK_BACK, 1) for value in (keys, values))
    (turned,) = build.node("transpose", [keys], {"perm": (0, 2, 1)})
    (scores,) = build.node("matmul", [queries, turned])
    (shares,) = build.node("softmax", [scores, band(build, x, keys)])
    (y,) = build.node("matmul", [shares, values], outputs=["y"])
    build.output(y, time_axis=1)
    return crossed(build, (1, 40, WIDTH))


def band(build: Builder, x: str, keys: str) -> str:
    """Flags [T, LOOK_BACK + T]: query i sees the keys i .. i + LOOK_BACK, its own the last of them."""
    (first,) = build.node("arange", [x], {"axis": 1, "start": 0, "step": 1})
    (last,) = build.node("arange", [x], {"axis": 1, "start": LOOK_BACK, "step": 1})
    (places,) = build.node("arange", [keys], {"axis": 1, "start": 0, "step": 1})
    first, last = (build.node("reshape", [v], {"shape": (-1, 1)})[0] for v in (first, last))
    (begun,) = build.node("greater_or_equal", [places, first])
    (open_,) = build.node("less_or_equal", [places, last])
    return build.node("logical_and", [begun, open_])[0]


def noise(shape: tuple[int, ...], seed: int) -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(seed).normal(0, 1.2, shape).astype(np.float32)}


def same_bits(found: Result, expected: Result) -> None:
    for kind in ("outputs", "states"):
        left, right = getattr(found, kind), getattr(expected, kind)
        assert left.keys() == right.keys()
        for name in right:
            np.testing.assert_array_equal(left[name], right[name])


seeds = st.integers(0, 2**32 - 1)


@pytest.mark.parametrize("chunk", [1, 3, 7])
@given(st.integers(1, 5), st.integers(1, 3), st.integers(1, 20), seeds)
def test_a_causal_convolution(chunk, kernel, dilation, frames, seed):
    graph, x = convolution(kernel, dilation, 1), noise((1, CHANNELS, frames), seed)
    whole = run(graph, x)
    same_bits(run(graph, x, chunk=chunk), whole)
    padded = run(convolution(kernel, dilation, 1, streaming=False), x)
    np.testing.assert_array_equal(whole.outputs["y"], padded.outputs["y"])
    assert whole.outputs["y"].shape == (1, 3, frames)


@pytest.mark.parametrize("chunk", [1, 3, 7])
@given(st.integers(1, 5), st.integers(2, 3), st.integers(1, 8), seeds)
def test_a_strided_convolution_in_chunks_of_whole_strides(chunk, kernel, stride, strides, seed):
    graph, x = convolution(kernel, 2, stride), noise((1, CHANNELS, strides * stride), seed)
    whole = run(graph, x)
    same_bits(run(graph, x, chunk=chunk * stride), whole)
    padded = run(convolution(kernel, 2, stride, streaming=False), x)
    np.testing.assert_array_equal(whole.outputs["y"], padded.outputs["y"])
    assert whole.outputs["y"].shape == (1, 3, strides)


@pytest.mark.parametrize("chunk", [1, 3, 7])
@given(st.integers(1, 20), seeds)
def test_attention_with_cached_keys(chunk, frames, seed):
    x = noise((1, frames, WIDTH), seed)
    same_bits(run(attention(), x, chunk=chunk), run(attention(), x))


def test_attention_sees_its_band_and_nothing_else():
    """A frame changes the results from its own up to LOOK_BACK frames later, and no others."""
    x, at = noise((1, 20, WIDTH), 0), 8
    other = {"x": x["x"].copy()}
    other["x"][:, at] *= -1
    before, after = (run(attention(), v).outputs["y"] for v in (x, other))
    changed = np.flatnonzero((before != after).any((0, 2)))
    assert changed.min() == at
    assert changed.max() <= at + LOOK_BACK
    assert len(changed) > 1


def test_reference_kernels_and_runtimes_stream_alike(tmp_path):
    cases = []
    for graph, shape, chunk in (
        (convolution(3, 2, 1), (1, CHANNELS, 8), 3),
        (convolution(5, 2, 3), (1, CHANNELS, 9), 3),
        (attention(), (1, 8, WIDTH), 3),
    ):
        x = noise(shape, 1)
        same_bits(run(graph, x, "reference", chunk=chunk), run(graph, x))
        cases.append((graph, x, chunk))
    runtimes_agree(cases, tmp_path)
