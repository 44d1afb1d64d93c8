"""Choices between codes of one type: minimum, maximum, clip, where. Nothing is rounded.

    minimum, maximum   y = min(a, b), max(a, b)              a, b and y share one code type
    clip               y = min(max(x, low), high)            x and y share one code type
    where              y = a where condition != z, else b    a, b and y share one code type

Codes have 8, 16 or 32 bits. clip's attributes are reals in the real form (an infinite one leaves
that side open) and codes in the integer form:

    limit = clamp(round_half_away(real / s) + z, lowest code, highest code)

Where low > high, the result is high, as in ONNX. Against the reals clip is within 1/2 (the rounding
of its limits), the others are exact. The condition of where is a flag, i8.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from nnaq.ir.dims import Shape
from nnaq.ir.numerics import Numerics
from nnaq.ir.op import Arrays, Attr, Bindable, Op, Prepared, Signature, as_is, at_once, register
from nnaq.ir.types import TensorType, bounds, storage
from nnaq.kernels.bound import Bound, together
from nnaq.kernels.boundary import elementwise_work, round_real, same_shape
from nnaq.kernels.elementwise import broadcast_shape, common_shape, infer_binary

WIDTHS = ("i8", "i16", "i32")


def extreme_op(name: str, choose: Callable[[int, int], int]) -> Op:
    """Register minimum or maximum, which NumPy and torch call by these names too."""

    def reference(signature: Signature, a: np.ndarray, b: np.ndarray) -> Arrays:
        pairs = np.broadcast(a, b)
        return (np.array([choose(int(p), int(q)) for p, q in pairs], a.dtype).reshape(pairs.shape),)

    def load(signature: Signature, operands: tuple[Any, ...]) -> Bindable:
        def bind(a: np.ndarray, b: np.ndarray) -> Bound:
            place = np.empty(common_shape(a, b), a.dtype)
            return (place,), partial(getattr(np, name), a, b, out=place)

        return Bindable(bind)

    return register(
        Op(
            name,
            ("a", "b"),
            tuple(f"{x} {x} -> {x}" for x in WIDTHS),
            infer_binary(name),
            lambda xp, attrs, a, b: (getattr(xp, name)(a, b),),
            as_is,
            reference,
            at_once(load),
            elementwise_work,
            f"y = {name}(a, b) of codes",
            moves=True,
            load=load,
        )
    )


# --- clip


def clip_real(xp: Any, attrs: Mapping[str, Attr], x: Any) -> tuple[Any, ...]:
    """min(max(x, low), high)."""
    low, high = (float(attrs[name]) for name in ("low", "high"))  # type: ignore[arg-type]
    return (xp.clip(x, low, high),)


def prepare_clip(
    signature: Signature, constants: tuple[np.ndarray | None, ...], numerics: Numerics
) -> Prepared:
    """The real limits become codes."""
    x = signature.input(0)
    lowest, highest = bounds(x.dtype)
    attrs: dict[str, Attr] = {}
    for name in ("low", "high"):
        real = float(signature.attrs[name])  # type: ignore[arg-type]
        limited = np.clip(np.float64(real / x.scale), lowest - x.zero_point, highest - x.zero_point)
        attrs[name] = int(round_real(np, limited, "half_away")) + x.zero_point
    return Prepared((0,), attrs)


def code_limits(signature: Signature) -> tuple[int, int]:
    """low and high of the integer form."""
    return int(signature.attrs["low"]), int(signature.attrs["high"])  # type: ignore[arg-type]


def clip_reference(signature: Signature, x: np.ndarray) -> Arrays:
    low, high = code_limits(signature)
    codes = [min(max(int(q), low), high) for q in x.ravel()]
    return (np.array(codes, x.dtype).reshape(x.shape),)


def load_clip(signature: Signature, operands: tuple[Any, ...]) -> Bindable:
    """Limited from below, then from above."""
    dtype = storage(signature.outputs[0].dtype)
    low, high = (dtype.type(code) for code in code_limits(signature))

    def bind(x: np.ndarray) -> Bound:
        place = np.empty(x.shape, dtype)
        return (place,), together(
            [partial(np.maximum, x, low, out=place), partial(np.minimum, place, high, out=place)]
        )

    return Bindable(bind)


# --- where


def infer_where(inputs: tuple[TensorType | None, ...], attrs: Mapping[str, Attr]) -> tuple[Shape, ...]:
    """The common shape of condition and both branches."""
    condition, a, b = inputs[:3]
    assert condition is not None
    assert a is not None
    assert b is not None
    return (broadcast_shape(condition.shape, broadcast_shape(a.shape, b.shape, "where"), "where"),)


def where_reference(signature: Signature, condition: np.ndarray, a: np.ndarray, b: np.ndarray) -> Arrays:
    zero_point = signature.input(0).zero_point
    triples = np.broadcast(condition, a, b)
    codes = [int(p) if int(c) != zero_point else int(q) for c, p, q in triples]
    return (np.array(codes, a.dtype).reshape(triples.shape),)


def load_where(signature: Signature, operands: tuple[Any, ...]) -> Bindable:
    """b everywhere, then a where the condition holds."""
    zero_point = signature.input(0).zero_point

    def bind(condition: np.ndarray, a: np.ndarray, b: np.ndarray) -> Bound:
        place = np.empty(np.broadcast_shapes(condition.shape, a.shape, b.shape), a.dtype)
        holds = np.empty(condition.shape, np.bool_)
        return (place,), together(
            [
                partial(np.not_equal, condition, zero_point, holds),
                partial(np.copyto, place, b),
                partial(np.copyto, place, a, where=holds),
            ]
        )

    return Bindable(bind)


# --- registration

minimum = extreme_op("minimum", min)
maximum = extreme_op("maximum", max)
clip = register(
    Op(
        "clip",
        ("x",),
        tuple(f"{x} -> {x}" for x in WIDTHS),
        same_shape,
        clip_real,
        prepare_clip,
        clip_reference,
        at_once(load_clip),
        elementwise_work,
        "y = min(max(q, low), high)",
        moves=True,
        load=load_clip,
    )
)
where = register(
    Op(
        "where",
        ("condition", "a", "b"),
        tuple(f"i8 {x} {x} -> {x}" for x in WIDTHS),
        infer_where,
        lambda xp, attrs, condition, a, b: (xp.where(condition != 0, a, b),),
        as_is,
        where_reference,
        at_once(load_where),
        elementwise_work,
        "y = a where condition != z_condition, else b",
        load=load_where,
        ties=((1, 2, ~0),),
        demands={0: "flag"},
    )
)
