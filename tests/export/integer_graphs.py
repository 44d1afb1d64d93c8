"""Small integer graphs of one node, made by the operators' own `prepare`."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

import nnaq.kernels  # noqa: F401  (fills the operator table)
from nnaq.ir.build import Builder
from nnaq.ir.dims import bind
from nnaq.ir.graph import Graph
from nnaq.ir.numerics import Numerics
from nnaq.ir.op import Attr, Signature, lookup
from nnaq.ir.types import TensorType, bounds, parse_type, storage


def integer_node(
    build: Builder,
    op: str,
    inputs: Sequence[str],
    outputs: Sequence[str],
    attrs: Mapping[str, Attr] | None = None,
    rounding: str = "single",
    reals: Mapping[int, np.ndarray] | None = None,
    **contract: Any,
) -> tuple[str, ...]:
    """Add the integer form of `op` on values of `build`.

    outputs: result types as text, the shape left open (`i8[]<0.1, 3>`); reals: operands that stay
    real until the crossing, by position; contract: other choices of the numerics contract.
    """
    made, attrs, reals = lookup(op), dict(attrs or {}), reals or {}
    positions = range(max([len(inputs) - 1, *reals]) + 1)
    operands = [_operand(build, inputs, reals, i) for i in positions]
    shapes = made.infer(tuple(operands), attrs)
    kinds = tuple(parse_type(text).with_shape(shape) for text, shape in zip(outputs, shapes, strict=True))
    signature = Signature(tuple(operands), kinds, attrs)
    constants = tuple(reals[i] if i in reals else build.constants.get(inputs[i]) for i in positions)
    prepared = made.prepare(signature, constants, Numerics(rounding, **contract))
    names = [
        inputs[o] if isinstance(o, int) else build.constant(f"{op}.{o.name}", o.value, o.type)
        for o in prepared.operands
    ]
    return build.node(op, names, prepared.attrs, types=kinds)


def _operand(
    build: Builder, inputs: Sequence[str], reals: Mapping[int, np.ndarray], position: int
) -> TensorType | None:
    if position in reals:
        return TensorType("f32", reals[position].shape)
    return build.types[inputs[position]] if inputs[position] else None


def one_node(
    op: str,
    inputs: Sequence[str],
    outputs: Sequence[str],
    attrs: Mapping[str, Attr] | None = None,
    rounding: str = "single",
    weights: Mapping[int, np.ndarray] | None = None,
    reals: Mapping[int, np.ndarray] | None = None,
    **contract: Any,
) -> Graph:
    """A graph of one integer node; operands in `weights` are constants, the others inputs."""
    build, names = Builder(op), []
    for position, text in enumerate(inputs):
        kind = parse_type(text)
        if weights and position in weights:
            names.append(build.constant(f"w{position}", weights[position], kind))
        else:
            names.append(build.input(f"x{position}", kind, time_axis=time_axis(kind)))
    for name in integer_node(build, op, names, outputs, attrs, rounding, reals, **contract):
        build.output(name, time_axis=time_axis(build.types[name]))
    return build.build()


def time_axis(kind: TensorType) -> int | None:
    """The axis called T, if there is one."""
    return kind.shape.index("T") if "T" in kind.shape else None


def random_inputs(graph: Graph, seed: int, time: int = 5) -> dict[str, np.ndarray]:
    """Codes over the whole width of each input, its lowest and highest among them."""
    random, feeds = np.random.default_rng(seed), {}
    for port in graph.inputs:
        kind = graph.types[port.name]
        shape = bind(kind.shape, {"T": time, "N": 2})
        if kind.dtype == "f32":
            feeds[port.name] = random.normal(0, 3, shape).astype(np.float32)
            continue
        low, high = bounds(kind.dtype)
        codes = random.integers(low, high + 1, shape)
        codes.reshape(-1)[:2] = (low, high)[: codes.size]
        feeds[port.name] = codes.astype(storage(kind.dtype))
    return feeds
