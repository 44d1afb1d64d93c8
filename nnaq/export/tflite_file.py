"""A .tflite file written table by table: a list of tensors and a list of operators.

The schema (TensorFlow Lite 2.18) is that of the package `tflite`, which writes and reads no code.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import flatbuffers  # type: ignore[import-untyped]
import numpy as np
import tflite

TYPES = {
    "int8": "INT8",
    "int16": "INT16",
    "int32": "INT32",
    "int64": "INT64",
    "resource": "RESOURCE",
    "float32": "FLOAT32",
}
NO_TENSOR = -1
LARGEST_OLD_CODE = 127


@dataclass(frozen=True)
class Tensor:
    """One tensor; with `data` a constant, with `variable` a state. No scale: no codes.

    scale: one, or one per entry of `axis`. No name: one after its place.
    """

    shape: tuple[int, ...]
    dtype: str = "int8"
    scale: float | tuple[float, ...] | None = None
    zero_point: int = 0
    data: np.ndarray | None = None
    variable: bool = False
    axis: int = 0
    name: str = ""

    @property
    def scales(self) -> np.ndarray:
        """float32 [scales]."""
        return np.atleast_1d(np.array(self.scale, np.float32))


@dataclass(frozen=True)
class Operator:
    """One operator: positions of its tensors, and its options by their names in the schema.

    Without options_name it has none.
    """

    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options_name: str
    options: dict[str, Any]
    intermediates: tuple[int, ...] = ()
    version: int = 1

    @property
    def kind(self) -> tuple[str, int]:
        """What has one entry in the file's list of operator codes."""
        return self.name, self.version


class Writer:
    """Collects tensors and operators; `bytes` makes the file."""

    def __init__(self) -> None:
        self.tensors: list[Tensor] = []
        self.operators: list[Operator] = []

    def tensor(self, tensor: Tensor) -> int:
        self.tensors.append(tensor)
        return len(self.tensors) - 1

    def constant(self, data: np.ndarray, scale: float | None = None) -> int:
        return self.tensor(Tensor(data.shape, str(data.dtype), scale, data=data))

    def numbers(self, *values: int) -> int:
        """Whole numbers (axes, sizes)."""
        return self.constant(np.array(values, np.int32))

    def operator(
        self, name: str, inputs: Sequence[int], output: int, options: str, version: int = 1, **fields: Any
    ) -> int:
        """Add an operator with one result; returns the result."""
        self.operators.append(Operator(name, tuple(inputs), (output,), options, fields, version=version))
        return output

    def bytes(self, inputs: Sequence[int], outputs: Sequence[int]) -> bytes:
        return _Packer().file(self, inputs, outputs)


class _Packer:
    """The flatbuffer of one file; every table is written before the one that holds it."""

    def __init__(self) -> None:
        self.builder = flatbuffers.Builder(1 << 16)

    def file(self, writer: Writer, inputs: Sequence[int], outputs: Sequence[int]) -> bytes:
        self.kinds = {
            kind: place for place, kind in enumerate(dict.fromkeys(o.kind for o in writer.operators))
        }
        buffers = [self.buffer(None), *(self.buffer(tensor.data) for tensor in writer.tensors)]
        codes = [self.code(*kind) for kind in self.kinds]
        tensors = [self.tensor(tensor, place) for place, tensor in enumerate(writer.tensors)]
        operators = [self.operator(operator) for operator in writer.operators]
        graph = self.table(
            "SubGraph",
            tensors=self.offsets(tensors),
            inputs=self.ints(inputs),
            outputs=self.ints(outputs),
            operators=self.offsets(operators),
            name=self.builder.CreateString("main"),
        )
        model = self.table(
            "Model",
            version=3,
            operator_codes=self.offsets(codes),
            subgraphs=self.offsets([graph]),
            description=self.builder.CreateString("nnaq"),
            buffers=self.offsets(buffers),
        )
        self.builder.Finish(model, file_identifier=b"TFL3")
        return bytes(self.builder.Output())

    def table(self, kind: str, **fields: Any) -> int:
        """A table of the schema; fields by the schema's own names."""
        getattr(tflite, f"{kind}Start")(self.builder)
        for name, value in fields.items():
            word = "".join(part[:1].upper() + part[1:] for part in name.split("_"))
            getattr(tflite, f"{kind}Add{word}")(self.builder, value)
        return int(getattr(tflite, f"{kind}End")(self.builder))

    def value(self, value: Any) -> Any:
        """A field as a table takes it: texts and lists of numbers stand before it."""
        if isinstance(value, str):
            return self.builder.CreateString(value)
        return self.ints(value) if isinstance(value, tuple) else value

    def ints(self, values: Sequence[int]) -> int:
        return int(self.builder.CreateNumpyVector(np.array(values, np.int32)))

    def offsets(self, tables: Sequence[int]) -> int:
        self.builder.StartVector(4, len(tables), 4)
        for table in reversed(tables):
            self.builder.PrependUOffsetTRelative(table)
        return int(self.builder.EndVector())

    def buffer(self, data: np.ndarray | None) -> int:
        if data is None:
            return self.table("Buffer")
        self.builder.StartVector(1, data.nbytes, 16)
        self.builder.head -= data.nbytes
        self.builder.Bytes[self.builder.Head() : self.builder.Head() + data.nbytes] = data.tobytes()
        return self.table("Buffer", data=self.builder.EndVector())

    def code(self, name: str, version: int) -> int:
        code = getattr(tflite.BuiltinOperator, name)
        old = min(code, LARGEST_OLD_CODE)
        return self.table("OperatorCode", deprecated_builtin_code=old, version=version, builtin_code=code)

    def tensor(self, tensor: Tensor, place: int) -> int:
        fields: dict[str, Any] = {
            "shape": self.ints(tensor.shape),
            "type": getattr(tflite.TensorType, TYPES[tensor.dtype]),
            "buffer": place + 1,
            "name": self.builder.CreateString(tensor.name or f"tensor_{place}"),
        }
        if tensor.scale is not None:
            scale = self.builder.CreateNumpyVector(tensor.scales)
            zero = self.builder.CreateNumpyVector(np.full(len(tensor.scales), tensor.zero_point, np.int64))
            axis = {"quantized_dimension": tensor.axis} if tensor.axis else {}
            fields["quantization"] = self.table(
                "QuantizationParameters", scale=scale, zero_point=zero, **axis
            )
        return self.table("Tensor", **fields, is_variable=tensor.variable)

    def operator(self, operator: Operator) -> int:
        options = {name: self.value(value) for name, value in operator.options.items()}
        fields: dict[str, Any] = {
            "opcode_index": self.kinds[operator.kind],
            "inputs": self.ints(operator.inputs),
            "outputs": self.ints(operator.outputs),
        }
        if operator.options_name:
            fields["builtin_options"] = self.table(operator.options_name, **options)
            fields["builtin_options_type"] = getattr(tflite.BuiltinOptions, operator.options_name)
        if operator.intermediates:
            fields["intermediates"] = self.ints(operator.intermediates)
        return self.table("Operator", **fields)
