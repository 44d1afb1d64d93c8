"""Speed of single kernels beside ONNX Runtime, in turns, on one thread; writes results/kernels.json.

    python benchmarks/kernels.py

Layers race against the runtime's own integer layers: the same multiply-adds and one requantisation per result
(u8 activations, s8 weights, u8 results). The LSTM races against the runtime's float32 LSTM, because it has no
integer one. The ratio is the peer's time divided by ours: above 1 nnaq is the faster.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx
from measuring import Peer, circumstances, on_one_thread, race, seconds_of, write_results
from onnx import TensorProto, helper, numpy_helper

from nnaq.interpret import run
from nnaq.ir.build import Builder
from nnaq.ir.op import lookup
from nnaq.ir.types import TensorType
from nnaq.pipeline import Options, cross, simplify
from nnaq.quantize.calibrate import calibrate
from nnaq.targets import load_target

ROUNDS = 25
TURN = 0.02  # seconds that one turn of a race should take at least
RANDOM = np.random.default_rng(0)
Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Race:
    """One layer: its operator on random reals, and the same layer as a model of the peer."""

    work: str
    op: str
    inputs: Arrays
    weights: list[np.ndarray]
    peer: str
    model: onnx.ModelProto
    peer_inputs: Arrays


def normal(*shape: int) -> np.ndarray:
    return RANDOM.standard_normal(shape).astype(np.float32)


def model_of(
    op: str, inputs: Arrays, constants: Arrays, order: list[str], **attrs: object
) -> onnx.ModelProto:
    """A model of one node; `order` names its operands, `` an absent one."""
    result = TensorProto.FLOAT if op == "LSTM" else TensorProto.UINT8
    values = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in inputs.items()
    ]
    kept = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    node = helper.make_node(op, order, ["y"], **attrs)
    graph = helper.make_graph([node], op, values, [helper.make_tensor_value_info("y", result, None)], kept)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def quantised_layer(op: str, x: np.ndarray, weight: np.ndarray, bias: list[np.ndarray]) -> onnx.ModelProto:
    """QLinearMatMul or QLinearConv with per-tensor scales."""
    scales = {"x_s": np.float32(0.03), "w_s": np.float32(0.03), "y_s": np.float32(0.3)}
    zeros = {"x_z": np.uint8(128), "w_z": np.int8(0), "y_z": np.uint8(128)}
    constants = {n: np.asarray(v) for n, v in {**scales, **zeros}.items()}
    constants |= {"w": weight} | ({"b": bias[0]} if bias else {})
    order = ["x", "x_s", "x_z", "w", "w_s", "w_z", "y_s", "y_z", *(["b"] if bias else [])]
    return model_of(op, {"x": x}, constants, order)


def fully_connected(rows: int, depth: int, units: int) -> Race:
    """x[rows, depth] by a weight [units, depth]."""
    x, codes = random_codes((rows, depth), np.uint8), random_codes((depth, units), np.int8)
    return Race(
        f"fully_connected [{rows},{depth}] x [{units},{depth}]",
        "fully_connected",
        {"x": normal(rows, depth)},
        [normal(units, depth), normal(units)],
        "QLinearMatMul u8 x s8",
        quantised_layer("QLinearMatMul", x, codes, []),
        {"x": x},
    )


def conv1d(channels: int, length: int, units: int, width: int) -> Race:
    """x[1, channels, length] by a weight [units, channels, width]."""
    x = random_codes((1, channels, length), np.uint8)
    codes, bias = random_codes((units, channels, width), np.int8), np.zeros(units, np.int32)
    return Race(
        f"conv1d [1,{channels},{length}] x [{units},{channels},{width}]",
        "conv1d",
        {"x": normal(1, channels, length)},
        [normal(units, channels, width), normal(units)],
        "QLinearConv u8 x s8",
        quantised_layer("QLinearConv", x, codes, [bias]),
        {"x": x},
    )


def lstm(frames: int, inputs: int, units: int) -> Race:
    """A sequence x[frames, 1, inputs]."""
    x, state = normal(frames, 1, inputs), normal(1, units) * np.float32(0.1)
    weights = [normal(4 * units, n) / np.float32(np.sqrt(n)) for n in (inputs, units)]
    bias = normal(4 * units)
    constants = {"w": weights[0][None], "r": weights[1][None], "b": np.concatenate([bias, bias])[None]}
    return Race(
        f"lstm [{frames},1,{inputs}], {units} units",
        "lstm",
        {"x": x, "h0": state, "c0": state},
        [*weights, bias],
        "LSTM float32",
        model_of("LSTM", {"x": x}, constants, ["x", "w", "r", "b"], hidden_size=units),
        {"x": x},
    )


def random_codes(shape: tuple[int, ...], dtype: type[np.integer]) -> np.ndarray:
    limits = np.iinfo(dtype)
    return RANDOM.integers(limits.min, limits.max, shape, dtype, endpoint=True)


RACES = (
    lambda: fully_connected(1, 256, 256),
    lambda: fully_connected(16, 512, 512),
    lambda: fully_connected(128, 256, 1024),
    lambda: conv1d(64, 128, 64, 3),
    lambda: conv1d(128, 512, 128, 3),
    lambda: conv1d(1, 16000, 64, 16),
    lambda: lstm(1, 128, 128),
    lambda: lstm(100, 128, 128),
    lambda: lstm(100, 256, 512),
)


def integer_kernel(one: Race) -> Callable[[], object]:
    """The call of the operator's fast kernel, crossed from reals as the lowering does."""
    build = Builder(one.op)
    names = [build.input(name, TensorType("f32", a.shape)) for name, a in one.inputs.items()]
    names += [build.constant(f"weight_{i}", array) for i, array in enumerate(one.weights)]
    for result in build.node(one.op, names):
        build.output(result)
    real = simplify(build.build())
    graph = cross(real, calibrate(real, [one.inputs]), Options(load_target("edge8"))).integer
    node = next(node for node in graph.nodes if node.op == one.op)
    values = {**graph.constants, **run(graph, one.inputs, keep=node.inputs).values}
    arrays = [values[name] for name in node.inputs]
    op, signature = lookup(one.op), graph.signature(node)
    return lambda: op.fast(signature, *arrays)


def main() -> None:
    """All races, printed and written."""
    on_one_thread()
    common = {"target": None, "threads": 1, "rounds": ROUNDS, **circumstances()}
    records: list[dict[str, object]] = []
    for make in RACES:
        one = make()
        work = integer_kernel(one)
        work()
        calls = max(1, round(TURN / seconds_of(work)))
        with Peer(one.model, one.peer_inputs, calls=calls) as peer:
            figures = race(work, peer, ROUNDS, calls)
        print(f"{one.work}: {figures['seconds'] * 1e6:.0f} us, {figures['ratio']:.2f} of {one.peer}")
        records.append({"work": one.work, "peer": f"ONNX Runtime, {one.peer}", **figures, **common})
    write_results("kernels", records)


if __name__ == "__main__":
    main()
