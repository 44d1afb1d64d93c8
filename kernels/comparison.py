"""Comparisons and logic: flags made of codes, flags made of flags.

Both operands of a comparison share one code type, so codes compare like the reals they stand for:

    equal, less, less_or_equal, greater, greater_or_equal    y = 1 where a op b, else 0
    logical_and, logical_or, logical_xor                     y = 1 where (a != z_a) op (b != z_b), else 0
    logical_not                                              y = 1 where a == z_a, else 0

Flags are i8 codes with scale 1 and zero_point 0. Operands of a comparison have 8, 16 or 32 bits.
Nothing is rounded or saturated: against the reals of the codes there is no error at all. Over the
reals a flag is 0.0 or 1.0 and anything that is not 0 is true; flags pass no gradient.
"""

import operator
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from nnaq.ir.op import Arrays, Attr, Op, Signature, as_is, register
from nnaq.kernels.boundary import elementwise_work, same_shape
from nnaq.kernels.elementwise import infer_binary

Relation = Callable[[Any, Any], Any]


def compare_op(name: str, relation: Relation, sign: str) -> Op:
    """Register a comparison; `relation` holds between numbers and between arrays alike."""

    def real(xp: Any, attrs: Mapping[str, Attr], a: Any, b: Any) -> tuple[Any, ...]:
        return (_as_reals(relation(a, b), a, b),)

    def reference(signature: Signature, a: np.ndarray, b: np.ndarray) -> Arrays:
        pairs = np.broadcast(a, b)
        flags = [int(relation(int(p), int(q))) for p, q in pairs]
        return (np.array(flags, np.int8).reshape(pairs.shape),)

    def fast(signature: Signature, a: np.ndarray, b: np.ndarray) -> Arrays:
        return (np.asarray(relation(a, b), np.int8),)

    forms = tuple(f"{x} {x} -> i8" for x in ("i8", "i16", "i32"))
    doc = f"y = 1 where a {sign} b, else 0"
    return register(
        Op(
            name,
            ("a", "b"),
            forms,
            infer_binary(name),
            real,
            as_is,
            reference,
            fast,
            elementwise_work,
            doc,
            ties=((0, 1),),
            demands={~0: "flag"},
        )
    )


def _as_reals(flags: Any, *like: Any) -> Any:
    """0.0 and 1.0 in the dtype of the operands."""
    dtype = like[0].dtype
    return np.asarray(flags, dtype) if isinstance(flags, np.ndarray | np.generic) else flags.to(dtype)


def logical_op(name: str, relation: Relation, sign: str) -> Op:
    """Register a logical operator of two flags."""

    def real(xp: Any, attrs: Mapping[str, Attr], a: Any, b: Any) -> tuple[Any, ...]:
        return (_as_reals(relation(a != 0, b != 0), a, b),)

    def reference(signature: Signature, a: np.ndarray, b: np.ndarray) -> Arrays:
        zero_a, zero_b = signature.input(0).zero_point, signature.input(1).zero_point
        pairs = np.broadcast(a, b)
        flags = [int(relation(int(p) != zero_a, int(q) != zero_b)) for p, q in pairs]
        return (np.array(flags, np.int8).reshape(pairs.shape),)

    def fast(signature: Signature, a: np.ndarray, b: np.ndarray) -> Arrays:
        zero_a, zero_b = signature.input(0).zero_point, signature.input(1).zero_point
        return (np.asarray(relation(a != zero_a, b != zero_b), np.int8),)

    doc = f"y = 1 where (a != z_a) {sign} (b != z_b), else 0"
    return register(
        Op(
            name,
            ("a", "b"),
            ("i8 i8 -> i8",),
            infer_binary(name),
            real,
            as_is,
            reference,
            fast,
            elementwise_work,
            doc,
            demands={0: "flag", 1: "flag", ~0: "flag"},
        )
    )


def _not_reference(signature: Signature, a: np.ndarray) -> Arrays:
    flags = [int(int(q) == signature.input(0).zero_point) for q in a.ravel()]
    return (np.array(flags, np.int8).reshape(a.shape),)


def _not_fast(signature: Signature, a: np.ndarray) -> Arrays:
    return (np.asarray(a == signature.input(0).zero_point, np.int8),)


equal = compare_op("equal", operator.eq, "==")
less = compare_op("less", operator.lt, "<")
less_or_equal = compare_op("less_or_equal", operator.le, "<=")
greater = compare_op("greater", operator.gt, ">")
greater_or_equal = compare_op("greater_or_equal", operator.ge, ">=")
logical_and = logical_op("logical_and", operator.and_, "and")
logical_or = logical_op("logical_or", operator.or_, "or")
logical_xor = logical_op("logical_xor", operator.xor, "xor")
logical_not = register(
    Op(
        "logical_not",
        ("a",),
        ("i8 -> i8",),
        same_shape,
        lambda xp, attrs, a: (_as_reals(a == 0, a),),
        as_is,
        _not_reference,
        _not_fast,
        elementwise_work,
        "y = 1 where a == z_a, else 0",
        demands={0: "flag", ~0: "flag"},
    )
)
