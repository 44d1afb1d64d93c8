"""resize: fast equals reference; nearest is exact, linear within half a code; torch and ONNX agree."""

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from integer_nodes import reals
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator
from strategies import assert_fast_is_reference, codes, integer_node, quantised, zero_points

from nnaq.errors import GraphError
from nnaq.ir.op import Signature, Work, lookup
from nnaq.ir.types import TensorType
from nnaq.kernels.resize import COORDINATES, NEAREST

RESIZE = lookup("resize")
SCALES = (1.0, 2.0, 4.0, 0.5, 1.5, 3.0, 0.75, 1 / 3, 2.25)


@st.composite
def resizes(draw, mode=None):
    rank = draw(st.integers(1, 4))
    shape = tuple(draw(st.integers(0, 5)) for _ in range(rank))
    busy = draw(st.sets(st.integers(0, rank - 1), max_size=2))
    attrs = {
        "scales": tuple(draw(st.sampled_from(SCALES)) if axis in busy else 1.0 for axis in range(rank)),
        "mode": mode or draw(st.sampled_from(("nearest", "linear"))),
        "coordinates": draw(st.sampled_from(COORDINATES)),
        "nearest": draw(st.sampled_from(NEAREST)),
    }
    dtype = draw(st.sampled_from(("i8", "i16")))
    kind = quantised(dtype, shape, 0.5, draw(zero_points(dtype)))
    return integer_node("resize", [(kind, draw(codes(kind)))], kind, attrs)


@given(resizes())
def test_fast_is_reference(node):
    assert_fast_is_reference(*node)


@given(resizes())
def test_integers_are_the_nearest_codes(node):
    op, signature, (x,) = node
    kind = signature.input(0)
    (exact,) = op.real(np, signature.attrs, reals(x, kind))
    error = np.abs(reals(op.fast(signature, x)[0], kind) - exact)
    limit = 0.0 if signature.attrs["mode"] == "nearest" else (0.5 + 2.0**-30) * kind.scale
    assert error.max(initial=0.0) <= limit


def resized(x, **attrs):
    kind = quantised("i8", x.shape, 1.0, 0)
    return assert_fast_is_reference(*integer_node("resize", [(kind, x)], kind, attrs))


def test_ties_go_away_from_the_zero_point():
    x = np.array([0, 2, -2, 127, -128], np.int8)
    y = resized(x, scales=(2.0,), mode="linear", coordinates="half_pixel")
    # quarters: 0.5 -> 1, 1.5 -> 2, 1, -1, 30.25, 94.75, 63.25, -64.25
    assert y.tolist() == [0, 1, 2, 1, -1, 30, 95, 63, -64, -128]
    assert resized(x[:2] - 1, scales=(2.0,), mode="linear", coordinates="asymmetric").tolist() == [
        -1,
        0,
        1,
        1,
    ]


def test_whole_factors_keep_time_open():
    def infer(*dims, scales, **attrs):
        return RESIZE.infer((TensorType("f32", dims),), {"scales": scales} | attrs)

    assert infer(1, 8, "T", scales=(1.0, 1.0, 2.0)) == ((1, 8, "2*T"),)
    assert infer("T", 8, scales=(0.5, 1.5), mode="linear") == (("(T-2)//2+1", 12),)
    # a scale that was a quotient of sizes gives these sizes back
    assert infer(3, scales=(float(np.float32(7 / 3)),)) == ((7,),)


@pytest.mark.parametrize(
    ("attrs", "message"),
    [
        ({"scales": (2.0,)}, "one scale per axis, 2 of them"),
        ({"scales": (1.0, 0.0)}, "scales of at least 1/1024"),
        ({"scales": (1.0, float("inf"))}, "scales of at least 1/1024"),
        ({"scales": (1.0, 2.0), "mode": "cubic"}, "no mode 'cubic'; there are nearest, linear"),
        ({"scales": (1.0, 2.0), "coordinates": "tf"}, "no coordinates 'tf'"),
        ({"scales": (1000.001, 1000.001), "mode": "linear"}, "weights of more than 30 bits"),
    ],
)
def test_attributes_that_make_no_sense_are_named(attrs, message):
    with pytest.raises(GraphError, match=message):
        RESIZE.infer((TensorType("f32", (3, 4)),), attrs)


@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize("coordinates", COORDINATES)
@pytest.mark.parametrize("scales", [(1.0, 2.0), (1.5, 0.5), (4.0, 1.0), (0.75, 3.0)])
def test_the_meaning_is_that_of_onnx(mode, coordinates, scales):
    x = np.random.default_rng(0).normal(size=(4, 8)).astype(np.float32)
    for nearest in NEAREST if mode == "nearest" else NEAREST[:1]:
        words = {"mode": mode, "coordinate_transformation_mode": coordinates, "nearest_mode": nearest}
        node = helper.make_node("Resize", ["x", "", "scales"], ["y"], **words)
        graph = helper.make_graph(
            [node],
            "resize",
            [
                helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape),
                helper.make_tensor_value_info("scales", TensorProto.FLOAT, [2]),
            ],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        )
        model = helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 21)])
        (expected,) = ReferenceEvaluator(model).run(None, {"x": x, "scales": np.array(scales, np.float32)})
        attrs = {"scales": scales, "mode": mode, "coordinates": coordinates, "nearest": nearest}
        np.testing.assert_allclose(RESIZE.real(np, attrs, x)[0], expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("scale", [2.0, 0.5, 1.5, 3.0])
@pytest.mark.parametrize("align", [None, False, True])
def test_the_meaning_is_that_of_torch(scale, align):
    torch = pytest.importorskip("torch")
    x = torch.randn(2, 3, 8, 6, generator=torch.Generator().manual_seed(0), requires_grad=True)
    attrs = {"scales": (1.0, 1.0, scale, scale), "mode": "linear", "nearest": "floor"}
    attrs |= {"coordinates": "align_corners" if align else "half_pixel"}
    if align is None:
        attrs |= {"mode": "nearest", "coordinates": "asymmetric"}
    words = {"mode": "nearest"} if align is None else {"mode": "bilinear", "align_corners": align}
    expected = torch.nn.functional.interpolate(x, scale_factor=scale, **words)
    (found,) = RESIZE.real(torch, attrs, x)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    (gradient,), (wanted,) = (torch.autograd.grad(y.square().sum(), x) for y in (found, expected))
    torch.testing.assert_close(gradient, wanted, rtol=0, atol=1e-4)


def test_work_counts_the_entries_a_result_is_made_of():
    x, y = TensorType("i8", (1, 4, 8)), TensorType("i8", (1, 4, 16))
    for mode, count in (("nearest", 64), ("linear", 128)):
        attrs = {"scales": (1.0, 1.0, 2.0), "mode": mode}
        assert RESIZE.work(Signature((x,), (y,), attrs)) == Work(elementwise=count)
