"""Weights of every kind a table is sought for, and the plain distortion all figures must agree with."""

import numpy as np
from hypothesis import strategies as st

from nnaq.codebooks.fit import FINDERS
from nnaq.codebooks.grid import Histogram, Table, histogram

MOODS = ("normal", "heavy", "halves", "codes", "few", "constant", "zeros", "one_sided")

generators = st.integers(0, 2**32 - 1).map(np.random.default_rng)
methods = st.sampled_from(tuple(FINDERS))
sizes = st.sampled_from((2, 3, 4, 5, 8, 16, 17, 64, 255, 256, 257))


def some_weights(generator: np.random.Generator, mood: str, rows: int, columns: int) -> np.ndarray:
    """float64 [rows, columns]; `halves` lie on borders and beyond the grid's ends at scale 1."""
    shape = (rows, columns)
    made = {
        "normal": lambda: generator.normal(size=shape),
        "heavy": lambda: generator.standard_t(2, size=shape),
        "halves": lambda: generator.integers(-262, 263, shape) / 2.0,
        "codes": lambda: generator.integers(-127, 128, shape).astype(float),
        "few": lambda: generator.choice(generator.normal(size=3), shape),
        "constant": lambda: np.full(shape, generator.normal()),
        "zeros": lambda: np.zeros(shape),
        "one_sided": lambda: 5 + generator.random(shape),
    }
    return made[mood]()


weights = st.builds(
    some_weights, generators, st.sampled_from(MOODS), st.integers(1, 4), st.sampled_from((1, 2, 7, 60))
)


def some_importance(generator: np.random.Generator, matrix: np.ndarray, kind: str) -> np.ndarray:
    """Of the shape [R or 1, K or 1]; a fifth of it is 0."""
    rows, columns = matrix.shape
    shape = {"same": (1, 1), "columns": (1, columns), "rows": (rows, 1), "all": (rows, columns)}[kind]
    found = generator.random(shape) * (generator.random(shape) < 0.8)
    return np.ones(shape) if kind == "same" else found


kinds = st.sampled_from(("same", "columns", "rows", "all"))


def covering(matrix: np.ndarray) -> np.ndarray:
    """The largest weight of each row over 127; for a row of zeros that of all, or 1."""
    size = np.abs(matrix).max(axis=1, initial=0) / 127
    return np.where(size > 0, size, size.max(initial=0) or 1.0)


def moments_of(matrix: np.ndarray) -> Histogram:
    """At the scales that cover the rows, all weights alike."""
    return histogram(matrix, covering(matrix), np.ones((1, 1)))


def plain_distortion(
    matrix: np.ndarray, scale: np.ndarray, importance: np.ndarray | float, table: Table
) -> float:
    """Σ importance (w - scale * nearest entry)², straight from the definition."""
    u = matrix / scale[:, None]
    gaps = np.abs(u[..., None] - np.array(table)).min(axis=-1)
    return float((importance * np.square(gaps * scale[:, None])).sum())
