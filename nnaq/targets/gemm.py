"""The matrix products inside an operator: how its MACs meet an array.

A product has `positions` rows (M), `outputs` columns (N) and `depth` terms per sum (K).

    fully_connected  M = rows of x,           N = outputs,           K = inputs
    matmul           M, N, K as named,        once per batch entry
    conv1d, conv2d   M = positions of y,      N = outputs / groups,  K = inputs / groups * extent,
                     once per group
    conv_transpose   M = entries of x,        N = outputs / groups * extent,  K = inputs / groups,
                     once per group
    lstm             M = T * B,               N = 4 * H,             K = I, and after it, T times,
                     M = B,                   N = 4 * H,             K = H, each waiting for the last;
                     a projection adds M = B, N = P, K = H to each, a coupled gate makes it 3 * H
    gru              the same with 3 * H; where the reset comes first, 2 * H and then H per frame
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from math import prod

from nnaq.ir.op import Signature
from nnaq.ir.types import TensorType


@dataclass(frozen=True)
class Gemm:
    """`repeats` products of [positions, depth] by [depth, outputs], operands of dtypes left and right.

    waits: each repeat needs the result of the one before, so their fills cannot hide each other.
    extent: rows and columns of the map that positions stand for, or nothing where they stand for no map.
    window: taps of a convolution along each axis, and their dilation; what else the depth holds are channels.
    """

    positions: int
    outputs: int
    depth: int
    left: str = "i8"
    right: str = "i8"
    repeats: int = 1
    waits: bool = False
    extent: tuple[int, ...] = field(default=(), compare=False)
    window: tuple[tuple[int, int], ...] = field(default=(), compare=False)

    @property
    def taps(self) -> int:
        """Entries of the window that the depth holds."""
        return prod(taps for taps, _ in self.window)

    @property
    def macs(self) -> int:
        return self.positions * self.outputs * self.depth * self.repeats


def sizes(kind: TensorType) -> tuple[int, ...]:
    """The shape of a type whose dimensions are whole numbers."""
    assert all(isinstance(dim, int) for dim in kind.shape), f"{kind} has unbound dimensions"
    return kind.shape  # type: ignore[return-value]


def gemms(op: str, signature: Signature) -> tuple[Gemm, ...]:
    """The products of a node, in the order they run; empty for an operator without any."""
    return _PRODUCTS[op](signature) if op in _PRODUCTS else ()


def operand_dtypes(op: str, signature: Signature) -> tuple[str, ...]:
    """The dtypes that the products of a node multiply; symbolic dimensions are welcome here."""
    positions = {"lstm": (0, 1, 3, 4), "gru": (0, 1, 2, 3)}.get(op, (0, 1) if op in _PRODUCTS else ())
    return tuple(dict.fromkeys(signature.input(position).dtype for position in positions))


def _fully_connected(signature: Signature) -> tuple[Gemm, ...]:
    x, weight = signature.input(0), signature.input(1)
    *rows, depth = sizes(x)
    return (Gemm(prod(rows), sizes(weight)[0], depth, x.dtype, weight.dtype),)


def _matmul(signature: Signature) -> tuple[Gemm, ...]:
    left, right = signature.input(0), signature.input(1)
    *batch, positions, outputs = sizes(signature.outputs[0])
    return (Gemm(positions, outputs, sizes(left)[-1], left.dtype, right.dtype, prod(batch)),)


def _convolution(signature: Signature) -> tuple[Gemm, ...]:
    x, weight = signature.input(0), signature.input(1)
    batch, _, *extent = sizes(signature.outputs[0])
    channels, *kernel = sizes(weight)
    groups = int(signature.attrs.get("groups", 1))  # type: ignore[arg-type]
    window = tuple(zip(kernel[1:], _dilations(signature, len(extent)), strict=True))
    positions, outputs, depth = batch * prod(extent), channels // groups, prod(kernel)
    shape = tuple(extent)
    return (Gemm(positions, outputs, depth, x.dtype, weight.dtype, groups, extent=shape, window=window),)


def _dilations(signature: Signature, axes: int) -> tuple[int, ...]:
    dilation = signature.attrs.get("dilation", 1)
    return dilation if isinstance(dilation, tuple) else (int(dilation),) * axes  # type: ignore[return-value]


def _transposed(signature: Signature) -> tuple[Gemm, ...]:
    x, weight = signature.input(0), signature.input(1)
    batch, channels, *extent = sizes(x)
    taps, groups = prod(sizes(weight)[1:]), int(signature.attrs.get("groups", 1))  # type: ignore[arg-type]
    return (Gemm(batch * prod(extent), taps, channels // groups, x.dtype, weight.dtype, groups),)


def _lstm(signature: Signature) -> tuple[Gemm, ...]:
    x, hidden, w_input, w_recurrent = (signature.input(i) for i in (0, 1, 3, 4))
    time, batch, features = sizes(x)
    outputs, width = sizes(w_recurrent)
    steps = [Gemm(batch, outputs, width, hidden.dtype, w_recurrent.dtype, time, waits=True)]
    if signature.attrs.get("projected", False):
        weight, units = signature.input(6), sizes(signature.input(2))[1]
        steps.append(Gemm(batch, width, units, hidden.dtype, weight.dtype, time, waits=True))
    return (Gemm(time * batch, outputs, features, x.dtype, w_input.dtype), *steps)


def _gru(signature: Signature) -> tuple[Gemm, ...]:
    x, hidden, w_input, w_recurrent = (signature.input(i) for i in range(4))
    time, batch, features = sizes(x)
    outputs, units = sizes(w_recurrent)
    parts = (outputs,) if signature.attrs.get("linear_before_reset", False) else (2 * units, units)
    steps = (Gemm(batch, n, units, hidden.dtype, w_recurrent.dtype, time, waits=True) for n in parts)
    return (Gemm(time * batch, outputs, features, x.dtype, w_input.dtype), *steps)


_PRODUCTS: dict[str, Callable[[Signature], tuple[Gemm, ...]]] = {
    "fully_connected": _fully_connected,
    "matmul": _matmul,
    "conv1d": _convolution,
    "conv2d": _convolution,
    "conv_transpose1d": _transposed,
    "conv_transpose2d": _transposed,
    "lstm": _lstm,
    "gru": _gru,
}
