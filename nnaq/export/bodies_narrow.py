"""Sums of products in bodies: INT64, which no accumulator of nnaq leaves, and narrow accumulators.

The rules are those of `nnaq.kernels.narrow`. A saturating accumulator is unrolled, a step per block of K;
a wrapping one is taken modulo 2^width once, at the end.
"""

from collections.abc import Callable

from nnaq.export.body_builder import Body
from nnaq.ir.dims import Dim
from nnaq.kernels.narrow import Narrow

Partial = Callable[[int, int], str]


def accumulated(
    body: Body, narrow: Narrow | None, depth: int, partial: Partial, bias: str | None = None
) -> str:
    """bias + Σ products, INT64; partial(start, stop) is the exact sum over that part of K."""
    if narrow is None or narrow.wraps:
        products = partial(0, depth)
        exact = products if bias is None else body.add(products, bias)
        return exact if narrow is None else _wrapped(body, exact, narrow)
    total = body.constant(0) if bias is None else body.clip(bias, narrow.low, narrow.high)
    for k in range(0, max(depth, 1), narrow.block):
        part = partial(k, min(k + narrow.block, depth))
        total = body.clip(body.add(part, total), narrow.low, narrow.high)
    return total


def _wrapped(body: Body, total: str, narrow: Narrow) -> str:
    """(total - low) mod 2^width + low."""
    low = body.constant(narrow.low)
    lifted = body.apply("BitwiseAnd", body.sub(total, low), body.constant(narrow.high - narrow.low))
    return body.add(lifted, low)


def cut(body: Body, x: str, axis: int, start: int, stop: int, depth: Dim) -> str:
    """Entries from start to stop of an axis of `depth` entries; x itself for all of them."""
    if (start, stop) == (0, depth):
        return x
    return body.apply("Slice", x, *(body.constant([n]) for n in (start, stop, axis)))


def matrix_product(
    body: Body, narrow: Narrow | None, rows: str, columns: str, depth: int, bias: str | None = None
) -> str:
    """rows [..., K] times columns [..., K, N], plus bias."""

    def partial(start: int, stop: int) -> str:
        left, right = cut(body, rows, -1, start, stop, depth), cut(body, columns, -2, start, stop, depth)
        return body.apply("MatMul", left, right)

    return accumulated(body, narrow, depth, partial, bias)


def open_product(body: Body, narrow: Narrow | None, rows: str, columns: str) -> str:
    """rows [..., M, K] times columns [..., K, N] for a K known at run time: a Scan over blocks of K."""
    total = body.apply("MatMul", rows, columns)
    if narrow is None:
        return total
    if narrow.wraps:
        return _wrapped(body, total, narrow)
    depth = body.reshape(body.apply("Shape", columns, start=-2, end=-1), ())
    some = body.apply("Max", depth, body.constant(1))  # runtimes differ on a Scan over nothing
    starts = body.apply("Range", body.constant(0), some, body.constant(narrow.block))
    inner = Body(body)
    before, start = inner.fresh("before"), inner.fresh("start")
    first = inner.reshape(start, (1,))
    ends = first, inner.add(first, inner.constant([narrow.block]))
    left = inner.apply("Slice", rows, *ends, inner.constant([-1]))
    right = inner.apply("Slice", columns, *ends, inner.constant([-2]))
    after = inner.add(before, inner.apply("MatMul", left, right))
    graph = inner.graph("block", [before, start], [inner.clip(after, narrow.low, narrow.high)])
    nothing = body.mul(total, body.constant(0))
    return body.apply("Scan", nothing, starts, body=graph, num_scan_inputs=1)
