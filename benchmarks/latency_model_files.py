"""Quantised .tflite files written table by table: what a peer's compiler and nnaq's importer both read.

A file is a list of tensors and a list of operators. Codes of weights are sums of six uniform whole
numbers from -21 to 21 (bell-shaped, deviation 30.4), the same on every machine.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import flatbuffers
import numpy as np
import tflite

TYPES = {"int8": "INT8", "int16": "INT16", "int32": "INT32", "float32": "FLOAT32"}
NO_TENSOR = -1
LARGEST_OLD_CODE = 127


@dataclass(frozen=True)
class Tensor:
    """One tensor; with `data` a constant, with `variable` a state. No scale: no codes."""

    shape: tuple[int, ...]
    dtype: str = "int8"
    scale: float | None = None
    zero_point: int = 0
    data: np.ndarray | None = None
    variable: bool = False


@dataclass(frozen=True)
class Operator:
    """One operator: positions of its tensors, and its options by their names in the schema."""

    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options_name: str
    options: dict[str, Any]
    intermediates: tuple[int, ...] = ()
    version: int = 1


class Writer:
    """Collects tensors and operators; `bytes` makes the file."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.tensors: list[Tensor] = []
        self.operators: list[Operator] = []

    def tensor(self, tensor: Tensor) -> int:
        self.tensors.append(tensor)
        return len(self.tensors) - 1

    def activation(self, *shape: int, scale: float = 0.05, zero_point: int = 3) -> int:
        return self.tensor(Tensor(shape, scale=scale, zero_point=zero_point))

    def constant(self, data: np.ndarray, scale: float | None = None) -> int:
        return self.tensor(Tensor(data.shape, str(data.dtype), scale, data=data))

    def weight(self, *shape: int, scale: float = 0.002) -> int:
        codes = self.random.integers(-21, 22, (6, *shape)).sum(axis=0)
        return self.constant(codes.astype(np.int8), scale)

    def bias(self, size: int, scale: float = 0.05 * 0.002) -> int:
        return self.constant(self.random.integers(-2000, 2001, size).astype(np.int32), scale)

    def numbers(self, *values: int) -> int:
        """Whole numbers (axes, sizes)."""
        return self.constant(np.array(values, np.int32))

    def operator(self, name: str, inputs: Sequence[int], output: int, options: str, **fields: Any) -> int:
        """Add an operator with one result; returns the result."""
        self.operators.append(Operator(name, tuple(inputs), (output,), options, fields))
        return output

    def bytes(self, inputs: Sequence[int], outputs: Sequence[int]) -> bytes:
        return _Packer().file(self, inputs, outputs)


class _Packer:
    """The flatbuffer of one file; every table is written before the one that holds it."""

    def __init__(self) -> None:
        self.builder = flatbuffers.Builder(1 << 16)

    def file(self, writer: Writer, inputs: Sequence[int], outputs: Sequence[int]) -> bytes:
        buffers = [self.buffer(None), *(self.buffer(tensor.data) for tensor in writer.tensors)]
        codes = [self.code(operator) for operator in writer.operators]
        tensors = [self.tensor(tensor, place) for place, tensor in enumerate(writer.tensors)]
        operators = [self.operator(operator, place) for place, operator in enumerate(writer.operators)]
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

    def code(self, operator: Operator) -> int:
        code = getattr(tflite.BuiltinOperator, operator.name)
        old = min(code, LARGEST_OLD_CODE)
        return self.table(
            "OperatorCode", deprecated_builtin_code=old, version=operator.version, builtin_code=code
        )

    def tensor(self, tensor: Tensor, place: int) -> int:
        fields: dict[str, Any] = {
            "shape": self.ints(tensor.shape),
            "type": getattr(tflite.TensorType, TYPES[tensor.dtype]),
            "buffer": place + 1,
            "name": self.builder.CreateString(f"tensor_{place}"),
        }
        if tensor.scale is not None:
            scale = self.builder.CreateNumpyVector(np.array([tensor.scale], np.float32))
            zero = self.builder.CreateNumpyVector(np.array([tensor.zero_point], np.int64))
            fields["quantization"] = self.table("QuantizationParameters", scale=scale, zero_point=zero)
        return self.table("Tensor", **fields, is_variable=tensor.variable)

    def operator(self, operator: Operator, place: int) -> int:
        options = self.table(operator.options_name, **operator.options)
        fields: dict[str, Any] = {
            "opcode_index": place,
            "inputs": self.ints(operator.inputs),
            "outputs": self.ints(operator.outputs),
            "builtin_options_type": getattr(tflite.BuiltinOptions, operator.options_name),
            "builtin_options": options,
        }
        if operator.intermediates:
            fields["intermediates"] = self.ints(operator.intermediates)
        return self.table("Operator", **fields)
