"""Golden vectors of outside runtimes: elementwise, choosing, moving, pooling, table and
quantising kernels agree."""

import pytest
from comparisons import KERNELS, Measured, keys_of, measure


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("key", [*keys_of("elementwise"), *keys_of("choices"), *keys_of("movement")], ids=str)
def test_golden_vectors(key, kernel):
    found = measure(key, kernel=kernel)
    assert found == Measured(found.values, 0)
