"""Dimensions: whole numbers, or symbols such as `T` that a run binds.

A symbolic dimension is a short arithmetic text over names and integers (`T`, `(T-1)//2+1`).
Texts are built by the functions here only, so that equal sizes print equally.
"""

import ast
import operator
from collections import Counter
from collections.abc import Mapping, Sequence

from nnaq.errors import GraphError

Dim = int | str
Shape = tuple[Dim, ...]

_OPERATORS = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
}


def evaluate(dim: Dim, binding: Mapping[str, int]) -> int:
    """The size of `dim` with its symbols bound.

    >>> evaluate("(T-1)//2+1", {"T": 8})
    4
    """
    if isinstance(dim, int):
        return dim
    return _walk(ast.parse(dim, mode="eval").body, dim, binding)


def _walk(tree: ast.expr, dim: str, binding: Mapping[str, int]) -> int:
    if isinstance(tree, ast.BinOp) and type(tree.op) in _OPERATORS:
        left, right = (_walk(side, dim, binding) for side in (tree.left, tree.right))
        return int(_OPERATORS[type(tree.op)](left, right))
    if isinstance(tree, ast.Constant) and isinstance(tree.value, int):
        return tree.value
    if isinstance(tree, ast.Name) and tree.id in binding:
        return binding[tree.id]
    raise GraphError(f"dimension {dim!r} cannot be evaluated with {dict(binding)}; bind its names")


def symbols(dim: Dim) -> frozenset[str]:
    """The names a dimension depends on."""
    if isinstance(dim, int):
        return frozenset()
    return frozenset(n.id for n in ast.walk(ast.parse(dim)) if isinstance(n, ast.Name))


def bind(shape: Sequence[Dim], binding: Mapping[str, int]) -> tuple[int, ...]:
    """A shape as whole numbers."""
    return tuple(evaluate(dim, binding) for dim in shape)


def solve(shape: Sequence[Dim], actual: Sequence[int], who: str) -> dict[str, int]:
    """The binding under which `shape` is `actual`: plain symbols are read off, the rest checked."""
    if len(shape) != len(actual):
        raise GraphError(f"{who} has shape {list(actual)}, expected {show(shape)}")
    binding = {d: a for d, a in zip(shape, actual, strict=True) if isinstance(d, str) and d.isidentifier()}
    for dim, size in zip(shape, actual, strict=True):
        if not symbols(dim) - binding.keys() and evaluate(dim, binding) != size:
            raise GraphError(f"{who} has shape {list(actual)}, expected {show(shape)}")
    return binding


def show(shape: Sequence[Dim]) -> str:
    """`[T,576]`"""
    return "[" + ",".join(str(dim) for dim in shape) + "]"


def add(dim: Dim, more: int) -> Dim:
    """`dim + more`, folded where it is a number."""
    if isinstance(dim, int):
        return dim + more
    return dim if more == 0 else f"{dim}{more:+d}"


def window(dim: Dim, padding: int, extent: int, stride: int) -> Dim:
    """Positions of a window of `extent` over `dim + padding`, moved by `stride`.

    >>> window(8, 2, 3, 2), window("T", 2, 3, 1), window("T", 0, 3, 2)
    (4, 'T', '(T-3)//2+1')
    """
    if isinstance(dim, int):
        return max((dim + padding - extent) // stride + 1, 0)
    span = add(dim, padding - extent)
    if stride == 1:
        return add(dim, padding - extent + 1)
    return f"({span})//{stride}+1"


def product(dims: Sequence[Dim]) -> tuple[int, Counter[str]]:
    """A product as a whole factor and its symbolic factors."""
    factor, names = 1, Counter[str]()
    for dim in dims:
        if isinstance(dim, int):
            factor *= dim
        else:
            names[dim] += 1
    return factor, names


def quotient(whole: Sequence[Dim], parts: Sequence[Dim]) -> Dim | None:
    """The one dimension `d` with `prod(parts) * d == prod(whole)`, or None if there is none."""
    (top, names), (bottom, divisors) = product(whole), product(parts)
    if divisors - names or bottom == 0 or top % bottom:
        return None
    left = list((names - divisors).elements())
    if not left:
        return top // bottom
    if len(left) == 1 and top == bottom:
        return left[0]
    return "*".join([str(top // bottom)] * (top != bottom) + [f"({name})" for name in left])
