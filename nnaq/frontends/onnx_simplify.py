"""An ONNX model made small: fixed inputs, known shapes, no `If`, no arithmetic on shapes.

No single optimiser does it. The loop here is

    pin inputs, fix shapes -> drop stale value_info -> onnxscript optimiser -> shape inference

until the number of nodes stops falling. On silero-vad (sr pinned, shapes fixed) 689 nodes with 25
`If` become 36 nodes without any. value_info of a static model is dropped because it may
contradict the shapes the user fixed; with symbolic shapes it is the only thing that decides some
`If`, so there it stays.
"""

import math
from collections.abc import Iterator, Mapping
from threading import Lock

import numpy as np
import onnx
from onnx import numpy_helper, shape_inference

from nnaq.errors import FrontendError
from nnaq.frontends.deferred import deferred
from nnaq.frontends.onnx_bodies import unrolled
from nnaq.frontends.onnx_weights import Weights, forget, put_back, take_out
from nnaq.ir.dims import Shape

# sympy, half a second, serves arithmetic on symbolic sizes, which few models ask for.
with deferred("sympy", "onnx_ir._symbolic_shapes"):
    import onnx_ir
    from onnxscript.optimizer import optimize_ir

# The optimiser leaves these alone to keep files small; here every constant is wanted.
_FOLDED = frozenset({"ConstantOfShape", "Expand", "Tile", "Transpose"})
# Their scales are facts about values, which folding would forget (onnx_codes).
_KEPT = frozenset({"DequantizeLinear", "QuantizeLinear", "DynamicQuantizeLinear"})
LARGEST = 2**24  # elements of a folded constant: a model of a few bytes must not fill the memory
_ROUNDS = 8
_TURN = Lock()  # of the optimiser: what is deferred must be asked for by one thread at a time


def simplify(
    model: onnx.ModelProto,
    pins: Mapping[str, float | int],
    shapes: Mapping[str, Shape],
    weights: Weights | None = None,
) -> tuple[onnx.ModelProto, Weights]:
    """A smaller model with the same outputs for inputs that agree with `pins` and `shapes`.

    model: normalised (onnx_model), so that its inputs are inputs and not defaults of weights;
    pins: inputs that hold one value for good; shapes: of inputs, whole numbers or symbols; weights: put
    aside (onnx_weights), inputs of the model. The result comes without the large ones of its weights, which
    are beside it.
    Raises FrontendError for an inconsistent model.
    """
    simple = onnx.ModelProto()
    simple.CopyFrom(model)
    fix_shapes(simple, shapes)
    pin_inputs(simple, pins)
    if all(is_static(port) for port in simple.graph.input):
        _forget_shapes(simple)
    count: float = sum(1 for _ in walk(simple.graph))
    weights = weights or {}
    for _ in range(_ROUNDS):
        simple, weights = _round(simple, weights)
        now = sum(1 for _ in walk(simple.graph))
        loopless = unrolled(simple)
        if loopless is None and now >= count:
            break
        simple, count = loopless or simple, now if loopless is None else math.inf
    forget(simple.graph, weights)
    return simple, weights


def _round(model: onnx.ModelProto, weights: Weights) -> tuple[onnx.ModelProto, Weights]:
    try:
        with _TURN:
            holder = onnx_ir.serde.deserialize_model(model)
            put_back(holder, weights)
            optimize_ir(holder, should_fold=_should_fold, input_size_limit=LARGEST, output_size_limit=LARGEST)
            large = take_out(holder)
            small = onnx_ir.serde.serialize_model(holder)
        return shape_inference.infer_shapes(small, data_prop=True), large
    except (RuntimeError, ValueError, onnx_ir.passes.PassError, shape_inference.InferenceError) as error:
        reason = str(error.__cause__ or error).strip().splitlines()[0]
        raise FrontendError(
            f"ONNX model {model.graph.name!r} contradicts itself ({reason}); check the given shapes and pins"
        ) from error


def _should_fold(node: onnx_ir.Node) -> bool | None:
    if node.op_type in _KEPT:
        return False
    if node.op_type not in _FOLDED:
        return None
    return _size(node) <= LARGEST


def _size(node: onnx_ir.Node) -> int:
    """Elements of the result of a node that repeats its operand, whose operands are constants."""
    held = [None if value is None else value.const_value for value in node.inputs]
    last = held[-1]
    if node.op_type == "Transpose" or last is None:
        return 0
    count: int = math.prod(last.numpy().ravel().tolist())
    return count * int(held[0].size) if node.op_type == "Tile" and held[0] is not None else count


def fix_shapes(model: onnx.ModelProto, shapes: Mapping[str, Shape]) -> None:
    """Write `shapes` into the inputs, in place."""
    ports = {port.name: port for port in model.graph.input}
    for name, shape in shapes.items():
        dims = ports[name].type.tensor_type.shape.dim
        if len(dims) != len(shape):
            raise FrontendError(f"input {name!r} has {len(dims)} axes, but the given shape is {list(shape)}")
        for dim, size in zip(dims, shape, strict=True):
            if dim.dim_value and isinstance(size, int) and dim.dim_value != size:
                raise FrontendError(f"input {name!r} has a fixed axis of {dim.dim_value}, not {size}")
            dim.Clear()
            if isinstance(size, int):
                dim.dim_value = size
            else:
                dim.dim_param = size


def pin_inputs(model: onnx.ModelProto, pins: Mapping[str, float | int]) -> None:
    """Turn the named inputs into constants filled with one value, in place."""
    graph = model.graph
    for port in [port for port in graph.input if port.name in pins]:
        if not is_static(port):
            raise FrontendError(
                f"input {port.name!r} cannot be pinned while its shape is open; give its shape"
            )
        shape = [dim.dim_value for dim in port.type.tensor_type.shape.dim]
        dtype = onnx.helper.tensor_dtype_to_np_dtype(port.type.tensor_type.elem_type)
        value = np.full(shape, pins[port.name], dtype)
        graph.input.remove(port)
        graph.initializer.append(numpy_helper.from_array(value, port.name))


def is_static(port: onnx.ValueInfoProto) -> bool:
    """Whether every axis of a port is a whole number."""
    tensor = port.type.tensor_type
    return tensor.HasField("shape") and all(dim.HasField("dim_value") for dim in tensor.shape.dim)


def _forget_shapes(model: onnx.ModelProto) -> None:
    """Drop value_info and the shapes of outputs, in subgraphs too."""
    for graph in (model.graph, *(sub for node in walk(model.graph) for sub in subgraphs(node))):
        del graph.value_info[:]
        for port in graph.output:
            port.type.tensor_type.ClearField("shape")


def walk(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Every node, those of subgraphs after the node that holds them."""
    for node in graph.node:
        yield node
        for sub in subgraphs(node):
            yield from walk(sub)


def subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The bodies that a node carries in its attributes."""
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            yield attribute.g
        yield from attribute.graphs
