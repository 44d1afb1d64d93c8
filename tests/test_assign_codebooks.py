"""Palettes of weights: who shares a table, what the codes become, which weights cannot have one."""

from dataclasses import replace

import numpy as np
import pytest
from frontends.onnx_models import normal

from nnaq import passes, pipeline
from nnaq.codebooks.choice import PaletteChoice
from nnaq.errors import PassError
from nnaq.interpret import run
from nnaq.ir.build import Builder
from nnaq.ir.graph import Graph
from nnaq.ir.types import Quant, TensorType
from nnaq.ir.verify import verify
from nnaq.kernels.boundary import dequantize_array
from nnaq.quantize.calibrate import calibrate
from nnaq.targets import load_target

FRAMES, UNITS = 6, 4
CHOICES = [
    PaletteChoice(3),
    PaletteChoice(2, "per_channel"),
    PaletteChoice(3, "per_gate", zero="forced"),
    PaletteChoice(2, "per_group", 3),
    PaletteChoice(2, zero="mapped"),
    PaletteChoice(4, method="lloyd_max", scale="kept"),
]


def recurrent() -> Graph:
    """y = lstm(x), with a state."""
    build = Builder("recurrent")
    x = build.input("x", TensorType("f32", (FRAMES, 1, 3)), time_axis=0)
    h = build.value("h", TensorType("f32", (1, UNITS)))
    c = build.value("c", TensorType("f32", (1, UNITS)))
    weights = [build.constant(name, normal(4 * UNITS, size)) for name, size in (("w", 3), ("r", UNITS))]
    y, h_out, c_out = build.node("lstm", [x, h, c, *weights], {}, ["y", "h.out", "c.out"])
    build.output(y, time_axis=0)
    build.state("h", h, h_out, np.zeros((1, UNITS), np.float32))
    build.state("c", c, c_out, np.zeros((1, UNITS), np.float32))
    return verify(build.build())


def crossed(**options) -> pipeline.Crossing:
    real = pipeline.simplify(recurrent())
    ranges = calibrate(real, [{"x": normal(FRAMES, 1, 3)}])
    return pipeline.cross(real, ranges, pipeline.Options(load_target("edge8"), **options))


@pytest.mark.parametrize("choice", CHOICES, ids=str)
def test_codes_are_entries_of_their_rows_table_and_reals_are_near_them(choice):
    crossing = crossed(palettes={"r": choice})
    verify(crossing.integer)
    kind = crossing.integer.types["r"]
    assert kind.palette is not None
    assert kind.palette.bits == choice.bits
    assert (kind.palette.zeros is not None) == (choice.zero == "mapped")
    entries = {code for table in kind.palette.tables for code in table} | {0}
    assert set(crossing.integer.constants["r"].ravel().tolist()) <= entries
    fake = crossing.fake.constants["r"]
    assert np.array_equal(fake, dequantize_array(crossing.integer.constants["r"], kind))
    weight = crossing.real.constants["r"]
    assert np.sum((fake - weight) ** 2) < 0.5 * np.sum(weight**2)
    assert crossing.integer.types["w"].palette is None


@pytest.mark.parametrize(("choice", "tables"), [("per_tensor", 1), ("per_gate", 4), ("per_channel", 16)])
def test_who_shares_a_table(choice, tables):
    palette = crossed(palettes={"r": PaletteChoice(2, choice)}).integer.types["r"].palette
    assert palette is not None
    assert len(palette.tables) == tables


def test_the_integer_graph_with_a_palette_is_that_of_its_codes():
    """To the arithmetic a palette's weight is plain int8."""
    integer = crossed(palettes={"r": PaletteChoice(3, "per_gate"), "w": PaletteChoice(2)}).integer
    bare = {name: TensorType(k.dtype, k.shape, k.quant) for name, k in integer.types.items()}
    plain = Graph(
        integer.name,
        integer.inputs,
        integer.outputs,
        integer.nodes,
        bare,
        integer.constants,
        integer.states,
    )
    x = {"x": normal(FRAMES, 1, 3)}
    assert np.array_equal(run(integer, x).outputs["y"], run(plain, x).outputs["y"])


def test_every_weight_that_stands_in_no_recipe_keeps_its_codes():
    assert crossed(palettes={}).integer == crossed().integer


def test_a_palette_has_8_bit_codes_where_other_weights_have_4():
    types = crossed(weight_bits=4, palettes={"r": PaletteChoice(3)}).integer.types
    assert (types["w"].dtype, types["r"].dtype) == ("i4", "i8")


@pytest.mark.parametrize(
    ("name", "choice", "sentence"),
    [
        ("y", PaletteChoice(2), "which is no weight"),
        ("nothing", PaletteChoice(2), "which is no weight"),
    ],
)
def test_what_cannot_have_a_palette_is_said(name, choice, sentence):
    with pytest.raises(PassError, match=sentence):
        crossed(palettes={name: choice})


def test_a_palette_weighted_by_what_was_not_measured_is_found_without():
    blind = crossed(palettes={"r": PaletteChoice(2, weighting="activations")})
    assert blind.integer == crossed(palettes={"r": PaletteChoice(2)}).integer


def test_only_recurrent_weights_have_gates():
    build = Builder("layer")
    x = build.input("x", TensorType("f32", (2, 3)))
    weight = build.constant("w", normal(4, 3))
    build.output(build.node("fully_connected", [x, weight], {"activation": "none"}, ["y"])[0])
    real = pipeline.simplify(build.build())
    ranges = calibrate(real, [{"x": normal(2, 3)}])
    options = pipeline.Options(load_target("edge8"), palettes={"w": PaletteChoice(2, "per_gate")})
    with pytest.raises(
        PassError, match="'w' has no gates; a palette per_gate is for weights of lstm and gru"
    ):
        pipeline.cross(real, ranges, options)


def test_channels_on_another_axis_share_one_table():
    build = Builder("up")
    x = build.input("x", TensorType("f32", (1, 2, 5)))
    weight = build.constant("w", normal(2, 3, 4))
    attrs = {
        "stride": 2,
        "dilation": 1,
        "padding": (0, 0),
        "output_padding": 0,
        "groups": 1,
        "activation": "none",
    }
    build.output(build.node("conv_transpose1d", [x, weight], attrs, ["y"])[0])
    real = pipeline.simplify(build.build())
    ranges = calibrate(real, [{"x": normal(1, 2, 5)}])
    options = pipeline.Options(load_target("edge8"), palettes={"w": PaletteChoice(2)})
    kind = verify(pipeline.cross(real, ranges, options).integer).types["w"]
    assert kind.palette is not None
    with pytest.raises(PassError, match="the channels of 'w' are axis 1"):
        pipeline.cross(
            real,
            ranges,
            pipeline.Options(load_target("edge8"), palettes={"w": PaletteChoice(2, "per_channel")}),
        )


def test_the_pass_is_idle_without_palettes():
    real = pipeline.simplify(recurrent())
    assert passes.AssignCodebooks().run(real) is real


def layer_with_codes(kind: TensorType) -> pipeline.Crossing:
    """A layer whose weight comes with codes of its own, on a palette of two bits."""
    build = Builder("given")
    x = build.input("x", TensorType("f32", (4, 3)))
    weight = build.constant("w", normal(5, 3))
    build.output(build.node("fully_connected", [x, weight], {"activation": "none"}, ["y"])[0])
    real = pipeline.simplify(build.build())
    ranges = calibrate(real, [{"x": normal(4, 3)}])
    options = pipeline.Options(load_target("edge8"), palettes={"w": PaletteChoice(2)}, codes={"w": kind})
    return pipeline.cross(real, ranges, options)


def test_a_weight_with_one_scale_keeps_it():
    kind = verify(layer_with_codes(TensorType("i8", (5, 3), Quant((0.02,)))).integer).types["w"]
    assert kind.quant == Quant((0.02,))
    assert kind.palette is not None


def test_codes_with_a_zero_point_have_no_palette():
    with pytest.raises(PassError, match="i8 with zero_point 3: only 8-bit codes with zero_point 0"):
        layer_with_codes(TensorType("i8", (5, 3), Quant((0.02,), 3)))


def test_a_weight_that_only_the_host_reads_stays_as_it_was():
    build = Builder("island")
    x = build.input("x", TensorType("f32", (4, 3)))
    weight = build.constant("w", normal(5, 3))
    build.output(build.node("fully_connected", [x, weight], {"activation": "none"}, ["y"])[0])
    real = pipeline.simplify(build.build())
    target = replace(load_target("edge8"), exclude=("fully_connected",))
    options = pipeline.Options(target, palettes={"w": PaletteChoice(1)})
    crossing = pipeline.cross(real, calibrate(real, [{"x": normal(4, 3)}]), options)
    assert np.array_equal(crossing.integer.constants["w.real"], real.constants["w"])
