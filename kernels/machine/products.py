"""Tiles of sums of products: some rows of one matrix by panels of another, one after the other, in registers.

    sums[r, n] = start[n] + Σ_k rows[r, k] * panel[k, n]        r < R, n < PANEL, i32 with wrap-around

A panel is PANEL columns, two vectors of i32 lanes. Rows are words, or bytes where a tier multiplies those:

    words   rows i16, panels i8 or i16 in the order [K/2][PANEL][2], K even; start is 0. Each step loads two
            vectors of a panel, widens them where they are i8, broadcasts a pair of every row and adds 2 R
            pair products
    bytes   rows u8, panels i8: start as i32 [PANEL], then [K/4][PANEL][4], K a multiple of 4. Each step loads
            two vectors, broadcasts four bytes of every row and adds 2 R products of fours, which take rows as
            the tier's instruction does: unsigned, or the same bits as signed

The loop over K lives in the tile. With few rows a sum would wait for the one before it, so that such tiles
take several steps at once with sums of their own.

Sums modulo 2^32 are right whenever the whole sum fits, whatever its parts do; a pair of words is right unless
four factors are -32768, and i8 weights have none. Products of bytes are never wrong: 4 * 255 * 128 is far
from 2^31, and the instructions add modulo 2^32.
"""

from collections.abc import Callable

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from nnaq.kernels.machine.tiers import Dot, tier
from nnaq.kernels.machine.vectors import (
    I8,
    I16,
    I32,
    I64,
    add_fours,
    alone,
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
FOURS = ir.VectorType(I8, 4 * LANES)
NOTHING = ir.Constant(SUMS, None)
ROWS = tier().rows  # of the largest tile
STEPS = {12: 1, 6: 1, 2: 2, 1: 4}  # of K that are summed apart in a tile of so many rows
WORD_ROWS = 6  # of the largest tile of words
Accumulators = list[ir.Value]
Step = Callable[[ir.Value, Accumulators], Accumulators]


@intrinsic
def tiles(typing, x, first, stride, rows, panels, at, size, steps, count, sums, width):  # type: ignore[no-untyped-def]
    """Fill the sums of some rows by some panels, with as large tiles as there are.

    x      i16 or u8 array; row r begins at entry first + r * stride
    panels i8 or i16 array; panel i begins at entry at + i * size
    steps  of K, pairs or fours, from the beginning of each; without any there are starts or zeros
    count  of panels
    sums   i32 array, filled: entries r * width + i * PANEL + n
    """
    n = types.int64
    signature = types.void(x, n, n, n, panels, n, n, n, n, sums, n)

    def generate(context, builder, signature, given):  # type: ignore[no-untyped-def]
        pointers = {i: data_of(context, builder, signature.args[i], given[i]) for i in (0, 4, 9)}
        arguments = [pointers.get(i, value) for i, value in enumerate(given)]
        entries = pointers[0].type.pointee, pointers[4].type.pointee
        if entries != (I8, I16):  # bytes never meet words
            builder.call(all_tiles(builder.module, *entries), arguments)
        return context.get_dummy_value()

    return signature, generate


def all_tiles(module: ir.Module, row: ir.IntType, entry: ir.IntType) -> ir.Function:
    """The largest tile again and again, then what is left by smaller ones."""
    name = f"nnaq_tiles_i{row.width}_i{entry.width}"
    if name in module.globals:
        return module.globals[name]
    pointers = [kind.as_pointer() for kind in (row, entry, I32)]
    made, builder = alone(module, name, [pointers[0], *[I64] * 3, pointers[1], *[I64] * 4, pointers[2], I64])
    x, first, stride, rows, *panels, sums, width = made.args
    done: ir.Value = constant(0)
    for size in (n for n in STEPS if n <= (ROWS if row == I8 else WORD_ROWS)):
        tile = function_of(module, size, row, entry)

        def take(r: ir.Value, _: Accumulators, size: int = size, tile: ir.Function = tile) -> Accumulators:
            begin = builder.add(first, builder.mul(r, stride))
            own = builder.gep(sums, [builder.mul(r, width)])
            builder.call(tile, [x, begin, stride, *panels, own, width])
            return [builder.add(r, constant(size))]

        (done,) = loop(builder, done, builder.sub(rows, constant(size - 1)), size, [done], take)
    builder.ret_void()
    return made


def function_of(module: ir.Module, rows: int, row: ir.IntType, entry: ir.IntType) -> ir.Function:
    """One tile: (x, first, stride, panels, at, size, steps, count, sums, width), as `tiles` takes them."""
    pointers = [kind.as_pointer() for kind in (row, entry, I32)]
    name = f"nnaq_tile_{rows}_i{row.width}_i{entry.width}"
    kinds = [pointers[0], I64, I64, pointers[1], *[I64] * 4, pointers[2], I64]
    made, builder = alone(module, name, kinds)
    x, first, stride, panels, at, size, count_of_steps, count, sums, width = made.args
    x, panels = builder.gep(x, [first]), builder.gep(panels, [at])
    places = [builder.mul(stride, constant(r)) for r in range(rows)]

    def one_panel(i: ir.Value, held: Accumulators) -> Accumulators:
        panel = builder.gep(panels, [builder.mul(i, size)])
        initial = [NOTHING] * (2 * rows)
        if row == I8:
            initial = [
                builder.bitcast(v, SUMS) for v in columns_of(builder, panel, constant(0), FOURS)
            ] * rows

        def step(k: ir.Value, held: Accumulators) -> Accumulators:
            if row == I8:
                return add_four(builder, x, places, panel, k, held)
            return add_pair(builder, x, places, panel, k, held)

        start = builder.mul(i, constant(PANEL))
        for n, total in enumerate(summed(builder, count_of_steps, initial, STEPS[rows], step)):
            place = builder.add(start, builder.mul(width, constant(n // 2)))
            store(builder, total, sums, builder.add(place, constant(n % 2 * LANES)))
        return held

    loop(builder, constant(0), count, 1, [], one_panel)
    builder.ret_void()
    return made


def columns_of(builder: ir.IRBuilder, panel: ir.Value, step: ir.Value, kind: ir.VectorType) -> list[ir.Value]:
    """The two vectors of a step."""
    start = builder.mul(step, constant(2 * kind.count))
    return [load(builder, panel, builder.add(start, constant(v * kind.count)), kind) for v in (0, 1)]


def add_pair(
    builder: ir.IRBuilder, x: ir.Value, places: list[ir.Value], panel: ir.Value, pair: ir.Value,
    held: Accumulators,
) -> Accumulators:  # fmt: skip
    """The sums of a tile with the products of one pair of k added."""
    columns = columns_of(builder, panel, pair, ir.VectorType(panel.type.pointee, 2 * LANES))
    if panel.type.pointee == I8:
        columns = [builder.sext(column, PAIRS) for column in columns]
    made = []
    for r, place in enumerate(places):
        both = load(builder, x, builder.add(place, builder.mul(pair, constant(2))), I32)
        row = builder.bitcast(broadcast(builder, both, LANES), PAIRS)
        made += [builder.add(held[2 * r + v], pair_products(builder, row, columns[v])) for v in (0, 1)]
    return made


def add_four(
    builder: ir.IRBuilder, x: ir.Value, places: list[ir.Value], panel: ir.Value, four: ir.Value,
    held: Accumulators,
) -> Accumulators:  # fmt: skip
    """The sums of a tile with the products of four of k added; a panel begins with its starts."""
    columns = columns_of(builder, panel, builder.add(four, constant(1)), FOURS)
    made = []
    for r, place in enumerate(places):
        word = load(builder, x, builder.add(place, builder.mul(four, constant(4))), I32)
        row = builder.bitcast(broadcast(builder, word, LANES), FOURS)
        made += [add_fours(builder, dot_of_tier(), held[2 * r + v], row, columns[v]) for v in (0, 1)]
    return made


def dot_of_tier() -> Dot:
    """How bytes are multiplied; only asked for where they are."""
    dot = tier().dot
    assert dot is not None, "this tier has no products of bytes"
    return dot


def summed(
    builder: ir.IRBuilder, count: ir.Value, initial: Accumulators, steps: int, step: Step
) -> Accumulators:
    """Sums over `count` steps: first `steps` at a time, each with sums of its own, then the rest."""
    size = len(initial)
    whole = builder.and_(count, constant(-steps))

    def several(at: ir.Value, held: Accumulators) -> Accumulators:
        parts = (step(builder.add(at, constant(u)), held[u * size : (u + 1) * size]) for u in range(steps))
        return [total for part in parts for total in part]

    held = loop(builder, constant(0), whole, steps, [*initial, *[NOTHING] * (size * (steps - 1))], several)
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
