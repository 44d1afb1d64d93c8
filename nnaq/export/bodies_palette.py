"""Bodies that unpack palette constants: standard operators over INT64, one body for every form.

    stream  bytes' = bytes, 0;  start = j * bits;  pair = bytes'[start / 8] + 256 * bytes'[start / 8 + 1]
            index[j] = pair / 2^(start mod 8) mod 2^bits,  for j = 0 … count - 1
    zeros   map = stream of one bit;  index[j] = (0, indices)[map[0] + … + map[j]],  0 where map[j] is 0
    code    table[j / per_table, index[j]], and 0 where map[j] is 0

The attributes `shape`, `bits` and `per_table` (neighbouring codes that share a table) are the node's,
so constants of one form share a body. `/` drops the remainder; all numbers are below 2^16 or counts.
"""

import numpy as np
import onnx
from onnx import AttributeProto, helper

from nnaq.export.body_builder import Body

ATTRIBUTES = ("shape", "bits", "per_table")


def unpacking(name: str, is_stream: bool, has_zeros: bool) -> onnx.FunctionProto:
    """The function that makes codes of indices, tables and a zero map.

    is_stream: the indices are packed bytes, else a tensor with an element per index.
    """
    body = Body()
    shape = _parameter(body, "shape", AttributeProto.INTS)
    count = body.apply("ReduceProd", shape, keepdims=0)
    numbers = body.apply("Range", body.constant(0), count, body.constant(1))
    ones = _stream(body, "zeros", body.constant(1), numbers) if has_zeros else None
    index = _indices(body, ones, numbers) if is_stream else body.reshape(body.wide("indices"), (-1,))
    index = index if ones is None else _spread(body, index, ones)
    code = _codes(body, index, numbers)
    code = code if ones is None else body.mul(code, ones)
    made = body.apply("Reshape", body.codes(code, "i8"), shape, allowzero=1)
    operands = ["indices", "table", *(["zeros"] if has_zeros else [])]
    doc = "codes = table[index]: how a palette constant becomes i8"
    return body.function(name, operands, [made], ATTRIBUTES, doc)


def _parameter(body: Body, name: str, kind: AttributeProto.AttributeType) -> str:
    """An attribute of the calling node as a value."""
    made = body.fresh(name)
    node = helper.make_node("Constant", [], [made])
    key = "value_ints" if kind == AttributeProto.INTS else "value_int"
    node.attribute.append(AttributeProto(name=key, ref_attr_name=name, type=kind))
    body.nodes.append(node)
    return made


def _indices(body: Body, ones: str | None, numbers: str) -> str:
    """The stored indices of a stream: of all codes, or of those that a zero map marks."""
    if ones is not None:
        stored = body.apply("ReduceSum", ones, keepdims=0)
        numbers = body.apply("Range", body.constant(0), stored, body.constant(1))
    return _stream(body, "indices", _parameter(body, "bits", AttributeProto.INT), numbers)


def _stream(body: Body, packed: str, bits: str, numbers: str) -> str:
    """Entry j of a stream of `bits` each, for every j in `numbers`."""
    start, eight = body.mul(numbers, bits), body.constant(8)
    byte = body.apply("Div", start, eight)
    padded = body.apply("Concat", body.wide(packed), body.constant([0]), axis=0)
    high = body.take(padded, body.add(byte, body.constant(1)), 0)
    pair = body.add(body.take(padded, byte, 0), body.mul(high, body.constant(256)))
    powers = body.constant(1 << np.arange(9, dtype=np.int64))
    moved = body.apply("Div", pair, body.take(powers, body.apply("Mod", start, eight), 0))
    return body.apply("Mod", moved, body.take(powers, bits, 0))


def _spread(body: Body, index: str, ones: str) -> str:
    """Indices of the codes that are not 0, each at its place; 0 elsewhere."""
    place = body.mul(body.apply("CumSum", ones, body.constant(0)), ones)
    return body.take(body.apply("Concat", body.constant([0]), index, axis=0), place, 0)


def _codes(body: Body, index: str, numbers: str) -> str:
    """Entries of each code's own table, as INT64."""
    number = body.apply("Div", numbers, _parameter(body, "per_table", AttributeProto.INT))
    entries = body.apply("Shape", "table", start=1, end=2)
    place = body.add(body.mul(number, entries), index)
    return body.take(body.reshape(body.wide("table"), (-1,)), place, 0)
