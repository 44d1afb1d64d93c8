"""Large weights put aside while the tools of ONNX work on the rest of a model.

Checker, shape inference and the conversions between protobuf and objects each write a whole model out and
read it again, with every weight in it: eight copies of a file at once. What they need of a large weight is
its type, so there it is an input, and its numbers wait in a dictionary, as they lay in the file.
"""

import math

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from nnaq.frontends.deferred import deferred

with deferred("sympy", "onnx_ir._symbolic_shapes"):
    import onnx_ir

Weights = dict[str, np.ndarray]

LARGE = 2**20  # bytes from which on a weight is put aside
_PLAIN = (onnx_ir.DataType.FLOAT, onnx_ir.DataType.INT8)


def put_aside(model: onnx.ModelProto) -> tuple[onnx.ModelProto, Weights]:
    """A copy of a model whose large weights are inputs, and their arrays by name. The model stays as it is.

    A weight whose data does not have the size of its shape stays where it is: it is refused with the others.
    So do all weights of a model with names that are no text.
    """
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in _large(model)}
    if not weights:
        return model, {}
    try:
        return _without(model, weights), weights
    except UnicodeDecodeError:
        return model, {}


def _without(model: onnx.ModelProto, weights: Weights) -> onnx.ModelProto:
    rest = onnx.ModelProto()
    graph = rest.graph
    for field, value in model.ListFields():
        if field.name != "graph":
            _copy(rest, field.name, value)
    for field, value in model.graph.ListFields():
        if field.name != "initializer":
            _copy(graph, field.name, value)
    graph.initializer.extend(t for t in model.graph.initializer if t.name not in weights)
    _declare(graph, weights)
    return rest


def _copy(message: onnx.ModelProto | onnx.GraphProto, name: str, value: object) -> None:
    """Give a message a field of another one."""
    held = getattr(message, name)
    if hasattr(held, "extend"):
        held.extend(value)
    elif hasattr(held, "CopyFrom"):
        held.CopyFrom(value)
    else:
        setattr(message, name, value)


def _large(model: onnx.ModelProto) -> list[onnx.TensorProto]:
    """Weights that are whole and of a plain dtype. Names that stand twice are for the checker to refuse."""
    names = [tensor.name for tensor in model.graph.initializer]
    return [t for t in model.graph.initializer if _is_large(t) and names.count(t.name) == 1]


def _is_large(tensor: onnx.TensorProto) -> bool:
    if tensor.data_type not in (TensorProto.FLOAT, TensorProto.INT8) or tensor.external_data:
        return False
    size = 4 if tensor.data_type == TensorProto.FLOAT else 1
    is_whole = len(tensor.raw_data) == size * math.prod(tensor.dims) and min(tensor.dims, default=1) > 0
    return bool(is_whole and len(tensor.raw_data) >= LARGE)


def _declare(graph: onnx.GraphProto, weights: Weights) -> None:
    """Make weights inputs, in place."""
    forget(graph, weights)  # files before IR version 4 list weights among the inputs
    for name, array in weights.items():
        dtype = helper.np_dtype_to_tensor_dtype(array.dtype)
        graph.input.append(helper.make_tensor_value_info(name, dtype, array.shape))


def forget(graph: onnx.GraphProto, weights: Weights) -> None:
    """Take inputs that stand for weights out again, in place."""
    for port in [port for port in graph.input if port.name in weights]:
        graph.input.remove(port)


def put_back(model: onnx_ir.Model, weights: Weights) -> None:
    """Make the inputs of these names weights again, in place; no array is copied."""
    for port in [port for port in model.graph.inputs if port.name in weights]:
        model.graph.inputs.remove(port)
        port.const_value = onnx_ir.tensor(weights[port.name], name=port.name)
        model.graph.register_initializer(port)


def take_out(model: onnx_ir.Model) -> Weights:
    """Make the large weights of a model inputs, in place, and return their arrays."""
    found: Weights = {}
    for name, value in list(model.graph.initializers.items()):
        held = value.const_value
        if held is not None and held.nbytes >= LARGE and held.dtype in _PLAIN:
            found[name] = held.numpy()
            del model.graph.initializers[name]
            value.const_value, value.shape, value.dtype = None, held.shape, held.dtype
            model.graph.inputs.append(value)
    return found
