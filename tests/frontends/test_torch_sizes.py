"""Open axes of torch modules: cut, counted, repeated, masked, viewed; nothing fixed to the example."""

import numpy as np
import pytest
import torch
from frontends.torch_modules import FLAT, ROWS, STEPS, Of, same_as_torch
from torch.nn import functional

from nnaq import pipeline
from nnaq.errors import FrontendError, GraphError, OpError
from nnaq.frontends.ports import ImportOptions
from nnaq.frontends.torch import load
from nnaq.interpret import run
from nnaq.quantize.calibrate import calibrate
from nnaq.targets import load_target

LONG = torch.randn(40, 4, generator=torch.Generator().manual_seed(3))


def lower(x):
    """Where a column is not behind its row."""
    return torch.ones(x.shape[0], x.shape[0]).tril().bool()


def positions(x):
    return torch.arange(x.shape[0])


def negative(x):
    return torch.triu(torch.full((x.shape[0], x.shape[0]), float("-inf")), 1)


def scores(x):
    return x @ x.transpose(0, 1)


OPEN = {
    "last frames": (lambda x: x[-3:], FLAT, "slice"),
    "all but the last": (lambda x: x[:-2], FLAT, "slice"),
    "every other": (lambda x: x[1::2], FLAT, "slice"),
    "flip": (lambda x: x.flip(0), FLAT, "reverse"),
    "roll": (lambda x: x.roll(2, 0), FLAT, "slice slice concat"),
    "roll back": (lambda x: x.roll(-1, 0), FLAT, "slice slice concat"),
    "windows": (lambda x: x.unfold(0, 3, 2), FLAT, ""),
    "repeat": (lambda x: x.repeat(2, 1), FLAT, "tile"),
    "repeat_interleave": (lambda x: x.repeat_interleave(3, 0), FLAT, "reshape expand reshape"),
    "movedim": (lambda x: x.movedim((0, 1), (2, 0)), ROWS, "transpose"),
    "narrow": (lambda x: x.narrow(0, 1, x.shape[0] - 2) + x[2:], FLAT, "slice slice add"),
    "unbind": (lambda x: torch.atleast_1d(x.unbind(1)[1]) * 2, FLAT, ""),
    "pixel_shuffle": (lambda x: functional.pixel_shuffle(x, 2), (1, 4, "T", 6), "reshape transpose reshape"),
    "many parts": (lambda x: torch.cat([x[:, :1] * k for k in range(2, 14)], 1), FLAT, ""),
    "another tensor's shape": (lambda x: x.tanh().flatten().view_as(x), FLAT, "tanh reshape reshape"),
    "expand": (
        lambda x: x.mean(0, keepdim=True).expand(x.shape[0], -1).tanh(),
        FLAT,
        "reduce_mean expand tanh",
    ),
    "expand without a like": (lambda x: x[:1].expand(5, -1).tanh(), FLAT, "slice expand tanh"),
    "beginning of a table": (lambda x: x + LONG[: x.shape[0]], FLAT, "arange gather add"),
    "end of a table": (lambda x: x + LONG[-x.shape[0] :], FLAT, ""),
    "middle of a table": (lambda x: LONG[20 - x.shape[0] : 19 + x.shape[0]].sum(0), FLAT, ""),
    "half of the frames": (lambda x: x[: x.shape[0] // 2].sum(0), FLAT, ""),
    "index": (lambda x: x[positions(x).flip(0)], FLAT, "arange reverse gather"),
    "index_select": (lambda x: x.index_select(1, torch.tensor([2, 0])), FLAT, "gather"),
    "one_hot": (lambda x: functional.one_hot(positions(x) % 3, 3).float() + x[:, :1], FLAT, ""),
    "counting": (lambda x: torch.arange(1, x.shape[0] + 1)[:, None] * x, FLAT, ""),
    "counting down": (lambda x: torch.arange(x.shape[0] - 1, -1, -1)[:, None] * x, FLAT, ""),
    "counting distances": (lambda x: torch.arange(1 - x.shape[0], x.shape[0]).float(), FLAT, ""),
    "groups of positions": (lambda x: torch.arange(2, x.shape[0] + 2) // 3 + x[:, 0], FLAT, ""),
    "division by a size": (lambda x: x.sum(0) / x.shape[0], FLAT, ""),
    "zeros": (lambda x: torch.cat([x.new_zeros(x.shape[0], 2), x], 1), FLAT, "expand concat"),
    "negative pad": (lambda x: functional.pad(x, (-1, 2)), STEPS, "slice pad"),
    "pad to a multiple": (
        lambda x: functional.pad(x, (0, 0, 0, -x.shape[0] % 3)).view(-1, 12),
        FLAT,
        "pad pad slice slice slice concat",
    ),
    "cut to a multiple": (
        lambda x: x[: x.shape[0] - x.shape[0] % 2].reshape(x.shape[0] // 2, 8),
        FLAT,
        "slice slice concat",
    ),
    "axes before": (lambda x: scores(x)[None, None].expand(2, 3, -1, -1) * 2, FLAT, ""),
    "axes between": (lambda x: (x @ x.transpose(1, 2)).unsqueeze(1).unsqueeze(3).tanh().squeeze(3), ROWS, ""),
    "boolean mask": (lambda x: scores(x).masked_fill(~lower(x), -torch.inf).softmax(-1) @ x, FLAT, ""),
    "added mask": (lambda x: (scores(x) + negative(x)).softmax(-1) @ x, FLAT, ""),
    "mask by where": (lambda x: torch.where(lower(x), scores(x), -1e9).softmax(-1), FLAT, ""),
    "mask by distance": (
        lambda x: torch.where(
            (positions(x)[:, None] - positions(x)).abs() < 3, scores(x), -torch.inf
        ).softmax(-1),
        FLAT,
        "",
    ),
    "two masks": (lambda x: (scores(x) + negative(x) + negative(x).T).softmax(-1), FLAT, ""),
    "mask of one head": (lambda x: (scores(x)[None] + negative(x)[None]).softmax(-1), FLAT, ""),
    "triangle of reals": (lambda x: scores(x).tril(1) + scores(x).triu(-1), FLAT, ""),
    "attention with an added bias": (
        lambda x: functional.scaled_dot_product_attention(x[None], x[None], x[None], scores(x)[None]),
        FLAT,
        "",
    ),
    "added mask of attention": (
        lambda x: functional.scaled_dot_product_attention(x[None], x[None], x[None], negative(x)),
        FLAT,
        "",
    ),
}


@pytest.mark.parametrize("name", OPEN)
def test_open_axes(name):
    function, shape, ops = OPEN[name]
    found = same_as_torch(Of(lambda m, x: function(x)), shape, frames=9, traced=6)
    assert not ops or sorted(node.op for node in found.nodes) == sorted(ops.split())


def test_a_constant_mask_of_whole_sizes():
    mask = torch.zeros(5, 5).masked_fill(torch.ones(5, 5).triu(1).bool(), -torch.inf)
    graph = same_as_torch(Of(lambda m, x: (scores(x) + mask).softmax(-1)), (5, 4), frames=5)
    assert [node.op for node in graph.nodes] == ["transpose", "matmul", "softmax"]


def test_zeros_are_made_for_each_reader():
    """Two joined in one concat share codes, as they must; those of another need not."""

    def function(x):
        zeros = x.new_zeros(x.shape[0], 2)
        return torch.cat([torch.cat([zeros, x, zeros], 1), torch.cat([zeros, x * 9], 1)], 1)

    graph = same_as_torch(Of(lambda m, x: function(x)), FLAT, frames=9, traced=6)
    made = [node.inputs[0] for node in graph.nodes if node.op == "expand"]
    assert len(made) == 3
    assert len(set(made)) == 2
    assert all(graph.constants[name] == 0 for name in made)


REFUSED = {
    "infinity": (lambda x: scores(x).masked_fill(~lower(x), -torch.inf).tanh(), "only a softmax may follow"),
    "mask twice": (
        lambda x: scores(x).masked_fill(~lower(x), -torch.inf).masked_fill(~lower(x), 0.0).softmax(-1),
        "mask once",
    ),
    "open parts": (lambda x: torch.cat(x.split([x.shape[0] // 2, x.shape[0] - x.shape[0] // 2])), "slices"),
    "picking by flags": (
        lambda x: x[:, torch.tensor([True, False, True, True])].sort(0).values,
        "on the host",
    ),
    "merged axes": (lambda x: scores(x).reshape(-1).tanh().view(x.shape[0], -1), "two open axes at once"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_graph_is_refused_with_a_way_out(name):
    function, said = REFUSED[name]
    with pytest.raises(FrontendError, match=said):
        load(Of(lambda m, x: function(x)), [torch.randn(6, 4)], ImportOptions(shapes={"x": FLAT}))


SIDE_BY_SIDE = {
    "two frames": (lambda x: x.reshape(x.shape[0] // 2, 8), 8, ("2*T", 4), 2),
    "three frames, the rest worked out": (lambda x: x.reshape(-1, 12), 9, ("3*T", 4), 3),
    "two of all but one": (lambda x: x[1:].reshape(-1, 8), 9, ("2*T-1", 4), 2),
    "two of every other": (lambda x: x[::2].reshape(-1, 8), 8, ("4*T", 4), 4),
}


@pytest.mark.parametrize("name", SIDE_BY_SIDE)
def test_frames_side_by_side_refuse_a_rest(name):
    function, traced, shape, step = SIDE_BY_SIDE[name]
    module = Of(lambda m, x: function(x)).eval()
    read = load(module, [torch.randn(traced, 4)], ImportOptions(time={"x": 0}))
    assert read.graph.types["x"].shape == shape
    assert any(f"so T is written {shape[0]}" in note for note in read.notes)
    assert "slice" not in [node.op for node in read.graph.nodes][1:]
    for frames in range(2, 3 * step + 2):
        x = torch.randn(frames, 4)
        if (frames - traced) % step:
            with pytest.raises(GraphError, match=f"input 'x' .* {frames} long.* multiples of {step}"):
                run(read.graph, {"x": x.numpy()})
        else:
            assert (run(read.graph, {"x": x.numpy()}).outputs["output"] == function(x).numpy()).all()


def test_the_integers_refuse_a_rest_too_and_chunks_are_made_whole():
    module = Of(lambda m, x: x.reshape(1, x.shape[1] // 2, 8)).eval()
    options = ImportOptions(time={"x": 1})
    graph = pipeline.simplify(load(module, [torch.randn(1, 4, 4)], options).graph)
    x = torch.randn(1, 8, 4).numpy()
    crossing = pipeline.cross(
        graph, calibrate(graph, [{"x": x}]), pipeline.Options(load_target("edge8"), "i8")
    )
    whole = run(crossing.integer, {"x": x}).outputs["output"]
    for chunk in (6, 3):
        assert (run(crossing.integer, {"x": x}, chunk=chunk).outputs["output"] == whole).all()
    for frames in (3, 1):
        with pytest.raises(GraphError, match="pad the last chunk"):
            run(crossing.integer, {"x": x[:, :frames]})


@pytest.mark.parametrize("frames", range(1, 8))
def test_a_model_that_pads_or_cuts_to_a_multiple_itself_takes_every_size(frames):
    for function in (OPEN["pad to a multiple"][0], OPEN["cut to a multiple"][0]):
        read = load(
            Of(lambda m, x, made=function: made(x)), [torch.randn(6, 4)], ImportOptions(time={"x": 0})
        )
        x = torch.randn(frames, 4)
        assert (run(read.graph, {"x": x.numpy()}).outputs["output"] == function(x).numpy()).all()


def test_what_is_cut_off_in_front_is_not_taken_for_the_end():
    def late(x):
        return x[x.shape[0] % 2 :].reshape(x.shape[0] // 2, 8)

    with pytest.raises(FrontendError, match="it counts from"):
        load(Of(lambda m, x: late(x)), [torch.randn(6, 4)], ImportOptions(time={"x": 0}))


TOO_LONG = {
    "end of a table": (lambda x: x + LONG[-x.shape[0] :], 40),
    "end of a table, counted from the front": (lambda x: x + LONG[40 - x.shape[0] :], 40),
    "middle of a table": (lambda x: LONG[19 - (x.shape[0] - 1) : 19 + x.shape[0]].sum(0), 20),
}


@pytest.mark.parametrize("name", TOO_LONG)
def test_more_frames_than_a_table_has_are_refused(name):
    function, most = TOO_LONG[name]
    read = load(Of(lambda m, x: function(x)), [torch.randn(6, 4)], ImportOptions(time={"x": 0}))
    x = torch.randn(most, 4)
    found = run(read.graph, {"x": x.numpy()}).outputs["output"]
    np.testing.assert_allclose(found, function(x).numpy(), rtol=0, atol=1e-5)
    with pytest.raises(OpError, match="gather has the index"):
        run(read.graph, {"x": torch.randn(most + 1, 4).numpy()})
