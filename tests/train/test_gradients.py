"""Gradients that are written out are those of the meaning, and nothing passes where a code was clamped."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from integer_nodes import codes, quantized, seeds

import nnaq.kernels  # noqa: F401  (fills the operator table)
from nnaq.ir.op import Signature, lookup
from nnaq.ir.types import Quant, TensorType
from nnaq.kernels.boundary import code_bounds, quantize_array
from nnaq.train.codes import by_code, cleared, ends_of, reals_of
from nnaq.train.gradients import _WRITTEN, FEW, Behind, written
from nnaq.train.nodes import BY_SHAPE

PLAIN, RELU = {"activation": "none"}, {"activation": "relu"}
CONV = {"stride": 1, "dilation": 1, "padding": (0, 0), "groups": 1, **PLAIN}
IMAGE = {"stride": (2, 1), "dilation": (1, 2), "padding": (1, 0, 0, 2), "groups": 2}
NODES = {
    "fully_connected": ("fully_connected", PLAIN, (20, 30, 5), (4, 5), (4,)),
    "fully_connected, relu": ("fully_connected", RELU, (500, 5), (4, 5), (4,)),
    "fully_connected, no bias": ("fully_connected", PLAIN, (500, 5), (4, 5)),
    "matmul": ("matmul", {"gain": 0.5}, (2, 3, 40, 5), (2, 3, 5, 6)),
    "matmul, one for all": ("matmul", {"gain": 1.0}, (2, 3, 40, 5), (3, 5, 6)),
    "conv1d": ("conv1d", CONV, (2, 3, 300), (4, 3, 1), (4,)),
    "conv1d, to the past": (
        "conv1d",
        {**CONV, "padding": (4, 0), "dilation": 2},
        (2, 3, 300),
        (4, 3, 3),
        (4,),
    ),
    "conv1d, depthwise": ("conv1d", {**CONV, "groups": 4, "padding": (1, 1)}, (2, 4, 300), (4, 1, 3)),
    "conv1d, relu": ("conv1d", {**CONV, **RELU, "stride": 2}, (2, 3, 300), (4, 3, 3), (4,)),
    "conv2d": ("conv2d", {**IMAGE, **PLAIN}, (4, 4, 15, 16), (6, 2, 2, 3), (6,)),
    "conv2d, relu": ("conv2d", {**IMAGE, **RELU}, (4, 4, 15, 16), (6, 2, 2, 3), (6,)),
    "layer_norm": ("layer_norm", {"axis": -1, "epsilon": 1e-5}, (40, 12, 5), (5,), (5,)),
    "layer_norm over two axes": ("layer_norm", {"axis": -2, "epsilon": 1e-5}, (60, 6, 5)),
    "softmax": ("softmax", {}, (60, 4, 5)),
}


def operands_of(name, shapes, random):
    """Reals that codes stand for, their types and codes; what is real in the real form has no codes."""
    op, found = lookup(name), []
    for place, shape in enumerate(shapes):
        if place in op.reals or (name == "layer_norm" and place):
            found.append((torch.from_numpy(random.normal(size=shape).astype(np.float32)), None, None))
            continue
        kind = quantized("i8", shape, 0.02, 0 if place in op.weights else 3)
        q = torch.from_numpy(codes(kind, int(random.integers(2**31))))
        found.append((reals_of(q, kind), kind, q))
    return found


def by_meaning(op, attrs, operands, made, kind, upstream):
    """The gradients by way of the meaning, zero where the code is at an end and the real beyond it."""
    leaves = [real.clone().requires_grad_() for real in operands]
    real = lookup(op).real(torch, attrs, *leaves)[0]
    low, high = code_bounds(kind)
    steps = real.detach() / kind.scale + kind.zero_point
    clipped = ((made == low) & (steps < low - 0.5)) | ((made == high) & (steps > high + 0.5))
    return torch.autograd.grad(real, leaves, torch.where(clipped, 0.0, upstream)), clipped


def assert_near(found, expected):
    assert found.shape == expected.shape
    assert (found - expected).abs().max() <= 1e-5 * max(1.0, float(expected.abs().max()))


@pytest.mark.parametrize("share", [0.6, 0.9, 0.999, 2.0], ids=["many ends", "some", "few", "none"])
@pytest.mark.parametrize("node", NODES)
def test_a_gradient_that_is_written_out_is_that_of_the_meaning(node, share):
    """share: of the results that the codes reach."""
    name, attrs, *shapes = NODES[node]
    random = np.random.default_rng(1)
    given_ = operands_of(name, shapes, random)
    operands = [real for real, _, _ in given_]
    real = lookup(name).real(torch, attrs, *operands)[0]
    reach = share * float(real.abs().quantile(min(share, 1.0)))
    kind = TensorType("i8", tuple(real.shape), Quant((reach / 127,), 0))
    made = torch.from_numpy(quantize_array(real.numpy(), kind))
    upstream = torch.from_numpy(random.normal(size=real.shape).astype(np.float32))
    expected, clipped = by_meaning(name, attrs, operands, made, kind, upstream)
    assert clipped.any() == (share < 1) and not clipped.all()
    behind = Behind(
        name, attrs, Signature(tuple(k for _, k, _ in given_), (kind,), attrs), [q for _, _, q in given_],
        [q is not None for _, _, q in given_], [None if q is not None else r for r, _, q in given_],
        [True] * len(given_), [upstream], [ends_of(made, kind)],
    )  # fmt: skip
    places = behind.ends[0].places
    assert (places is not None and FEW * places.numel() <= real.numel()) == (share > 0.99)
    for one, other in zip(written(behind), expected, strict=True):
        assert_near(one, other)


@pytest.mark.parametrize("name", ["silu", "sigmoid", "gelu", "exp", "abs"])
def test_slopes_of_a_table_are_those_of_its_codes(name):
    x, y = quantized("i8", (40, 50), 0.05, 7), quantized("i8", (40, 50), 0.02, -100)
    every = reals_of(torch.arange(-128, 128, dtype=torch.int8), x)
    table = torch.from_numpy(quantize_array(lookup(name).real(np, {}, every.numpy())[0], y))
    q = torch.from_numpy(codes(x, 0))
    made, upstream = table[q.long() + 128], torch.randn(q.shape, generator=torch.Generator().manual_seed(0))
    (expected,), clipped = by_meaning(name, {}, [reals_of(q, x)], made, y, upstream)
    assert clipped.any() or name == "sigmoid"
    signature = Signature((x, TensorType("i8", (256,))), (y,), {})
    behind = Behind(name, {}, signature, [q, table], [True], [None], [True], [upstream], [None])
    assert_near(written(behind)[0], expected)


@given(seeds, st.sampled_from(["i8", "i16"]), st.sampled_from([0.0, 0.001, 0.05, 0.5]))
@settings(max_examples=40)
def test_ends_are_found_and_cleared_wherever_they_are(seed, dtype, share):
    """Few of them by their places, many with all codes: the same places are clipped."""
    random = np.random.default_rng(seed)
    kind = quantized(dtype, (3, 700), 0.5, 5 if dtype == "i8" else 0)
    low, high = code_bounds(kind)
    reals = random.uniform(low + 20, high - 20, kind.shape) * 0.4
    reals[random.random(kind.shape) < share] = random.choice([2.0 * low, 2.0 * high])
    reals = torch.from_numpy(reals.astype(np.float32))
    made = torch.from_numpy(quantize_array(reals.numpy(), kind))
    steps = reals / kind.scale + kind.zero_point
    expected = ((steps < low - 0.5) | (steps > high + 0.5)).flatten().nonzero().flatten()
    ends = ends_of(made, kind)
    assert (ends.places is None) == (len(expected) * 8 > made.numel() * made.element_size())
    assert torch.equal(ends.clipped(lambda: reals), expected)
    gradient = torch.ones(700, 3).T
    kept = cleared(gradient, expected)
    assert gradient.all()
    assert torch.equal((kept == 0).flatten().nonzero().flatten(), expected)


def test_ends_of_rows_with_scales_of_their_own():
    kind = TensorType("i8", (2, 3), Quant((1.0, 0.1), 0, 0))
    reals = torch.tensor([[127.4, 128.0, 0.0], [12.7, -12.8, -12.74]])
    made = torch.from_numpy(quantize_array(reals.numpy(), kind))
    assert made.tolist() == [[127, 127, 0], [127, -127, -127]]
    assert ends_of(made, kind).clipped(lambda: reals).tolist() == [1, 4]


def test_slopes_by_code():
    q, slopes = torch.tensor([[-128, 127], [0, -1]], dtype=torch.int8), torch.arange(256.0)
    assert by_code(torch.full((2, 2), 2.0), q, slopes).tolist() == [[0.0, 510.0], [256.0, 254.0]]


def test_what_is_written_out_has_a_case_and_movers_do_move():
    assert {name for name, *_ in NODES.values()} == set(_WRITTEN)
    for name in BY_SHAPE:
        assert lookup(name).moves
