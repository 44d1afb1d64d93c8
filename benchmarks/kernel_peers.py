"""What nnaq's kernels race against: layers of ONNX Runtime, each in a process of its own, and of torch, here.

A peer is made anew for every contest and closed after it. Integers of the runtime are u8 activations and s8
weights throughout: its kernels for s8 by s8 are some twenty times slower and stand for nothing.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import numpy as np
import onnx
import torch
from measuring import Here, Peer, Timed
from onnx import TensorProto, helper, numpy_helper
from random_nodes import RANDOM
from torch import nn
from torch.nn import functional

Arrays = dict[str, np.ndarray]
Making = AbstractContextManager[Timed]


def uniform(dtype: type[np.integer], *shape: int) -> np.ndarray:
    """Codes over the whole range of their dtype."""
    limits = np.iinfo(dtype)
    return RANDOM.integers(limits.min, limits.max, shape, dtype, endpoint=True)


def normal(*shape: int) -> np.ndarray:
    return RANDOM.standard_normal(shape, np.float32)


def one_node(
    op: str, inputs: Arrays, constants: Arrays, order: list[str], result: int, **attrs: object
) -> Peer:
    """The runtime on a model of one node; `order` names its operands."""
    values = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in inputs.items()
    ]
    kept = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    node = helper.make_node(op, order, ["y"], **attrs)
    graph = helper.make_graph([node], op, values, [helper.make_tensor_value_info("y", result, None)], kept)
    return Peer(model_of(graph), inputs)


def model_of(graph: onnx.GraphProto) -> onnx.ModelProto:
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def matmul_integer(rows: int, depth: int, units: int) -> Peer:
    """u8 [rows, depth] by s8 [depth, units] to int32."""
    x, w = uniform(np.uint8, rows, depth), uniform(np.int8, depth, units)
    return one_node("MatMulInteger", {"x": x}, {"w": w}, ["x", "w"], TensorProto.INT32)


def wrong_sums(rows: int = 64, depth: int = 640, units: int = 512) -> float:
    """The share of MatMulInteger's sums that are not the sums.

    Without VNNI the runtime adds pairs of products in 16 bits, and clamps: quicker than exact sums can be.
    """
    import onnxruntime

    x, w = uniform(np.uint8, rows, depth), uniform(np.int8, depth, units)
    node = helper.make_node("MatMulInteger", ["x", "w"], ["y"])
    values = [helper.make_tensor_value_info("x", TensorProto.UINT8, x.shape)]
    result = helper.make_tensor_value_info("y", TensorProto.INT32, None)
    graph = helper.make_graph([node], "sums", values, [result], [numpy_helper.from_array(w, "w")])
    model = model_of(graph).SerializeToString()
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    (made,) = session.run(None, {"x": x})
    return float(np.mean(made != x.astype(np.int64) @ w.astype(np.int64)))


def matmul_float(rows: int, depth: int, units: int) -> Peer:
    """The same sizes in float32."""
    x, w = normal(rows, depth), normal(depth, units)
    return one_node("MatMul", {"x": x}, {"w": w}, ["x", "w"], TensorProto.FLOAT)


def quantised(op: str, x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None = None) -> Peer:
    """QLinearMatMul or QLinearConv with a scale per tensor."""
    scales = {"x_s": np.float32(0.03), "w_s": np.float32(0.03), "y_s": np.float32(0.3)}
    zeros = {"x_z": np.uint8(128), "w_z": np.int8(0), "y_z": np.uint8(128)}
    constants = {n: np.asarray(v) for n, v in {**scales, **zeros}.items()}
    constants |= {"w": weight} | ({} if bias is None else {"b": bias})
    order = ["x", "x_s", "x_z", "w", "w_s", "w_z", "y_s", "y_z", *([] if bias is None else ["b"])]
    return one_node(op, {"x": x}, constants, order, TensorProto.UINT8)


def quantised_matmul(rows: int, depth: int, units: int) -> Peer:
    return quantised("QLinearMatMul", uniform(np.uint8, rows, depth), uniform(np.int8, depth, units))


def quantised_conv(channels: int, length: int, units: int, width: int) -> Peer:
    x, weight = uniform(np.uint8, 1, channels, length), uniform(np.int8, units, channels, width)
    return quantised("QLinearConv", x, weight, np.zeros(units, np.int32))


def lstm_steps(layers: int, frames: int, inputs: int, units: int) -> Peer:
    """A float32 LSTM of several layers, one frame per call, its states fed back."""
    states = {
        f"{kind}{layer}": np.zeros((1, 1, units), np.float32) for layer in range(layers) for kind in "hc"
    }
    nodes, kept, width, value = [], [], inputs, "x"
    for layer in range(layers):
        for name, array in lstm_weights(width, units).items():
            kept.append(numpy_helper.from_array(array, f"{name}{layer}"))
        operands = [value, f"w{layer}", f"r{layer}", f"b{layer}", "", f"h{layer}", f"c{layer}"]
        results = [f"y{layer}", f"next_h{layer}", f"next_c{layer}"]
        nodes.append(helper.make_node("LSTM", operands, results, hidden_size=units))
        nodes.append(helper.make_node("Squeeze", [f"y{layer}", "direction"], [f"z{layer}"]))
        width, value = units, f"z{layer}"
    kept.append(numpy_helper.from_array(np.array([1]), "direction"))
    shapes = {"x": (1, 1, inputs), **{name: array.shape for name, array in states.items()}}
    given = [helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n, shape in shapes.items()]
    made = [value, *(f"next_{name}" for name in states)]
    results = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in made]
    graph = helper.make_graph(nodes, "lstm", given, results, kept)
    feeds = {name: f"next_{name}" for name in states}
    return Peer(model_of(graph), {"x": normal(frames, 1, inputs), **states}, chunk=1, states=feeds)


def lstm_weights(inputs: int, units: int) -> Arrays:
    """Weights whose sums are of the size of one."""
    size = np.float32(np.sqrt(inputs + units))
    return {
        "w": normal(1, 4 * units, inputs) / size,
        "r": normal(1, 4 * units, units) / size,
        "b": normal(1, 8 * units) / size,
    }


@contextmanager
def here(work: Callable[[], object]) -> Iterator[Timed]:
    """torch in this process, on one thread and without gradients."""
    torch.set_num_threads(1)
    with torch.inference_mode():
        yield Here(work)


def torch_int_mm(rows: int, depth: int, units: int) -> Making:
    x, w = (torch.from_numpy(uniform(np.int8, *shape)) for shape in ((rows, depth), (depth, units)))
    return here(lambda: torch._int_mm(x, w))


def torch_mm(rows: int, depth: int, units: int) -> Making:
    x, w = torch.randn(rows, depth), torch.randn(depth, units)
    return here(lambda: torch.mm(x, w))


def torch_lstm(frames: int, batch: int, inputs: int, units: int) -> Making:
    layer, x = nn.LSTM(inputs, units), torch.randn(frames, batch, inputs)
    return here(lambda: layer(x))


def torch_conv(channels: int, length: int, units: int, width: int, groups: int = 1) -> Making:
    x, weight = torch.randn(1, channels, length), torch.randn(units, channels // groups, width)
    bias = torch.randn(units)
    return here(lambda: functional.conv1d(x, weight, bias, groups=groups))


def torch_layer_norm(rows: int, width: int) -> Making:
    x, layer = torch.randn(rows, width), nn.LayerNorm(width)
    return here(lambda: layer(x))


def torch_softmax(rows: int, width: int) -> Making:
    x = torch.randn(rows, width)
    return here(lambda: torch.softmax(x, -1))
