"""Rows of a normalisation: their sums, and codes in floats wherever a float cannot be wrong.

    row_sums    S = Σ q and Q = Σ q^2 of a row of i8 or i16 codes, exact
    row_codes   out[i] = sat(rint(z[i]*factor[i] + offset[i]) + z_y),  z[i] = q[i]*alpha + beta

row_codes works in the floats of `factors`; in float64 z is rounded to a whole number. Where z is nearer than
margin_z, or the sum nearer than margin, to the middle between two whole numbers, the vector is noted in
`near`: the caller makes its codes in integers. Callers prove that errors are smaller than the margins, so
that the codes of all other vectors are the right ones.
"""

from typing import Any

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from nnaq.kernels.machine.maps import flat_types, put_words, words_at
from nnaq.kernels.machine.products import PAIRS, loop
from nnaq.kernels.machine.rescaling import LANES, WIDE, WORDS, rint, splat
from nnaq.kernels.machine.vectors import (
    I32,
    I64,
    alone,
    broadcast,
    constant,
    data_of,
    load,
    pair_products,
    store,
)

BOTH = 2 * LANES
LIFT = 1 << 16  # makes the sum of any two codes positive: 32 bits without sign then add up in 64


@intrinsic
def row_sums(typing, x, first, count, sums):  # type: ignore[no-untyped-def]
    """sums = (Σ q, Σ q^2) over `count` codes from `first` on; exact for count below 2^32."""
    flat_types("row_sums", (sums,))
    signature = types.void(x, types.int64, types.int64, sums)

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, given: Any) -> ir.Value:
        pointers = [data_of(context, builder, signature.args[i], given[i]) for i in (0, 3)]
        called = _sums(builder.module, pointers[0].type)
        builder.call(called, [pointers[0], given[1], given[2], pointers[1]])
        return context.get_dummy_value()

    return signature, generate


def _sums(module: ir.Module, pointer: ir.PointerType) -> ir.Function:
    name = f"nnaq_row_sums_i{pointer.pointee.width}"
    if name in module.globals:
        return module.globals[name]
    made, builder = alone(module, name, [pointer, I64, I64, I64.as_pointer()])
    x, first, count, sums = made.args
    x, whole = builder.gep(x, [first]), builder.and_(count, constant(-BOTH))

    def vectors(at: ir.Value, held: list[ir.Value]) -> list[ir.Value]:
        codes = load(builder, x, at, ir.VectorType(pointer.pointee, BOTH))
        codes = codes if codes.type == PAIRS else builder.sext(codes, PAIRS)
        pairs = builder.add(pair_products(builder, codes, splat(PAIRS, 1)), splat(WORDS, LIFT))
        squares = pair_products(builder, codes, codes)
        halves = [half for both in (pairs, squares) for half in _halves(builder, both)]
        return [builder.add(total, half) for total, half in zip(held, halves, strict=True)]

    held = loop(builder, constant(0), whole, BOTH, [ir.Constant(WIDE, None)] * 4, vectors)
    lifted, squares = (_lanes(builder, builder.add(*held[i : i + 2])) for i in (0, 2))
    less = builder.mul(builder.lshr(whole, constant(1)), constant(-LIFT))
    totals = [*lifted, less]

    def scalars(at: ir.Value, held: list[ir.Value]) -> list[ir.Value]:
        code = builder.sext(load(builder, x, at, pointer.pointee), I64)
        return [builder.add(held[0], code), builder.add(held[1], builder.mul(code, code))]

    both = [_sum(builder, totals), _sum(builder, squares)]
    for i, value in enumerate(loop(builder, whole, count, 1, both, scalars)):
        store(builder, value, sums, constant(i))
    builder.ret_void()
    return made


def _halves(builder: ir.IRBuilder, words: ir.Value) -> list[ir.Value]:
    """The even and the odd lanes of WORDS without sign, in lanes of 64 bits."""
    both = builder.bitcast(words, WIDE)
    return [builder.and_(both, splat(WIDE, 2**32 - 1)), builder.lshr(both, splat(WIDE, 32))]


def _lanes(builder: ir.IRBuilder, vector: ir.Value) -> list[ir.Value]:
    return [builder.extract_element(vector, ir.Constant(I32, i)) for i in range(vector.type.count)]


def _sum(builder: ir.IRBuilder, values: list[ir.Value]) -> ir.Value:
    total = values[0]
    for value in values[1:]:
        total = builder.add(total, value)
    return total


@intrinsic
def row_codes(  # type: ignore[no-untyped-def]
    typing, x, first, count, factors, offsets, at, out, alpha, beta, margin_z, margin, low, high, zero, near
):
    """The formula of the module for count >= LANES codes from `first` on; factors and offsets from `at` on.

    low, high: of the codes less zero. near: i64, filled with the place of each noted vector of LANES codes.
    Returns how many there are.
    """
    flat_types("row_codes", (factors, offsets, near))
    place, real = types.int64, types.float64
    signature = types.int64(
        x, place, place, factors, offsets, place, out, real, real, real, real, real, real, place, near
    )

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, given: Any) -> ir.Value:
        arrays = {i: data_of(context, builder, signature.args[i], given[i]) for i in (0, 3, 4, 6, 14)}
        arguments = [arrays.get(i, value) for i, value in enumerate(given)]
        return builder.call(_codes(builder.module, [a.type for a in arguments]), arguments)

    return signature, generate


def _codes(module: ir.Module, parts: list[ir.Type]) -> ir.Function:
    entry, number, code = (parts[i].pointee for i in (0, 3, 6))
    name = f"nnaq_row_codes_i{entry.width}_{number}_i{code.width}"
    if name in module.globals:
        return module.globals[name]
    made, builder = alone(module, name, parts, I64)
    x, first, count, factors, offsets, at, out, *numbers, zero, near = made.args
    floats = ir.VectorType(number, LANES)
    exact_z = isinstance(number, ir.DoubleType)
    if not exact_z:
        numbers = [builder.fptrunc(value, number) for value in numbers]
    alpha, beta, margin_z, margin, low, high = (broadcast(builder, value, LANES) for value in numbers)
    move = broadcast(builder, builder.trunc(zero, I32), LANES)
    x, out, factors, offsets = (
        builder.gep(p, [o]) for p, o in ((x, first), (out, first), (factors, at), (offsets, at))
    )
    words = (I64 if exact_z else I32).as_pointer()  # loads are aligned to words
    factors, offsets = (builder.bitcast(p, words) for p in (factors, offsets))
    last = builder.sub(count, constant(LANES))

    def vector(at: ir.Value, held: list[ir.Value]) -> list[ir.Value]:
        at = builder.select(builder.icmp_signed("<", at, last), at, last)
        z = _multiplied(builder, builder.sitofp(words_at(builder, x, at), floats), alpha, beta)
        unsure = None
        if exact_z:
            z, unsure = _nearest(builder, z, margin_z)
        y = _multiplied(builder, z, *(load(builder, p, at, floats) for p in (factors, offsets)))
        y, doubt = _nearest(builder, y, margin)
        doubt = doubt if unsure is None else builder.or_(doubt, unsure)
        for word, limit in ((">", low), ("<", high)):
            y = builder.select(builder.fcmp_ordered(word, y, limit), y, limit)
        put_words(builder, builder.add(builder.fptosi(y, WORDS), move), out, at)
        store(builder, at, near, held[0])
        flags = builder.bitcast(doubt, ir.IntType(LANES))
        noted = builder.zext(builder.icmp_unsigned("!=", flags, ir.Constant(flags.type, 0)), I64)
        return [builder.add(held[0], noted)]

    (found,) = loop(builder, constant(0), count, LANES, [constant(0)], vector)
    builder.ret(found)
    return made


def _multiplied(builder: ir.IRBuilder, x: ir.Value, factor: ir.Value, term: ir.Value) -> ir.Value:
    """x*factor + term, rounded once or twice."""
    bits = 64 if isinstance(x.type.element, ir.DoubleType) else 32
    name = f"llvm.fmuladd.v{LANES}f{bits}"
    known = builder.module.globals.get(name)
    known = known or ir.Function(builder.module, ir.FunctionType(x.type, [x.type] * 3), name)
    return builder.call(known, [x, factor, term])


def _nearest(builder: ir.IRBuilder, x: ir.Value, margin: ir.Value) -> tuple[ir.Value, ir.Value]:
    """The nearest whole number, and whether x is within the margin of a tie."""
    whole = rint(builder, x)
    gap = builder.fsub(x, whole)
    bits = ir.VectorType(I64 if isinstance(x.type.element, ir.DoubleType) else I32, LANES)
    width = bits.element.width
    positive = builder.and_(builder.bitcast(gap, bits), splat(bits, 2 ** (width - 1) - 1))
    left = builder.fsub(splat(x.type, 0.5), builder.bitcast(positive, x.type))
    return whole, builder.fcmp_unordered("<=", left, margin)
