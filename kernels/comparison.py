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
from functools import partial
from typing import Any

import numpy as np

from nnaq.ir.op import Arrays, Attr, Bindable, Op, Signature, as_is, at_once, register
from nnaq.kernels.bound import Bound, Run, together, truths
from nnaq.kernels.boundary import elementwise_work, same_shape
from nnaq.kernels.elementwise import common_shape, infer_binary

Relation = Callable[[Any, Any], Any]


def flags_of(test: np.ufunc, runs: list[Run], *operands: np.ndarray) -> Bound:
    """Room for the flags of a test that NumPy makes of operands, and what fills it after `runs`."""
    place = np.empty(operands[0].shape if len(operands) == 1 else common_shape(*operands), np.int8)
    return (place,), together([*runs, partial(test, *operands, place.view(np.bool_))])


def compare_op(name: str, relation: Relation, test: np.ufunc, sign: str) -> Op:
    """Register a comparison: `relation` holds between numbers, and between arrays like `test`."""

    def real(xp: Any, attrs: Mapping[str, Attr], a: Any, b: Any) -> tuple[Any, ...]:
        return (_as_reals(relation(a, b), a, b),)

    def reference(signature: Signature, a: np.ndarray, b: np.ndarray) -> Arrays:
        pairs = np.broadcast(a, b)
        flags = [int(relation(int(p), int(q))) for p, q in pairs]
        return (np.array(flags, np.int8).reshape(pairs.shape),)

    def load(signature: Signature, operands: tuple[Any, ...]) -> Bindable:
        return Bindable(lambda a, b: flags_of(test, [], a, b))

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
            at_once(load),
            elementwise_work,
            doc,
            ties=((0, 1),),
            demands={~0: "flag"},
            load=load,
        )
    )


def _as_reals(flags: Any, *like: Any) -> Any:
    """0.0 and 1.0 in the dtype of the operands."""
    dtype = like[0].dtype
    return np.asarray(flags, dtype) if isinstance(flags, np.ndarray | np.generic) else flags.to(dtype)


def logical_op(name: str, relation: Relation, test: np.ufunc, sign: str) -> Op:
    """Register a logical operator of two flags."""

    def real(xp: Any, attrs: Mapping[str, Attr], a: Any, b: Any) -> tuple[Any, ...]:
        return (_as_reals(relation(a != 0, b != 0), a, b),)

    def reference(signature: Signature, a: np.ndarray, b: np.ndarray) -> Arrays:
        zero_a, zero_b = signature.input(0).zero_point, signature.input(1).zero_point
        pairs = np.broadcast(a, b)
        flags = [int(relation(int(p) != zero_a, int(q) != zero_b)) for p, q in pairs]
        return (np.array(flags, np.int8).reshape(pairs.shape),)

    def load(signature: Signature, operands: tuple[Any, ...]) -> Bindable:
        def bind(*given: np.ndarray) -> Bound:
            runs: list[Run] = []
            flags = (truths(x, signature.input(i).zero_point, runs) for i, x in enumerate(given))
            return flags_of(test, runs, *flags)

        return Bindable(bind)

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
            at_once(load),
            elementwise_work,
            doc,
            demands={0: "flag", 1: "flag", ~0: "flag"},
            load=load,
        )
    )


def _not_reference(signature: Signature, a: np.ndarray) -> Arrays:
    flags = [int(int(q) == signature.input(0).zero_point) for q in a.ravel()]
    return (np.array(flags, np.int8).reshape(a.shape),)


def load_not(signature: Signature, operands: tuple[Any, ...]) -> Bindable:
    """True where a code stands at its zero_point."""
    zero = signature.input(0).zero_point

    def bind(a: np.ndarray) -> Bound:
        runs: list[Run] = []
        return flags_of(np.logical_not, runs, truths(a, zero, runs))

    return Bindable(bind)


equal = compare_op("equal", operator.eq, np.equal, "==")
less = compare_op("less", operator.lt, np.less, "<")
less_or_equal = compare_op("less_or_equal", operator.le, np.less_equal, "<=")
greater = compare_op("greater", operator.gt, np.greater, ">")
greater_or_equal = compare_op("greater_or_equal", operator.ge, np.greater_equal, ">=")
logical_and = logical_op("logical_and", operator.and_, np.logical_and, "and")
logical_or = logical_op("logical_or", operator.or_, np.logical_or, "or")
logical_xor = logical_op("logical_xor", operator.xor, np.logical_xor, "xor")
logical_not = register(
    Op(
        "logical_not",
        ("a",),
        ("i8 -> i8",),
        same_shape,
        lambda xp, attrs, a: (_as_reals(a == 0, a),),
        as_is,
        _not_reference,
        at_once(load_not),
        elementwise_work,
        "y = 1 where a == z_a, else 0",
        load=load_not,
        demands={0: "flag", ~0: "flag"},
    )
)
