"""Hypothesis strategies that kernel tests share, and the road from codes to an integer node.

Arrays come from a seeded generator (a drawn seed shrinks to 0, not to a small array) in one of four
moods: uniform, mostly corners (lowest, highest, zero_point and their neighbours), all lowest, all
highest. Scales make every right shift r = 0..16 likely, and half of them are powers of two, whose
sums fall on exact ties of both signs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import strategies as st

import nnaq.kernels  # noqa: F401  (fills the operator table)
from nnaq.ir.numerics import ROUNDINGS, Numerics
from nnaq.ir.op import Attr, Bindable, Constant, Op, Signature, lookup
from nnaq.ir.types import Quant, TensorType, bounds, storage

MOODS = ("uniform", "corners", "lowest", "highest")
SHIFTS = st.integers(-16, 14)  # left positive: r = max(-s, 0) sweeps 0..16

roundings = st.sampled_from(ROUNDINGS)
activations = st.sampled_from(("none", "relu"))
generators = st.integers(0, 2**32 - 1).map(np.random.default_rng)


def zero_points(dtype: str) -> st.SearchStrategy[int]:
    """Zero points of activations: anything for i8, its ends included; 0 for wider codes."""
    if dtype != "i8":
        return st.just(0)
    return st.one_of(st.sampled_from((-128, 127, 0)), st.integers(-128, 127))


def corners(kind: TensorType) -> np.ndarray:
    """Codes where kernels go wrong: the ends, the zero_point, and their neighbours."""
    low, high = bounds(kind.dtype)
    around = {low, low + 1, high - 1, high, kind.zero_point, kind.zero_point + 1, kind.zero_point - 1, 0}
    return np.array([c for c in around if low <= c <= high], np.int64)


def some_codes(generator: np.random.Generator, kind: TensorType, mood: str) -> np.ndarray:
    """Codes of type `kind` (whole dimensions) in one of the four moods."""
    low, high = bounds(kind.dtype)
    if mood in ("lowest", "highest"):
        made = np.full(kind.shape, low if mood == "lowest" else high)
    else:
        made = generator.integers(low, high, kind.shape, endpoint=True)
    if mood == "corners":
        made = np.where(generator.random(kind.shape) < 0.8, generator.choice(corners(kind), kind.shape), made)
    return made.astype(storage(kind.dtype))


def codes(kind: TensorType) -> st.SearchStrategy[np.ndarray]:
    """Arrays of codes of type `kind`."""
    return st.builds(some_codes, generators, st.just(kind), st.sampled_from(MOODS))


@st.composite
def multipliers(draw: st.DrawFn, rounding: str) -> tuple[int, int]:
    """A multiplier and a shift that are legal under `rounding`; many of them stand for 2^n."""
    shift = draw(SHIFTS)
    if rounding == "half_even":
        scale = np.float32(draw(st.floats(0.5, 1, exclude_max=True, width=32))) * np.float32(2.0**shift)
        return int(np.float32(scale).view(np.int32)), 0
    if rounding == "pot_shift":
        return 2**30, min(shift, 1)
    ends = st.sampled_from((2**30, 2**30, 2**30 + 1, 2**31 - 1, 3 * 2**29))
    return draw(st.one_of(ends, st.integers(2**30, 2**31 - 1))), shift


@st.composite
def sums(draw: st.DrawFn, shift: int, width: int = 48) -> int:
    """An accumulator of `width` bits; often one that 2^(shift - 1) scales onto a tie or next to it."""
    limit = 2 ** (width - 1)
    if draw(st.booleans()):
        return draw(st.one_of(st.sampled_from((-limit, limit - 1, 0)), st.integers(-limit, limit - 1)))
    tie = (2 * draw(st.integers(-(2**14), 2**14)) + 1) << max(-shift, 0)
    return max(-limit, min(limit - 1, tie + draw(st.integers(-1, 1))))


@st.composite
def layer_scales(
    draw: st.DrawFn, rounding: str, channels: int | None
) -> tuple[float, tuple[float, ...], float]:
    """Scales of x, of the weight (one, or `channels`) and of y, with a legal multiplier each.

    Powers of two throughout under pot_shift and half of the time else; scales of activations are
    float32 values.
    """
    plain = rounding == "pot_shift" or draw(st.booleans())
    mantissas = st.just(0.5) if plain else st.floats(0.5, 1, exclude_max=True, width=32)
    x = draw(mantissas) * 2.0 ** draw(st.integers(-12, 0))
    weight = draw(mantissas) * 2.0 ** draw(st.integers(-12, 0))
    spread = draw(st.lists(st.integers(0, 6), min_size=channels or 1, max_size=channels or 1))
    weights = tuple(weight * 2.0**-n for n in spread)
    scaled_y = np.float32(x * max(weights) * 2.0 ** draw(st.integers(0, 16)))
    y = float(scaled_y if plain else scaled_y * np.float32(draw(st.floats(0.625, 1, width=32))))
    return x, weights, y


def quantised(dtype: str, shape: Sequence[int], scale: float = 1.0, zero_point: int = 0) -> TensorType:
    """A per-tensor quantised type."""
    return TensorType(dtype, tuple(shape), Quant((scale,), zero_point))


def integer_node(
    name: str,
    operands: Sequence[tuple[TensorType, np.ndarray] | None],
    output: TensorType,
    attrs: Mapping[str, Attr] | None = None,
    rounding: Any = "single",
    computed: Sequence[int] = (0,),
    **contract: Any,
) -> tuple[Op, Signature, list[np.ndarray]]:
    """Cross a real node over to integers as the lowering does: its operator, signature and arrays.

    operands: type and array of each (bias: f32 type and float64 array); computed: the positions that
    are activations, whose arrays `prepare` may not see; contract: other choices of the numerics contract.
    The result's shape is inferred, the form checked.
    """
    op = lookup(name)
    types = tuple(pair[0] if pair else None for pair in operands)
    (shape,) = op.infer(types, attrs or {})
    signature = Signature(types, (output.with_shape(shape),), attrs or {})
    constants = tuple(None if i in computed or pair is None else pair[1] for i, pair in enumerate(operands))
    prepared = op.prepare(signature, constants, Numerics(rounding, **contract))
    made = [
        (part.type, part.value) if isinstance(part, Constant) else operands[part]
        for part in prepared.operands
    ]
    assert all(pair is not None for pair in made)
    inputs = tuple(pair[0] for pair in made)  # type: ignore[index]
    assert f"{' '.join(kind.dtype for kind in inputs)} -> {output.dtype}" in op.forms
    return op, replace(signature, inputs=inputs, attrs=prepared.attrs), [pair[1] for pair in made]  # type: ignore[index]


def assert_fast_is_reference(op: Op, signature: Signature, arrays: Sequence[np.ndarray]) -> np.ndarray:
    """Run both kernels, demand the same bits, the declared dtype and the inferred shape; the result."""
    (fast,), (slow,) = op.fast(signature, *arrays), op.reference(signature, *arrays)
    kind = signature.outputs[0]
    assert fast.dtype == slow.dtype == storage(kind.dtype)
    assert fast.shape == slow.shape == kind.shape
    np.testing.assert_array_equal(fast, slow)
    real = len(op.operands) - len(op.reals)
    moving = [i for i in range(min(real, len(arrays))) if i not in op.weights]
    assert_bound_is_fast(op, signature, arrays, moving, fast)
    return fast


def assert_bound_is_fast(
    op: Op, signature: Signature, arrays: Sequence[np.ndarray], moving: Sequence[int], expected: np.ndarray
) -> None:
    """Where a kernel can be bound: the same codes over operands that keep their places, filled twice.

    moving: positions of operands that are no constants.
    """
    constants = [None if i in moving else array for i, array in enumerate(arrays)]
    kernel = op.load and op.load(signature, tuple(constants))
    if not isinstance(kernel, Bindable):
        return
    places = [np.zeros_like(a, order="C") if i in moving else a for i, a in enumerate(arrays)]
    (result,), run = kernel.bind(*places)
    for sign in (-1, 1):
        for i in moving:
            places[i][...] = arrays[i][(slice(None, None, sign),) * arrays[i].ndim]
        if run is not None:
            run()
    assert result.flags.c_contiguous
    np.testing.assert_array_equal(result, expected, strict=True)
