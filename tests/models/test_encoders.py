"""Encoders hear no future, learn with all they have, and cross to integers within their transducer."""

from functools import cache
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from nnaq.crossing import Lowering, lower_graph
from nnaq.errors import DataError
from nnaq.export.check import file_equals_simulator
from nnaq.export.onnx import export_model
from nnaq.frontends import Imported, ImportOptions
from nnaq.frontends.torch import load
from nnaq.interpret import Interpreter, run
from nnaq.ir.cut import cut
from nnaq.models.conformer import surroundings
from nnaq.models.named_sizes import SIZES, named_size
from nnaq.models.sizes import make_transducer
from nnaq.models.transducer import Transducer
from nnaq.passes import MakeStreaming
from nnaq.quantize.recipe import parse_recipe
from nnaq.targets import load_target

FEATURES, UNITS, FRAMES, LABELS = 24, 12, 24, 5
CONVRNNT = {
    "encoder": "convrnnt", "hidden": 16, "layers": 2, "local": (4, 4), "channels": 12, "inner": 16,
    "blocks": 2, "squeeze": 4, "joined": 16,
}  # fmt: skip
CONFORMER = {"encoder": "conformer", "width": 16, "layers": 2, "heads": 2, "past": 4, "kernel": 3}
CONTEXTNET = {"encoder": "contextnet", "width": 20, "layers": 2, "kernel": 3, "squeeze": 4}
MODELS = {
    "rnnt": {"encoder": "rnnt", "hidden": 16, "layers": 2},
    "rnnt, joined": {"encoder": "rnnt", "hidden": 16, "layers": 2, "joined": 8},
    "convrnnt": CONVRNNT,
    "convrnnt, local": {**CONVRNNT, "blocks": 0, "maps": 2, "kernel": 5},
    "convrnnt, skip": {**CONVRNNT, "kernel": (2, 5), "stride": 2, "maps": 0, "blocks": 1, "skip": True},
    "convrnnt, global": {**CONVRNNT, "local": (), "squeeze": 0},
    "conformer": CONFORMER,
    "conformer, layer norm": {**CONFORMER, "norm": "layer", "layers": 1},
    "contextnet": {**CONTEXTNET, "blocks": ((16, 1), (16, 2))},
    "contextnet, stride 4": {**CONTEXTNET, "blocks": ((16, 4), (16, 1)), "kernel": 5, "squeeze": 0},
}
every_model = pytest.mark.parametrize("name", MODELS)


@cache
def transducer(name: str) -> Transducer:
    """A model with random weights, and batch norms that have seen something."""
    torch.manual_seed(0)
    made = make_transducer(FEATURES, UNITS, predictor=16, joint=16, **MODELS[name]).eval()
    for norm in made.modules():
        if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.normal_(norm.running_mean, std=0.3)
            nn.init.uniform_(norm.running_var, 0.5, 1.5)
    return made


@cache
def imported(name: str) -> Imported:
    examples = torch.zeros(FRAMES, 2, FEATURES), torch.zeros(4, 2, dtype=torch.int64)
    shapes = {"x": ("T", "N", FEATURES), "y": ("U", "N")}
    return load(transducer(name), examples, ImportOptions(time={"x": 0, "y": 0}, shapes=shapes))


@cache
def lowered(name: str) -> Lowering:
    recipe = parse_recipe('name = "transducer"\n[quantize]\nactivations = "8"')
    recordings = [utterance(seed) for seed in range(4)]
    return lower_graph(
        imported(name).graph, recordings[:3], recordings[3:], recipe, load_target("edge8"), codes={}
    )


def utterance(seed: int, frames: int = FRAMES, batch: int = 1) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    labels = random.integers(0, UNITS, (LABELS, batch)).astype(np.float32)
    return {"x": random.normal(size=(frames, batch, FEATURES)).astype(np.float32), "y": labels}


def heard(name: str, x: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return transducer(name).heard(x)


@every_model
def test_the_future_changes_nothing(name):
    """Frames from each step's end on are replaced: steps before stay bit by bit, and those after do not."""
    model, x = transducer(name), torch.randn(FRAMES, 2, FEATURES)
    whole = heard(name, x)
    steps = FRAMES // model.reduction
    assert whole.shape == (steps, 2, 16)
    for step in range(1, steps):
        other = torch.cat([x[: step * model.reduction], torch.randn(x[step * model.reduction :].shape)])
        found = heard(name, other)
        assert torch.equal(found[:step], whole[:step])
        assert not torch.allclose(found[step], whole[step])


@every_model
def test_a_shorter_utterance_is_a_beginning_of_a_longer_one(name):
    x = torch.randn(FRAMES, 2, FEATURES)
    found, whole = heard(name, x[:12]), heard(name, x)
    torch.testing.assert_close(found, whole[: len(found)])


@every_model
def test_gradients_reach_every_parameter(name):
    model = transducer(name).train()
    x, y = torch.randn(FRAMES, 3, FEATURES), torch.randint(0, UNITS, (LABELS, 3))
    f = model.heard(x)
    logits, scores = model.joined(f, model.said(y)), model.aligned(f)
    given = dict(model.named_parameters())
    slopes = torch.autograd.grad(logits.square().mean() + scores.square().mean(), list(given.values()))
    model.eval()
    assert [each for each, slope in zip(given, slopes, strict=True) if not slope.any()] == []


@every_model
def test_the_graph_is_the_module_for_any_length_and_batch(name):
    model, graph = transducer(name), imported(name).graph
    time = f"{model.reduction}*T"
    assert [graph.types[port.name].shape for port in graph.inputs] == [(time, "N", FEATURES), ("U", "N")]
    assert graph.types["output"].shape == ("N", "T", "U", UNITS)
    for frames, batch in ((model.reduction, 1), (12, 3)):
        given = utterance(1, frames, batch)
        with torch.no_grad():
            expected = model(torch.from_numpy(given["x"]), torch.from_numpy(given["y"]).long()).numpy()
        np.testing.assert_allclose(run(graph, given).outputs["output"], expected, rtol=1e-4, atol=1e-5)


@every_model
def test_everything_runs_in_integers_near_the_reals(name):
    found = lowered(name)
    real, integer = found.crossing.real, found.crossing.integer
    assert found.crossing.islands == {}
    assert "batch_norm" not in {node.op for node in real.nodes}
    given = utterance(9)
    exact, made = (run(graph, given).outputs["output"] for graph in (real, integer))
    noise = np.square(exact - made).sum() / np.square(exact - exact.mean()).sum()
    assert 0 < noise < 10**-1.8  # 18 dB; found 19.7 to 39


def test_squeeze_excites_keep_sums_of_their_own():
    """Zeros that many of them begin with are not one value: each sum has the scale of what it adds."""
    integer = lowered("convrnnt").crossing.integer
    sums = [integer.types[node.outputs[1]].quant for node in integer.nodes if node.op == "running_mean"]
    assert len(set(sums)) == len(sums) == 2


def test_a_frame_sees_itself_and_what_was_heard():
    """Past 2, three frames; columns from two frames before the first on, which no one sees."""
    unseen, distances = surroundings(torch.zeros(3, 1, 1), 2)
    assert unseen[0, 0].int().tolist() == [
        [1, 1, 0, 1, 1],
        [1, 1, 0, 0, 1],
        [1, 1, 0, 0, 0],
    ]
    assert distances.tolist() == [[2, 1, 0, 0, 0], [2, 2, 1, 0, 0], [2, 2, 2, 1, 0]]


def test_attention_is_a_sum_over_what_is_near():
    """Beside the definition, frame by frame and head by head."""
    attention = transducer("conformer").encoder.blocks[0].attention
    torch.manual_seed(0)
    x, rows = torch.randn(7, 1, 16), []
    with torch.no_grad():
        q, k, v = attention.project(attention.norm(x))[:, 0].chunk(3, -1)
        for i in range(7):
            near, heads = range(max(0, i - 4), i + 1), []
            for head, part in enumerate((slice(0, 8), slice(8, 16))):
                scores = [q[i, part] @ k[j, part] * 8**-0.5 + attention.positions[head, i - j] for j in near]
                shares = torch.stack(scores).softmax(0)
                heads.append(sum(share * v[j, part] for share, j in zip(shares, near, strict=True)))
            rows.append(torch.cat(heads))
        expected = x[:, 0] + attention.out(torch.stack(rows))
        torch.testing.assert_close(attention(x, *surroundings(x, 4))[:, 0], expected)


@pytest.mark.parametrize("name", MODELS)
def test_a_stream_has_the_integers_of_the_whole_utterance(name):
    whole = cut(lowered(name).crossing.integer, ["x"], ["hear"], "whole")
    stream = cut(MakeStreaming().run(lowered(name).crossing.integer), ["x"], ["hear"], "encoder")
    x = utterance(5, frames=24)["x"]
    expected = run(whole, {"x": x}).outputs["hear"]
    least = transducer(name).reduction
    random = np.random.default_rng(0)
    for _ in range(3):
        places = sorted({0, 24, *(least * random.integers(1, 24 // least, 4))})
        encoder = Interpreter(stream)
        found = [encoder.step({"x": x[a:b]}).outputs["hear"] for a, b in pairwise(places)]
        np.testing.assert_array_equal(np.concatenate(found), expected)


@pytest.mark.parametrize("name", ["rnnt", "conformer"])
def test_the_file_is_the_stream_where_sound_ends_before_labels(name):
    """Cut along time side by side, sound and labels do not end in the same chunk."""
    stream = MakeStreaming().run(lowered(name).crossing.integer)
    exported = export_model(stream)
    for frames, labels in ((8, 20), (24, 3)):
        given = {"x": utterance(6, frames)["x"], "y": np.resize(utterance(7)["y"], (labels, 1))}
        found = file_equals_simulator(exported, stream, given, 8)
        assert found.values and not found.mismatches


@pytest.mark.parametrize(("size", "low", "high"), [("tiny", 0.28e6, 0.31e6), ("small", 1.19e6, 1.25e6)])
@pytest.mark.parametrize("encoder", SIZES)
def test_named_sizes_are_comparable(encoder, size, low, high):
    made = make_transducer(120, 121, encoder=encoder, **named_size(encoder, size))
    assert low < sum(p.numel() for p in made.parameters()) < high
    assert made.reduction == 2


@pytest.mark.parametrize(
    ("encoder", "millions"), [("rnnt", 52), ("convrnnt", 34), ("conformer", 9), ("contextnet", 10)]
)
def test_sizes_of_papers(encoder, millions):
    with torch.device("meta"):
        made = make_transducer(120, 121, encoder=encoder, **named_size(encoder, "paper"))
    assert round(sum(p.numel() for p in made.parameters()) / 1e6) == millions


def test_unknown_sizes_are_refused():
    with pytest.raises(DataError, match="there is no model 'x'; there are rnnt"):
        named_size("x", "tiny")
    with pytest.raises(DataError, match="model 'rnnt' has no size 'x'; it has tiny"):
        named_size("rnnt", "x")
