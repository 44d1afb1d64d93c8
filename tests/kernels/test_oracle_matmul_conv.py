"""Layers and rescales against golden vectors of runtimes nnaq did not write: not one value may differ."""

import pytest
from comparisons import KERNELS, Measured, keys_of, measure


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("key", keys_of("layers"), ids=str)
def test_golden_vectors(key, kernel):
    found = measure(key, kernel=kernel)
    assert found == Measured(found.values, 0)
