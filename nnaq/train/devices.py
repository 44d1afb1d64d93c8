"""Integer nodes on any device of torch, with the bits of the kernels that ship.

On the CPU a node runs through its fast kernel. Elsewhere it runs through the body that is exported with it,
the same list of standard operators that ONNX runtimes execute, so that no formula is written a second time:

    function_of (nnaq.export.plain_functions)   the body as plain data
    Program     (device_program)                constants worked out, shapes on the host, the rest in order
    OPERATORS   (device_operators)              a standard operator as operators of torch with CUDA kernels
    integer_product (device_matmul)             MatMul of integers, which CUDA has not
    ranges_of   (device_ranges)                 the proof that its way of multiplying is exact

All of it is arithmetic of integers, exact on every device, but for quantising and dequantising and the
half_even mode: single float32 operations (divide, multiply, round), which IEEE 754 fixes. Nodes over reals
(host islands) run by their meaning in torch; their last bits are not promised anywhere.

An operand without entries (a stretch of no frames) goes through the kernel everywhere: what standard
operators make of nothing, runtimes do not agree on. Recurrent operators loop over frames in Python, about a
hundred operators of ATen per frame (270 in an LSTM with normalised gates): on one CPU core 100 frames of an
LSTM of 128 units took 0.2 s, and the kernel 0.01 s.

This was not run on a GPU. What is tested, on the CPU: the same path gives the bits of the fast kernels for
every operator; it runs nothing outside the list of operators with CUDA kernels and no product of integer
matrices; tensors that pretend to be on a GPU never meet one of the CPU and are never waited for.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from nnaq.errors import DataError
from nnaq.export.plain_functions import REMEMBERED, Function, function_of
from nnaq.interpret import check_inputs, kernel
from nnaq.ir.graph import Graph, Node
from nnaq.ir.op import lookup
from nnaq.ir.types import TensorType, bounds
from nnaq.ir.verify import is_real
from nnaq.train.device_program import Program
from nnaq.train.device_ranges import ANYTHING, Range

Tensors = dict[str, Tensor]


@torch.no_grad()
def run_node(
    graph: Graph, node: Node, arrays: Sequence[Tensor | None], force_device_path: bool = False
) -> tuple[Tensor, ...]:
    """The results of a node of a lowered graph, on the device of its operands.

    arrays: codes in the storage of their types (int8 for i8 and i4, int16, int32, int64 for i48; reals in
    float32), None for an absent operand; results are of that storage too. All lie on one device.
    force_device_path: take the path of other devices on the CPU as well. No gradient flows: see
    `nnaq.train.emulate`. Raises DataError for operands on several devices, ArtifactError or OpError for an
    operator from outside whose body cannot run here.
    """
    device = device_of(node, arrays)
    if is_real(graph, node):
        made = lookup(node.op).real(torch, node.attrs, *arrays)
        return tuple(result.to(torch.float32) for result in made)
    on_cpu = device.type == "cpu" and not force_device_path
    if on_cpu or any(array is not None and array.numel() == 0 for array in arrays):
        return _by_kernel(graph, node, arrays, device)
    limits = tuple(_range_of(graph.types[v] if v else None) for v in node.inputs)
    return program(function_of(graph, node), limits)(arrays, device)


def run_graph(
    graph: Graph,
    inputs: Mapping[str, np.ndarray | Tensor],
    device: torch.device | str = "cpu",
    states: Mapping[str, Tensor] | None = None,
    force_device_path: bool = False,
) -> tuple[Tensors, Tensors]:
    """Outputs by port and next states by name of a lowered graph, as tensors on `device`.

    inputs: in the shapes of the graph, checked as the interpreter checks them. states: what an earlier
    call returned; without them the initial ones.
    """
    given = {name: np.asarray(x.cpu() if isinstance(x, Tensor) else x) for name, x in inputs.items()}
    arrays = {**graph.constants, **check_inputs(graph, given)}
    values = {name: torch.tensor(array, device=device) for name, array in arrays.items()}
    for state in graph.states:
        values[state.input] = (states or {}).get(state.name, values[state.initial])
    for node in graph.nodes:
        operands = [values[v] if v else None for v in node.inputs]
        values.update(zip(node.outputs, run_node(graph, node, operands, force_device_path), strict=True))
    outputs = {port.name: values[port.name] for port in graph.outputs}
    return outputs, {state.name: values[state.output] for state in graph.states}


@lru_cache(REMEMBERED)
def program(function: Function, limits: tuple[Range, ...]) -> Program:
    """The program of a body, made once."""
    return Program(function, limits)


def device_of(node: Node, arrays: Sequence[Tensor | None]) -> torch.device:
    """The one device of a node's operands."""
    devices = {array.device for array in arrays if array is not None}
    if len(devices) != 1:
        found = ", ".join(sorted(map(str, devices))) or "no device"
        raise DataError(f"node {node.name!r} has operands on {found}; they must be on one device")
    return devices.pop()


def _by_kernel(
    graph: Graph, node: Node, arrays: Sequence[Tensor | None], device: torch.device
) -> tuple[Tensor, ...]:
    made = kernel(graph, node, "fast")(*(None if x is None else x.cpu().numpy() for x in arrays))
    return tuple(torch.tensor(array, device=device) for array in made)


def _range_of(kind: TensorType | None) -> Range:
    """What the codes of a type may be."""
    return ANYTHING if kind is None or kind.dtype == "f32" else bounds(kind.dtype)
