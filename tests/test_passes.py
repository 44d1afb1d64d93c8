"""Every pass does what its docstring draws, and the manager holds every pass to what it keeps."""

from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
from frontends.onnx_models import normal

from nnaq import passes, pipeline
from nnaq.codebooks.choice import PaletteChoice
from nnaq.errors import LoweringError, PassError
from nnaq.ir.build import Builder
from nnaq.ir.graph import Graph
from nnaq.ir.text import parse_graph, print_graph
from nnaq.ir.types import TensorType
from nnaq.ir.verify import verify
from nnaq.kernels.boundary import dequantize_array
from nnaq.passes import (
    AssignCodebooks,
    Canonicalize,
    FoldConstants,
    FuseActivation,
    InsertFakeQuant,
    LowerToInteger,
    Pass,
)
from nnaq.passes.manager import Keeps
from nnaq.quantize.calibrate import Ranges
from nnaq.quantize.code_types import Choice
from nnaq.targets import load_target

CONV = {"stride": 1, "dilation": 1, "padding": (0, 0), "groups": 1, "activation": "none"}
RANGES = Ranges({"x": (-1.0, 1.0), "y": (-2.0, 2.0)})


def calls(graph: Graph) -> list[str]:
    """`results = op(operands)` of every node."""
    return [f"{', '.join(n.outputs)} = {n.op}({', '.join(n.inputs)})" for n in graph.nodes]


def convolution(after: str = "") -> Graph:
    """conv1d(x, w, b), and what reads it."""
    b = Builder("conv")
    x = b.input("x", TensorType("f32", (1, 2, 8)))
    w, bias = b.constant("w", normal(3, 2, 3)), b.constant("b", normal(3))
    (y,) = b.node("conv1d", [x, w, bias], CONV, ["c" if after else "y"])
    b.output(b.node(after, [y], outputs=["y"])[0] if after else y)
    return verify(b.build())


# --- one pass at a time


def test_fold_constants():
    b = Builder("fold")
    x = b.input("x", TensorType("f32", (3, 4)))
    w = b.constant("w", normal(5, 4))
    (turned,) = b.node("transpose", [w], {"perm": (1, 0)}, ["w2"])
    b.output(b.node("matmul", [x, turned], outputs=["y"])[0])
    before = b.build()
    after = passes.run(before, [FoldConstants()], {"x": normal(3, 4)})
    assert calls(after) == ["y = matmul(x, w2)"]
    assert np.array_equal(after.constants["w2"], before.constants["w"].T)
    assert set(after.constants) == {"w2"}


def test_fold_constants_leaves_roundings_alone():
    b = Builder("keep")
    w = b.constant("w", normal(4))
    x = b.input("x", TensorType("f32", (4,)))
    attrs = {"dtype": "i8", "scale": (0.1,), "zero_point": 0, "axis": -1, "rounding": "half_even"}
    (rounded,) = b.node("fake_quantize", [w], attrs, ["w.fq"])
    b.output(b.node("add", [x, rounded], outputs=["y"])[0])
    assert calls(FoldConstants().run(b.build())) == calls(b.build())


def test_canonicalize():
    b = Builder("dead")
    a = b.input("a", TensorType("f32", (4,)))
    b.output(b.node("relu", [a], outputs=["b"])[0])
    b.node("sigmoid", [a], outputs=["c"])
    after = passes.run(b.build(), [Canonicalize()], {"a": normal(4)})
    assert calls(after) == ["b = relu(a)"]
    assert [port.name for port in after.outputs] == ["b"]
    assert set(after.types) == {"a", "b"}


def test_canonicalize_orders():
    b = Builder("order")
    a = b.input("a", TensorType("f32", (4,)))
    (one,) = b.node("relu", [a], outputs=["one"])
    b.output(b.node("tanh", [one], outputs=["two"])[0])
    graph = b.build()
    assert Canonicalize().run(replace(graph, nodes=graph.nodes[::-1])) == graph


def test_fuse_activation():
    before = convolution("relu")
    after = passes.run(before, [FuseActivation()], {"x": normal(1, 2, 8)})
    assert calls(after) == ["y = conv1d(x, w, b)"]
    assert after.nodes[0].attrs["activation"] == "relu"
    assert after.nodes[0].name == before.nodes[0].name


def test_fuse_activation_leaves_what_others_read():
    for after in ("tanh", ""):
        assert FuseActivation().run(convolution(after)) == convolution(after)
    before = convolution("relu")
    shown = replace(before, outputs=(*before.outputs, replace(before.outputs[0], name="c")))
    assert FuseActivation().run(shown) == shown


def test_insert_fake_quant():
    after = passes.run(convolution(), [InsertFakeQuant(Choice(RANGES))])
    assert calls(after) == [
        "x.fq = fake_quantize(x)",
        "w.fq = fake_quantize(w)",
        "y.raw = conv1d(x.fq, w.fq, b)",
        "y = fake_quantize(y.raw)",
    ]
    by = {node.outputs[0]: node.attrs for node in after.nodes}
    assert (by["w.fq"]["dtype"], by["w.fq"]["axis"], len(by["w.fq"]["scale"])) == ("i8", 0, 3)
    assert (by["y"]["dtype"], by["y"]["axis"]) == ("i8", -1)
    assert by["y"]["scale"] == (float(np.float32(4 / 255)),)
    assert {kind.dtype for kind in after.types.values()} == {"f32"}


def test_insert_fake_quant_does_not_round_what_moves():
    b = Builder("moves")
    x = b.input("x", TensorType("f32", (2, 3)))
    (y,) = b.node("transpose", [x], {"perm": (1, 0)}, ["y"])
    b.output(b.node("relu", [y], outputs=["z"])[0])
    after = InsertFakeQuant(Choice(Ranges({"x": (-1.0, 1.0), "y": (-1.0, 1.0), "z": (0.0, 1.0)}))).run(
        b.build()
    )
    assert calls(after) == ["x.fq = fake_quantize(x)", "y = transpose(x.fq)", "z = relu(y)"]


def test_insert_fake_quant_refuses_values_it_does_not_find():
    with pytest.raises(PassError, match="dtypes name z, which graph 'conv' does not have"):
        InsertFakeQuant(Choice(RANGES, dtypes={"z": "i16"})).run(convolution())


def test_assign_codebooks():
    fake = InsertFakeQuant(Choice(RANGES)).run(convolution())
    after = passes.run(fake, [AssignCodebooks({"w": PaletteChoice(2)})])
    assert calls(after) == calls(fake)
    attrs = next(node.attrs for node in after.nodes if node.outputs[0] == "w.fq")
    assert attrs["palette_bits"] == 2
    assert len(attrs["palette"]) == 4
    scale = np.array(attrs["scale"], np.float32).reshape(3, 1, 1)
    codes = np.rint(after.constants["w"] / scale).astype(int)
    assert set(codes.ravel().tolist()) <= set(attrs["palette"])
    assert np.array_equal(after.constants["b"], fake.constants["b"])


@pytest.mark.parametrize("name", ["y", "b", "nothing"])
def test_assign_codebooks_refuses_what_is_no_weight(name):
    fake = InsertFakeQuant(Choice(RANGES)).run(convolution())
    with pytest.raises(PassError, match=f"palettes name '{name}', which is no weight of graph 'conv'"):
        AssignCodebooks({name: PaletteChoice(2)}).run(fake)


def test_lower_to_integer():
    fake = InsertFakeQuant(Choice(RANGES)).run(convolution())
    after = passes.run(fake, [LowerToInteger()])
    assert calls(after) == [
        "x.fq = quantize(x)",
        "y.codes = conv1d(x.fq, w, y.codes.bias, y.codes.multiplier, y.codes.shift)",
        "y = dequantize(y.codes)",
    ]
    kinds = {name: after.types[name].dtype for name in after.constants}
    assert kinds == {
        "w": "i8", "y.codes.bias": "i32", "y.codes.multiplier": "i32", "y.codes.shift": "i8",
    }  # fmt: skip
    weight = dequantize_array(after.constants["w"], after.types["w"])
    assert np.abs(weight - fake.constants["w"]).max() <= max(after.types["w"].quant.scale) / 2 * 1.0001


def test_lower_to_integer_keeps_an_island_between_two_boundaries():
    fake = InsertFakeQuant(Choice(RANGES)).run(convolution())
    after = passes.run(fake, [LowerToInteger(islands=frozenset({"y"}))])
    assert calls(after) == [
        "x.fq = quantize(x)",
        "x.fq.y.real = dequantize(x.fq)",
        "y.real = conv1d(x.fq.y.real, w.real, b.real)",
        "y.codes = quantize(y.real)",
        "y = dequantize(y.codes)",
    ]
    assert np.array_equal(after.constants["w.real"], fake.constants["w"])


def test_lower_to_integer_needs_fake_quant_first():
    with pytest.raises(LoweringError, match="value 'y' has no code type; run insert-fake-quant first"):
        LowerToInteger().run(convolution())


# --- the manager


class Lying(Pass):
    """Changes a constant and says it keeps the integers."""

    name: ClassVar[str] = "lying"
    keeps: ClassVar[Keeps] = "bits"

    def run(self, graph: Graph) -> Graph:
        changed = {n: np.roll(c, 1) if n == "w" else c for n, c in graph.constants.items()}
        return replace(graph, constants=changed)


class Drifting(Lying):
    """Changes reals by more than rounding."""

    name: ClassVar[str] = "drifting"
    keeps: ClassVar[Keeps] = "reals"


class Careful(Lying):
    """Changes values, but promised ports and shapes only."""

    name: ClassVar[str] = "careful"
    keeps: ClassVar[Keeps] = "types"


class Breaking(Pass):
    """Drops the node that makes the output."""

    name: ClassVar[str] = "breaking"
    keeps: ClassVar[Keeps] = "types"

    def run(self, graph: Graph) -> Graph:
        return replace(graph, nodes=graph.nodes[:-1])


class Renaming(Pass):
    """Loses an output."""

    name: ClassVar[str] = "renaming"
    keeps: ClassVar[Keeps] = "types"

    def run(self, graph: Graph) -> Graph:
        return replace(graph, outputs=())


class Forgetting(Pass):
    """Loses a state."""

    name: ClassVar[str] = "forgetting"
    keeps: ClassVar[Keeps] = "types"

    def run(self, graph: Graph) -> Graph:
        return replace(graph, states=())


class Reshaping(Pass):
    """Gives an output another shape."""

    name: ClassVar[str] = "reshaping"
    keeps: ClassVar[Keeps] = "bits"

    def run(self, graph: Graph) -> Graph:
        return parse_graph(
            "graph flat {\n  input x: f32[2]\n  y: f32[1,2] = reshape(x) {shape=[1, 2]}\n  output y\n}"
        )


def integer_convolution() -> Graph:
    return LowerToInteger().run(InsertFakeQuant(Choice(RANGES)).run(convolution()))


def test_a_pass_that_lies_about_bits_is_told_with_the_value():
    with pytest.raises(PassError, match=r"pass 'lying' keeps bits, but 'y' made by dequantize .* moved by"):
        passes.run(integer_convolution(), [Lying()], {"x": normal(1, 2, 8)})


def test_a_pass_that_changes_a_shape_is_told():
    flat = parse_graph("graph flat {\n  input x: f32[2]\n  y: f32[2] = reshape(x) {shape=[2]}\n  output y\n}")
    with pytest.raises(PassError, match=r"'y' made by reshape 'y' was float32\[2\] and is float32\[1, 2\]"):
        passes.run(flat, [Reshaping()], {"x": normal(2)})


def test_a_pass_that_lies_about_reals_is_told_with_the_value():
    with pytest.raises(PassError, match="pass 'drifting' keeps reals, but 'y' made by conv1d 'y' moved by"):
        passes.run(convolution(), [Drifting()], {"x": normal(1, 2, 8)})


def test_a_pass_may_change_what_it_did_not_promise():
    passes.run(convolution(), [Careful()], {"x": normal(1, 2, 8)})


def test_values_are_compared_only_where_inputs_are_given():
    passes.run(convolution(), [Drifting()])


def test_bits_hold_for_states_too():
    b = Builder("counter")
    x = b.input("x", TensorType("f32", (2,)))
    h = b.value("h", TensorType("f32", (2,)))
    w = b.constant("w", np.array([1.0, 2.0], np.float32))
    (after,) = b.node("add", [h, w], outputs=["h2"])
    b.output(b.node("relu", [x], outputs=["y"])[0])
    b.state("h", h, after, np.zeros(2, np.float32))
    with pytest.raises(PassError, match="pass 'lying' keeps bits, but 'h' moved by 1"):
        passes.run(verify(b.build()), [Lying()], {"x": normal(2)})
    with pytest.raises(PassError, match="pass 'forgetting' left an unsound graph: add 'h2' reads 'h' before"):
        passes.run(verify(b.build()), [Forgetting()])


def test_an_unsound_graph_is_told_with_pass_and_rule():
    with pytest.raises(
        PassError, match="pass 'breaking' left an unsound graph: output 'y' of graph 'conv' is"
    ):
        passes.run(convolution(), [Breaking()])


def test_changed_ports_are_told():
    with pytest.raises(PassError, match="pass 'renaming' changed the ports of graph 'conv'"):
        passes.run(convolution(), [Renaming()])


def test_a_nan_does_not_pass_as_kept():
    class Spoiling(Drifting):
        name: ClassVar[str] = "spoiling"

        def run(self, graph: Graph) -> Graph:
            return replace(graph, constants={n: c * np.float32(np.nan) for n, c in graph.constants.items()})

    with pytest.raises(PassError, match="spoiling"):
        passes.run(convolution(), [Spoiling()], {"x": normal(1, 2, 8)})


def test_every_stage_is_dumped_and_numbered_across_stretches(tmp_path):
    real = pipeline.simplify(convolution("relu"), dump=tmp_path)
    pipeline.cross(real, RANGES, pipeline.Options(load_target("edge8")), tmp_path)
    always = (*passes.SIMPLIFY, *passes.FAKE_QUANTIZE, *passes.LOWER)
    names = [f"{n:02d}-{step.made_by.name}.txt" for n, step in enumerate(always)]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    for path in tmp_path.iterdir():
        assert print_graph(parse_graph(path.read_text())) == path.read_text()


# --- the pipeline


def test_passes_have_names_of_their_own():
    kinds = {step.made_by for step in (*passes.PIPELINE, *passes.STREAM)}
    assert len({kind.name for kind in kinds}) == len(kinds)
    assert all(kind.name == kind.name.lower().replace("_", "-") for kind in kinds)
    assert {kind.keeps for kind in kinds} <= {"bits", "reals", "types"}
    assert all(step.reason for step in (*passes.PIPELINE, *passes.STREAM))


def test_every_pass_stands_in_the_pipeline_or_behind_it():
    shipped = {kind for kind in Pass.__subclasses__() if kind.__module__.startswith("nnaq.passes.")}
    assert {step.made_by for step in (*passes.PIPELINE, *passes.STREAM)} == shipped


def test_an_added_pass_would_run():
    """The pipeline is what `simplify` and `cross` run: a step put into a stretch is made and called."""
    steps = (*passes.SIMPLIFY, passes.Step(Careful, "for this test"))
    assert [type(one) for one in pipeline.made(steps)] == [step.made_by for step in steps]
    configured = InsertFakeQuant(Choice(RANGES))
    assert pipeline.made(passes.FAKE_QUANTIZE, configured, AssignCodebooks({"w": 3})) == [
        configured,
        AssignCodebooks({"w": 3}),
    ]
