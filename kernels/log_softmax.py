"""Logarithms of softmax, for decoding: real numbers only, on the host.

    y = x - m - log Σ exp(x - m),  m = max x, along one axis

There is no integer form. A layer before it may hand over its 32-bit sums (`kernels/matmul.py`), so
that decoding sees logits which were not rounded to 8 bits.
"""

from collections.abc import Mapping
from typing import Any, NoReturn

import numpy as np

from nnaq.errors import GraphError, LoweringError, OpError
from nnaq.ir.dims import Shape, show
from nnaq.ir.numerics import Numerics
from nnaq.ir.op import Attr, Op, Prepared, Signature, register
from nnaq.ir.types import TensorType
from nnaq.kernels.boundary import same_shape
from nnaq.kernels.softmax import below_maximum, work


def infer(inputs: tuple[TensorType | None, ...], attrs: Mapping[str, Attr]) -> tuple[Shape, ...]:
    """The shape of x, which must have the axis."""
    assert inputs[0] is not None
    axis, rank = int(attrs.get("axis", -1)), inputs[0].rank  # type: ignore[arg-type]
    if not -rank <= axis < rank:
        raise GraphError(f"log_softmax: x {show(inputs[0].shape)} has no axis {axis}")
    return same_shape(inputs, attrs)


def real(xp: Any, attrs: Mapping[str, Attr], x: Any) -> tuple[Any, ...]:
    """x - m - log Σ exp(x - m) along an axis."""
    axis = int(attrs.get("axis", -1))  # type: ignore[arg-type]
    if xp is not np:
        return (xp.log_softmax(x, axis),)
    below = below_maximum(x, axis)
    with np.errstate(divide="ignore"):  # an axis without entries has no logarithm to take
        return (below - np.log(np.exp(below).sum(axis=axis, keepdims=True)),)


def prepare(signature: Signature, constants: tuple[np.ndarray | None, ...], numerics: Numerics) -> Prepared:
    """Refuse: there is no integer form."""
    raise LoweringError("log_softmax has no integer form; it stays on the host, which reads reals")


def no_codes(signature: Signature, *arrays: np.ndarray) -> NoReturn:
    """Refuse codes: there is no integer form."""
    raise OpError("log_softmax has no integer form; run its real meaning")


register(
    Op(
        "log_softmax",
        ("x",),
        (),
        infer,
        real,
        prepare,
        no_codes,
        no_codes,
        work,
        "y = x - max x - log Σ exp(x - max x), on the host only",
    )
)
