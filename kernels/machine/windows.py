"""Strips of a convolution: rows of weights by runs of neighbouring positions, in registers.

    sums[r, p] += Σ_k rows[r, k] * image[p + offsets[k]]      p < panels * PANEL, i32 with wrap-around

rows and image are i16, k is even in number. What the windows of neighbouring positions see of one entry k
stands side by side in the image, and two such runs, k and k + 1, are woven into pairs. Where several rows
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

from nnaq.kernels.machine.products import LANES, PAIRS, PANEL, SUMS, Accumulators, loop
from nnaq.kernels.machine.vectors import (
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


def called(name: str, arrays: dict[int, ir.IntType], count: int, body: Body) -> Callable[..., Any]:
    """The code generator of an intrinsic of `count` arguments, arrays by place and else i64, as a function
    of its own that is never inlined: callers stay small to compile."""

    def function_of(module: ir.Module) -> ir.Function:
        if name in module.globals:
            return module.globals[name]
        kinds = [arrays[i].as_pointer() if i in arrays else I64 for i in range(count)]
        made = ir.Function(module, ir.FunctionType(ir.VoidType(), kinds), name)
        made.linkage = "linkonce_odr"
        made.attributes.add("noinline")
        builder = ir.IRBuilder(made.append_basic_block("entry"))
        body(builder, list(made.args))
        builder.ret_void()
        return made

    def generate(context, builder, signature, given):  # type: ignore[no-untyped-def]
        arguments = [
            data_of(context, builder, signature.args[i], value) if i in arrays else value
            for i, value in enumerate(given)
        ]
        builder.call(function_of(builder.module), arguments)
        return context.get_dummy_value()

    return generate


def make_strip(rows: int) -> Any:
    """The intrinsic strip(weights, first, stride, panels, pairs, count, sums, to, pitch).

    weights i16 array; row r begins at entry first + r * stride
    panels  i16 array, `count` of them with `pairs` each, one behind the other
    sums    i32 array; row r begins at entry to + r * pitch
    """

    def body(builder: ir.IRBuilder, given: list[ir.Value]) -> None:
        weights, first, stride, panels, pairs, count, sums, to, pitch = given
        numbers = [constant(r) for r in range(rows)]
        sources = [builder.gep(weights, [builder.add(first, builder.mul(stride, r))]) for r in numbers]
        targets = [builder.gep(sums, [builder.add(to, builder.mul(pitch, r))]) for r in numbers]

        def fill(panel: ir.Value, _: Accumulators) -> Accumulators:
            at = builder.gep(panels, [builder.mul(panel, builder.mul(pairs, constant(2 * PANEL)))])
            position = builder.mul(panel, constant(PANEL))
            places = [builder.add(position, constant(h * LANES)) for h in (0, 1)]
            initial = [load(builder, target, place, SUMS) for target in targets for place in places]

            def step(pair: ir.Value, held: Accumulators) -> Accumulators:
                start = builder.mul(pair, constant(2 * PANEL))
                columns = [load(builder, at, builder.add(start, constant(h * PANEL)), PAIRS) for h in (0, 1)]
                return added(builder, sources, pair, columns, held)

            totals = iter(loop(builder, constant(0), pairs, 1, initial, step))
            for target in targets:
                for place in places:
                    store(builder, next(totals), target, place)
            return []

        loop(builder, constant(0), count, 1, [], fill)

    generate = called(f"nnaq_strip_{rows}", {0: I16, 3: I16, 6: I32}, 9, body)

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
    """The sums of some rows with the products of one pair of k added."""
    first, made = builder.mul(pair, constant(2)), []
    for row in weights:
        both = builder.bitcast(broadcast(builder, load(builder, row, first, I32), LANES), PAIRS)
        made += [pair_products(builder, both, column) for column in columns]
    return [builder.add(total, product) for total, product in zip(held, made, strict=True)]


def runs_of(
    builder: ir.IRBuilder, image: ir.Value, offsets: ir.Value, pair: ir.Value, moved: int
) -> list[ir.Value]:
    """What PANEL neighbouring positions, the first `moved` entries on, see of a pair of k."""
    first = builder.mul(pair, constant(2))
    places = (load(builder, offsets, builder.add(first, constant(v)), I64) for v in (0, 1))
    return [load(builder, image, builder.add(place, constant(moved)), PAIRS) for place in places]


def weave_body(builder: ir.IRBuilder, given: list[ir.Value]) -> None:
    image, base, offsets, first, pairs, count, panels = given
    offsets = builder.gep(offsets, [first])

    def fill(panel: ir.Value, _: Accumulators) -> Accumulators:
        seen = builder.gep(image, [builder.add(base, builder.mul(panel, constant(PANEL)))])
        at = builder.gep(panels, [builder.mul(panel, builder.mul(pairs, constant(2 * PANEL)))])

        def step(pair: ir.Value, _: Accumulators) -> Accumulators:
            runs, start = runs_of(builder, seen, offsets, pair, 0), builder.mul(pair, constant(2 * PANEL))
            for h in (0, 1):
                place = builder.add(start, constant(h * PANEL))
                store(builder, builder.shuffle_vector(*runs, PAIRED[h]), at, place)
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
                columns += [builder.shuffle_vector(*runs, woven) for woven in WOVEN]
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


WEAVE = called("nnaq_weave", {0: I16, 2: I64, 6: I16}, 7, weave_body)
ALONE = called("nnaq_strip_alone", {0: I16, 2: I16, 4: I64, 8: I32}, 10, alone_body)


@intrinsic
def weave(typing, image, base, offsets, first, pairs, count, panels):  # type: ignore[no-untyped-def]
    """Fill `count` panels of `pairs` pairs from offsets[first] on; position p stands at entry base + p."""
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
