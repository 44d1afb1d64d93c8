"""Whole utterances become streams: in chunks of any size the same integers, from the same graph of codes."""

from functools import cache

import numpy as np
import pytest
import torch
import whole_utterances as whole
from hypothesis import given
from hypothesis import strategies as st
from streaming_models import WIDTH as streaming_width
from streaming_models import ConformerBlock, GatedRecurrent, TransducerEncoder

from nnaq import passes, pipeline
from nnaq.errors import StreamError
from nnaq.export.check import file_equals_simulator
from nnaq.export.onnx import export_model
from nnaq.frontends import ImportOptions
from nnaq.frontends.torch import load
from nnaq.interpret import Interpreter, Result, join, run
from nnaq.ir.build import Builder
from nnaq.ir.cut import cut
from nnaq.ir.graph import Graph
from nnaq.ir.op import table
from nnaq.ir.types import TensorType
from nnaq.ir.verify import verify
from nnaq.passes import MakeStreaming
from nnaq.passes.time_rules import RULES
from nnaq.quantize.calibrate import calibrate
from nnaq.simulate import simulate
from nnaq.targets import load_target

BLOCKS = (whole.Recurrences, whole.Convolutions, whole.Bands, whole.Attention)
T = ("T", "N", whole.WIDTH)


def recording(frames: int, seed: int, labels: int | None = None) -> dict[str, np.ndarray]:
    """One utterance of noise, with labels where the model reads some."""
    random = np.random.default_rng(seed)
    x = {"x": random.normal(0, 1, (frames, 1, whole.WIDTH)).astype(np.float32)}
    if labels is None:
        return x
    return {**x, "y": random.integers(0, whole.UNITS, (labels, 1)).astype(np.float32)}


@cache
def crossing(block: type) -> pipeline.Crossing:
    """A block with random weights in integers."""
    torch.manual_seed(0)
    options = ImportOptions(time={"x": 0}, shapes={"x": T})
    real = pipeline.simplify(load(block().eval(), (torch.zeros(8, 2, whole.WIDTH),), options).graph)
    ranges = calibrate(real, [recording(40, seed) for seed in (1, 2)])
    return pipeline.cross(real, ranges, pipeline.Options(load_target("edge8")))


@cache
def streaming(block: type) -> Graph:
    graph = crossing(block).integer
    return passes.run(graph, [MakeStreaming()], check=recording(12, 5))


@cache
def transducer() -> Graph:
    """The integer graph of a whole RNN-T."""
    torch.manual_seed(0)
    options = ImportOptions(time={"x": 0, "y": 0}, shapes={"x": T, "y": ("U", "N")})
    example = torch.zeros(8, 2, whole.WIDTH), torch.zeros(4, 2, dtype=torch.int64)
    real = pipeline.simplify(load(whole.transducer().eval(), example, options).graph)
    ranges = calibrate(real, [recording(20, seed, 6) for seed in (1, 2)])
    return pipeline.cross(real, ranges, pipeline.Options(load_target("edge8"))).integer


@cache
def parts() -> tuple[Graph, Graph, Graph]:
    """Encoder, predictor and joint of the streaming RNN-T."""
    graph = passes.run(transducer(), [MakeStreaming()], check=recording(8, 5, 3))
    return (
        cut(graph, ["x"], ["hear"], "encoder"),
        cut(graph, ["y"], ["read"], "predictor"),
        cut(graph, ["hear", "read"], ["output"], "joint"),
    )


def in_chunks(graph: Graph, x: dict[str, np.ndarray], sizes: list[int], mode: str = "fast") -> Result:
    """The recording in chunks of these sizes, the first input along axis 0, and the rest of it at the end."""
    interpreter, (name, frames), results = Interpreter(graph, mode), *x.items(), []
    for piece in np.split(frames, np.cumsum(sizes)):
        results.append(interpreter.step({name: piece}))
    outputs = {p.name: join([r.outputs[p.name] for r in results], p.time_axis) for p in graph.outputs}
    return Result(outputs, results[-1].states)


def same(found: Result, expected: Result) -> None:
    np.testing.assert_equal(dict(found.outputs), dict(expected.outputs))
    np.testing.assert_equal(dict(found.states), dict(expected.states))


# --- blocks, bit for bit


@pytest.mark.parametrize("block", BLOCKS)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=4), st.integers(0, 2**32 - 1))
def test_chunks_of_any_size_give_the_integers_of_the_whole_utterance(block, chunks, seed):
    sizes = [n * block.step for n in chunks]
    graph, x = streaming(block), recording(sum(sizes) + block.step, seed)
    found, at_once = in_chunks(graph, x, sizes), run(graph, x)
    same(found, at_once)
    np.testing.assert_array_equal(
        at_once.outputs["output"], run(crossing(block).integer, x).outputs["output"]
    )
    assert len(at_once.outputs["output"]) == len(x["x"]) // block.step


@pytest.mark.parametrize("block", BLOCKS)
def test_reference_kernels_and_the_file_stream_alike(block):
    graph, x = streaming(block), recording(8, 3)
    same(in_chunks(graph, x, [2, 4], "reference"), run(graph, x))
    assert file_equals_simulator(export_model(graph), graph, x, 4).mismatches == 0


@pytest.mark.parametrize("block", BLOCKS)
def test_a_stream_runs_on_the_machine_and_nothing_of_it_on_the_host(block):
    assert crossing(block).islands == {}
    simulation = simulate(streaming(block), load_target("edge8"))
    assert (simulation.islands, simulation.cycles_per_step > 0) == ((), True)


@pytest.mark.parametrize("block", BLOCKS)
def test_what_streams_already_stays_as_it_is(block):
    assert MakeStreaming().run(streaming(block)) == streaming(block)


@pytest.mark.parametrize("block", [ConformerBlock, TransducerEncoder, GatedRecurrent])
def test_states_that_a_model_has_of_its_own_stay(block):
    module, after = block().eval(), {name: f"{name}_next" for name in block.states()}
    example = torch.zeros(1, 4, streaming_width), *block.states().values()
    options = ImportOptions(time={"x": 1}, states=after)
    graph = pipeline.simplify(load(module, example, options, ("y", *after.values())).graph)
    assert passes.run(graph, [MakeStreaming()]) == graph


def test_states_are_named_by_what_they_are_the_past_of():
    assert [s.name for s in streaming(whole.Recurrences).states] == [
        "first.lstm.h.past",
        "first.lstm.c.past",
        "second.h.past",
    ]
    for block in BLOCKS:
        graph = streaming(block)
        assert all(state.input == state.name for state in graph.states)
        assert not any(node.op == "expand" and "h0" in node.inputs[0] for node in graph.nodes)


@pytest.mark.parametrize("block", [whole.Convolutions, whole.Attention])
def test_a_real_graph_streams_as_well(block):
    real = crossing(block).real
    graph, x = passes.run(real, [MakeStreaming()]), recording(12, 3)
    expected = run(real, x).outputs["output"]
    np.testing.assert_allclose(in_chunks(graph, x, [2, 6]).outputs["output"], expected, atol=1e-5)


# --- a transducer in its parts


@given(st.lists(st.integers(1, 4), min_size=1, max_size=3), st.integers(0, 2**32 - 1))
def test_the_parts_of_a_transducer_compose_to_the_whole(chunks, seed):
    encoder, predictor, joint = parts()
    x = recording(2 * sum(chunks) + 2, seed, 4)
    logits = run(transducer(), x).outputs["output"]
    heard = in_chunks(encoder, {"x": x["x"]}, [2 * n for n in chunks]).outputs["hear"]
    read = in_chunks(predictor, {"y": x["y"]}, [1, 1, 1]).outputs["read"]
    step = Interpreter(joint).step
    for t, u in np.ndindex(logits.shape[1:3]):
        found = step({"hear": heard[t : t + 1], "read": read[u : u + 1]}).outputs["output"]
        np.testing.assert_array_equal(found[0, 0, 0], logits[0, t, u])


def test_the_parts_export_and_run_on_the_machine():
    encoder, predictor, joint = parts()
    x = recording(8, 3, 3)
    heard, read = run(encoder, {"x": x["x"]}), run(predictor, {"y": x["y"]})
    between = {"hear": heard.outputs["hear"][:3], "read": read.outputs["read"]}
    for part, inputs in ((encoder, {"x": x["x"]}), (predictor, {"y": x["y"]}), (joint, between)):
        assert file_equals_simulator(export_model(part), part, inputs, 4).mismatches == 0
        assert simulate(part, load_target("edge8")).islands == ()
        same(run(part, inputs, "reference"), run(part, inputs))


# --- operator by operator


def built(make, shape: tuple[int | str, ...] = ("T", 4)) -> Graph:
    """A real graph: `make(build, x)` names the result of x, whose axis 0 is time."""
    build = Builder("built")
    x = build.input("x", TensorType("f32", shape), time_axis=0)
    y = make(build, x)
    build.output(y, time_axis=0)
    return verify(build.build())


def weight(build: Builder, *shape: int) -> str:
    return build.constant("weight", np.random.default_rng(0).normal(size=shape).astype(np.float32))


def node(op: str, *more: str, **attrs):
    """What makes a node of x alone."""
    return lambda build, x: build.node(op, [x, *more], attrs)[0]


def chain(*steps):
    """What makes one node behind the other."""

    def make(build, x):
        for step in steps:
            x = step(build, x)
        return x

    return make


def cut_of(start: int, end: int, step: int = 1):
    return node("slice", axes=(0,), starts=(start,), ends=(end,), steps=(step,))


def pad(before: int, behind: int = 0, mode: str = "constant"):
    return node("pad", pads=(before, 0, behind, 0), mode=mode)


def joined(front: tuple[float, ...]):
    return lambda build, x: build.node(
        "concat", [build.constant("front", np.array([front], np.float32)), x], {"axis": 0}
    )[0]


def over_time(op: str, *weights: int, **attrs):
    """A node over [1,4,T], time turned behind the features for it and back."""

    def make(build, x):
        (frames,) = build.node("reshape", [x], {"shape": (0, 4, 1)})
        (turned,) = build.node("transpose", [frames], {"perm": (2, 1, 0)})
        (y,) = build.node(op, [turned, *([weight(build, *weights)] if weights else [])], attrs)
        return build.node("transpose", [y], {"perm": (2, 1, 0)})[0]

    return make


def convolution(before: int, behind: int):
    """A conv1d over four frames with padding of its own."""
    attrs = {"stride": 1, "dilation": 1, "groups": 1, "activation": "none"}
    return over_time("conv1d", 4, 4, 4, padding=(before, behind), **attrs)


END = 2**31 - 1
STREAMS = {
    "a constant in front": chain(joined((1.0, 2.0, 3.0, 4.0)), cut_of(0, -1)),
    "a delay": chain(pad(3), cut_of(0, -3)),
    "a past of a past": chain(pad(2), node("relu"), pad(1), cut_of(2, -1)),
    "every other frame": chain(cut_of(1, END, 2)),
    "padding of the convolution's own": chain(pad(2), convolution(1, 0)),
    "frames in halves": chain(node("reshape", shape=(-1, 2)), node("relu"), node("reshape", shape=(-1, 4))),
    "differences of positions": lambda build, x: build.node(
        "add", [x, build.node("reshape", [distances(build, x)], {"shape": (-1, 1)})[0]]
    )[0],
}


def distances(build: Builder, x: str) -> str:
    a, b = (build.node("arange", [x], {"axis": 0, "start": s, "step": 2})[0] for s in (0, 5))
    return build.node("sub", [a, b])[0]


@pytest.mark.parametrize("name", STREAMS)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=3), st.integers(0, 9))
def test_operators_stream(name, chunks, seed):
    graph = built(STREAMS[name])
    made = passes.run(graph, [MakeStreaming()])
    step = int(str(made.types["x"].shape[0]).removesuffix("T").removesuffix("*") or 1)
    x = {"x": np.random.default_rng(seed).normal(size=(step * (sum(chunks) + 1), 4)).astype(np.float32)}
    expected = next(iter(run(graph, x).outputs.values()))
    found = next(iter(in_chunks(made, x, [step * n for n in chunks]).outputs.values()))
    np.testing.assert_allclose(found, expected, atol=1e-5)


def scores(see):
    """Attention of x to itself, with a mask of [T, T] made by `see(build, queries, keys)`."""

    def make(build, x):
        (turned,) = build.node("transpose", [x], {"perm": (1, 0)})
        (product,) = build.node("matmul", [x, turned])
        mask = see and see(build, *(positions(build, x, shape) for shape in ((-1, 1), (1, -1))))
        (shares,) = build.node("softmax", [product, mask] if mask else [product])
        return build.node("matmul", [shares, x])[0]

    return make


def positions(build: Builder, x: str, shape: tuple[int, int]) -> str:
    return build.node(
        "reshape", [build.node("arange", [x], {"axis": 0, "start": 0, "step": 1})[0]], {"shape": shape}
    )[0]


def compared(op: str):
    return lambda build, queries, keys: build.node(op, [queries, keys])[0]


def table_of_positions(build: Builder, x: str) -> str:
    (places,) = build.node("arange", [x], {"axis": 0, "start": 0, "step": 1})
    return build.node("add", [x, build.node("gather", [weight(build, 9, 4), places], {"axis": 0})[0]])[0]


def started_by_a_frame(build: Builder, x: str) -> str:
    (frames,) = build.node("reshape", [x], {"shape": (0, 1, 4)})
    first = cut_of(-1, END)(build, x)
    return build.node("running_mean", [frames, first, build.constant("count", np.zeros((1, 1), np.float32))])[
        0
    ]


def added_last(build: Builder, x: str) -> str:
    return build.node("add", [x, cut_of(-1, END)(build, x)])[0]


def merged(build: Builder, x: str) -> str:
    (turned,) = build.node("transpose", [x], {"perm": (1, 0)})
    return build.node("reshape", [build.node("matmul", [x, turned])[0]], {"shape": (-1,)})[0]


def mean_so_far(build: Builder, x: str) -> str:
    zeros = [build.constant("zeros", np.zeros((1, n), np.float32)) for n in (4, 1)]
    (frames,) = build.node("reshape", [x], {"shape": (0, 1, 4)})
    return build.node("running_mean", [frames, *zeros])[0]


REFUSED = {
    "right padding": (pad(1, 1), "pad .* behind"),
    "right padding of the convolution's own": (convolution(2, 1), "by 2 before and 1 behind"),
    "padding of a pool": (over_time("max_pool", kernel=(2,), stride=(1,), padding=(1, 0)), "by 1 before"),
    "frames spread": (
        over_time(
            "conv_transpose1d", 4, 4, 2, stride=2, dilation=1, padding=(0, 0), output_padding=0, groups=1
        ),
        "mixes neighbours",
    ),
    "mirrored padding": (pad(1, 0, "edge"), "mode 'edge'"),
    "frames lost": (cut_of(2, END), "whole frames"),
    "a port with a past": (pad(2), "no stretch of the whole"),
    "the first frames": (cut_of(0, 3), "number from the beginning"),
    "backwards": (node("reverse", axes=(0,)), "begins with the end"),
    "a mean": (node("reduce_mean", axes=(0,), keepdims=True), "one number of all time"),
    "a running sum": (node("cumulative_sum", axis=0, exclusive=False, reverse=False), "sums along time"),
    "a softmax": (chain(node("transpose", perm=(1, 0)), node("softmax")), "no mask"),
    "attention without a mask": (scores(None), "no mask"),
    "attention to all of the past": (scores(compared("greater_or_equal")), "no mask"),
    "attention to the future": (scores(compared("less")), "no mask"),
    "absolute positions": (table_of_positions, "gather .* begin anew"),
    "frames scrambled": (node("reshape", shape=(4, -1)), "takes frames apart"),
    "time merged with time": (merged, r"a size of T\*T"),
    "a beginning that is heard": (started_by_a_frame, "neither constant nor a state"),
    "the last frame for all": (added_last, "end of a chunk"),
    "a mean of frames in front": (chain(pad(1), mean_so_far), "joined in front"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_reads_the_future_or_the_whole_is_refused(name):
    make, why = REFUSED[name]
    with pytest.raises(StreamError, match=why):
        MakeStreaming().run(built(make))


def test_a_bidirectional_layer_is_refused_by_name():
    class Both(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.LSTM(4, 3, bidirectional=True)

        def forward(self, x):
            return self.layer(x)[0]

    graph = load(Both().eval(), (torch.zeros(5, 1, 4),), ImportOptions(time={"x": 0})).graph
    with pytest.raises(StreamError, match=r"reverse .*\(from layer\) cannot stream: it begins with the end"):
        MakeStreaming().run(graph)


def test_a_graph_without_time_is_refused():
    with pytest.raises(StreamError, match="no input has an open time axis"):
        MakeStreaming().run(built(node("relu"), (3, 4)))


def test_every_operator_has_a_rule():
    made_in = {name: getattr(op.infer, "func", op.infer).__module__ for name, op in table().items()}
    assert {name for name, module in made_in.items() if module.startswith("nnaq.")} == RULES.keys()
