"""Golden vectors of outside runtimes: reductions, resizing and transposed convolutions give their bits."""

import pytest
from comparisons import KERNELS, Measured, keys_of, measure


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("key", keys_of("windows"), ids=str)
def test_golden_vectors(key, kernel):
    found = measure(key, kernel=kernel)
    assert found == Measured(found.values, 0)
