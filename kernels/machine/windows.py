"""Strips of a convolution: rows of weights by runs of neighbouring positions, in registers.

    sums[r, p] += Σ_k rows[r, k] * image[p + offsets[k]]      p < panels * PANEL, i32 with wrap-around

rows and image are i16, k is even in number; or both are bytes and k is a multiple of 4, where a tier has
products of bytes: those of the image are then what its instruction takes, unsigned or signed, those of the
rows are signed, and what is said of pairs below holds for fours. What the windows of neighbouring positions
see of one entry k stands side by side in the image, and two such runs, k and k + 1, are woven into pairs.
Where several rows
meet a window, `weave` does so once and writes panels of PANEL positions in the order [panel][K/2][PANEL][2],
which `strip_R` reads for R rows: loads that run on are quicker than those that begin anywhere. For a single
row `strip_alone` weaves as it goes, four panels at once so that a pair of weights is read once for them, and
within 128 bits, where machines do it at once: sums are put in order when they are stored.

Sums are added to, so that a long K may come in parts that stay in the caches.
"""

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from nnaq.kernels.machine.products import (
    FOURS,
    LANES,
    PAIRS,
    PANEL,
    SUMS,
    Accumulators,
    columns_of,
    dot_of_tier,
    loop,
)
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
    picked,
    store,
)

Body = Callable[[ir.IRBuilder, list[ir.Value]], None]
TOGETHER = 4  # panels of a single row


def lanes_of(numbers: list[int]) -> ir.Constant:
    """The lanes that a shuffle takes."""
    return ir.Constant(ir.VectorType(I32, len(numbers)), [ir.Constant(I32, n) for n in numbers])


PARTS = range(PANEL // 8)  # of 128 bits
# Half h of two vectors in pairs; half h of every 128 bits of them in pairs, the positions of those sums, and
# where those of position p are.
PAIRED = [lanes_of([LANES * h + i + v * PANEL for i in range(LANES) for v in (0, 1)]) for h in (0, 1)]
WOVEN = [
    lanes_of([8 * n + 4 * h + i + v * PANEL for n in PARTS for i in range(4) for v in (0, 1)]) for h in (0, 1)
]
HALVES = [lanes_of([8 * n + 4 * h + i for n in PARTS for i in range(4)]) for h in (0, 1)]
STANDS = [p // 8 * 4 + p % 4 + (p // 4 % 2) * LANES for p in range(PANEL)]
ORDERED = [lanes_of(STANDS[h * LANES : (h + 1) * LANES]) for h in (0, 1)]


def called(name: str, arrays: tuple[int, ...], body: Body, of_words: bool = False) -> Callable[..., Any]:
    """The code generator of an intrinsic, arrays by place and else i64, as a function of its own.

    of_words: bytes never get there.
    """

    def function_of(module: ir.Module, kinds: list[ir.Type]) -> ir.Function:
        whole = f"{name}_i{kinds[0].pointee.width}"
        if whole not in module.globals:
            made, builder = alone(module, whole, kinds)
            body(builder, list(made.args))
            builder.ret_void()
        return module.globals[whole]

    def generate(context, builder, signature, given):  # type: ignore[no-untyped-def]
        arguments = [
            data_of(context, builder, signature.args[i], value) if i in arrays else value
            for i, value in enumerate(given)
        ]
        kinds = [value.type for value in arguments]
        if not of_words or kinds[0].pointee == I16:
            builder.call(function_of(builder.module, kinds), arguments)
        return context.get_dummy_value()

    return generate


def vector_of(entries: ir.Value) -> ir.VectorType:
    """What a lane sums at once, in every lane: pairs of words or fours of bytes."""
    return FOURS if entries.type.pointee == I8 else PAIRS


def make_strip(rows: int) -> Any:
    """The intrinsic strip(weights, first, stride, panels, pairs, count, sums, to, pitch).

    weights i16 or u8 array; row r begins at entry first + r * stride
    panels  likewise, `count` of them with `pairs` (or fours) each, one behind the other
    sums    i32 array; row r begins at entry to + r * pitch
    """

    def body(builder: ir.IRBuilder, given: list[ir.Value]) -> None:
        weights, first, stride, panels, pairs, count, sums, to, pitch = given
        size = builder.mul(pairs, constant(2 * vector_of(panels).count))
        numbers = [constant(r) for r in range(rows)]
        sources = [builder.gep(weights, [builder.add(first, builder.mul(stride, r))]) for r in numbers]
        targets = [builder.gep(sums, [builder.add(to, builder.mul(pitch, r))]) for r in numbers]

        def fill(panel: ir.Value, _: Accumulators) -> Accumulators:
            at = builder.gep(panels, [builder.mul(panel, size)])
            position = builder.mul(panel, constant(PANEL))
            places = [builder.add(position, constant(h * LANES)) for h in (0, 1)]
            initial = [load(builder, target, place, SUMS) for target in targets for place in places]

            def step(pair: ir.Value, held: Accumulators) -> Accumulators:
                return added(builder, sources, pair, columns_of(builder, at, pair, vector_of(panels)), held)

            totals = iter(loop(builder, constant(0), pairs, 1, initial, step))
            for target in targets:
                for place in places:
                    store(builder, next(totals), target, place)
            return []

        loop(builder, constant(0), count, 1, [], fill)

    generate = called(f"nnaq_strip_{rows}", (0, 3, 6), body)

    @intrinsic
    def strip(typing, weights, first, stride, panels, pairs, count, sums, to, pitch):  # type: ignore[no-untyped-def]
        n = types.int64
        return types.void(weights, n, n, panels, n, n, sums, n, n), generate

    return strip


def added(
    builder: ir.IRBuilder,
    weights: list[ir.Value],
    pair: ir.Value,
    columns: list[ir.Value],
    held: Accumulators,
) -> Accumulators:
    """The sums of some rows with the products of one pair of k added, or of four of bytes."""
    kind, made, sums = vector_of(weights[0]), [], iter(held)
    first = builder.mul(pair, constant(kind.count // LANES))
    for row in weights:
        both = builder.bitcast(broadcast(builder, load(builder, row, first, I32), LANES), kind)
        for column in columns:
            if kind == FOURS:
                made.append(add_fours(builder, dot_of_tier(), next(sums), column, both))
            else:
                made.append(builder.add(next(sums), pair_products(builder, both, column)))
    return made


def runs_of(
    builder: ir.IRBuilder, image: ir.Value, offsets: ir.Value, pair: ir.Value, moved: int
) -> list[ir.Value]:
    """What PANEL neighbouring positions, the first `moved` entries on, see of a pair or four of k."""
    side = vector_of(image).count // LANES
    kind, first = ir.VectorType(image.type.pointee, PANEL), builder.mul(pair, constant(side))
    places = [load(builder, offsets, builder.add(first, constant(v)), I64) for v in range(side)]
    return [load(builder, image, builder.add(place, constant(moved)), kind) for place in places]


def woven(builder: ir.IRBuilder, runs: list[ir.Value]) -> list[ir.Value]:
    """Runs side by side, position by position, in two vectors: pairs of two, fours of four."""
    if len(runs) == 4:
        both, half = [n + v for n in range(PANEL) for v in (0, PANEL)], ir.VectorType(I16, PANEL)
        runs = [builder.bitcast(picked(builder, a, b, both), half) for a, b in (runs[:2], runs[2:])]
    return [builder.shuffle_vector(*runs, PAIRED[h]) for h in (0, 1)]


def weave_body(builder: ir.IRBuilder, given: list[ir.Value]) -> None:
    image, base, offsets, first, pairs, count, panels = given
    offsets, kind = builder.gep(offsets, [first]), vector_of(image)

    def fill(panel: ir.Value, _: Accumulators) -> Accumulators:
        seen = builder.gep(image, [builder.add(base, builder.mul(panel, constant(PANEL)))])
        at = builder.gep(panels, [builder.mul(panel, builder.mul(pairs, constant(2 * kind.count)))])

        def step(pair: ir.Value, _: Accumulators) -> Accumulators:
            start = builder.mul(pair, constant(2 * kind.count))
            for h, both in enumerate(woven(builder, runs_of(builder, seen, offsets, pair, 0))):
                store(builder, builder.bitcast(both, kind), at, builder.add(start, constant(h * kind.count)))
            return []

        return loop(builder, constant(0), pairs, 1, [], step)

    loop(builder, constant(0), count, 1, [], fill)


def alone_body(builder: ir.IRBuilder, given: list[ir.Value]) -> None:
    weights, row, image, base, offsets, first, pairs, count, sums, to = given
    weights, image, sums = (builder.gep(a, [b]) for a, b in ((weights, row), (image, base), (sums, to)))
    offsets = builder.gep(offsets, [first])

    def fill(panel: ir.Value, together: int) -> Accumulators:
        position, initial = builder.mul(panel, constant(PANEL)), []
        seen = builder.gep(image, [position])
        places = [
            [builder.add(position, constant(n * PANEL + h * LANES)) for h in (0, 1)] for n in range(together)
        ]
        for both in places:
            halves = [load(builder, sums, place, SUMS) for place in both]
            initial += [builder.shuffle_vector(*halves, chosen) for chosen in HALVES]

        def step(pair: ir.Value, held: Accumulators) -> Accumulators:
            columns = []
            for n in range(together):
                runs = runs_of(builder, seen, offsets, pair, n * PANEL)
                columns += [builder.shuffle_vector(*runs, chosen) for chosen in WOVEN]
            return added(builder, [weights], pair, columns, held)

        totals = iter(loop(builder, constant(0), pairs, 1, initial, step))
        for both in places:
            halves = [next(totals), next(totals)]
            for place, chosen in zip(both, ORDERED, strict=True):
                store(builder, builder.shuffle_vector(*halves, chosen), sums, place)
        return []

    whole = builder.and_(count, constant(-TOGETHER))
    loop(builder, constant(0), whole, TOGETHER, [], lambda panel, _: fill(panel, TOGETHER))
    loop(builder, whole, count, 1, [], lambda panel, _: fill(panel, 1))


WEAVE = called("nnaq_weave", (0, 2, 6), weave_body)
ALONE = called("nnaq_strip_alone", (0, 2, 4, 8), alone_body, of_words=True)


@intrinsic
def weave(typing, image, base, offsets, first, pairs, count, panels):  # type: ignore[no-untyped-def]
    """Fill `count` panels of `pairs`, or fours, from offsets[first] on; position p is at entry base + p."""
    n = types.int64
    return types.void(image, n, offsets, n, n, n, panels), WEAVE


@intrinsic
def strip_alone(  # type: ignore[no-untyped-def]
    typing, weights, row, image, base, offsets, first, pairs, count, sums, to
):
    """The strip of one row, which begins at entry `row` of the weights and `to` of the sums."""
    n = types.int64
    return types.void(weights, n, image, n, offsets, n, n, n, sums, n), ALONE


strip_6, strip_2, strip_1 = make_strip(6), make_strip(2), make_strip(1)
