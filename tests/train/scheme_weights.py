"""Weights as schemes find them: every granularity, width, axis, and the rows where tables degenerate."""

from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from torch import nn

from nnaq.codebooks.choice import PaletteChoice
from nnaq.ir.types import Quant, TensorType
from nnaq.quantize.scales import as_float32, weight_type
from nnaq.train.schemes.base import Weight

ROWS = {"per_tensor": 0, "per_gate": 3, "per_channel": 1, "per_group": 2}
MOODS = ("normal", "heavy", "constant", "zeros", "zero_row", "tiny", "one_sided")


def a_weight(value: np.ndarray, bits: int = 4, axis: int | None = 0, rows: int = 0, **choice: Any) -> Weight:
    """A weight of the float baseline; axis None: one scale for the tensor."""
    value = np.asarray(value, np.float32)
    if axis is None:
        size = float(np.abs(value).max(initial=0)) / 127 or 1.0
        kind = TensorType("i8", value.shape, Quant((as_float32(size),)))
    else:
        kind = weight_type(value, axis)
    return Weight("layer.weight", value, kind, PaletteChoice(bits, **choice), rows)


def normal(*shape: int, seed: int = 0, size: float = 0.1) -> np.ndarray:
    """float32 normal numbers."""
    return (size * np.random.default_rng(seed).normal(size=shape)).astype(np.float32)


def parameter(value: np.ndarray) -> nn.Parameter:
    """A parameter with memory of its own."""
    return nn.Parameter(torch.tensor(value))


def _values(seed: int, mood: str, shape: tuple[int, ...]) -> np.ndarray:
    generator = np.random.default_rng(seed)
    made = generator.normal(size=shape).astype(np.float32)
    if mood == "heavy":
        made = generator.standard_t(2, size=shape).astype(np.float32)
    if mood == "constant":
        made[...] = 0.3
    if mood == "zeros":
        made[...] = 0
    if mood == "zero_row":
        made[:1] = 0
    return {"tiny": made * np.float32(1e-30), "one_sided": 5 + made}.get(mood, made)


@st.composite
def weights(draw: st.DrawFn, bits: st.SearchStrategy[int] | None = None) -> Weight:
    """Small weights of every kind."""
    value = _values(
        draw(st.integers(0, 2**16)),
        draw(st.sampled_from(MOODS)),
        draw(st.sampled_from(((6, 5), (3, 1), (1, 7), (6,), (5, 2, 3), (4, 3, 1, 2), (2, 40), (3, 0)))),
    )
    granularity = draw(st.sampled_from(tuple(ROWS)))
    axis = draw(st.sampled_from((0, 0, None, 1 if value.size and value.ndim > 1 else 0)))
    if axis == 1:
        granularity = "per_tensor"  # tables are for rows of axis 0
    return a_weight(
        value,
        draw(bits or st.integers(1, 8)),
        axis,
        ROWS[granularity],
        granularity=granularity,
        group_size=2 if granularity == "per_group" else None,
        method=draw(st.sampled_from(("optimal", "lloyd_max", "uniform", "mu_law", "power_of_two"))),
        zero=draw(st.sampled_from(("free", "free", "forced", "mapped"))),
        scale=draw(st.sampled_from(("kept", "fitted"))),
    )
