"""A .tflite file as plain values: tensors, operators, variables with their first contents.

The file is a flatbuffer (schema of TensorFlow Lite 2.18, from the package `tflite`); reading it runs
no code. A u8 tensor is read as i8 with every code and the zero_point moved by 128.
"""

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tflite

from nnaq.errors import FrontendError, NnaqError
from nnaq.ir.types import Quant, TensorType, bounds

LARGEST = 256 * 2**20  # bytes of a file that is read: models of this kind hold a few megabytes

MOST_ENTRIES = 2**26  # of one tensor
HIGHEST_RANK = 8
_DTYPES = {
    tflite.TensorType.FLOAT32: ("f32", np.float32),
    tflite.TensorType.INT8: ("i8", np.int8),
    tflite.TensorType.UINT8: ("i8", np.uint8),
    tflite.TensorType.INT16: ("i16", np.int16),
    tflite.TensorType.INT32: ("i32", np.int32),
    tflite.TensorType.INT64: ("i48", np.int64),
    tflite.TensorType.BOOL: ("bool", np.bool_),
}
# What reading a damaged flatbuffer raises: offsets out of the file, tables that are no tables.
DAMAGE = (
    struct.error, LookupError, ValueError, TypeError, ArithmeticError, AttributeError, AssertionError,
    MemoryError, NnaqError,
)  # fmt: skip
_TYPE_NAMES = {v: k for k, v in vars(tflite.TensorType).items() if isinstance(v, int)}
_OPERATORS = {v: k for k, v in vars(tflite.BuiltinOperator).items() if isinstance(v, int)}
_OPTIONS = {v: k for k, v in vars(tflite.BuiltinOptions).items() if isinstance(v, int)}


@dataclass(frozen=True)
class Tensor:
    """A value of the file. kind: None where nnaq has no such dtype (a resource, a complex number).

    data: the stored array of a constant, u8 codes moved to i8. is_variable: an operator keeps it.
    """

    index: int
    name: str
    kind: TensorType | None
    dtype: str
    data: np.ndarray | None
    is_variable: bool = False


@dataclass(frozen=True)
class Operator:
    """A node: `CONV_2D`, its operands and results (None for an absent one), its options and version."""

    op: str
    inputs: tuple[Tensor | None, ...]
    outputs: tuple[Tensor, ...]
    options: Any
    place: int
    version: int


@dataclass(frozen=True)
class File:
    """The main subgraph.

    initial: what the file puts into each variable before the first step. has_codes: whether any
    tensor of it is quantised.
    """

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    initial: Mapping[str, np.ndarray]
    has_codes: bool


def read(path: Path) -> File:
    """The contents of a file. Raises FrontendError: not a TFLite file, damaged, or too large."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise FrontendError(f"{path} cannot be read: {error.strerror}") from error
    if len(data) > LARGEST:
        raise FrontendError(f"{path} has {len(data)} bytes, nnaq reads .tflite files up to {LARGEST}")
    if data[4:8] != b"TFL3":
        raise FrontendError(f"{path} is not a TFLite file: its identifier TFL3 is missing")
    try:
        file = _Reader(tflite.Model.GetRootAsModel(data, 0)).file()
    except DAMAGE as error:
        raise FrontendError(f"{path} is damaged: {error}") from error
    if not file.has_codes:
        raise FrontendError(
            f"{path} holds a float model, and nnaq reads quantised .tflite files; convert it with full "
            "integer quantisation, or export the model to ONNX and quantise it with `nnaq lower`"
        )
    return file


class _Reader:
    def __init__(self, model: Any) -> None:
        self.model = model

    def file(self) -> File:
        graph = self.model.Subgraphs(0)
        tensors = [self.tensor(graph, i) for i in range(graph.TensorsLength())]
        operators = tuple(self.operators(graph, tensors))
        inputs, outputs = (
            tuple(tensors[_within(int(i), tensors)] for i in (ends if count else ()))
            for count, ends in (
                (graph.InputsLength(), graph.InputsAsNumpy()),
                (graph.OutputsLength(), graph.OutputsAsNumpy()),
            )
        )
        has_codes = any(tensor.kind is not None and tensor.kind.quant is not None for tensor in tensors)
        return File(inputs, outputs, operators, self.initial(operators), has_codes)

    def tensor(self, graph: Any, index: int) -> Tensor:
        held = graph.Tensors(index)
        name = (held.Name() or b"").decode() or f"tensor_{index}"
        dtype = _TYPE_NAMES.get(held.Type(), str(held.Type()))
        shape = tuple(int(n) for n in held.ShapeAsNumpy()) if held.ShapeLength() else ()
        if held.Type() not in _DTYPES or min(shape, default=0) < 0:
            return Tensor(index, name, None, dtype, None)
        if len(shape) > HIGHEST_RANK or math.prod(shape) > MOST_ENTRIES:
            raise ValueError(f"tensor {name!r} has the shape {list(shape)}")
        word, storage = _DTYPES[held.Type()]
        array = self.data(held, shape, storage)
        moved = 128 if storage is np.uint8 else 0
        if array is not None and moved:
            array = (array.astype(np.int16) - moved).astype(np.int8)
        kind = TensorType(word, shape, None if word == "f32" else _quant(held, moved, word, shape))
        return Tensor(index, name, kind, dtype, array, bool(held.IsVariable()))

    def data(self, held: Any, shape: tuple[int, ...], storage: Any) -> np.ndarray | None:
        buffer = self.model.Buffers(held.Buffer())
        if buffer is None or not buffer.DataLength():
            return np.zeros(shape, storage) if 0 in shape else None
        stored = np.frombuffer(buffer.DataAsNumpy().tobytes(), np.dtype(storage).newbyteorder("<"))
        return np.asarray(stored.reshape(shape), storage)

    def operators(self, graph: Any, tensors: list[Tensor]) -> list[Operator]:
        found = []
        for place in range(graph.OperatorsLength()):
            node = graph.Operators(place)
            code = self.model.OperatorCodes(node.OpcodeIndex())
            name = _OPERATORS[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())]
            ends = [
                [int(i) for i in ends] if count else []
                for count, ends in (
                    (node.InputsLength(), node.InputsAsNumpy()),
                    (node.OutputsLength(), node.OutputsAsNumpy()),
                )
            ]
            inputs = tuple(None if i == -1 else tensors[_within(i, tensors)] for i in ends[0])
            options = _options(name, node.BuiltinOptionsType(), node.BuiltinOptions())
            outputs = tuple(tensors[_within(i, tensors)] for i in ends[1])
            found.append(Operator(name, inputs, outputs, options, place, code.Version()))
        return found

    def initial(self, operators: tuple[Operator, ...]) -> dict[str, np.ndarray]:
        """Constants that the subgraphs of CALL_ONCE assign, by the variable's shared name."""
        found: dict[str, np.ndarray] = {}
        for call in (node for node in operators if node.op == "CALL_ONCE"):
            graph = self.model.Subgraphs(call.options.InitSubgraphIndex())
            tensors = [self.tensor(graph, i) for i in range(graph.TensorsLength())]
            variables: dict[int, str] = {}
            for node in self.operators(graph, tensors):
                if node.op == "VAR_HANDLE":
                    variables[node.outputs[0].index] = node.options.SharedName().decode()
                elif node.op == "ASSIGN_VARIABLE":
                    handle, value = node.inputs
                    if handle is not None and value is not None and value.data is not None:
                        found[variables[handle.index]] = value.data
        return found


def _within(index: int, tensors: list[Tensor], lowest: int = 0) -> int:
    """An index of a tensor. Raises ValueError for one that is not there."""
    if not lowest <= index < len(tensors):
        raise ValueError(f"there is no tensor {index}")
    return index


def _quant(held: Any, moved: int, word: str, shape: tuple[int, ...]) -> Quant | None:
    stored = held.Quantization()
    if stored is None or not stored.ScaleLength():
        return None
    scales = tuple(float(s) for s in stored.ScaleAsNumpy())
    zeros = [int(z) for z in stored.ZeroPointAsNumpy()] if stored.ZeroPointLength() else [0]
    if len(set(zeros)) != 1:
        raise ValueError("a tensor with a zero_point per channel")
    axis = stored.QuantizedDimension() if len(scales) > 1 else None
    if axis is not None and not (0 <= axis < len(shape) and shape[axis] == len(scales)):
        raise ValueError(f"{len(scales)} scales along axis {axis} of a tensor {list(shape)}")
    low, high = bounds(word)
    if not low <= zeros[0] - moved <= high:
        raise ValueError(f"the zero_point {zeros[0]} is no code")
    return Quant(scales, zeros[0] - moved, axis)


def _options(name: str, type_: int, table: Any) -> Any:
    """The node's options, under the class that its operator names; None where it has none of that class."""
    words = {"CONV_2D": "Conv2D", "DEPTHWISE_CONV_2D": "DepthwiseConv2D", "MAX_POOL_2D": "Pool2D"}
    words |= {"AVERAGE_POOL_2D": "Pool2D", "UNIDIRECTIONAL_SEQUENCE_LSTM": "UnidirectionalSequenceLSTM"}
    words |= dict.fromkeys(("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN"), "Reducer")
    words |= {"BATCH_MATMUL": "BatchMatMul", "MAXIMUM": "MaximumMinimum", "MINIMUM": "MaximumMinimum"}
    word = words.get(name) or "".join(part.capitalize() for part in name.split("_"))
    kind = getattr(tflite, f"{word}Options", None)
    if table is None or kind is None or _OPTIONS.get(type_) != f"{word}Options":
        return None
    options = kind()
    options.Init(table.Bytes, table.Pos)
    return options
