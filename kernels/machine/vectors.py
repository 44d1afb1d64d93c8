"""Words of the vector language: what the IR of this room is written in."""

from collections.abc import Iterable, Sequence
from typing import Any

from llvmlite import ir

from nnaq.kernels.machine.tiers import Dot

I8, I16, I32, I64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))
NONE = ir.VoidType()


def alone(
    module: ir.Module, name: str, kinds: Sequence[ir.Type], result: ir.Type = NONE
) -> tuple[ir.Function, ir.IRBuilder]:
    """A function of its own, which is never inlined: callers stay small to compile. And its beginning."""
    made = ir.Function(module, ir.FunctionType(result, kinds), name)
    made.linkage = "linkonce_odr"
    made.attributes.add("noinline")
    return made, ir.IRBuilder(made.append_basic_block("entry"))


def constant(value: int) -> ir.Constant:
    """A whole number of 64 bits: offsets and counts."""
    return ir.Constant(I64, value)


def data_of(context: Any, builder: ir.IRBuilder, kind: Any, array: ir.Value) -> ir.Value:
    """The pointer to the first entry of a NumPy array of Numba type `kind`."""
    return context.make_array(kind)(context, builder, array).data


def load(builder: ir.IRBuilder, pointer: ir.Value, offset: ir.Value, kind: ir.Type) -> ir.Value:
    """The value of type `kind` at `offset` entries behind a pointer; aligned to one entry only."""
    place = builder.gep(pointer, [offset])
    found = builder.load(builder.bitcast(place, kind.as_pointer()))
    found.align = pointer.type.pointee.width // 8
    return found


def store(builder: ir.IRBuilder, value: ir.Value, pointer: ir.Value, offset: ir.Value) -> None:
    """Write a value at `offset` entries behind a pointer; aligned to one entry only."""
    place = builder.gep(pointer, [offset])
    done = builder.store(value, builder.bitcast(place, value.type.as_pointer()))
    done.align = pointer.type.pointee.width // 8


def broadcast(builder: ir.IRBuilder, value: ir.Value, lanes: int) -> ir.Value:
    """A number in every lane."""
    kind = ir.VectorType(value.type, lanes)
    first = builder.insert_element(ir.Constant(kind, ir.Undefined), value, ir.Constant(I32, 0))
    return builder.shuffle_vector(first, first, ir.Constant(ir.VectorType(I32, lanes), None))


def pair_products(builder: ir.IRBuilder, a: ir.Value, b: ir.Value) -> ir.Value:
    """a[2i]*b[2i] + a[2i+1]*b[2i+1] as i32, of i16 vectors: one vpmaddwd where there is one.

    Only four factors of -32768 leave 32 bits.
    """
    wide = ir.VectorType(I32, a.type.count)
    return _pair_sums(builder, builder.mul(builder.sext(a, wide), builder.sext(b, wide)))


def _pair_sums(builder: ir.IRBuilder, v: ir.Value) -> ir.Value:
    """v[2i] + v[2i+1]."""
    lanes = v.type.count // 2
    even, odd = (picked(builder, v, v, range(k, 2 * lanes, 2)) for k in (0, 1))
    return builder.add(even, odd)


def picked(builder: ir.IRBuilder, a: ir.Value, b: ir.Value, lanes: Iterable[int]) -> ir.Value:
    """Some lanes of two vectors; those of b are counted on from those of a."""
    places = [ir.Constant(I32, lane) for lane in lanes]
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(I32, len(places)), places))


def add_fours(builder: ir.IRBuilder, dot: Dot, sums: ir.Value, a: ir.Value, b: ir.Value) -> ir.Value:
    """sums[i] + Σ_{j<4} a[4i+j] * b[4i+j] modulo 2^32, of i8 vectors: by an instruction, or its meaning.

    The bytes of b are signed, those of a unsigned where `dot` says so. No instruction here saturates.
    """
    if not dot.function:
        wide = ir.VectorType(I16, a.type.count)
        left = builder.zext(a, wide) if dot.unsigned else builder.sext(a, wide)
        pairs = pair_products(builder, left, builder.sext(b, wide))
        return builder.add(sums, _pair_sums(builder, pairs))
    if sums.type.count == dot.lanes:
        return _add_fours(builder, dot.function, sums, a, b)
    parts = [add_fours(builder, dot, *(_half(builder, v, h) for v in (sums, a, b))) for h in (0, 1)]
    return picked(builder, parts[0], parts[1], range(sums.type.count))


def _half(builder: ir.IRBuilder, v: ir.Value, h: int) -> ir.Value:
    size = v.type.count // 2
    return picked(builder, v, v, range(h * size, (h + 1) * size))


def _add_fours(builder: ir.IRBuilder, name: str, *given: ir.Value) -> ir.Value:
    """LLVM's function; x86's once took bytes as vectors of i32, which all versions understand."""
    kinds = [given[0].type] * 3 if "x86" in name else [v.type for v in given]
    kind = ir.FunctionType(kinds[0], kinds)
    found = builder.module.globals.get(name) or ir.Function(builder.module, kind, name)
    return builder.call(found, [builder.bitcast(v, kind) for v, kind in zip(given, kinds, strict=True)])
