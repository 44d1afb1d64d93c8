"""Tiles of sums of products: some rows of one matrix by panels of another, one after the other, in registers.

    sums[r, n] = Σ_k rows[r, k] * panel[k, n]        r < R, n < PANEL, i32 with wrap-around

A panel is PANEL columns (two vectors of i32 lanes) in the order [K/2][PANEL][2], i8 or i16, K even; rows are
i16. The loop over pairs of k lives in the tile: each step loads two vectors of the panel, widens them where
they are i8, broadcasts one pair of every row and adds 2 R pair products. With few rows a sum would wait for
the one before it, so that such tiles take several steps at once with sums of their own.

Sums modulo 2^32 are right whenever the whole sum fits, whatever its parts do; a pair is right unless four
factors are -32768, and i8 weights have none.
"""

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from nnaq.kernels.machine.tiers import tier
from nnaq.kernels.machine.vectors import (
    I8,
    I16,
    I32,
    I64,
    broadcast,
    constant,
    data_of,
    load,
    pair_products,
    store,
)

LANES = tier().lanes
PANEL = 2 * LANES
SUMS = ir.VectorType(I32, LANES)
PAIRS = ir.VectorType(I16, 2 * LANES)
NOTHING = ir.Constant(SUMS, None)
Accumulators = list[ir.Value]
Step = Callable[[ir.Value, Accumulators], Accumulators]


def make_tile(rows: int, steps: int) -> Any:
    """The intrinsic tile(x, first, stride, panels, at, size, pairs, count, sums, width) for a number of rows.

    x      i16 array; row r begins at entry first + r * stride
    panels i8 or i16 array; panel i begins at entry at + i * size
    pairs  of k, from the beginning of each; 0 gives zeros
    count  of panels
    sums   i32 array, filled: entries r * width + i * PANEL + n
    steps  pairs that are summed apart, for tiles too small to hide how long a sum takes
    """

    @intrinsic
    def tile(typing, x, first, stride, panels, at, size, pairs, count, sums, width):  # type: ignore[no-untyped-def]
        whole = types.int64
        signature = types.void(x, whole, whole, panels, whole, whole, whole, whole, sums, whole)

        def generate(context, builder, signature, given):  # type: ignore[no-untyped-def]
            pointers = {i: data_of(context, builder, signature.args[i], given[i]) for i in (0, 3, 8)}
            arguments = [pointers.get(i, value) for i, value in enumerate(given)]
            builder.call(function_of(builder.module, rows, steps, pointers[3].type.pointee), arguments)
            return context.get_dummy_value()

        return signature, generate

    return tile


def function_of(module: ir.Module, rows: int, steps: int, entry: ir.IntType) -> ir.Function:
    """The tile as a function of its own, which is never inlined: callers stay small to compile."""
    name = f"nnaq_tile_{rows}_i{entry.width}"
    if name in module.globals:
        return module.globals[name]
    counts = [I64] * 4
    parts = [I16.as_pointer(), I64, I64, entry.as_pointer(), *counts, I32.as_pointer(), I64]
    made = ir.Function(module, ir.FunctionType(ir.VoidType(), parts), name)
    made.linkage = "linkonce_odr"
    made.attributes.add("noinline")
    builder = ir.IRBuilder(made.append_basic_block("entry"))
    x, first, stride, panels, at, size, pairs, count, sums, width = made.args
    x, panels = builder.gep(x, [first]), builder.gep(panels, [at])
    places = [builder.mul(stride, constant(r)) for r in range(rows)]

    def one_panel(i: ir.Value, held: Accumulators) -> Accumulators:
        panel = builder.gep(panels, [builder.mul(i, size)])

        def step(pair: ir.Value, held: Accumulators) -> Accumulators:
            return add_pair(builder, x, places, panel, pair, held)

        start = builder.mul(i, constant(PANEL))
        for n, total in enumerate(summed(builder, pairs, 2 * rows, steps, step)):
            place = builder.add(start, builder.mul(width, constant(n // 2)))
            store(builder, total, sums, builder.add(place, constant(n % 2 * LANES)))
        return held

    loop(builder, constant(0), count, 1, [], one_panel)
    builder.ret_void()
    return made


def add_pair(
    builder: ir.IRBuilder, x: ir.Value, places: list[ir.Value], panels: ir.Value, pair: ir.Value,
    held: Accumulators,
) -> Accumulators:  # fmt: skip
    """The sums of a tile with the products of one pair of k added."""
    start = builder.mul(pair, constant(2 * PANEL))
    half = ir.VectorType(panels.type.pointee, 2 * LANES)
    columns = [load(builder, panels, builder.add(start, constant(v * 2 * LANES)), half) for v in (0, 1)]
    if panels.type.pointee == I8:
        columns = [builder.sext(column, PAIRS) for column in columns]
    made = []
    for r, place in enumerate(places):
        both = load(builder, x, builder.add(place, builder.mul(pair, constant(2))), I32)
        row = builder.bitcast(broadcast(builder, both, LANES), PAIRS)
        made += [builder.add(held[2 * r + v], pair_products(builder, row, columns[v])) for v in (0, 1)]
    return made


def summed(builder: ir.IRBuilder, count: ir.Value, size: int, steps: int, step: Step) -> Accumulators:
    """`size` sums over `count` steps: first `steps` at a time, each with sums of its own, then the rest."""
    whole = builder.and_(count, constant(-steps))

    def several(at: ir.Value, held: Accumulators) -> Accumulators:
        parts = (step(builder.add(at, constant(u)), held[u * size : (u + 1) * size]) for u in range(steps))
        return [total for part in parts for total in part]

    held = loop(builder, constant(0), whole, steps, [NOTHING] * (size * steps), several)
    totals = held[:size]
    for u in range(1, steps):
        totals = [builder.add(a, b) for a, b in zip(totals, held[u * size : (u + 1) * size], strict=True)]
    return totals if steps == 1 else loop(builder, whole, count, 1, totals, step)


def loop(
    builder: ir.IRBuilder, start: ir.Value, stop: ir.Value, by: int, initial: Accumulators, body: Step
) -> Accumulators:
    """Values that a body turns into the next ones, for start, start + by, … below stop; kept in registers."""
    before = builder.block
    inside, behind = (builder.append_basic_block(word) for word in ("inside", "behind"))
    builder.cbranch(builder.icmp_signed("<", start, stop), inside, behind)
    builder.position_at_end(inside)
    at = builder.phi(I64)
    held = [builder.phi(value.type) for value in initial]
    made = body(at, list(held))
    following, last = builder.add(at, constant(by)), builder.block
    for phi, first, then in zip((at, *held), (start, *initial), (following, *made), strict=True):
        phi.add_incoming(first, before)
        phi.add_incoming(then, last)
    builder.cbranch(builder.icmp_signed("<", following, stop), inside, behind)
    builder.position_at_end(behind)
    results = [builder.phi(value.type) for value in initial]
    for phi, first, then in zip(results, initial, made, strict=True):
        phi.add_incoming(first, before)
        phi.add_incoming(then, last)
    return results


tile_6, tile_2, tile_1 = make_tile(6, 1), make_tile(2, 2), make_tile(1, 4)
