"""Reading an ONNX file without trusting it, and bringing it to one form: float32, opset 13 or later.

Refused: files that are not ONNX, weights outside the file, values that are not finite. Nothing is
ever unpickled.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import TensorProto, numpy_helper, version_converter

from nnaq.errors import FrontendError
from nnaq.frontends.onnx_simplify import subgraphs, walk

_FLOATS = frozenset({TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE})
_OLDEST, _CONVERTED = 13, 18
MOST_AXES = 32


def read(path: Path) -> onnx.ModelProto:
    """The model in a file. Raises FrontendError: what the file is, what it should be."""
    if not path.is_file():
        raise FrontendError(f"there is no model file {str(path)!r}")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise FrontendError(f"model file {str(path)!r} cannot be read: {error.strerror}") from None
    if data[:2] in (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04"):
        raise FrontendError(f"{path.name!r} is an archive or a pickle, not an ONNX file; export it to ONNX")
    try:
        model = onnx.load_model_from_string(data)
    except (DecodeError, ValueError) as error:
        raise FrontendError(f"{path.name!r} is truncated or not an ONNX file; export it again") from error
    if not model.HasField("graph"):
        raise FrontendError(f"{path.name!r} holds no ONNX graph; it is empty or not an ONNX file")
    if any(entry.key == "nnaq.graph" for entry in model.metadata_props):
        raise FrontendError(
            f"{path.name!r} is lowered already; run it with `nnaq run`, or lower the model it was made from"
        )
    return model


def normalise(model: onnx.ModelProto) -> tuple[onnx.ModelProto, list[str]]:
    """A checked copy with float32 throughout, and notes on what was changed."""
    if not model.graph.node:
        raise FrontendError(f"ONNX model {model.graph.name!r} has no nodes; there is nothing to import")
    _refuse_external(model)
    _refuse_wild_axes(model)
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    notes = _widen(copy)
    _refuse_not_finite(copy)
    _check(copy)
    model = _converted(copy, notes)
    _drop_defaults(model.graph)
    return model, notes


def _check(model: onnx.ModelProto) -> None:
    """Hold the model to the rules of ONNX, except that an output may leave its shape open."""
    kinds = [port.type.tensor_type for port in model.graph.output if port.type.HasField("tensor_type")]
    shapeless = [kind for kind in kinds if not kind.HasField("shape")]
    for kind in shapeless:
        kind.shape.SetInParent()
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        reason = str(error).strip().splitlines()[0]
        raise FrontendError(f"ONNX model {model.graph.name!r} is not valid: {reason}") from error
    except UnicodeDecodeError as error:
        raise FrontendError(
            f"ONNX model {model.graph.name!r} holds names that are not text; export it again"
        ) from error
    for kind in shapeless:
        kind.ClearField("shape")


def _drop_defaults(graph: onnx.GraphProto) -> None:
    """Weights that older files list among the inputs are weights."""
    held = {tensor.name for tensor in graph.initializer}
    for port in [port for port in graph.input if port.name in held]:
        graph.input.remove(port)


def graphs(model: onnx.ModelProto) -> Iterator[onnx.GraphProto]:
    """The graph of a model and every body inside it."""
    yield model.graph
    for node in walk(model.graph):
        yield from subgraphs(node)


def _nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    yield from walk(model.graph)
    for function in model.functions:
        for node in function.node:
            yield node
            for body in subgraphs(node):
                yield from walk(body)


def _tensors(model: onnx.ModelProto) -> Iterator[tuple[str, onnx.TensorProto]]:
    """Every constant array with the name a user knows it by."""
    for graph in graphs(model):
        for tensor in graph.initializer:
            yield tensor.name, tensor
    for node in _nodes(model):
        for attribute in node.attribute:
            for tensor in (*([attribute.t] if attribute.HasField("t") else []), *attribute.tensors):
                yield tensor.name or (node.output[0] if node.output else node.name), tensor


def _refuse_external(model: onnx.ModelProto) -> None:
    for name, tensor in _tensors(model):
        if tensor.data_location == TensorProto.EXTERNAL or tensor.external_data:
            raise FrontendError(
                f"the model refers to external data (tensor {name!r}); re-save it with one file "
                "(torch.onnx.export takes external_data=False, onnx.save what onnx.load has read)"
            )
    for graph in graphs(model):
        if graph.sparse_initializer:
            raise FrontendError("the model holds sparse initialisers; export it with dense weights")


def _refuse_wild_axes(model: onnx.ModelProto) -> None:
    """Axes that no tensor has: the C++ code of ONNX takes them as they are, and ends the process."""
    for node in _nodes(model):
        for held in node.attribute:
            wild = [n for n in (held.i, *held.ints) if held.name in ("axis", "axes") and abs(n) > MOST_AXES]
            if wild:
                where = node.name or (node.output[0] if node.output else "")
                raise FrontendError(
                    f"{node.op_type} {where!r} names the axis {wild[0]}, nnaq reads tensors of up to "
                    f"{MOST_AXES} axes; export the model again"
                )


def _refuse_not_finite(model: onnx.ModelProto) -> None:
    for name, tensor in _tensors(model):
        must_be_numbers(name, _array(name, tensor))  # of every dtype: one that is too short is found here


def must_be_numbers(name: str, array: np.ndarray) -> None:
    """Raise FrontendError for NaN; infinity may be a mask or a limit."""
    if array.dtype == np.float32 and np.isnan(array).any():
        raise FrontendError(f"tensor {name!r} holds NaN or infinity; a quantiser needs finite weights")


def _array(name: str, tensor: onnx.TensorProto) -> np.ndarray:
    try:
        array: np.ndarray = numpy_helper.to_array(tensor)
        return array
    except (ValueError, TypeError, KeyError) as error:  # KeyError: a dtype that ONNX does not have
        raise FrontendError(
            f"tensor {name!r} does not hold what its shape {list(tensor.dims)} says; export the model again"
        ) from error


def _widen(model: onnx.ModelProto) -> list[str]:
    """Turn every float16, bfloat16 and float64 into float32, in place."""
    count = 0
    for name, tensor in _tensors(model):
        if tensor.data_type in _FLOATS:
            with np.errstate(over="ignore"):  # an overflow becomes infinity, which is refused by name
                wide = numpy_helper.from_array(_array(name, tensor).astype(np.float32), tensor.name)
            tensor.CopyFrom(wide)
            count += 1
    for graph in graphs(model):
        for port in (*graph.input, *graph.output, *graph.value_info):
            if port.type.tensor_type.elem_type in _FLOATS:
                port.type.tensor_type.elem_type = TensorProto.FLOAT
                count += port.name in {p.name for p in model.graph.input}
    for node in _nodes(model):
        for attribute in node.attribute:
            if attribute.name in ("to", "dtype") and attribute.i in _FLOATS:
                attribute.i = TensorProto.FLOAT
    return [f"{count} tensors of other float types are read as float32"] if count else []


def _converted(model: onnx.ModelProto, notes: list[str]) -> onnx.ModelProto:
    """The model in an opset whose operators take axes and sizes as operands."""
    version = opset_of(model)
    if version >= _OLDEST:
        return model
    try:
        converted = version_converter.convert_version(model, _CONVERTED)
    except (RuntimeError, onnx.version_converter.ConvertError):
        return model  # the handlers know the older spellings of most operators
    notes.append(f"opset {version} is read as opset {_CONVERTED}")
    return converted


def opset_of(model: onnx.ModelProto) -> int:
    """The version of ONNX's own operators that a model is written in."""
    versions = (int(entry.version) for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    return next(versions, _CONVERTED)
