"""Convolutions: fast equals reference over every geometry, within the stated bound of the reals."""

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
from nnaq.ir.op import Work, lookup
from nnaq.ir.types import Quant, TensorType, bounds
from nnaq.kernels.accumulate import accumulator_bound

dtypes = st.sampled_from(("i8", "i16"))


def attributes(rank, stride, dilation, padding, groups, activation="none"):
    """Attributes of a convolution node: whole numbers for one dimension, tuples for two."""
    one = rank == 1
    return {
        "stride": stride[0] if one else stride,
        "dilation": dilation[0] if one else dilation,
        "padding": padding,
        "groups": groups,
        "activation": activation,
    }


def drawn(draw, strategy, count):
    return tuple(draw(strategy) for _ in range(count))


@st.composite
def convolutions(draw, rounding=None):
    """A prepared convolution node and its arrays: rank, groups (depthwise too), stride, dilation, padding."""
    rounding, rank = rounding or draw(roundings), draw(st.sampled_from((1, 2)))
    kernel, stride, dilation = (drawn(draw, st.integers(1, most), rank) for most in (4, 3, 3))
    padding = drawn(draw, st.integers(0, 3), 2 * rank)
    groups, inner, per_group = draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.integers(1, 6))
    spatial = drawn(draw, st.integers(0, 9), rank)
    outputs, dtype, y_dtype = groups * per_group, draw(dtypes), draw(dtypes)
    scale_x, scales, scale_y = draw(layer_scales(rounding, draw(st.sampled_from((None, outputs)))))
    x_shape = (draw(st.integers(0, 2)), groups * inner, *spatial)
    x = quantised(dtype, x_shape, scale_x, draw(zero_points(dtype)))
    quant = Quant(scales, 0, 0) if len(scales) > 1 else Quant(scales, draw(st.sampled_from((0, 0, -7))))
    weight = TensorType(draw(st.sampled_from(("i8", "i4"))), (outputs, inner, *kernel), quant)
    bias = np.round(draw(codes(quantised("i16", (outputs,)))) / 8.0) * scale_x * scales[0]
    operands = [(x, draw(codes(x))), (weight, draw(codes(weight)))]
    operands.append(draw(st.sampled_from((None, (TensorType("f32", (outputs,)), bias)))))
    attrs = attributes(rank, stride, dilation, padding, groups, draw(activations))
    output = quantised(y_dtype, (), scale_y, draw(zero_points(y_dtype)))
    return integer_node(f"conv{rank}d", operands, output, attrs, rounding)


@given(convolutions())
def test_fast_is_reference(convolution):
    assert_fast_is_reference(*convolution)


@pytest.mark.parametrize("groups", [1, 2, 16])
@pytest.mark.parametrize("dtype", ["i8", "i16"])
def test_more_positions_than_a_block(groups, dtype):
    generator = np.random.default_rng(groups)
    x, weight = quantised(dtype, (5, 16, 23), 0.5), quantised("i8", (16, 16 // groups, 20), 0.5)
    low, high = bounds(dtype)
    operands = [
        (x, generator.integers(low, high + 1, x.shape).astype(dtype.replace("i", "int"))),
        (weight, generator.integers(-128, 128, weight.shape).astype(np.int8)),
    ]
    attrs = attributes(1, (2,), (1,), (9, 10), groups)
    assert_fast_is_reference(*integer_node("conv1d", operands, quantised("i16", (), 2.0**10), attrs))


@pytest.mark.parametrize(
    ("name", "x_shape", "weight_shape", "attrs"),
    [
        # more than a block of K, more positions than a strip, tiles of 6, 2 and 1 outputs
        ("conv1d", (1, 130, 275), (9, 130, 5), attributes(1, (1,), (1,), (2, 2), 1)),
        # rows of positions with gaps between them, phases in both dimensions, groups that share no tile
        ("conv2d", (2, 6, 21, 37), (8, 3, 3, 4), attributes(2, (2, 3), (2, 1), (1, 0, 2, 3), 2)),
        # depthwise: four panels at once and single ones
        ("conv1d", (1, 3, 190), (6, 1, 7), attributes(1, (1,), (2,), (12, 0), 3)),
        # few positions: outputs are lanes, over several images and groups
        ("conv1d", (3, 12, 9), (40, 6, 3), attributes(1, (4,), (1,), (0, 0), 2)),
    ],
)
@pytest.mark.parametrize("dtype", ["i8", "i16"])
def test_every_way_to_sum_is_the_reference(name, x_shape, weight_shape, attrs, dtype):
    generator, kind = np.random.default_rng(1), quantised(dtype, x_shape, 0.5, -3 if dtype == "i8" else 0)
    weight = TensorType(
        "i8", weight_shape, Quant(tuple(0.5 ** (n % 4) for n in range(weight_shape[0])), 0, 0)
    )
    low, high = bounds(dtype)
    codes_x = generator.choice([low, high, 7, -1], x_shape).astype(dtype.replace("i", "int"))
    codes_w = generator.choice([-128, 127, 0, 1], weight_shape).astype(np.int8)
    node = integer_node(name, [(kind, codes_x), (weight, codes_w)], quantised("i16", (), 2.0**6), attrs)
    assert_fast_is_reference(*node)


def test_a_loaded_layer_follows_its_input_from_size_to_size():
    x, weight = quantised("i8", (1, 3, 70), 0.5, 9), quantised("i8", (5, 3, 4), 0.5)
    generator, attrs = np.random.default_rng(2), attributes(1, (1,), (1,), (1, 0), 1)
    layer = [(kind, generator.integers(-128, 128, kind.shape).astype(np.int8)) for kind in (x, weight)]
    op, signature, arrays = integer_node("conv1d", layer, quantised("i8", (), 2.0**5), attrs)
    call = op.load(signature, (None, *arrays[1:]))
    for length in (70, 3, 12, 70, 33):
        part = arrays[0][:, :, :length]
        np.testing.assert_array_equal(
            call(part, *arrays[1:])[0], op.reference(signature, part, *arrays[1:])[0]
        )


@given(convolutions("single"))
def test_integers_stay_within_the_stated_bound_of_the_reals(convolution):
    op, signature, arrays = convolution
    x, weight, bias = arrays[:3]
    (y,) = op.fast(signature, *arrays)
    kind_x, kind_w, kind = signature.input(0), signature.input(1), signature.outputs[0]
    # Whole numbers in float64 are exact, so the real kernel gives the accumulator itself.
    attrs = {**signature.attrs, "activation": "none"}
    (acc,) = op.real(
        np, attrs, x.astype(float) - kind_x.zero_point, weight.astype(float) - kind_w.zero_point, bias
    )
    scales = kind_x.scale * np.broadcast_to(kind_w.quant.scale, len(weight)) / kind.scale
    steps = acc * scales.reshape(-1, *[1] * (acc.ndim - 2))
    low, high = bounds(kind.dtype)
    low = kind.zero_point if signature.attrs["activation"] == "relu" else low
    limited = np.clip(steps, low - kind.zero_point, high - kind.zero_point)
    # 2^-31 from the multiplier, 2^-50 from the roundings of this float64 quotient.
    assert (
        np.abs(y.astype(int) - kind.zero_point - limited) <= 0.5 + np.abs(steps) * (2.0**-31 + 2.0**-50)
    ).all()


def test_padding_is_the_zero_point():
    x, weight = quantised("i8", (1, 1, 1), 1.0, 100), quantised("i8", (1, 1, 3))
    layer = [(x, np.full((1, 1, 1), 103, np.int8)), (weight, np.array([[[5, 7, 11]]], np.int8))]
    node = integer_node("conv1d", layer, quantised("i8", ()), attributes(1, (1,), (1,), (1, 1), 1))
    np.testing.assert_array_equal(assert_fast_is_reference(*node), [[[21]]])
    wider = integer_node("conv1d", layer, quantised("i8", ()), attributes(1, (1,), (1,), (3, 2), 1))
    np.testing.assert_array_equal(assert_fast_is_reference(*wider), [[[0, 33, 21, 15]]])


def test_the_proof_covers_every_tap_and_is_sharp():
    x, weight = quantised("i8", (1, 2, 40), 1.0, -128), quantised("i8", (1, 2, 40), 2.0**-8)
    arrays = np.full(x.shape, 127, np.int8), np.full(weight.shape, -128, np.int8)
    left = 2**31 - 1 - accumulator_bound(arrays[1], x, np.zeros(1))
    attrs, kind = attributes(1, (1,), (1,), (0, 0), 1), TensorType("f32", (1,))
    output = quantised("i16", (), 2.0**10)
    for size, legal in ((left, True), (left + 1, False)):
        layer = [(x, arrays[0]), (weight, arrays[1]), (kind, np.array([-size * 2.0**-8]))]
        if legal:
            assert_fast_is_reference(*integer_node("conv1d", layer, output, attrs))
        else:
            with pytest.raises(LoweringError, match=f"conv1d: the accumulator can reach {2**31}"):
                integer_node("conv1d", layer, output, attrs)


@pytest.mark.parametrize(
    ("name", "shapes", "attrs", "expected"),
    [
        ("conv1d", [("T", 129, 4), (128, 129, 3)], {"padding": (1, 1)}, ("T", 128, 4)),
        ("conv1d", [(1, 4, "T"), (8, 2, 3), (8,)], {"groups": 2, "stride": 2}, (1, 8, "(T-3)//2+1")),
        ("conv1d", [(1, 4, "T"), (8, 4, 3)], {"dilation": 2, "padding": (4, 0)}, (1, 8, "T")),
        (
            "conv2d",
            [("B", 1, "T", 80), (32, 1, 3, 3)],
            {"stride": (1, 2), "padding": (2, 0, 0, 0)},
            ("B", 32, "T", 39),
        ),
        ("conv2d", [(1, 1, 2, 2), (3, 1, 3, 3)], {}, (1, 3, 0, 0)),
    ],
)
def test_shapes_may_be_symbolic(name, shapes, attrs, expected):
    assert lookup(name).infer(tuple(TensorType("f32", shape) for shape in shapes), attrs) == (expected,)


@pytest.mark.parametrize(
    ("name", "shapes", "attrs", "words"),
    [
        (
            "conv1d",
            [(1, 5, 9), (8, 4, 3)],
            {},
            r"5 channels of x \[1,5,9\] do not fit weight \[8,4,3\] with 1 groups",
        ),
        ("conv1d", [(1, 4, 9), (9, 2, 3)], {"groups": 2}, r"4 channels .* with 2 groups"),
        ("conv1d", [(1, "C", 9), (8, 4, 3)], {}, "C channels"),
        ("conv2d", [(1, 5, 9), (8, 4, 3, 3)], {}, "must have rank 4"),
        ("conv1d", [(1, 4, 9), (8, 4, 3), (4,)], {}, r"bias \[4\] does not fit"),
        ("conv1d", [(1, 4, 9), (8, 4, 3)], {"padding": (1, -1)}, "padding must be 2 numbers from 0 up"),
        ("conv2d", [(1, 4, 9, 9), (8, 4, 3, 3)], {"stride": (0, 1)}, "stride must be 2 numbers from 1 up"),
        ("conv1d", [(1, 4, 9), (8, 4, 3)], {"activation": "gelu"}, "no activation 'gelu'"),
    ],
)
def test_shapes_that_do_not_fit_are_named(name, shapes, attrs, words):
    with pytest.raises(GraphError, match=words):
        lookup(name).infer(tuple(TensorType("f32", shape) for shape in shapes), attrs)


def test_work_counts_the_taps_of_a_group():
    kinds = quantised("i8", (2, 6, 10)), quantised("i8", (4, 3, 5))
    attrs = attributes(1, (1,), (1,), (2, 2), 2)
    op, signature, _ = integer_node("conv1d", [(k, np.ones(k.shape)) for k in kinds], kinds[0], attrs)
    assert op.work(signature) == Work(macs=2 * 4 * 10 * 3 * 5, elementwise=2 * 4 * 10)


@given(convolutions())
def test_real_kernels_agree_with_torch(convolution):
    torch = pytest.importorskip("torch")
    op, signature, (x, weight, bias, *_) = convolution
    attrs, rank = signature.attrs, x.ndim - 2
    arrays = x.astype(float), weight.astype(float), bias.astype(float)
    tensors = [torch.from_numpy(a) for a in arrays]
    ((ours,), (numpys,)) = op.real(torch, attrs, *tensors), op.real(np, attrs, *arrays)
    np.testing.assert_array_equal(ours.numpy(), numpys)
    if 0 in ours.shape:
        return  # torch refuses a kernel larger than its input; ours has no positions
    pads = attrs["padding"]
    spread = (pads[0], pads[1]) if rank == 1 else (pads[1], pads[3], pads[0], pads[2])
    padded = torch.nn.functional.pad(tensors[0], spread)
    theirs = getattr(torch.nn.functional, op.name)(
        padded, *tensors[1:], attrs["stride"], 0, attrs["dilation"], attrs["groups"]
    )
    assert torch.equal(ours, torch.relu(theirs) if attrs["activation"] == "relu" else theirs)


@pytest.mark.parametrize("rank", [1, 2])
def test_the_real_kernel_has_torchs_gradient(rank):
    torch = pytest.importorskip("torch")
    generator = torch.Generator().manual_seed(rank)
    shapes = (2, 4, *(7, 6)[:rank]), (4, 2, *(3, 2)[:rank]), (4,)
    leaves = [torch.randn(s, generator=generator, dtype=torch.float64).requires_grad_() for s in shapes]
    attrs = attributes(rank, (2, 1)[:rank], (1, 2)[:rank], (1, 2, 0, 1)[: 2 * rank], 2)
    assert torch.autograd.gradcheck(lambda *v: lookup(f"conv{rank}d").real(torch, attrs, *v), leaves)
