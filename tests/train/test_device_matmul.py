"""Products of integers by int8, float32 and float64: equal to NumPy's INT64 at every corner."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from train.pretended import Watch

from nnaq.train import device_matmul
from nnaq.train.device_matmul import _by_floats, block_of, choose, exact_floats, integer_product

CODES, CENTRED, WIDE, LONG = (-128, 127), (-255, 255), (-(2**16), 2**16), (-(2**63), 2**63 - 1)
SHIFTED, SHIFTED_WEIGHT = (0, 255), (-255, 0)
DEPTHS = [0, 1, 2, 7, 8, 511, 512, 513, 1025]
PAIRS = [(CODES, CODES), (SHIFTED, CODES), (CENTRED, CODES), (CENTRED, CENTRED), (SHIFTED, SHIFTED_WEIGHT)]


def matrices(shape_a, shape_b, range_a, range_b, seed=0):
    """Random entries, a row and a column of nothing but the lowest, and of the highest."""
    random = np.random.default_rng(seed)
    a, b = (
        random.integers(low, high, shape, np.int64, endpoint=True)
        for (low, high), shape in ((range_a, shape_a), (range_b, shape_b))
    )
    a[..., 0, :], b[..., :, 0], b[..., :, -1] = range_a[0], range_b[0], range_b[1]
    if a.shape[-2] > 1:
        a[..., -1, :] = range_a[1]
    return a, b


def check(a, b, range_a, range_b, way=None):
    with Watch() as watch:
        found = integer_product(torch.tensor(a), torch.tensor(b), range_a, range_b, way)
    assert found.dtype == torch.int64
    np.testing.assert_array_equal(found.numpy(), a @ b)
    return watch.seen


WAYS = [
    (way, ranges)
    for way in ("int8", "float32", "float64")
    for ranges in PAIRS
    if way != "int8" or CENTRED not in ranges  # 511 numbers do not fit in int8
]


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize(("way", "ranges"), WAYS)
def test_eight_bit_operands(way, ranges, depth):
    for rows, columns in ((1, 1), (16, 8), (17, 9), (40, 3)):
        seen = check(*matrices((rows, depth), (depth, columns), *ranges), *ranges, way)
        assert ("_int_mm" in seen) == (way == "int8" and depth > 0)


@pytest.mark.parametrize("way", ["float32", "float64", "limbs"])
def test_stacks_of_matrices(way):
    for shape_a, shape_b in (((2, 3, 5, 513), (513, 4)), ((2, 3, 5, 7), (3, 7, 4)), ((1, 5, 9), (6, 9, 2))):
        check(*matrices(shape_a, shape_b, CENTRED, CODES), CENTRED, CODES, way)
    check(*matrices((2, 3, 5, 513), (513, 4), CODES, CODES), CODES, CODES, "int8")


@pytest.mark.parametrize("ranges", [(WIDE, CODES), (WIDE, WIDE), ((-(2**31), 2**31 - 1), CENTRED)])
def test_wide_operands(ranges):
    for depth in (1, 513, 4097):
        seen = check(*matrices((3, depth), (depth, 4), *ranges), *ranges)
        assert "_int_mm" not in seen


@pytest.mark.parametrize("ranges", [(LONG, CODES), (LONG, LONG), ((-(2**40), 2**40), WIDE)])
def test_what_no_float_holds_is_cut_and_wraps_as_int64_does(ranges):
    for depth in (0, 1, 9, 513):
        check(*matrices((3, depth), (depth, 4), *ranges), *ranges)


@given(st.data(), st.integers(0, 2**32 - 1))
def test_any_ranges(data, seed):
    limit = st.integers(0, 62).flatmap(lambda bits: st.integers(-(2**bits), 2**bits))
    ranges = [tuple(sorted(data.draw(st.tuples(limit, limit)))) for _ in range(2)]
    rows, depth, columns = data.draw(st.tuples(*[st.integers(1, 20)] * 3))
    check(*matrices((rows, depth), (depth, columns), *ranges, seed), *ranges)


def test_blocks_are_as_long_as_they_may_be():
    assert block_of("float32", CODES, CODES) == 512
    assert block_of("float32", SHIFTED, CODES) == 512
    assert 512 * 255 * 128 <= 2**24
    assert block_of("float32", CENTRED, CENTRED) == 258
    assert 258 * 255 * 255 <= 2**24 < 259 * 255 * 255
    assert block_of("float64", WIDE, WIDE) == 2**21
    assert block_of("float64", LONG, LONG) == 0


def test_a_longer_block_would_lose_bits():
    a, b = torch.full((1, 1025), 255), torch.full((1025, 1), 127)
    a[0, -1], b[-1, 0] = 1, 1
    assert not torch.equal(_by_floats(a, b, torch.float32, 1025), a @ b)
    assert torch.equal(_by_floats(a, b, torch.float32, 512), a @ b)


def test_the_way_follows_from_ranges_and_shapes(monkeypatch):
    small, large = (torch.zeros(n, n, dtype=torch.int64) for n in (8, 256))
    assert choose(large, large, CODES, SHIFTED) == "int8"
    assert choose(small, small, CODES, CODES) == "float32"
    assert choose(large, large[None], CODES, CODES) == "float32"
    assert choose(large, large, CENTRED, CODES) == "float32"
    assert choose(large, large, WIDE, CODES) == "float64"
    assert choose(large, large, LONG, CODES) == "limbs"
    monkeypatch.setattr(device_matmul, "has_int8", lambda device: False)
    assert choose(large, large, CODES, CODES) == "float32"


def test_the_longest_sums_of_bytes_are_cut(monkeypatch):
    assert device_matmul.LONGEST["int8"] * 128 * 128 < 2**31
    monkeypatch.setitem(device_matmul.LONGEST, "int8", 64)
    for depth in (63, 64, 65, 200):
        check(*matrices((18, depth), (depth, 8), CODES, CODES), CODES, CODES, "int8")


def test_automatic_casts_do_not_reach_a_product():
    a, b = matrices((20, 512), (512, 8), CODES, CODES)
    with torch.autocast("cpu", torch.bfloat16):
        assert (torch.tensor(a).float() @ torch.tensor(b).float()).dtype == torch.bfloat16
        check(a, b, CODES, CODES, "float32")


def test_tf32_is_off_during_a_product_and_as_it_was_afterwards(monkeypatch):
    products, during = torch.backends.cuda.matmul, []
    monkeypatch.setattr(torch, "mm", lambda a, b: during.append(products.fp32_precision) or a @ b)
    before = products.fp32_precision
    products.fp32_precision = "tf32"
    try:
        check(*matrices((20, 1000), (1000, 8), CODES, CODES), CODES, CODES, "float32")
        assert products.fp32_precision == "tf32"
        with pytest.raises(ValueError, match="stop"), exact_floats(torch.device("cpu")):
            raise ValueError("stop")
        assert products.fp32_precision == "tf32"
    finally:
        products.fp32_precision = before
    assert during == ["ieee", "ieee"]
