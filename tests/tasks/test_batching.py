"""Batches partition an epoch, shards partition its batches, and the seed alone decides."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnaq.errors import DataError
from nnaq.tasks.batching import Lazy, mixed_by_length, padded, shard_of

lengths = st.lists(st.integers(1, 50), min_size=1, max_size=60)


def drawn(lengths, size, seed=0, pool=3):
    return mixed_by_length(lengths, size, np.random.default_rng(seed), pool)


@given(lengths, st.integers(1, 8), st.integers(0, 99))
def test_every_utterance_is_in_one_batch(lengths, size, seed):
    batches = drawn(lengths, size, seed)
    assert sorted(n for batch in batches for n in batch) == list(range(len(lengths)))
    assert batches == drawn(lengths, size, seed)
    assert max(map(len, batches)) <= size


@given(lengths, st.integers(2, 8))
def test_batches_are_nearly_full(lengths, size):
    pools = -(-len(lengths) // (3 * size))
    smallest_pool = len(lengths) // pools
    assert min(map(len, drawn(lengths, size))) >= smallest_pool // -(-smallest_pool // size)


def test_within_a_pool_batches_are_of_like_length_and_seeds_mix_anew():
    lengths = list(range(24))
    one_pool = drawn(lengths, 4, pool=6)
    assert sorted(sorted(batch) for batch in one_pool) == [list(range(n, n + 4)) for n in range(0, 24, 4)]
    assert drawn(lengths, 4, seed=1) != drawn(lengths, 4, seed=2)
    assert drawn([], 4) == []


@given(lengths, st.integers(1, 4))
def test_shards_partition_every_batch(lengths, shards):
    batches = [batch for batch in drawn(lengths, 8) if len(batch) >= shards]
    parts = [shard_of(batches, shard, shards) for shard in range(shards)]
    assert all(len(part) == len(batches) for part in parts)
    for number, batch in enumerate(batches):
        assert sorted(n for part in parts for n in part[number]) == sorted(batch)


def test_a_shard_that_gets_nothing_is_refused():
    with pytest.raises(DataError, match="batch of 2 cannot be shared by 3 processes"):
        shard_of([[0, 1, 2], [3, 4]], 0, 3)
    with pytest.raises(DataError, match="a shard from 0 to 1, found 2"):
        shard_of([[0, 1]], 2, 2)


def test_batches_are_made_when_asked_for():
    made = []
    lazy = Lazy(4, lambda number: made.append(number) or number * 10)
    assert len(lazy) == 4 and made == []
    assert lazy[-1] == 30 and made == [3]
    assert list(lazy[1:3]) == [10, 20] and made == [3, 1, 2]
    assert list(lazy) == [0, 10, 20, 30]
    with pytest.raises(IndexError):
        lazy[4]


def test_padding_follows_the_end():
    made = padded([np.ones((2, 3)), np.full((4, 3), 2)])
    assert made.shape == (4, 2, 3) and made.dtype == np.float32
    assert made[:, :, 0].tolist() == [[1, 2], [1, 2], [0, 2], [0, 2]]
