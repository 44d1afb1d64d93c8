"""Packed indices to codes, 32 at a time, and sums of products of the rows that come out.

A block holds BLOCK = 32 indices of b bits in 4b bytes: first a plane of their low bits, 4 of them (or 2, or
none, for b = 2, 3 or 1), then one plane for each further bit. In a plane of w bits per index

    index k   bits 8 - w*(j+1) … 7 - w*j of byte i, where k = 4w*j + i, i < 4w and j < 8/w

so that one load, repeated in every part of a vector, and one shift of each part by a number of its own bring
the fields to byte k. Low bits select from 2^w entries by a shuffle of bytes; a further bit, moved to the sign
of its byte, chooses between two such results. Without such a shuffle the indices are put together and read
their entries one by one. 8 bits are the codes themselves: nothing is looked up.
"""

from collections.abc import Callable
from functools import cache
from platform import machine

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from nnaq.kernels.machine.products import loop
from nnaq.kernels.machine.tiers import features
from nnaq.kernels.machine.vectors import (
    I8,
    I16,
    I32,
    I64,
    alone,
    constant,
    data_of,
    load,
    pair_products,
    picked,
    store,
)

BLOCK = 32  # indices; a vector of bytes
TOGETHER = 4  # rows whose sums of products are made at once
GROUP = 16  # rows that are interleaved at once
PAIRS = 8  # of k that are interleaved at once
BYTES, WORDS, SUMS = (ir.VectorType(part, 256 // part.width) for part in (I8, I16, I32))
Values = list[ir.Value]
Plane = tuple[int, ir.Value]  # its bits per index, and its vector


def low_width(bits: int) -> int:
    """Bits of an index in the first plane: 4, 2 or 0."""
    return 4 if bits >= 4 else bits & 2


def planes(bits: int) -> list[int]:
    """The widths of the planes of a block, lowest bits first. 8 bits have none: a block is its codes."""
    low = low_width(bits)
    return [low] * (low > 0) + [1] * (bits - low)


# Indices to codes


@intrinsic
def expand(typing, blocks, at, tables, table, bits, count, out, place):  # type: ignore[no-untyped-def]
    """out[place …] = the codes of `count` blocks, which begin at entry `at`; their table begins at `table`.

    blocks, tables, out: i8 arrays; tables of 2^bits entries.
    """
    whole = types.int64
    signature = types.void(blocks, whole, tables, whole, whole, whole, out, whole)

    def generate(context, builder, signature, given):  # type: ignore[no-untyped-def]
        starts = [
            builder.gep(data_of(context, builder, signature.args[i], given[i]), [given[i + 1]])
            for i in (0, 2, 6)
        ]
        builder.call(_expand(builder.module), [*starts, given[4], given[5]])
        return context.get_dummy_value()

    return signature, generate


def _expand(module: ir.Module) -> ir.Function:
    """One loop for each number of bits."""
    if "nnaq_expand" in module.globals:
        return module.globals["nnaq_expand"]
    bytes_ = I8.as_pointer()
    made, builder = alone(module, "nnaq_expand", [bytes_, bytes_, bytes_, I64, I64])
    blocks, tables, out, bits, count = made.args
    done = made.append_basic_block("done")
    choice = builder.switch(bits, done)
    for b in range(1, 9):
        choice.add_case(constant(b), made.append_basic_block(f"bits_{b}"))
        builder.position_at_end(made.blocks[-1])
        _expand_blocks(builder, b, blocks, tables, out, count)
        builder.branch(done)
    builder.position_at_end(done)
    builder.ret_void()
    return made


def _expand_blocks(
    builder: ir.IRBuilder, bits: int, blocks: ir.Value, table: ir.Value, out: ir.Value, count: ir.Value
) -> None:
    parts = _parts(builder, bits, table) if shuffle_of() else []

    def body(block: ir.Value, _: Values) -> Values:
        start = builder.gep(blocks, [builder.mul(block, constant(4 * bits))])
        if bits == 8:
            codes = load(builder, start, constant(0), BYTES)
        elif parts:
            codes = _looked_up(builder, _planes(builder, bits, start), parts)
        else:
            codes = _read(builder, _planes(builder, bits, start), table)
        store(builder, codes, out, builder.mul(block, constant(BLOCK)))
        return []

    loop(builder, constant(0), count, 1, [], body)


def _parts(builder: ir.IRBuilder, bits: int, table: ir.Value) -> Values:
    """A table in parts of as many entries as the first plane tells apart, each repeated in a vector."""
    size = 1 << low_width(bits)
    places = range(0, 1 << bits if bits < 8 else 0, size)
    return [_repeated(builder, table, place, ir.IntType(8 * size)) for place in places]


def _planes(builder: ir.IRBuilder, bits: int, start: ir.Value) -> list[Plane]:
    """The planes of the block that begins here, each repeated in a vector."""
    found, offset = [], 0
    for width in planes(bits):
        found.append((width, _repeated(builder, start, offset, ir.IntType(32 * width))))
        offset += 4 * width
    return found


def _repeated(builder: ir.IRBuilder, start: ir.Value, offset: int, part: ir.IntType) -> ir.Value:
    """A load of one part, in every part of a vector."""
    kind = ir.VectorType(part, 256 // part.width)
    found = load(builder, start, constant(offset), ir.VectorType(part, 1))
    every = ir.Constant(ir.VectorType(I32, kind.count), None)
    return builder.bitcast(builder.shuffle_vector(found, found, every), BYTES)


def _looked_up(builder: ir.IRBuilder, found: list[Plane], parts: Values) -> ir.Value:
    """The codes of a block by shuffles of the parts of a table, and choices between them."""
    if found[0][0] > 1:
        fields = _fields(builder, *found[0])
        parts, found = [_shuffled(builder, part, fields) for part in parts], found[1:]
    for _, plane in found:  # of one bit, which goes to the sign
        shifted = _shifted(builder, plane, builder.shl, [k // 4 for k in range(0, BLOCK, 4)])
        sign = builder.icmp_signed("<", shifted, ir.Constant(BYTES, None))
        parts = [builder.select(sign, high, low) for low, high in zip(parts[::2], parts[1::2], strict=True)]
    return parts[0]


def _read(builder: ir.IRBuilder, found: list[Plane], table: ir.Value) -> ir.Value:
    """The codes of a block, read from their table one by one."""
    indices, low = ir.Constant(BYTES, None), 0
    for width, plane in found:
        indices = builder.or_(indices, builder.shl(_fields(builder, width, plane), _every(BYTES, low)))
        low += width
    codes = ir.Constant(BYTES, None)
    for lane in (ir.Constant(I32, k) for k in range(BLOCK)):
        place = builder.zext(builder.extract_element(indices, lane), I64)
        codes = builder.insert_element(codes, builder.load(builder.gep(table, [place])), lane)
    return codes


def _fields(builder: ir.IRBuilder, width: int, plane: ir.Value) -> ir.Value:
    """Field k of a repeated plane as byte k."""
    part = I32 if width == 1 else I64  # the longest whose bytes hold fields of one place
    by = [8 - width * (k // (4 * width) + 1) for k in range(0, BLOCK, part.width // 8)]
    return builder.and_(_shifted(builder, plane, builder.lshr, by), _every(BYTES, (1 << width) - 1))


def _shifted(
    builder: ir.IRBuilder, plane: ir.Value, shift: Callable[..., ir.Value], by: list[int]
) -> ir.Value:
    """Equal parts of a vector, shifted by a number each."""
    part = ir.IntType(256 // len(by))
    kind = ir.VectorType(part, len(by))
    shifts = ir.Constant(kind, [ir.Constant(part, n) for n in by])
    return builder.bitcast(shift(builder.bitcast(plane, kind), shifts), BYTES)


@cache
def shuffle_of() -> tuple[str, int] | None:
    """The shuffle of bytes by bytes below 16 that the code generator has, and how many bytes it takes."""
    if "avx2" in features():
        return "llvm.x86.avx2.pshuf.b", 32
    if "ssse3" in features():
        return "llvm.x86.ssse3.pshuf.b.128", 16
    if "neon" in features() and machine() in ("aarch64", "arm64"):
        return "llvm.aarch64.neon.tbl1.v16i8", 16
    return None


def _shuffled(builder: ir.IRBuilder, part: ir.Value, fields: ir.Value) -> ir.Value:
    """Entry fields[k] of a part of a table, which every 16 bytes hold, as byte k."""
    found = shuffle_of()
    assert found is not None
    name, size = found
    kind = ir.VectorType(I8, size)
    shuffle = builder.module.globals.get(name) or ir.Function(
        builder.module, ir.FunctionType(kind, [kind, kind]), name
    )
    if size == BLOCK:
        return builder.call(shuffle, [part, fields])
    low, high = (
        builder.call(shuffle, [picked(builder, v, v, places) for v in (part, fields)])
        for places in (range(16), range(16, 32))
    )
    return picked(builder, low, high, range(32))


def _every(kind: ir.VectorType, value: int) -> ir.Constant:
    return ir.Constant(kind, [ir.Constant(kind.element, value)] * kind.count)


# Rows as they come out: sums of products, and panels


@intrinsic
def dot_4(typing, x, first, codes, at, stride, count, sums, place):  # type: ignore[no-untyped-def]
    """sums[place + r] = Σ_k x[first + k] * codes[at + r * stride + k], r < TOGETHER, over blocks of k.

    x: i16 array; codes: i8; count: of blocks; sums: i32, modulo 2^32.
    """
    whole = types.int64
    signature = types.void(x, whole, codes, whole, whole, whole, sums, whole)

    def generate(context, builder, signature, given):  # type: ignore[no-untyped-def]
        starts = [
            builder.gep(data_of(context, builder, signature.args[i], given[i]), [given[i + 1]])
            for i in (0, 2, 6)
        ]
        builder.call(_dot(builder.module), [*starts, given[4], given[5]])
        return context.get_dummy_value()

    return signature, generate


def _dot(module: ir.Module) -> ir.Function:
    if "nnaq_dot_4" in module.globals:
        return module.globals["nnaq_dot_4"]
    kinds = [I16.as_pointer(), I8.as_pointer(), I32.as_pointer(), I64, I64]
    made, builder = alone(module, "nnaq_dot_4", kinds)
    x, codes, sums, stride, count = made.args
    rows = [builder.gep(codes, [builder.mul(stride, constant(r))]) for r in range(TOGETHER)]
    half = ir.VectorType(I8, BLOCK // 2)

    def body(block: ir.Value, held: Values) -> Values:
        k = builder.mul(block, constant(BLOCK))
        for part in (0, BLOCK // 2):
            at = builder.add(k, constant(part))
            entries = load(builder, x, at, WORDS)
            found = [builder.sext(load(builder, row, at, half), WORDS) for row in rows]
            made = [pair_products(builder, entries, row) for row in found]
            held = [builder.add(a, b) for a, b in zip(held, made, strict=True)]
        return held

    nothing = [ir.Constant(SUMS, None)] * TOGETHER
    totals = loop(builder, constant(0), count, 1, nothing, body)
    store(builder, _total(builder, totals), sums, constant(0))
    builder.ret_void()
    return made


def _total(builder: ir.IRBuilder, sums: Values) -> ir.Value:
    """The sum of every one of four vectors of 8, side by side."""
    quarters = [
        builder.add(picked(builder, v, v, range(4)), picked(builder, v, v, range(4, 8))) for v in sums
    ]
    pairs = []
    for a, b in (quarters[:2], quarters[2:]):
        pairs.append(builder.add(picked(builder, a, b, (0, 4, 1, 5)), picked(builder, a, b, (2, 6, 3, 7))))
    a, b = pairs
    return builder.add(picked(builder, a, b, (0, 1, 4, 5)), picked(builder, a, b, (2, 3, 6, 7)))


@intrinsic
def interleave(typing, codes, stride, count, panel, place, width):  # type: ignore[no-untyped-def]
    """panel[place + (k div 2 * width + r) * 2 + k mod 2] = codes[r * stride + k], r < GROUP.

    codes, panel: i8 arrays; count: blocks of k; width: columns of the panel, of which GROUP are written.
    """
    whole = types.int64
    signature = types.void(codes, whole, whole, panel, whole, whole)

    def generate(context, builder, signature, given):  # type: ignore[no-untyped-def]
        source, panel = (data_of(context, builder, signature.args[i], given[i]) for i in (0, 3))
        start = builder.gep(panel, [given[4]])
        builder.call(_interleave(builder.module), [source, start, given[1], given[2], given[5]])
        return context.get_dummy_value()

    return signature, generate


def _interleave(module: ir.Module) -> ir.Function:
    """8 pairs of k of 16 rows at a time: rows r and r + 8 share a vector. Weaving vector n with n + 4 moves
    the number of an entry one bit round, of vector and place together; three rounds exchange the two."""
    if "nnaq_interleave" in module.globals:
        return module.globals["nnaq_interleave"]
    bytes_ = I8.as_pointer()
    made, builder = alone(module, "nnaq_interleave", [bytes_, bytes_, I64, I64, I64])
    codes, panel, stride, count, width = made.args
    rows = [builder.gep(codes, [builder.mul(stride, constant(r))]) for r in range(GROUP)]
    half = ir.VectorType(I16, PAIRS)

    def body(step: ir.Value, _: Values) -> Values:
        pair = builder.mul(step, constant(PAIRS))
        halves = [load(builder, row, builder.mul(pair, constant(2)), half) for row in rows]
        turned = [picked(builder, a, b, range(16)) for a, b in zip(halves[:8], halves[8:], strict=True)]
        for _round in range(3):
            turned = [
                _woven(builder, a, b, n) for a, b in zip(turned[:4], turned[4:], strict=True) for n in (0, 4)
            ]
        for n, line in enumerate(turned):
            at = builder.mul(builder.mul(builder.add(pair, constant(n)), width), constant(2))
            store(builder, line, panel, at)
        return []

    loop(builder, constant(0), builder.mul(count, constant(BLOCK // (2 * PAIRS))), 1, [], body)
    builder.ret_void()
    return made


def _woven(builder: ir.IRBuilder, a: ir.Value, b: ir.Value, first: int) -> ir.Value:
    """Four entries of a and of b in turns, from entry `first` of both halves of either."""
    return picked(
        builder, a, b, [h + n + v for h in (0, 8) for n in range(first, first + 4) for v in (0, 16)]
    )
