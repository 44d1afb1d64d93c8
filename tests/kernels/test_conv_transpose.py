"""Transposed convolutions: fast equals reference over every geometry; within the bound of the reals."""

from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import (
    activations,
    assert_fast_is_reference,
    codes,
    integer_node,
    layer_scales,
    quantised,
    roundings,
    zero_points,
)

from nnaq.errors import GraphError, LoweringError
from nnaq.ir.op import Signature, Work, lookup
from nnaq.ir.types import Quant, TensorType, bounds
from nnaq.kernels.conv_transpose import accumulator_bound, output_scales
from nnaq.targets.gemm import Gemm, gemms

dtypes = st.sampled_from(("i8", "i16"))


def attributes(rank, stride, dilation, padding, groups=1, activation="none", output_padding=(0, 0)):
    """Attributes of a node: whole numbers for one dimension, tuples for two."""
    own = {"stride": stride, "dilation": dilation, "output_padding": output_padding[:rank]}
    own = {key: value[0] if rank == 1 else value for key, value in own.items()}
    return {**own, "padding": padding, "groups": groups, "activation": activation}


def drawn(draw, strategy, count):
    return tuple(draw(strategy) for _ in range(count))


@st.composite
def layers(draw, rounding=None):
    """A prepared node and its arrays: rank, groups, stride, dilation, padding, output_padding."""
    rounding, rank = rounding or draw(roundings), draw(st.sampled_from((1, 2)))
    kernel, stride, dilation = (drawn(draw, st.integers(1, most), rank) for most in (4, 3, 3))
    padding, extra = (drawn(draw, st.integers(0, 3), count) for count in (2 * rank, rank))
    groups, inner, per_group = draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.integers(1, 3))
    spatial = drawn(draw, st.integers(0, 5), rank)
    outputs, dtype, y_dtype = groups * per_group, draw(dtypes), draw(dtypes)
    scale_x, scales, scale_y = draw(layer_scales(rounding, draw(st.sampled_from((None, per_group)))))
    x_shape = (draw(st.integers(0, 2)), groups * inner, *spatial)
    x = quantised(dtype, x_shape, scale_x, draw(zero_points(dtype)))
    quant = Quant(scales, 0, 1) if len(scales) > 1 else Quant(scales, draw(st.sampled_from((0, 0, -7))))
    weight = TensorType(draw(st.sampled_from(("i8", "i4"))), (groups * inner, per_group, *kernel), quant)
    bias = np.round(draw(codes(quantised("i16", (outputs,)))) / 8.0) * scale_x * scales[0]
    operands = [(x, draw(codes(x))), (weight, draw(codes(weight)))]
    operands.append(draw(st.sampled_from((None, (TensorType("f32", (outputs,)), bias)))))
    attrs = attributes(rank, stride, dilation, padding, groups, draw(activations), extra)
    output = quantised(y_dtype, (), scale_y, draw(zero_points(y_dtype)))
    return integer_node(f"conv_transpose{rank}d", operands, output, attrs, rounding)


@given(layers())
def test_fast_is_reference(layer):
    assert_fast_is_reference(*layer)


@pytest.mark.parametrize("dtype", ["i8", "i16"])
@pytest.mark.parametrize(
    ("rank", "spatial", "kernel", "stride", "dilation", "padding", "groups"),
    [
        (1, (150,), (7,), (3,), (1,), (2, 1), 1),
        (1, (40,), (3,), (4,), (2,), (0, 0), 2),  # phases without a tap
        (2, (9, 21), (3, 4), (2, 1), (1, 2), (1, 0, 2, 3), 2),
    ],
)
def test_many_positions_of_every_phase(rank, spatial, kernel, stride, dilation, padding, groups, dtype):
    generator = np.random.default_rng(rank)
    x, weight = quantised(dtype, (2, 8, *spatial), 0.5), quantised("i8", (8, 8 // groups, *kernel), 0.5)
    operands = [
        (
            kind,
            generator.integers(*bounds(kind.dtype), kind.shape, endpoint=True).astype(f"int{kind.dtype[1:]}"),
        )
        for kind in (x, weight)
    ]
    attrs = attributes(rank, stride, dilation, padding, groups)
    output = quantised("i16", (), 2.0**4)
    assert_fast_is_reference(*integer_node(f"conv_transpose{rank}d", operands, output, attrs))


@given(layers("single"))
def test_integers_stay_within_the_stated_bound_of_the_reals(layer):
    op, signature, arrays = layer
    x, weight, bias = arrays[:3]
    (y,) = op.fast(signature, *arrays)
    kind_x, kind_w, kind = signature.input(0), signature.input(1), signature.outputs[0]
    attrs = {**signature.attrs, "activation": "none"}
    # Whole numbers in float64 are exact, so the real kernel gives the accumulator itself.
    (acc,) = op.real(
        np, attrs, x.astype(float) - kind_x.zero_point, weight.astype(float) - kind_w.zero_point, bias
    )
    scales = kind_x.scale * output_scales(kind_w, int(attrs["groups"])) / kind.scale
    steps = acc * scales.reshape(-1, *[1] * (acc.ndim - 2))
    low, high = bounds(kind.dtype)
    low = kind.zero_point if signature.attrs["activation"] == "relu" else low
    limited = np.clip(steps, low - kind.zero_point, high - kind.zero_point)
    # 2^-31 from the multiplier, 2^-50 from the roundings of this float64 quotient.
    allowed = 0.5 + np.abs(steps) * (2.0**-31 + 2.0**-50)
    assert (np.abs(y.astype(int) - kind.zero_point - limited) <= allowed).all()


@given(layers())
def test_the_real_kernels_agree_with_torch(layer):
    torch = pytest.importorskip("torch")
    op, signature, (x, weight, bias, *_) = layer
    attrs, rank = signature.attrs, x.ndim - 2
    arrays = x.astype(float), weight.astype(float), bias.astype(float)
    tensors = [torch.from_numpy(a) for a in arrays]
    ((ours,), (numpys,)) = op.real(torch, attrs, *tensors), op.real(np, attrs, *arrays)
    np.testing.assert_array_equal(ours.numpy(), numpys)
    if 0 in ours.shape or 0 in x.shape:
        return  # torch refuses these
    # torch pads both ends alike and refuses output_padding of a stride: no padding, then cuts and zeros
    function = getattr(torch.nn.functional, op.name)
    full = function(*tensors[:2], None, attrs["stride"], 0, 0, attrs["groups"], attrs["dilation"])
    for axis in range(rank):
        begin, size = attrs["padding"][axis], ours.shape[2 + axis]
        short = max(begin + size - full.shape[2 + axis], 0)
        zeros = torch.zeros(*full.shape[: 2 + axis], short, *full.shape[3 + axis :], dtype=full.dtype)
        full = torch.cat((full, zeros), 2 + axis).narrow(2 + axis, begin, size)
    theirs = full + tensors[2].reshape(-1, *[1] * rank)
    assert torch.equal(ours, torch.relu(theirs) if attrs["activation"] == "relu" else theirs)


@pytest.mark.parametrize(("rank", "groups"), [(1, 1), (1, 2), (2, 1), (2, 2)])
def test_the_real_kernel_is_torchs_with_its_gradient(rank, groups):
    torch = pytest.importorskip("torch")
    generator = torch.Generator().manual_seed(rank)
    shapes = (2, 4, *(5, 3)[:rank]), (4, 2, *(3, 4)[:rank]), (2 * groups,)
    leaves = [torch.randn(s, generator=generator, dtype=torch.float64).requires_grad_() for s in shapes]
    attrs = attributes(rank, (2, 3)[:rank], (1, 2)[:rank], (1, 2)[:rank] * 2, groups, output_padding=(1, 2))
    op = lookup(f"conv_transpose{rank}d")
    function = getattr(torch.nn.functional, op.name)
    expected = function(
        *leaves, attrs["stride"], (1, 2)[:rank], (1, 2)[:rank], groups, attrs["dilation"]
    )  # fmt: skip
    torch.testing.assert_close(op.real(torch, attrs, *leaves)[0], expected, rtol=0, atol=1e-12)
    assert torch.autograd.gradcheck(lambda *v: op.real(torch, attrs, *v), leaves, fast_mode=True)


def test_scales_stand_along_axis_1_and_groups_share_them():
    weight = TensorType("i8", (4, 2, 3), Quant((0.5, 0.25), 0, 1))
    assert output_scales(weight, 2).tolist() == [0.5, 0.25, 0.5, 0.25]
    wrong = TensorType("i8", (2, 2, 3), Quant((0.5, 0.25), 0, 0))
    with pytest.raises(LoweringError, match="per_channel along axis 1, found axis 0"):
        output_scales(wrong, 1)
    assert lookup("conv_transpose1d").weights == {1: 1}


def test_the_bound_is_the_largest_over_phases_and_reached():
    """Of the taps 1, 2, 30, -40 with stride 2, those of a phase meet: 1 and 30, 2 and 40."""
    weight = np.array([[[1, 2, 30, -40]]], np.int8)
    x = quantised("i8", (1, 1, 3), 1.0, 127)
    attrs = attributes(1, (2,), (1,), (0, 0))
    assert accumulator_bound(weight, x, np.array([-5]), attrs, 0) == 255 * 42 + 5
    assert accumulator_bound(weight, x, np.array([-5]), {**attrs, "stride": 1}, 0) == 255 * 73 + 5
    assert accumulator_bound(weight, x, np.array([-5]), {**attrs, "stride": 4}, 0) == 255 * 40 + 5
    layer = [(x, np.full(x.shape, -128, np.int8)), (quantised("i8", weight.shape), np.abs(weight))]
    y = assert_fast_is_reference(*integer_node("conv_transpose1d", layer, quantised("i16", (), 1.0), attrs))
    assert y.min() == -255 * 42


def test_the_proof_is_sharp():
    x, weight = quantised("i8", (1, 2, 1), 1.0, -128), quantised("i8", (2, 1, 40), 2.0**-8)
    arrays = np.full(x.shape, 127, np.int8), np.full(weight.shape, -128, np.int8)
    attrs, kind = attributes(1, (1,), (1,), (0, 0)), TensorType("f32", (1,))
    left = 2**31 - 1 - accumulator_bound(arrays[1], x, np.zeros(1), attrs, 0)
    for size, legal in ((left, True), (left + 1, False)):
        layer = [(x, arrays[0]), (weight, arrays[1]), (kind, np.array([-size * 2.0**-8]))]
        make = partial(integer_node, "conv_transpose1d", layer, quantised("i16", (), 2.0**10), attrs)
        if legal:
            assert_fast_is_reference(*make())
        else:
            with pytest.raises(LoweringError, match=f"conv_transpose1d: the accumulator can reach {2**31}"):
                make()


def test_positions_without_a_tap_hold_the_bias():
    x, weight = quantised("i8", (1, 1, 2), 1.0, 100), quantised("i8", (1, 1, 1))
    layer = [(x, np.array([[[103, 98]]], np.int8)), (weight, np.array([[[5]]], np.int8))]
    layer.append((TensorType("f32", (1,)), np.array([7.0])))
    attrs = attributes(1, (3,), (1,), (0, 0), output_padding=(2,))
    node = integer_node("conv_transpose1d", layer, quantised("i8", (), 1.0, -1), attrs)
    assert assert_fast_is_reference(*node).tolist() == [[[21, 6, 6, -4, 6, 6]]]


@pytest.mark.parametrize(
    ("name", "shapes", "attrs", "expected"),
    [
        ("conv_transpose1d", [(1, 4, "T"), (4, 8, 4)], {"stride": 2, "padding": (1, 1)}, (1, 8, "2*T")),
        ("conv_transpose1d", [("B", 4, 7), (4, 3, 3), (6,)], {"groups": 2, "dilation": 2}, ("B", 6, 11)),
        (
            "conv_transpose2d",
            [(1, 4, "T", 8), (4, 2, 3, 3)],
            {"stride": (1, 2), "padding": (0, 1, 2, 1), "output_padding": (0, 1)},
            (1, 2, "T", 16),
        ),
        ("conv_transpose1d", [(1, 1, 1), (1, 1, 1)], {"padding": (1, 1)}, (1, 1, 0)),
    ],
)
def test_shapes_may_be_symbolic(name, shapes, attrs, expected):
    assert lookup(name).infer(tuple(TensorType("f32", shape) for shape in shapes), attrs) == (expected,)


@pytest.mark.parametrize(
    ("shapes", "attrs", "words"),
    [
        ([(1, 5, 9), (4, 8, 3)], {}, r"5 channels of x \[1,5,9\] do not fit weight \[4,8,3\] with 1 groups"),
        ([(1, 4, 9), (4, 8, 3)], {"groups": 3}, "with 3 groups"),
        ([(1, 4, 9), (4, 8, 3, 3)], {}, "must have rank 3"),
        ([(1, 4, 9), (4, 8, 3), (8,)], {"groups": 2}, r"bias \[8\] does not fit"),
        ([(1, 4, 9), (4, 8, 3)], {"padding": (1, -1)}, "padding must be 2 numbers from 0 up"),
        ([(1, 4, 9), (4, 8, 3)], {"output_padding": (1, 1)}, "output_padding must be 1 numbers from 0 up"),
        ([(1, 4, 9), (4, 8, 3)], {"activation": "gelu"}, "no activation 'gelu'"),
    ],
)
def test_shapes_that_do_not_fit_are_named(shapes, attrs, words):
    with pytest.raises(GraphError, match=words):
        lookup("conv_transpose1d").infer(tuple(TensorType("f32", shape) for shape in shapes), attrs)


def test_every_entry_meets_every_tap_of_its_group():
    kinds = quantised("i8", (2, 6, 10)), quantised("i8", (6, 4, 5)), quantised("i8", (2, 8, 24))
    signature = Signature(kinds[:2], kinds[2:], attributes(1, (2,), (1,), (0, 0), 2))
    work = lookup("conv_transpose1d").work(signature)
    assert work == Work(macs=2 * 10 * 6 * 4 * 5, elementwise=2 * 8 * 24)
    (gemm,) = gemms("conv_transpose1d", signature)
    assert gemm == Gemm(20, 20, 3, repeats=2)
    assert gemm.macs == work.macs
