"""Training through every operator: a Conformer block, an RNN-T joiner, and each operator by itself."""

import numpy as np
import pytest
import torch
from test_meanings import BOUNDARY, CASES, STEPS

from nnaq import pipeline
from nnaq.interpret import Interpreter, run
from nnaq.ir.build import Builder
from nnaq.ir.graph import Graph
from nnaq.ir.types import TensorType
from nnaq.ir.verify import verify
from nnaq.quantize.calibrate import calibrate
from nnaq.targets import load_target
from nnaq.train.codes import codes_of
from nnaq.train.emulate import Emulated, weights_and_biases

ROWS = {"axis": -1, "epsilon": 1e-5}
CONV = {"stride": 1, "dilation": 1, "padding": (0, 0), "groups": 1, "activation": "none"}
PLAIN = {"activation": "none"}


class Network:
    """A Builder with parameters of its own: `layer` makes them from shapes."""

    def __init__(self, name):
        self.build, self.random = Builder(name), np.random.default_rng(0)

    def input(self, name, *shape):
        return self.build.input(name, TensorType("f32", shape))

    def parameter(self, *shape):
        spread = 1.0 / np.sqrt(shape[-1] if len(shape) > 1 else 4)
        return self.build.constant("w", self.random.normal(0, spread, shape).astype(np.float32))

    def number(self, value):
        return self.build.constant("number", np.float32(value))

    def layer(self, op, inputs, attrs, *shapes):
        made = self.build.node(op, [*inputs, *(self.parameter(*shape) for shape in shapes)], attrs)
        return made[0]

    def __getattr__(self, op):
        return lambda *inputs, **attrs: self.layer(op, inputs, attrs)

    def done(self, *outputs) -> Graph:
        for name in outputs:
            self.build.output(name)
        return pipeline.simplify(verify(self.build.build()))


FRAMES, WIDTH, HEADS = 6, 8, 2


def dense(net, x, width, out):
    return net.layer("fully_connected", [x], PLAIN, (out, width), (out,))


def attention(net, x, mask):
    """Relative positions with two learned offsets, over the frames that the mask keeps."""
    size = WIDTH // HEADS
    q, k, v = (dense(net, x, WIDTH, WIDTH) for _ in range(3))
    split = [net.reshape(part, shape=(1, FRAMES, HEADS, size)) for part in (q, k, v)]
    k, v = (
        net.transpose(part, perm=perm)
        for part, perm in zip(split[1:], ((0, 2, 3, 1), (0, 2, 1, 3)), strict=True)
    )
    content, place = (
        net.transpose(net.layer("add", [split[0]], {}, (HEADS, size)), perm=(0, 2, 1, 3)) for _ in range(2)
    )
    distances = net.layer("matmul", [place], {"gain": 0.5}, (1, HEADS, size, 2 * FRAMES - 1))
    scores = net.add(net.matmul(content, k, gain=0.5), net.relative_shift(distances))
    heads = net.matmul(net.softmax(scores, mask), v)
    return dense(
        net, net.reshape(net.transpose(heads, perm=(0, 2, 1, 3)), shape=(1, FRAMES, WIDTH)), WIDTH, WIDTH
    )


def convolution(net, x):
    """Pointwise, gate, depthwise, batch norm, silu, pointwise."""
    y = net.transpose(x, perm=(0, 2, 1))
    y = net.layer("conv1d", [y], CONV, (2 * WIDTH, WIDTH, 1), (2 * WIDTH,))
    halves = [net.slice(y, starts=(i,), ends=(i + WIDTH,), axes=(1,), steps=(1,)) for i in (0, WIDTH)]
    y = net.mul(halves[0], net.sigmoid(halves[1]))
    y = net.layer("conv1d", [y], {**CONV, "groups": WIDTH, "padding": (2, 0)}, (WIDTH, 1, 3))
    y = net.silu(net.layer("batch_norm", [y], {}, (WIDTH,), (WIDTH,)))
    return net.transpose(net.layer("conv1d", [y], CONV, (WIDTH, WIDTH, 1), (WIDTH,)), perm=(0, 2, 1))


def normed(net, x):
    return net.layer("layer_norm", [x], ROWS, (WIDTH,), (WIDTH,))


def conformer():
    net = Network("conformer")
    x, length = net.input("x", 1, FRAMES, WIDTH), net.input("length", 1)
    mask = net.less(net.arange(x, axis=1, start=0, step=1), length)
    y = net.add(x, dense(net, net.silu(dense(net, normed(net, x), WIDTH, 12)), 12, WIDTH))
    y = net.add(y, attention(net, normed(net, y), mask))
    y = net.add(y, convolution(net, normed(net, y)))
    y = net.where(net.reshape(mask, shape=(1, FRAMES, 1)), y, net.number(0.0))
    up = {**CONV, "stride": 2, "output_padding": (0,)}
    y = net.transpose(y, perm=(0, 2, 1))
    y = net.transpose(net.layer("conv_transpose1d", [y], up, (WIDTH, WIDTH, 2), (WIDTH,)), perm=(0, 2, 1))
    return net.done(net.log_softmax(dense(net, normed(net, y), WIDTH, 5), axis=-1))


def conformer_feeds(seed):
    random = np.random.default_rng(seed)
    x = random.normal(0, 1, (1, FRAMES, WIDTH)).astype(np.float32)
    return {"x": x, "length": np.float32([2 + seed % 5])}


def joiner():
    """Words through a table and a gru, frames through a layer; every pair of them scored."""
    net = Network("joiner")
    words, frames = net.input("words", 4, 1), net.input("x", 5, 1, 6)
    embedded = net.gather(net.parameter(7, WIDTH), words, axis=0)
    zeros = net.build.constant("h0", np.zeros((1, 6), np.float32))
    shapes = (18, WIDTH), (18, 6), (18,), (18,)
    predicted = net.layer("gru", [embedded, zeros], {"linear_before_reset": True}, *shapes)
    sides = [dense(net, predicted, 6, WIDTH), dense(net, net.rms_norm(frames, **ROWS), 6, WIDTH)]
    pairs = net.add(net.reshape(sides[0], shape=(1, 4, WIDTH)), net.reshape(sides[1], shape=(5, 1, WIDTH)))
    return net.done(net.log_softmax(dense(net, net.tanh(pairs), WIDTH, 7), axis=-1))


def joiner_feeds(seed):
    random = np.random.default_rng(seed)
    frames = random.normal(0, 1, (5, 1, 6)).astype(np.float32)
    return {"words": random.integers(0, 7, (4, 1)).astype(np.float32), "x": frames}


def crossed(real, recordings, activations):
    options = pipeline.Options(load_target("edge8"), activations)
    return pipeline.cross(real, calibrate(real, recordings), options)


@pytest.mark.parametrize("activations", ["i8", "i16"])
@pytest.mark.parametrize(("make", "feeds_of"), [(conformer, conformer_feeds), (joiner, joiner_feeds)])
def test_every_weight_of_a_network_learns_and_the_integers_stay_those_that_ship(make, feeds_of, activations):
    real, recordings = make(), [feeds_of(seed) for seed in range(8)]
    crossing = crossed(real, recordings, activations)
    assert [real.node(name).op for name in crossing.islands] == ["log_softmax"]
    (last,) = (node for node in crossing.integer.nodes if node.op == "dequantize")
    assert crossing.integer.types[last.inputs[0]].dtype == {"i8": "i32", "i16": "i16"}[activations]
    learned = [name for name in real.constants if name.startswith("w")]
    assert set(weights_and_biases(real)) <= set(learned)
    emulated = Emulated(crossing, learned)
    optimiser = torch.optim.Adam(emulated.parameters(), 3e-3)
    for feeds in recordings[:3]:
        given = {name: torch.tensor(array, requires_grad=True) for name, array in feeds.items()}
        ((name, y),) = emulated(given)[0].items()
        for mode in ("fast", "reference"):
            assert np.array_equal(y.detach().numpy(), run(emulated.convert(), feeds, mode=mode).outputs[name])
        optimiser.zero_grad()
        y.square().mean().backward()
        assert given["x"].grad.isfinite().all()
        assert given["x"].grad.any()
        whole = given["words" if "words" in given else "length"].grad
        assert whole is None or not whole.any()
        optimiser.step()
    for name, parameter in emulated.trained().items():
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


def one_operator(case):
    """The graph of a case, its inputs, and the constants among its operands."""
    build, arrays, names = Builder("g"), operands(case), []
    for i, array in enumerate(arrays):
        constant = i in case.op.weights or i in case.op.reals
        kind = TensorType("f32", array.shape)
        names.append(build.constant(f"w{i}", array) if constant else build.input(f"x{i}", kind))
    for name in build.node(
        case.op.name, names, case.attrs, [f"y{i}" for i in range(3)][: results(case)], name="node"
    ):
        build.output(name)
    return verify(build.build()), dict(zip(names, arrays, strict=True))


def operands(case):
    """A gru's first state lies within ±1, where every state of a gru lies: integers beyond are read as ±1."""
    arrays = [a.astype(np.float32) for a in case.arrays(6)]
    return [np.tanh(a) if case.op.name == "gru" and i == 1 else a for i, a in enumerate(arrays)]


def results(case):
    return len(case.results(case.arrays(6), torch.float32)[0])


@pytest.mark.parametrize("case", [c for c in CASES if c.op.name not in BOUNDARY], ids=str)
def test_the_gradient_of_an_operator_is_that_of_its_meaning(case):
    """In 16 bits the codes are so fine that both point the same way; steps have none."""
    real, arrays = one_operator(case)
    feeds = {name: array for name, array in arrays.items() if name not in real.constants}
    emulated = Emulated(crossed(real, [feeds], "i16"), list(real.constants))
    given = {name: torch.tensor(array, requires_grad=True) for name, array in feeds.items()}
    outputs, _ = emulated(given)
    found = run(emulated.convert(), feeds).outputs
    assert all(np.array_equal(y.detach().numpy(), found[name]) for name, y in outputs.items())
    made, operands, sloped = case.results(arrays.values(), torch.float32)
    upstream = [torch.randn(y.shape, generator=torch.Generator().manual_seed(0)) for y in made]
    torch.autograd.backward(list(outputs.values()), upstream)
    held = {**given, **emulated.trained()}
    whole = [name for i, name in enumerate(arrays) if case.whole(i)]
    reals = [held[name].grad for name in arrays if name not in whole]
    if case.op.name in STEPS:
        assert all(g is None or not g.any() for g in reals)
        return
    assert all(held[name].grad is None or not held[name].grad.any() for name in whole)
    kept = [gradient for y, gradient in zip(made, upstream, strict=True) if y.requires_grad]
    for plain, through in zip(
        torch.autograd.grad(sloped, operands, kept, allow_unused=True), reals, strict=True
    ):
        if plain is None or not plain.any():
            assert through is None or not through.any()
        else:
            assert torch.nn.functional.cosine_similarity(plain.flatten(), through.flatten(), 0) > 0.99


def running():
    """The mean of all frames so far: its states are sums in 32 bits and a count."""
    build = Builder("running")
    x = build.input("x", TensorType("f32", ("T", 1, 3)), time_axis=0)
    held = [build.value(name, TensorType("f32", (1, size))) for name, size in (("sum", 3), ("count", 1))]
    y, *after = build.node("running_mean", [x, *held])
    for name, new, size in zip(held, after, (3, 1), strict=True):
        build.state(name, name, new, np.zeros((1, size), np.float32))
    build.output(y, time_axis=0)
    return pipeline.simplify(verify(build.build()))


def test_sums_of_more_bits_than_float32_has_are_handed_on_exactly():
    """3000 frames of 16-bit codes: sums beyond 2^24, which a float32 would round."""
    random = np.random.default_rng(0)
    feeds = {"x": random.uniform(0.5, 1, (3000, 1, 3)).astype(np.float32)}
    emulated = Emulated(crossed(running(), [feeds], "i16"), [])
    stream, states = Interpreter(emulated.convert()), None
    for start in range(0, 3000, 1000):
        piece = {"x": feeds["x"][start : start + 1000]}
        given = torch.tensor(piece["x"], requires_grad=True)
        outputs, states = emulated({"x": given}, states)
        expected = stream.step(piece)
        for name, y in outputs.items():
            assert np.array_equal(y.detach().numpy(), expected.outputs[name])
        kinds = {state.name: emulated.convert().types[state.output] for state in emulated.convert().states}
        for name, codes in expected.states.items():
            assert np.array_equal(codes_of(states[name], kinds[name]).numpy(), codes)
        assert torch.autograd.grad(states["sum"].sum(), given)[0].all()
        states = {name: state.detach() for name, state in states.items()}
    assert expected.states["sum"].max() > 2**24
