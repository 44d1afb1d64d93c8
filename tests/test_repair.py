"""Passes that mend rounded weights: what they promise, and that they change nothing else."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from frontends.onnx_models import normal

from nnaq import passes, pipeline
from nnaq.codebooks.choice import PaletteChoice
from nnaq.codebooks.error_feedback import row_losses
from nnaq.errors import PassError
from nnaq.interpret import run
from nnaq.ir.build import Builder
from nnaq.ir.graph import Graph
from nnaq.ir.types import Quant, TensorType
from nnaq.ir.verify import verify
from nnaq.kernels.boundary import code_type, dequantize_array, quantize_array
from nnaq.passes.ada_round import AdaRound
from nnaq.passes.correct_bias import CorrectBias
from nnaq.passes.equalize_layers import EqualizeLayers, layer_pairs
from nnaq.passes.error_feedback import ErrorFeedback
from nnaq.quantize.calibrate import calibrate
from nnaq.quantize.moments import measure_moments
from nnaq.targets import load_target

FRAMES, UNITS = 40, 4
WEIGHTS = ("conv", "full", "w", "r")
REPAIRS = {"error_feedback": ErrorFeedback, "ada_round": AdaRound}
CHOICES = [None, PaletteChoice(3), PaletteChoice(2, "per_channel"), PaletteChoice(2, zero="mapped")]


def model() -> Graph:
    """conv1d, relu, fully_connected without a bias, lstm with states."""
    build = Builder("model")
    x = build.input("x", TensorType("f32", (FRAMES, 6, 5)), time_axis=0)
    conv = [build.constant("conv", normal(8, 6, 3)), build.constant("conv.bias", normal(8))]
    (a,) = build.node("conv1d", [x, *conv], {"padding": (1, 1), "stride": 3}, ["a"])
    (b,) = build.node("relu", [a], {}, ["b"])
    (flat,) = build.node("reshape", [b], {"shape": (FRAMES, 1, 16)}, ["flat"])
    (full,) = build.node("fully_connected", [flat, build.constant("full", normal(6, 16, seed=1))], {}, ["f"])
    h, c = (build.value(name, TensorType("f32", (1, UNITS))) for name in "hc")
    weights = [build.constant(n, normal(4 * UNITS, s, seed=s) / 4) for n, s in (("w", 6), ("r", UNITS))]
    y, h_out, c_out = build.node("lstm", [full, h, c, *weights], {}, ["y", "h.out", "c.out"])
    build.output(y, time_axis=0)
    for name, value, result in (("h", h, h_out), ("c", c, c_out)):
        build.state(name, value, result, np.zeros((1, UNITS), np.float32))
    return verify(build.build())


INPUTS = {"x": normal(FRAMES, 6, 1) + 0.2 * normal(FRAMES, 6, 5, seed=5) + 0.5}


@cache
def rounded(choice: PaletteChoice | None):
    """The simplified graph, its fake-quant graph, and the moments of its weights."""
    real = pipeline.simplify(model())
    palettes = dict.fromkeys(WEIGHTS, choice) if choice else {}
    options = pipeline.Options(load_target("edge8"), palettes=palettes)
    crossing = pipeline.cross(real, calibrate(real, [INPUTS]), options)
    return real, crossing.fake, measure_moments(real, [INPUTS], WEIGHTS)


def kinds_of(graph: Graph) -> dict[str, TensorType]:
    """The type of every weight's codes."""
    rounders = [n for n in graph.nodes if n.op == "fake_quantize" and n.inputs[0] in WEIGHTS]
    return {n.inputs[0]: code_type(n.attrs, graph.types[n.inputs[0]].shape) for n in rounders}


def loss(original, graph: Graph, name: str, hessian) -> np.ndarray:
    first, second = (a.reshape(len(a), -1).astype(np.float64) for a in (original, graph.constants[name]))
    return row_losses(first, second, hessian)


@pytest.mark.parametrize("repair", REPAIRS.values(), ids=REPAIRS)
@pytest.mark.parametrize("choice", CHOICES, ids=str)
def test_weights_stay_on_their_grid_and_no_row_loses_more(choice, repair):
    real, fake, moments = rounded(choice)
    after = passes.run(fake, [repair(real.constants, moments)])
    for name, kind in kinds_of(after).items():
        codes = quantize_array(after.constants[name], kind)
        scale = kind.quant.scales(codes.ndim).astype(np.float32)
        assert np.array_equal(after.constants[name], codes.astype(np.float32) * scale)  # exactly on the grid
        before = kinds_of(fake)[name]
        assert (kind.quant, kind.dtype) == (before.quant, before.dtype)
        if kind.palette is not None:
            assert kind.palette.tables == before.palette.tables
            zeros = int((codes == 0).sum())
            assert kind.palette.zeros == (None if before.palette.zeros is None else zeros)
        nearest = fake if choice else passes.run(fake, [OnGrid()])
        losses = [loss(real.constants[name], g, name, moments[name].second[0]) for g in (after, nearest)]
        assert np.all(losses[0] <= losses[1] * (1 + 1e-4) + 1e-9)
    assert sum(loss(real.constants[n], after, n, moments[n].second[0]).sum() for n in WEIGHTS) > 0


class OnGrid(passes.Pass):
    """Weights as their codes stand for them."""

    name, keeps = "on-grid", "types"

    def run(self, graph: Graph) -> Graph:
        fixed = {n: run_node(graph, n) for n in WEIGHTS}
        return graph.rebuilt(graph.nodes, constants={**graph.constants, **fixed})


def run_node(graph: Graph, name: str) -> np.ndarray:
    kind = kinds_of(graph)[name]
    return quantize_array(graph.constants[name], kind) * kind.quant.scales(graph.types[name].rank).astype(
        "f4"
    )


@pytest.mark.parametrize("repair", REPAIRS.values(), ids=REPAIRS)
@pytest.mark.parametrize("choice", CHOICES[1:], ids=str)
def test_the_repaired_graph_lowers_to_codes_of_its_tables(choice, repair):
    real, fake, moments = rounded(choice)
    numerics = load_target("edge8").numerics
    after = passes.run(fake, [repair(real.constants, moments), passes.LowerToInteger(numerics)])
    for name in WEIGHTS:
        palette = after.types[name].palette
        rows = palette.rows or len(after.constants[name])
        for row, codes in enumerate(after.constants[name]):
            extra = set() if palette.zeros is None else {0}
            assert set(codes.ravel().tolist()) <= {*palette.tables[row // rows], *extra}


def test_three_bits_lose_less_by_error_feedback():
    real, fake, moments = rounded(PaletteChoice(3))
    after = ErrorFeedback(real.constants, moments).run(fake)
    lost = [
        sum(loss(real.constants[n], g, n, moments[n].second[0]).sum() for n in WEIGHTS) for g in (after, fake)
    ]
    assert lost[0] < 0.6 * lost[1]


def test_biases_take_up_the_mean_error_of_every_sum():
    real, fake, moments = rounded(PaletteChoice(2))
    after = passes.run(fake, [CorrectBias(real.constants, moments)])
    for op, weights, bias in (
        ("conv1d", ["conv"], 2),
        ("fully_connected", ["full"], 2),
        ("lstm", ["w", "r"], 5),
    ):
        before, node = (next(n for n in g.nodes if n.op == op) for g in (fake, after))
        added = after.constants[node.inputs[bias]].astype(np.float64)
        if len(before.inputs) > bias:
            added -= fake.constants[before.inputs[bias]]
        matrices = [(real.constants[w] - fake.constants[w]).reshape(len(added), -1) for w in weights]
        means = [moments[w].mean[0] for w in weights]
        assert np.allclose(added, sum(m @ x for m, x in zip(matrices, means, strict=True)), atol=1e-5)
        assert np.abs(added).max() > 1e-3
    assert all(np.array_equal(after.constants[w], fake.constants[w]) for w in WEIGHTS)


def test_the_mean_of_an_output_returns():
    real, fake, moments = rounded(PaletteChoice(2))
    after = CorrectBias(real.constants, moments).run(fake)
    wanted, without, found = (run(g, INPUTS, keep=["f.raw", "f"]).values for g in (real, fake, after))
    error = [np.abs((v["f.raw"] - wanted["f"]).mean(axis=(0, 1))).mean() for v in (without, found)]
    assert error[1] < 0.5 * error[0]


@pytest.mark.parametrize("repair", [ErrorFeedback, AdaRound, CorrectBias])
def test_only_weights_with_an_original_and_moments_are_repaired(repair):
    real, fake, moments = rounded(PaletteChoice(3))
    one = {"full": real.constants["full"]}
    mended = repair(one, moments).run(fake)
    assert mended != fake
    changed = {
        n: a for n, a in mended.constants.items() if not np.array_equal(a, fake.constants.get(n, np.zeros(0)))
    }
    assert changed.keys() == ({"f.bias.corrected"} if repair is CorrectBias else {"full"}), changed.keys()
    assert repair(real.constants, {"full": moments["full"]}).run(fake) == mended
    for nothing in (repair(), repair(real.constants), repair({}, moments)):
        assert nothing.run(fake) == fake


@pytest.mark.parametrize("zero_point", [0, -8, 100])
@pytest.mark.parametrize("repair", REPAIRS.values(), ids=REPAIRS)
def test_imported_codes_with_a_zero_point_stay(repair, zero_point):
    """Imported codes are their own originals; with another original those without a zero point move."""
    kind, numerics = (
        TensorType("i8", (6, 16), Quant((0.01,) * 6, zero_point, 0)),
        load_target("edge8").numerics,
    )
    codes = np.random.default_rng(3).integers(-100, 101, (6, 16)).astype(np.int8)
    graph = model()
    weights = {**graph.constants, "full": dequantize_array(codes, kind)}
    real = pipeline.simplify(replace(graph, constants=weights))
    options = pipeline.Options(load_target("edge8"), codes={"full": kind})
    fake = pipeline.cross(real, calibrate(real, [INPUTS]), options).fake
    moments = measure_moments(real, [INPUTS], WEIGHTS)
    others = {"full": real.constants["full"] + 0.004 * normal(6, 16, seed=9)}
    for originals, moves in (real.constants, False), (others, zero_point == 0):
        after = repair(originals, moments).run(fake)
        lowered = passes.run(after, [passes.LowerToInteger(numerics)])
        assert lowered.types["full"].zero_point == zero_point
        assert np.any(lowered.constants["full"] != codes) == moves


@pytest.mark.parametrize("zero_point", [-8, 100])
def test_the_bias_of_imported_codes_is_corrected_by_what_they_stand_for(zero_point):
    kind = TensorType("i8", (6, 16), Quant((0.01,) * 6, zero_point, 0))
    codes = np.random.default_rng(3).integers(-100, 101, (6, 16)).astype(np.int8)
    real, _, moments = rounded(None)
    graph = real.rebuilt(real.nodes, constants={**real.constants, "full": dequantize_array(codes, kind)})
    repair = CorrectBias(graph.constants, moments)
    assert not repair.mean_error(graph, "full", kind).any()


@pytest.mark.parametrize("repair", [ErrorFeedback, AdaRound, CorrectBias])
def test_an_original_of_another_shape_is_refused(repair):
    _, fake, moments = rounded(PaletteChoice(3))
    with pytest.raises(
        PassError, match=r"original of 'full' has shape \[3, 4\], graph 'model' has \[6, 16\]"
    ):
        repair({"full": normal(3, 4)}, moments).run(fake)


def chain(groups: int = 1, between: str = "relu", second: str = "conv1d") -> Graph:
    """Two layers whose channels between them differ by five orders of magnitude."""
    build, spread = Builder("chain"), np.logspace(-3, 2, 6).astype(np.float32)
    x = build.input("x", TensorType("f32", (3, 4, 12)), time_axis=0)
    first = [build.constant("a", normal(6, 4, 3) * spread[:, None, None]), build.constant("b", normal(6))]
    (y,) = build.node("conv1d", [x, *first], {}, ["y"])
    if between:
        attrs = {
            "max_pool": {"kernel": (2,), "stride": (1,), "padding": (0, 0)},
            "leaky_relu": {"alpha": 0.1},
        }.get(between, {})
        (y,) = build.node(between, [y], attrs, ["z"])
    if second == "conv1d":
        (y,) = build.node(
            "conv1d", [y, build.constant("c", normal(6, 6 // groups, 2))], {"groups": groups}, ["o"]
        )
    else:
        (y,) = build.node(second, [y, build.constant("c", normal(2, 10))], {}, ["o"])
    build.output(y, time_axis=0)
    return pipeline.simplify(verify(build.build()))


@pytest.mark.parametrize("groups", [1, 2, 6])
@pytest.mark.parametrize("between", ["", "relu", "leaky_relu", "max_pool"])
def test_equalised_layers_have_equal_ranges_and_compute_the_same(groups, between):
    graph, inputs = chain(groups, between), {"x": normal(3, 4, 12)}
    after = passes.run(graph, [EqualizeLayers()], check=inputs)
    exact, found = (run(g, inputs).outputs["o"] for g in (graph, after))
    assert np.allclose(found, exact, rtol=0, atol=1e-5 * np.abs(exact).max())
    r1 = np.abs(after.constants["a"]).max(axis=(1, 2))
    by_input = after.constants["c"].reshape(groups, 6 // groups, 6 // groups, 2)
    r2 = np.abs(by_input).max(axis=(1, 3)).ravel()
    assert np.allclose(r1, r2, rtol=1e-5)


def test_layers_whose_channels_others_read_are_no_pair():
    assert layer_pairs(chain(second="fully_connected")) == []  # the last axis is no channel of a convolution
    assert layer_pairs(chain(between="sigmoid")) == []
    graph = chain()
    assert [(a.op, b.op) for a, b in layer_pairs(graph)] == [("conv1d", "conv1d")]
    build = Builder("read twice")
    x = build.input("x", TensorType("f32", (3, 4)), time_axis=0)
    (y,) = build.node("fully_connected", [x, build.constant("a", normal(4, 4))], {}, ["y"])
    (z,) = build.node("fully_connected", [y, build.constant("c", normal(4, 4))], {}, ["z"])
    build.output(y, time_axis=0)
    build.output(z, time_axis=0)
    twice = verify(build.build())
    assert layer_pairs(twice) == []
    assert EqualizeLayers().run(twice) == twice


def test_a_channel_of_zeros_stays():
    graph = chain()
    weight = graph.constants["c"].copy()
    weight[:, 2] = 0
    graph = graph.rebuilt(graph.nodes, constants={**graph.constants, "c": weight})
    after = EqualizeLayers().run(graph)
    assert np.array_equal(after.constants["a"][2], graph.constants["a"][2])
    assert not after.constants["c"][:, 2].any()
