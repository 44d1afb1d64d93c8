"""What writing an integer graph as TFLite keeps track of: tensors by value, in the layout operators want.

Open dimensions are one frame. Images are [N,C,H,W] or [N,C,L] in a graph and [N,H,W,C] in a file; a value
made as an image is turned only where a reader asks for it as the graph has it.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from nnaq.export.tflite_file import Operator, Tensor, Writer
from nnaq.ir.dims import bind, symbols
from nnaq.ir.graph import Graph, Node
from nnaq.ir.types import TensorType

DTYPES = {"f32": "float32", "i4": "int8", "i8": "int8", "i16": "int16", "i32": "int32"}
Emit = Callable[["TfliteWriter", Node], None]


class Refused(Exception):
    """Why a node has no form in TFLite, to follow its name."""


class Lost(Exception):
    """An operand was not written: its node was refused already."""


class TfliteWriter:
    """places: tensors by value; images: tensors by value whose axes are [N,H,W,C]; inside: nodes that other
    operators stand for."""

    def __init__(self, graph: Graph) -> None:
        self.graph, self.file = graph, Writer()
        open_dims = {s for kind in graph.types.values() for dim in kind.shape for s in symbols(dim)}
        self.frame = dict.fromkeys(open_dims, 1)
        self.places: dict[str, int] = {}
        self.images: dict[str, int] = {}
        self.inside: set[str] = set()

    def shape(self, value: str) -> tuple[int, ...]:
        """The shape of a value over one frame."""
        return bind(self.graph.types[value].shape, self.frame)

    def kind(self, value: str) -> TensorType:
        return self.graph.types[value]

    def tensor(self, value: str, shape: Sequence[int] | None = None, name: str = "", **more: Any) -> int:
        """A new tensor with the codes of a value."""
        kind = self.kind(value)
        if kind.dtype not in DTYPES:
            raise Refused(f"{value!r} is {kind.dtype}, and TFLite computes with int8, int16 and int32")
        quant = kind.quant
        scale = None if quant is None else quant.scale if quant.axis is not None else quant.scale[0]
        sizes = self.shape(value) if shape is None else tuple(shape)
        zero, axis = kind.zero_point, (quant.axis or 0) if quant is not None else 0
        return self.file.tensor(
            Tensor(sizes, DTYPES[kind.dtype], scale, zero, axis=axis, name=name or value, **more)
        )

    def place(self, value: str) -> int:
        """The tensor of a value with the axes of the graph."""
        if value not in self.places and value in self.graph.constants:
            self.places[value] = self.tensor(value, data=self.graph.constants[value])
        elif value not in self.places:
            self.places[value] = self._from_image(value)
        return self.places[value]

    def image(self, value: str) -> int:
        """The tensor of a value as [N,H,W,C]."""
        if value not in self.images:
            self.images[value] = self._to_image(value)
        return self.images[value]

    def _to_image(self, value: str) -> int:
        batch, channels, *spatial = self.shape(value)
        height, width = (1, *spatial)[-2:]
        flat, last = self.place(value), (batch, *spatial, channels)
        if channels > 1 and np.prod(spatial) > 1:
            flat = self.turn(flat, value, (0, *range(2, len(last)), 1), last)
        return self.reshape(flat, value, (batch, height, width, channels), f"{value}:image")

    def _from_image(self, value: str) -> int:
        shape = self.shape(value)
        batch, channels, *spatial = shape
        if value not in self.images:
            raise Lost(value)
        flat = self.images[value]
        if channels > 1 and np.prod(spatial) > 1:
            flat = self.reshape(flat, value, (batch, *spatial, channels))
            return self.turn(flat, value, (0, len(shape) - 1, *range(1, len(shape) - 1)), shape)
        return self.reshape(flat, value, shape)

    def turn(self, source: int, value: str, perm: Sequence[int], shape: Sequence[int]) -> int:
        """A TRANSPOSE."""
        made = self.tensor(value, shape, f"{value}:turned{len(self.file.tensors)}")
        operands = [source, self.file.numbers(*perm)]
        return self.file.operator("TRANSPOSE", operands, made, "TransposeOptions", 2)

    def reshape(self, source: int, value: str, shape: Sequence[int], name: str = "") -> int:
        """A RESHAPE, or the tensor itself where it has the shape."""
        if self.file.tensors[source].shape == tuple(shape):
            return source
        made = self.tensor(value, shape, name or f"{value}:shape{len(self.file.tensors)}")
        operands = [source, self.file.numbers(*shape)]
        return self.file.operator("RESHAPE", operands, made, "ReshapeOptions", new_shape=tuple(shape))

    def make(
        self, op: str, node: Node, inputs: Sequence[int], options: str, version: int = 2, **fields: Any
    ) -> None:
        """The operator that makes the one result of a node, with the axes of the graph."""
        (result,) = node.outputs
        self.places[result] = self.file.operator(op, inputs, self.tensor(result), options, version, **fields)

    def add(self, operator: Operator) -> None:
        self.file.operators.append(operator)
