"""Integer nodes for kernel tests: cross a real node, run both kernels, demand equal bits."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st
from strategies import assert_bound_is_fast

import nnaq.kernels  # noqa: F401  (fills the operator table)
from nnaq.ir.numerics import Numerics
from nnaq.ir.op import Attr, Constant, Op, Signature, lookup
from nnaq.ir.types import Quant, TensorType, bounds, storage


def quantized(dtype: str, shape: tuple[int, ...], scale: float = 1.0, zero_point: int = 0) -> TensorType:
    """The type of codes with one scale."""
    return TensorType(dtype, shape, Quant((scale,), zero_point))


@dataclass(frozen=True)
class IntegerNode:
    """An operator in integer form with its compile-time constants."""

    op: Op
    signature: Signature
    constants: tuple[np.ndarray, ...]

    def __call__(self, *arrays: np.ndarray) -> np.ndarray:
        """The result of the fast kernel, after it was found equal to the reference."""
        (fast,) = self.op.fast(self.signature, *arrays, *self.constants)
        (reference,) = self.op.reference(self.signature, *arrays, *self.constants)
        assert fast.dtype == reference.dtype == storage(self.signature.outputs[0].dtype)
        assert fast.shape == reference.shape
        np.testing.assert_array_equal(fast, reference)
        everything = [*arrays, *self.constants]
        assert_bound_is_fast(self.op, self.signature, everything, range(len(arrays)), fast)
        return fast


def crossed(
    name: str,
    inputs: tuple[TensorType, ...],
    output: TensorType,
    attrs: Mapping[str, Attr] | None = None,
    rounding: str = "single",
    **contract: Any,
) -> IntegerNode:
    """The integer form of operator `name`, as the crossing makes it; its form must be a listed one.

    contract: other choices of the numerics contract.
    """
    op = lookup(name)
    signature = Signature(inputs, (output,), dict(attrs or {}))
    prepared = op.prepare(signature, (None,) * len(inputs), Numerics(rounding, **contract))  # type: ignore[arg-type]
    made = [operand for operand in prepared.operands if isinstance(operand, Constant)]
    kinds = (*inputs, *(constant.type for constant in made))
    form = f"{' '.join(kind.dtype for kind in kinds)} -> {output.dtype}"
    assert form in op.forms
    return IntegerNode(op, Signature(kinds, (output,), prepared.attrs), tuple(c.value for c in made))


def moved(name: str, attrs: Mapping[str, Attr], *arrays: np.ndarray, zero_point: int = 0) -> np.ndarray:
    """The result of an operator that moves codes; its shape must be the inferred one."""
    dtype = {"int8": "i8", "int16": "i16", "int32": "i32"}[arrays[0].dtype.name]
    kinds = tuple(quantized(dtype, array.shape, 0.5, zero_point) for array in arrays)
    (shape,) = lookup(name).infer(kinds, attrs)
    result = crossed(name, kinds, kinds[0].with_shape(shape), attrs)(*arrays)
    assert result.shape == shape
    return result


def codes(kind: TensorType, seed: int) -> np.ndarray:
    """Codes of a type: uniform, with the ends of the range and the zero_point mixed in."""
    random = np.random.default_rng(seed)
    low, high = bounds(kind.dtype)
    uniform = random.integers(low, high + 1, kind.shape)
    corner = random.choice([low, low + 1, kind.zero_point, high - 1, high], kind.shape)
    return np.where(random.random(kind.shape) < 0.2, corner, uniform).astype(storage(kind.dtype))


def reals(array: np.ndarray, kind: TensorType) -> np.ndarray:
    """The real numbers of codes, in float64."""
    return (array.astype(np.float64) - kind.zero_point) * kind.scale


def ideal(values: np.ndarray, kind: TensorType) -> np.ndarray:
    """Reals in units of codes of `kind`, limited to its range but not rounded."""
    low, high = bounds(kind.dtype)
    return np.clip(values / kind.scale + kind.zero_point, low, high)


seeds = st.integers(0, 2**32 - 1)
code_dtypes = st.sampled_from(["i8", "i16", "i32"])
shapes = st.lists(st.integers(0, 4), max_size=4).map(tuple)


@st.composite
def operands(draw: st.DrawFn, low: int = 0, max_rank: int = 4) -> np.ndarray:
    """Codes of any admitted dtype and a small shape."""
    shape = tuple(draw(st.lists(st.integers(low, 4), min_size=1, max_size=max_rank)))
    return codes(quantized(draw(code_dtypes), shape), draw(seeds))
