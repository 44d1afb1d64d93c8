"""Words of the vector language: what the IR of this room is written in."""

from typing import Any

from llvmlite import ir

I8, I16, I32, I64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))


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
    lanes = a.type.count // 2
    wide = ir.VectorType(I32, 2 * lanes)
    product = builder.mul(builder.sext(a, wide), builder.sext(b, wide))
    even, odd = (
        builder.shuffle_vector(product, product, ir.Constant(ir.VectorType(I32, lanes), places))
        for places in ([ir.Constant(I32, 2 * i + k) for i in range(lanes)] for k in (0, 1))
    )
    return builder.add(even, odd)
