"""Dimensions: whole numbers, or symbols such as `T` that a run binds.

A symbolic dimension is a short arithmetic text over names and integers (`T`, `(T-1)//2+1`) with +,
-, * and // by a whole number. Every text has one canonical form, a sum of products with floors
pulled as far apart as they go, so that equal sizes print equally:

    T+K-K = T     (T+4)//2 = T//2 + 2     (T//2)//3 = T//6     (2 T + 1)//4 = T//2

Names are taken to be independent of each other and of floors of each other.
"""

import ast
import operator
import re
from collections.abc import Mapping, Sequence
from functools import cache
from math import gcd

from nnaq.errors import GraphError

Dim = int | str
Shape = tuple[Dim, ...]
Monomial = tuple[str, ...]
Terms = Mapping[Monomial, int]
"""A sum: whole coefficients by sorted factors. A factor is a name or a floor, as text; () is 1."""

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
    return _walk(_tree(dim), dim, binding)


def _walk(tree: ast.expr, dim: str, binding: Mapping[str, int]) -> int:
    if isinstance(tree, ast.BinOp) and type(tree.op) in _OPERATORS:
        left, right = (_walk(side, dim, binding) for side in (tree.left, tree.right))
        return int(_OPERATORS[type(tree.op)](left, right))
    if isinstance(tree, ast.UnaryOp) and isinstance(tree.op, ast.USub):
        return -_walk(tree.operand, dim, binding)
    if isinstance(tree, ast.Constant) and isinstance(tree.value, int):
        return tree.value
    if isinstance(tree, ast.Name) and tree.id in binding:
        return binding[tree.id]
    raise GraphError(f"dimension {dim!r} cannot be evaluated with {dict(binding)}; bind its names")


@cache
def _tree(dim: str) -> ast.expr:
    try:
        return ast.parse(dim.strip(), mode="eval").body
    except SyntaxError as error:
        raise GraphError(f"dimension {dim!r} is no arithmetic over names and whole numbers") from error


def symbols(dim: Dim) -> frozenset[str]:
    """The names a dimension depends on."""
    if isinstance(dim, int):
        return frozenset()
    return frozenset(n.id for n in ast.walk(_tree(dim)) if isinstance(n, ast.Name))


def bind(shape: Sequence[Dim], binding: Mapping[str, int]) -> tuple[int, ...]:
    """A shape as whole numbers."""
    return tuple(evaluate(dim, binding) for dim in shape)


def substitute(dim: Dim, names: Mapping[str, Dim]) -> Dim:
    """`dim` with other dimensions in the place of names.

    >>> substitute("(T-2)//2+1", {"T": "2*T"}), substitute("N*T", {"N": 1})
    ('T', 'T')
    """
    if isinstance(dim, int):
        return dim
    return canonical(re.sub(r"\b[A-Za-z_]\w*\b", lambda m: f"({names.get(m[0], m[0])})", dim))


def solve(shape: Sequence[Dim], actual: Sequence[int], who: str) -> dict[str, int]:
    """The binding under which `shape` is `actual`: plain symbols are read off, the rest checked.

    A multiple of a symbol, less a number or not, is solved for the symbol where nothing else binds it.

    >>> solve(("2*T", "T+1", 4), (6, 4, 4), "x")
    {'T': 3}
    """
    if len(shape) != len(actual):
        raise GraphError(f"{who} has shape {list(actual)}, expected {show(shape)}")
    binding = {d: a for d, a in zip(shape, actual, strict=True) if isinstance(d, str) and d.isidentifier()}
    for axis, (dim, size) in enumerate(zip(shape, actual, strict=True)):
        found = None if isinstance(dim, int) else linear(dim)
        if found is None or found[0] in binding:
            continue
        name, step, offset = found
        if (size - offset) % step or size < offset:
            raise GraphError(
                f"{who} has shape {list(actual)}, expected {show(shape)}: axis {axis} is {size} long, but "
                f"the model was exported for multiples of {step}{_more(offset)}; pad the last chunk"
            )
        binding[name] = (size - offset) // step
    for dim, size in zip(shape, actual, strict=True):
        if not symbols(dim) - binding.keys() and evaluate(dim, binding) != size:
            raise GraphError(f"{who} has shape {list(actual)}, expected {show(shape)}")
    return binding


def linear(dim: str) -> tuple[str, int, int] | None:
    """Name, step and offset of a dimension `step*name + offset` with a positive step, else None.

    >>> linear("2*T+3"), linear("T//2"), linear("S+T")
    (('T', 2, 3), None, None)
    """
    terms = dict(_terms(dim))
    offset = terms.pop((), 0)
    (factors, step), *more = terms.items() or [((), 0)]
    if more or len(factors) != 1 or not factors[0].isidentifier() or step < 1:
        return None
    return factors[0], step, offset


def _more(offset: int) -> str:
    return f" {'plus' if offset > 0 else 'less'} {abs(offset)}" if offset else ""


def show(shape: Sequence[Dim]) -> str:
    """`[T,576]`"""
    return "[" + ",".join(str(dim) for dim in shape) + "]"


# --- arithmetic


def canonical(dim: Dim) -> Dim:
    """The one form of a dimension; a number where nothing symbolic is left.

    >>> canonical("K+T-K"), canonical("2*(T)+2"), canonical("(T//2-1)//2"), canonical("T-T+3")
    ('T', '2*T+2', '(T-6)//4+1', 3)
    """
    return dim if isinstance(dim, int) or dim.isidentifier() else _canonical(dim)


@cache
def _canonical(dim: str) -> Dim:
    return _dim(_terms(dim))


def add(*dims: Dim) -> Dim:
    """The sum of dimensions.

    >>> add("T", 2), add("T+2", -2), add("T", "S"), add(3, 4)
    ('T+2', 'T', 'S+T', 7)
    """
    total: Terms = {}
    for dim in dims:
        total = _sum(total, _terms(dim))
    return _dim(total)


def subtract(dim: Dim, other: Dim) -> Dim:
    """`dim - other`.

    >>> subtract("S+T", "T"), subtract("2*T-1", "T")
    ('S', 'T-1')
    """
    return _dim(_sum(_terms(dim), _terms(other), -1))


def multiply(*dims: Dim) -> Dim:
    """The product of dimensions.

    >>> multiply(2, 3), multiply("B", 8, "T"), multiply("T+1", 2)
    (6, '8*B*T', '2*T+2')
    """
    return _dim(_product(dims))


def floor_divide(dim: Dim, divisor: int) -> Dim:
    """`dim // divisor` for a divisor of at least 1.

    >>> floor_divide("4*T", 2), floor_divide("T", 2)
    ('2*T', '(T-2)//2+1')
    """
    return _dim(_floor(_terms(dim), divisor))


def window(dim: Dim, padding: int, extent: int, stride: int) -> Dim:
    """Result size of a sliding window: (dim + padding - extent) // stride + 1, never negative.

    >>> window(8, 2, 3, 2), window("T", 2, 3, 1), window("T", 0, 3, 2)
    (4, 'T', '(T-3)//2+1')
    """
    if isinstance(dim, int):
        return max((dim + padding - extent) // stride + 1, 0)
    return add(floor_divide(add(dim, padding - extent), stride), 1)


def quotient(whole: Sequence[Dim], parts: Sequence[Dim]) -> Dim | None:
    """The one dimension `d` with `prod(parts) * d == prod(whole)`, or None if there is none.

    >>> quotient(("T", "B", 8), ("T", 8)), quotient(("8*B",), (8,)), quotient(("T",), (2,))
    ('B', 'B', None)
    """
    left, divisor = dict(_product(whole)), _product(parts)
    if not divisor:
        return None
    top, found = _leading(divisor), dict[Monomial, int]()
    while left:
        lead = _leading(left)
        rest = _without(lead, top)
        if rest is None or left[lead] % divisor[top]:
            return None
        found[rest] = left[lead] // divisor[top]
        left = dict(_sum(left, _times({rest: found[rest]}, divisor), -1))
    return _dim(found)


# --- sums of products


def _terms(dim: Dim) -> Terms:
    return ({(): dim} if dim else {}) if isinstance(dim, int) else _parsed(dim)


@cache
def _parsed(dim: str) -> Terms:
    return _of(_tree(dim), dim)


def _of(tree: ast.expr, dim: str) -> Terms:
    """The sum that a syntax tree stands for."""
    if isinstance(tree, ast.Name):
        return {(tree.id,): 1}
    if isinstance(tree, ast.Constant) and isinstance(tree.value, int):
        return _terms(tree.value)
    if isinstance(tree, ast.UnaryOp) and isinstance(tree.op, ast.USub):
        return _sum({}, _of(tree.operand, dim), -1)
    if isinstance(tree, ast.BinOp) and type(tree.op) in _OPERATORS:
        left, right = _of(tree.left, dim), _of(tree.right, dim)
        if isinstance(tree.op, ast.Add | ast.Sub):
            return _sum(left, right, 1 if isinstance(tree.op, ast.Add) else -1)
        if isinstance(tree.op, ast.Mult):
            return _times(left, right)
        if right.keys() == {()} and right[()] > 0:
            return _floor(left, right[()])
    raise GraphError(
        f"dimension {dim!r} is not made of names, whole numbers, +, -, * and // by a positive number"
    )


def _sum(a: Terms, b: Terms, sign: int = 1) -> Terms:
    total = dict(a)
    for factors, count in b.items():
        total[factors] = total.get(factors, 0) + sign * count
    return {factors: count for factors, count in total.items() if count}


def _times(a: Terms, b: Terms) -> Terms:
    total: Terms = {}
    for left, m in a.items():
        total = _sum(total, {tuple(sorted(left + right)): m * n for right, n in b.items()})
    return total


def _product(dims: Sequence[Dim]) -> Terms:
    total: Terms = {(): 1}
    for dim in dims:
        total = _times(total, _terms(dim))
    return total


def _floor(terms: Terms, divisor: int) -> Terms:
    """terms // divisor: multiples come out, common factors and inner floors are merged."""
    outside = {factors: count // divisor for factors, count in terms.items() if count // divisor}
    inside = {factors: count % divisor for factors, count in terms.items() if count % divisor}
    offset = inside.pop((), 0)
    if not inside:
        return outside
    common = gcd(divisor, *inside.values())
    inside = {factors: count // common for factors, count in inside.items()}
    offset, divisor = offset // common, divisor // common
    inner = _one_floor(inside)
    if inner is not None:  # (p + q // m) // n = (m p + q) // (m n)
        rest, span, step = inner
        merged = _sum(_times(_sum(rest, _terms(offset)), _terms(step)), span)
        return _sum(outside, _floor(merged, divisor * step))
    return _sum(outside, {(f"{_bracketed(_sum(inside, _terms(offset)))}//{divisor}",): 1})


def _bracketed(terms: Terms) -> str:
    text = str(_dim(terms))
    return text if text.isidentifier() else f"({text})"


def _one_floor(terms: Terms) -> tuple[Terms, Terms, int] | None:
    """Terms p + q // m as p, q and m, where they have exactly one floor, once; else None."""
    floors = [factors for factors in terms if any(not factor.isidentifier() for factor in factors)]
    if len(floors) != 1 or len(floors[0]) != 1 or terms[floors[0]] != 1:
        return None
    (text,) = floors[0]
    tree = _tree(text)
    assert isinstance(tree, ast.BinOp)
    assert isinstance(tree.right, ast.Constant)
    assert isinstance(tree.right.value, int)
    return _sum(terms, {(text,): 1}, -1), _of(tree.left, text), tree.right.value


def _dim(terms: Terms) -> Dim:
    """The text of a sum, or its number. One floor alone counts windows: (span)//stride+1."""
    if not terms.keys() - {()}:
        return terms.get((), 0)
    floor = _one_floor(terms)
    if floor is not None and not floor[0].keys() - {()}:
        offset, span, stride = floor
        before = _sum(offset, _terms(1), -1)
        return f"{_bracketed(_sum(span, _times(before, _terms(stride))))}//{stride}+1"
    ordered = sorted(terms.items(), key=lambda term: (term[1] < 0, -len(term[0]), term[0]))
    return "".join(f"{count:+d}" if not f else _signed(f, count) for f, count in ordered).removeprefix("+")


def _signed(factors: Monomial, count: int) -> str:
    """`+2*B*T` or `-T`; a floor stands in brackets next to anything else."""
    named = [f if f.isidentifier() else f"({f})" for f in factors]
    number = [] if abs(count) == 1 else [str(abs(count))]
    return ("-" if count < 0 else "+") + "*".join(number + named)


def _leading(terms: Terms) -> Monomial:
    """The first term in the order of long division: of highest degree, then first by its factors."""
    return min(terms, key=lambda factors: (-len(factors), factors))


def _without(factors: Monomial, others: Monomial) -> Monomial | None:
    """`factors` with each of `others` taken away once, or None where one is missing."""
    left = list(factors)
    for other in others:
        if other not in left:
            return None
        left.remove(other)
    return tuple(left)
