"""Function bodies in standard ONNX operators, one call per operator.

Values are names. Arithmetic is INT64 from the first cast to the last; `codes` is the cast at the
way out. Every name comes from one running number, so that two bodies that say the same are the
same bytes.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from nnaq.ir.dims import Dim

DOMAIN = "ai.nnaq"
OPSET = 21

ELEMENTS = {
    "f32": TensorProto.FLOAT,
    "i4": TensorProto.INT4,
    "i8": TensorProto.INT8,
    "i16": TensorProto.INT16,
    "i32": TensorProto.INT32,
    "i48": TensorProto.INT64,
    "bool": TensorProto.BOOL,
    "index": TensorProto.INT64,
}


class Body:
    """Nodes of a function, or of the graph inside one of its nodes (a Scan).

    Constants stand once, at the head of the function; inner graphs read them from there.
    """

    def __init__(self, root: "Body | None" = None) -> None:
        self.root = root or self
        self.nodes: list[onnx.NodeProto] = []
        if root is None:
            self.constants: dict[tuple[str, tuple[int, ...], bytes], str] = {}
            self.heads: list[onnx.NodeProto] = []
            self.count = 0

    def fresh(self, word: str) -> str:
        """A name nobody else has, in this function and the graphs inside it."""
        self.root.count += 1
        return f"{word}_{self.root.count}"

    def apply(self, op: str, *operands: str, **attributes: Any) -> str:
        """The one result of a standard operator."""
        name = self.fresh(op.lower())
        self.nodes.append(helper.make_node(op, operands, [name], **attributes))
        return name

    def several(self, op: str, count: int, *operands: str, **attributes: Any) -> list[str]:
        """The results of a standard operator that has `count` of them."""
        names = [self.fresh(op.lower()) for _ in range(count)]
        self.nodes.append(helper.make_node(op, operands, names, **attributes))
        return names

    def constant(self, value: int | Sequence[int] | np.ndarray) -> str:
        """A constant, INT64 unless it is an array of something else."""
        array = value if isinstance(value, np.ndarray) else np.array(value, np.int64)
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self.root.constants:
            name = self.fresh("constant")
            tensor = numpy_helper.from_array(array, name)
            self.root.heads.append(helper.make_node("Constant", [], [name], value=tensor))
            self.root.constants[key] = name
        return self.root.constants[key]

    def wide(self, x: str) -> str:
        """x as INT64."""
        return self.apply("Cast", x, to=TensorProto.INT64)

    def codes(self, x: str, dtype: str) -> str:
        """x as codes of `dtype`; the way out of a body."""
        return self.apply("Cast", x, to=ELEMENTS[dtype])

    def centred(self, x: str, zero_point: int) -> str:
        """q - zero_point as INT64."""
        wide = self.wide(x)
        return wide if zero_point == 0 else self.add(wide, self.constant(-zero_point))

    def add(self, a: str, b: str) -> str:
        return self.apply("Add", a, b)

    def sub(self, a: str, b: str) -> str:
        return self.apply("Sub", a, b)

    def mul(self, a: str, b: str) -> str:
        return self.apply("Mul", a, b)

    def clip(self, x: str, low: int, high: int) -> str:
        return self.apply("Clip", x, self.constant(low), self.constant(high))

    def flag(self, op: str, a: str, b: str) -> str:
        """1 where the comparison `op` holds, else 0."""
        return self.wide(self.apply(op, a, b))

    def reshape(self, x: str, shape: Sequence[int]) -> str:
        """ONNX Reshape: 0 keeps the size at that position, -1 is worked out, () is a scalar."""
        return self.apply("Reshape", x, self.constant(np.array(shape, np.int64)))

    def transpose(self, x: str, perm: Sequence[int]) -> str:
        return self.apply("Transpose", x, perm=list(perm))

    def split(self, x: str, count: int) -> list[str]:
        """Equal parts along the last axis."""
        return self.several("Split", count, x, axis=-1, num_outputs=count)

    def take(self, x: str, index: str, axis: int) -> str:
        return self.apply("Gather", x, index, axis=axis)

    def size(self, x: str, axis: int, dim: Dim) -> str:
        """The size of an axis as an INT64 scalar: a constant where it is a whole number."""
        if isinstance(dim, int):
            return self.constant(dim)
        return self.reshape(self.apply("Shape", x, start=axis, end=axis + 1), ())

    def power(self, exponent: str) -> str:
        """2^exponent for 0 <= exponent <= 62, read from a table: runtimes differ on Pow."""
        return self.take(self.constant(np.int64(1) << np.arange(63, dtype=np.int64)), exponent, 0)

    def shift_right(self, x: str, power: str) -> str:
        """x >> n for power = 2^n, exact for negative x too.

        ONNX shifts unsigned integers only; with the low bits taken away, division is exact.
        """
        low = self.apply("BitwiseAnd", x, self.sub(power, self.constant(1)))
        return self.apply("Div", self.sub(x, low), power)

    def shift_right_by(self, x: str, n: int) -> str:
        """x >> n for a number of bits known now."""
        low = self.apply("BitwiseAnd", x, self.constant((1 << n) - 1))
        return self.apply("Div", self.sub(x, low), self.constant(1 << n))

    def graph(self, name: str, inputs: Sequence[str], outputs: Sequence[str]) -> onnx.GraphProto:
        """The nodes of this inner body as a graph over INT64 values."""
        ports = (
            [helper.make_tensor_value_info(v, TensorProto.INT64, None) for v in p] for p in (inputs, outputs)
        )
        return helper.make_graph(self.nodes, name, *ports)

    def function(
        self, name: str, inputs: Sequence[str], outputs: Sequence[str], attributes: Sequence[str], doc: str
    ) -> onnx.FunctionProto:
        """Everything said so far, as a function of the domain."""
        made = [self.apply("Identity", v) if v in inputs else v for v in outputs]
        return helper.make_function(
            DOMAIN,
            name,
            list(inputs),
            made,
            [*self.heads, *self.nodes],
            [helper.make_opsetid("", OPSET)],
            list(attributes),
            doc_string=doc,
        )
