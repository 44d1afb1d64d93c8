"""fully_connected and matmul: fast equals reference, and both stay within the bound of the reals."""

from dataclasses import replace

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

from nnaq.errors import GraphError, LoweringError, OpError
from nnaq.ir.op import Signature, Work, lookup
from nnaq.ir.types import Quant, TensorType, bounds
from nnaq.kernels.accumulate import accumulator_bound

dtypes = st.sampled_from(("i8", "i16"))
sizes = st.integers(0, 5)


@st.composite
def layers(draw, rounding=None):
    """A prepared fully_connected node and its arrays."""
    rounding = rounding or draw(roundings)
    x_dtype, y_dtype = draw(dtypes), draw(dtypes)
    depth, outputs = draw(st.integers(1, 40)), draw(st.integers(1, 9))
    scale_x, scales, scale_y = draw(layer_scales(rounding, draw(st.sampled_from((None, outputs)))))
    x = quantised(x_dtype, (draw(sizes), draw(st.integers(1, 3)), depth), scale_x, draw(zero_points(x_dtype)))
    weight_quant = (
        Quant(scales, 0, 0) if len(scales) > 1 else Quant(scales[:1], draw(st.sampled_from((0, 0, 5))))
    )
    weight = TensorType(draw(st.sampled_from(("i8", "i4"))), (outputs, depth), weight_quant)
    bias = (
        draw(st.integers(-3000, 3000))
        * scale_x
        * scales[0]
        * draw(codes(quantised("i8", (outputs,))))
        / 128.0
    )
    operands = [(x, draw(codes(x))), (weight, draw(codes(weight)))]
    operands.append(draw(st.sampled_from((None, (TensorType("f32", (outputs,)), bias)))))
    output = quantised(y_dtype, (), scale_y, draw(zero_points(y_dtype)))
    return integer_node("fully_connected", operands, output, {"activation": draw(activations)}, rounding)


@given(layers())
def test_fully_connected_fast_is_reference(layer):
    assert_fast_is_reference(*layer)


@pytest.mark.parametrize(("x_dtype", "width"), [("i8", 31), ("i16", 47)])
@pytest.mark.parametrize("sign", [1, -1])
def test_the_proof_is_sharp_and_the_worst_input_runs(x_dtype, width, sign):
    # The bias fills the accumulator up to one below its bound; one step more is refused.
    x = quantised(x_dtype, (1, 66309), 1.0, -128 if x_dtype == "i8" else 0)
    weight, output = quantised("i8", (1, 66309)), quantised("i16", (), 2.0 ** (width - 15))
    worst = np.full(x.shape, 127 if x_dtype == "i8" else -32768, x_dtype.replace("i", "int"))
    weights = np.full(weight.shape, 127 * sign * (1 if x_dtype == "i8" else -1), np.int8)
    left = 2**width - 1 - accumulator_bound(weights, x, np.zeros(1))
    kind = TensorType("f32", (1,))
    layer = integer_node(
        "fully_connected", [(x, worst), (weight, weights), (kind, np.array([sign * left]))], output
    )
    assert_fast_is_reference(*layer)
    real = int(layer[2][2][0]) + int(weights[0].astype(int) @ (worst[0].astype(int) - x.zero_point))
    assert real == sign * (2**width - 1)
    beyond = (kind, np.array([sign * (left + 1)]))
    with pytest.raises(LoweringError, match=f"can reach {2**width}, .* less than 2\\^{width}"):
        integer_node("fully_connected", [(x, worst), (weight, weights), beyond], output)


def test_sums_beyond_32_bits_pass_through_stretches_of_products():
    x, weight = quantised("i16", (2, 1100)), quantised("i8", (5, 1100))
    output = quantised("i16", (), 2.0**18)
    operands = [(x, np.full(x.shape, -32768, np.int16)), (weight, np.full(weight.shape, -128, np.int8)), None]
    y = assert_fast_is_reference(*integer_node("fully_connected", operands, output))
    assert (y == (1100 * 2**22 + 2**17) >> 18).all()


@pytest.mark.parametrize("name", ["fully_connected", "matmul"])
def test_small_sums_may_be_scaled_up(name):
    generator = np.random.default_rng(0)
    x, other = quantised("i8", (20, 4), 0.75), quantised("i8", (4, 4), 1.0)
    operands = [(kind, generator.integers(-128, 128, kind.shape).astype(np.int8)) for kind in (x, other)]
    computed = (0, 1) if name == "matmul" else (0,)
    node = integer_node(name, operands, quantised("i16", (), 2.0**-8), {}, "single", computed)
    assert (node[2][-1] == 8).all()
    assert_fast_is_reference(*node)
    with pytest.raises(LoweringError, match="left shift"):
        integer_node(name, operands, quantised("i16", (), 2.0**-16), {}, "single", computed)


@given(layers("single"))
def test_integers_stay_within_the_stated_bound_of_the_reals(layer):
    op, signature, (x, weight, bias, *_) = layer
    (y,) = op.fast(*layer[1:2], *layer[2])
    kind_x, kind_w, kind_y = signature.input(0), signature.input(1), signature.outputs[0]
    # Whole numbers in float64 are exact, so the real kernel gives the accumulator itself.
    (acc,) = op.real(
        np, {}, x.astype(float) - kind_x.zero_point, weight.astype(float) - kind_w.zero_point, bias
    )
    steps = acc * kind_x.scale * kind_w.quant.scales(2)[:, 0] / kind_y.scale
    assert_within_bound(y, steps, signature)


def assert_within_bound(y, steps, signature):
    """|y - z - clamp(steps)| <= 1/2 + 2^-31 |steps|; a float64 quotient adds three roundings of its own."""
    kind = signature.outputs[0]
    low, high = bounds(kind.dtype)
    low = kind.zero_point if signature.attrs.get("activation") == "relu" else low
    limited = np.clip(steps, low - kind.zero_point, high - kind.zero_point)
    assert (
        np.abs(y.astype(int) - kind.zero_point - limited) <= 0.5 + np.abs(steps) * (2.0**-31 + 2.0**-50)
    ).all()


@st.composite
def products(draw, gain=1.0, rounding=None):
    """A prepared matmul node and its arrays; a gain takes away from the scale of a what it adds."""
    rounding, dtype, y_dtype = rounding or draw(roundings), draw(dtypes), draw(dtypes)
    scale_a, scales_b, scale_y = draw(layer_scales(rounding, None))
    m, k, n = draw(sizes), draw(st.integers(1, 40)), draw(sizes)
    batch_a, batch_b = draw(
        st.sampled_from((((), ()), ((2,), (2,)), ((3, 1), (2,)), ((), (2, 1)), ((0,), (1,))))
    )
    a = quantised(dtype, (*batch_a, m, k), scale_a / gain, draw(zero_points(dtype)))
    b = quantised(dtype, (*batch_b, k, n), scales_b[0], draw(zero_points(dtype)))
    output = quantised(y_dtype, (), scale_y, draw(zero_points(y_dtype)))
    operands, attrs = [(a, draw(codes(a))), (b, draw(codes(b)))], {} if gain == 1 else {"gain": gain}
    return integer_node("matmul", operands, output, attrs, rounding, (0, 1))


@given(st.sampled_from((1.0, 0.125, 8.0)).flatmap(products))
def test_matmul_fast_is_reference(product):
    assert_fast_is_reference(*product)


@pytest.mark.parametrize("gain", [1.0, 0.125, 0.3, 7.1])
@given(st.data())
def test_matmul_stays_within_the_stated_bound(gain, data):
    op, signature, arrays = data.draw(products(gain, "single"))
    (y,) = op.fast(signature, *arrays)
    kind_a, kind_b = signature.input(0), signature.input(1)
    reals = (v.astype(float) - kind.zero_point for v, kind in zip(arrays, (kind_a, kind_b), strict=False))
    (product,) = op.real(np, {"gain": gain}, *reals)
    assert_within_bound(y, product * kind_a.scale * kind_b.scale / signature.outputs[0].scale, signature)


@pytest.mark.parametrize("rounding", ["single", "double", "half_even", "floor"])
def test_a_gain_is_a_scale_and_leaves_no_trace_but_the_multiplier(rounding):
    kinds, output = (quantised("i8", (3, 8), 0.1), quantised("i8", (8, 4), 0.07)), quantised("i8", (), 0.4)
    arrays = [np.random.default_rng(i).integers(-128, 128, kinds[i].shape).astype(np.int8) for i in (0, 1)]
    made, plain = (
        integer_node("matmul", [(left, arrays[0]), (kinds[1], arrays[1])], output, attrs, rounding, (0, 1))
        for left, attrs in ((kinds[0], {"gain": 0.25}), (quantised("i8", (3, 8), 0.025), {}))
    )
    assert made[1].attrs == plain[1].attrs == {"rounding": rounding}
    np.testing.assert_array_equal(assert_fast_is_reference(*made), assert_fast_is_reference(*plain))


@pytest.mark.parametrize("gain", [0.0, -0.5, np.inf, np.nan])
def test_a_gain_is_a_positive_number(gain):
    with pytest.raises(GraphError, match="the gain must be a positive number"):
        lookup("matmul").infer((quantised("i8", (1, 2)), quantised("i8", (2, 1))), {"gain": gain})


# --- sums before the last requantisation


@st.composite
def sums(draw):
    """A fully_connected node whose result is its accumulator, and its arrays."""
    depth, outputs = draw(st.integers(1, 40)), draw(st.integers(1, 9))
    x = quantised("i8", (draw(sizes), 2, depth), 0.1, draw(zero_points("i8")))
    scales = tuple(0.01 * (n + 1) for n in range(outputs))
    quant = draw(st.sampled_from((Quant(scales, 0, 0), Quant(scales[:1], 0), Quant(scales[:1], 5))))
    weight = TensorType(draw(st.sampled_from(("i8", "i4"))), (outputs, depth), quant)
    bias = (TensorType("f32", (outputs,)), draw(codes(quantised("i16", (outputs,)))) * 0.01)
    operands = [(x, draw(codes(x))), (weight, draw(codes(weight))), draw(st.sampled_from((None, bias)))]
    types = (x, weight, None)
    (kind,) = lookup("fully_connected").accumulator(
        Signature(types, (TensorType("f32", (*x.shape[:-1], outputs)),))
    )
    return operands, integer_node("fully_connected", operands, kind)


@given(sums())
def test_an_i32_result_is_the_accumulator(case):
    ((x, q), (weight, w), bias), node = case
    y = assert_fast_is_reference(*node)
    signature, arrays = node[1:]
    assert len(arrays) == 3
    assert "rounding" not in signature.attrs
    exact = (q.astype(int) - x.zero_point) @ (w.astype(int) - weight.zero_point).T + arrays[2]
    np.testing.assert_array_equal(y, exact)
    kind = signature.outputs[0]
    assert (kind.dtype, kind.zero_point) == ("i32", 0)
    assert kind.quant.axis == (None if weight.quant.axis is None else 2)
    reals = (
        (q.astype(float) - x.zero_point) * x.scale,
        (w - float(weight.zero_point)) * weight.quant.scales(2),
    )
    (real,) = node[0].real(np, {}, *reals, None if bias is None else bias[1])
    steps = y * kind.quant.scales(3)
    assert (np.abs(steps - real) <= kind.quant.scales(3) * 0.5 + 1e-9).all()  # the bias's half step


def test_sums_up_to_the_ends_of_32_bits():
    x, weight = quantised("i8", (1, 66309), 1.0, -128), quantised("i8", (2, 66309))
    weights = np.stack([np.full(66309, 127, np.int8), np.full(66309, -127, np.int8)])
    left = 2**31 - 1 - 66309 * 127 * 255
    bias = (TensorType("f32", (2,)), np.array([left, -left], float))
    operands = [(x, np.full(x.shape, 127, np.int8)), (weight, weights), bias]
    y = assert_fast_is_reference(*integer_node("fully_connected", operands, quantised("i32", ())))
    assert y.tolist() == [[2**31 - 1, -(2**31) + 1]]


@pytest.mark.parametrize(
    ("x", "y", "attrs"),
    [
        (quantised("i16", (1, 2)), quantised("i32", ()), {}),
        (quantised("i8", (1, 2)), quantised("i32", ()), {"activation": "relu"}),
        (quantised("i8", (1, 2)), quantised("i32", (), 0.5), {}),
        (quantised("i8", (1, 2)), quantised("i32", (), 1.0, 3), {}),
    ],
)
def test_other_i32_results_are_refused(x, y, attrs):
    operands = [(kind, np.ones(kind.shape, np.int8)) for kind in (x, quantised("i8", (3, 2)))]
    with pytest.raises(LoweringError, match="an i32 result is the accumulator of i8 activations"):
        integer_node("fully_connected", operands, y, attrs)


def test_sums_have_a_type_for_i8_activations_only():
    accumulator, y = lookup("fully_connected").accumulator, TensorType("f32", ("T", 3))
    weight = TensorType("i8", (3, 2), Quant((0.5, 0.25, 1.0), 0, 0))
    x = quantised("i8", ("T", 2), 0.5)
    assert accumulator(Signature((x, weight), (y,))) == (
        TensorType("i32", ("T", 3), Quant((0.25, 0.125, 0.5), 0, 1)),
    )
    assert accumulator(Signature((x, weight), (y,), {"activation": "relu"})) is None
    assert accumulator(Signature((quantised("i16", ("T", 2)), weight), (y,))) is None


@pytest.mark.parametrize(("dtype", "most"), [("i8", 33025), ("i16", 2**17 - 1)])
def test_matmul_proves_its_depth(dtype, most):
    zero = -128 if dtype == "i8" else 0
    a, b = quantised(dtype, (1, most), 1.0, zero), quantised(dtype, (most, 1), 1.0, zero)
    output = quantised("i16", (), 2.0**32)
    worst = 127 if dtype == "i8" else -32768
    operands = [(kind, np.full(kind.shape, worst, dtype.replace("i", "int"))) for kind in (a, b)]
    assert_fast_is_reference(*integer_node("matmul", operands, output, computed=(0, 1)))
    longer = [(a.with_shape((1, most + 1)), operands[0][1]), (b.with_shape((most + 1, 1)), operands[1][1])]
    with pytest.raises(LoweringError, match="matmul: the accumulator can reach"):
        integer_node("matmul", longer, output, computed=(0, 1))


def test_an_open_depth_is_summed_as_far_as_its_accumulator_was_proved():
    a, b = quantised("i8", (1, "T"), 1.0, -128), quantised("i8", ("T", 1), 1.0, -128)
    longest = (2**31 - 1) // 255**2
    pairs = [(a, np.zeros(0)), (b, np.zeros(0))]
    op, signature, made = integer_node("matmul", pairs, quantised("i16", (), 2.0**17), computed=(0, 1))
    for length in (0, 1, longest, longest + 1):
        arrays = [np.full((1, length), 127, np.int8), np.full((length, 1), 127, np.int8), *made[2:]]
        if length > longest:
            for run in (op.fast, op.reference):
                with pytest.raises(OpError, match=f"was proved for {longest}; feed a shorter stretch"):
                    run(signature, *arrays)
        else:
            found = assert_fast_is_reference(op, signature, arrays)
            assert abs(int(found[0, 0]) - length * 255**2 / 2**17) <= 0.5


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({0: quantised("i32", (1, 2))}, "must be i8 or i16, found i32"),
        ({0: quantised("i16", (1, 2), 1.0, 3)}, "i16 activations are symmetric, found zero_point 3"),
        ({1: TensorType("i8", (2, 2), Quant((1.0, 2.0), 0, 1))}, "along axis 0, found axis 1"),
    ],
)
def test_types_without_an_integer_form_are_refused(changes, words):
    types = {0: quantised("i8", (1, 2)), 1: quantised("i8", (2, 2))} | changes
    with pytest.raises(LoweringError, match=words):
        integer_node(
            "fully_connected", [(types[i], np.zeros((2, 2))) for i in (0, 1)], quantised("i8", (), 64.0)
        )


@pytest.mark.parametrize("bias", [2.0**31, -(2.0**31) - 1, np.nan, np.inf])
def test_a_bias_that_does_not_fit_is_refused(bias):
    pair = (TensorType("f32", (1,)), np.array([bias]))
    layer = [(quantised("i8", (1, 1)), np.zeros((1, 1))), (quantised("i8", (1, 1)), np.ones((1, 1))), pair]
    with pytest.raises(LoweringError, match=r"fully_connected: the bias .* of channel 0 .* does not fit i32"):
        integer_node("fully_connected", layer, quantised("i8", ()))


def test_a_computed_weight_is_refused():
    layer = [(quantised("i8", (1, 1)), np.zeros((1, 1))), (quantised("i8", (1, 1)), np.ones((1, 1)))]
    with pytest.raises(LoweringError, match="needs a constant weight"):
        integer_node("fully_connected", layer, quantised("i8", ()), computed=(0, 1))


@pytest.mark.parametrize(
    ("name", "shapes", "attrs", "expected"),
    [
        ("fully_connected", [("T", "B", 4), (3, 4)], {}, ("T", "B", 3)),
        ("fully_connected", [(4,), (3, 4), (3,)], {"activation": "relu"}, (3,)),
        ("matmul", [("B", 1, "T", 4), (2, 4, "T")], {}, ("B", 2, "T", "T")),
        ("matmul", [("T", 4), ("B", 4, 5)], {}, ("B", "T", 5)),
    ],
)
def test_shapes_may_be_symbolic(name, shapes, attrs, expected):
    assert lookup(name).infer(tuple(TensorType("f32", shape) for shape in shapes), attrs) == (expected,)


@pytest.mark.parametrize(
    ("name", "shapes", "attrs", "words"),
    [
        ("fully_connected", [(1, 5), (3, 4)], {}, r"x \[1,5\] does not fit weight \[3,4\]"),
        ("fully_connected", [(1, 4), (3, 4), (4,)], {}, r"bias \[4\] does not fit weight \[3,4\]"),
        ("fully_connected", [(1, 4), (3, 4)], {"activation": "gelu"}, "no activation 'gelu'"),
        ("matmul", [(1, 5), (4, 5)], {}, r"a \[1,5\] does not fit b \[4,5\]"),
        ("matmul", [("T", 1, 5), (2, 5, 5)], {}, "leading dimensions T and 2 do not broadcast"),
    ],
)
def test_shapes_that_do_not_fit_are_named(name, shapes, attrs, words):
    with pytest.raises(GraphError, match=words):
        lookup(name).infer(tuple(TensorType("f32", shape) for shape in shapes), attrs)


def test_work_counts_products_and_results():
    kinds = tuple(quantised("i8", shape) for shape in ((2, 3, 5), (7, 5), (2, 5, 7)))
    op, signature, _ = integer_node("fully_connected", [(k, np.ones(k.shape)) for k in kinds[:2]], kinds[0])
    assert op.work(signature) == Work(macs=2 * 3 * 7 * 5, elementwise=2 * 3 * 7)
    whole = replace(signature, outputs=(quantised("i32", signature.outputs[0].shape),))
    assert op.work(whole) == Work(macs=2 * 3 * 7 * 5)
    signature = replace(signature, inputs=(kinds[0], kinds[2]))
    assert lookup("matmul").work(signature) == Work(macs=2 * 3 * 7 * 5, elementwise=2 * 3 * 7)


def test_real_kernels_agree_with_torch_and_have_its_gradient():
    torch = pytest.importorskip("torch")
    generator = torch.Generator().manual_seed(0)
    x, w, b = (torch.randint(-9, 9, s, generator=generator).double() for s in ((2, 3, 5), (4, 5), (4,)))
    op = lookup("fully_connected")
    (ours,) = op.real(torch, {"activation": "relu"}, x, w, b)
    assert torch.equal(ours, torch.relu(torch.nn.functional.linear(x, w, b)))
    np.testing.assert_array_equal(
        op.real(np, {"activation": "relu"}, *(v.numpy() for v in (x, w, b)))[0], ours
    )
    leaves = [v.requires_grad_() for v in (x, w, b)]
    assert torch.autograd.gradcheck(lambda *v: op.real(torch, {}, *v), leaves)
