"""The table of ONNX operators that nnaq reads, and the handlers that only move or map values.

One line per operator; an operator of one operand that nnaq has under another name is one word.
"""

from collections.abc import Callable, Mapping
from itertools import pairwise

import numpy as np
from onnx import numpy_helper

from nnaq.frontends import onnx_layers, onnx_sizes
from nnaq.frontends.onnx_importer import Call, Handler
from nnaq.frontends.ports import Unsupported, reshape_to
from nnaq.ir.dims import Dim, Shape
from nnaq.kernels.movement import TO_THE_END


def unary(op: str) -> Handler:
    """An operator of one operand."""
    return lambda call: call.result(op, [call.operand(0)])


def binary(op: str) -> Handler:
    """An operator of two operands that broadcast."""
    return lambda call: call.result(op, [call.operand(0), call.operand(1)])


def skip(call: Call) -> None:
    """Identity, Dropout in evaluation, Cast between floats."""
    call.bind(call.operand(0))


def constant(call: Call) -> None:
    """Constant, in each of its spellings."""
    ((key, value),) = call.attrs.items()
    if not key.startswith("value") or "string" in key:
        raise Unsupported(f"its {key} is not an array of numbers")
    array = numpy_helper.to_array(value) if key == "value" else np.asarray(value)
    call.walk.arrays[call.node.output[0]] = array


def power(call: Call) -> None:
    """Pow with exponent 2 -> square, 1/2 -> sqrt, 1 -> nothing."""
    exponent = call.need(1, "exponent")
    ops = {2.0: "square", 0.5: "sqrt"}
    value = (
        float(exponent.reshape(-1)[0]) if exponent.size == 1 and exponent.ndim <= len(call.shape(0)) else None
    )
    if value == 1.0:
        return skip(call)
    if value not in ops:
        raise Unsupported(f"the exponent is {exponent.tolist()}", "it reads the exponents 2, 1 and 0.5")
    return call.result(ops[value], [call.operand(0)])


def divide(call: Call) -> None:
    """Div by a constant -> mul by its reciprocal."""
    array = call.need(1, "divisor")
    if not np.all(array):
        raise Unsupported("it divides by zero")
    call.result("mul", [call.operand(0), call.constant(1, "reciprocal", 1.0 / array.astype(np.float64))])


def clip(call: Call) -> None:
    """Clip to [0, infinity) -> relu."""
    low, high = (call.array(i) for i in (1, 2))
    if low is None or low.size != 1 or float(low.reshape(-1)[0]) != 0 or call.has(2):
        raise Unsupported(
            f"limits {_limit(low)} to {_limit(high)}", "it reads limits 0 to infinity, which are relu"
        )
    call.result("relu", [call.operand(0)])


def _limit(array: np.ndarray | None) -> object:
    return "open" if array is None else array.tolist()


# --- shapes


def into(target: Callable[[Call, Shape], Shape]) -> Handler:
    """An operator that only reshapes its operand, to a shape that follows from the operand's."""

    def handle(call: Call) -> None:
        shape = call.shape(0)
        call.result("reshape", [call.operand(0)], reshape_to(shape, target(call, shape)))

    return handle


def squeezed(call: Call, shape: Shape) -> Shape:
    axes = call.integers(1, "axes")
    if axes is None:
        axes = tuple(a for a, dim in enumerate(shape) if dim == 1)
    dropped = {a % len(shape) for a in axes}
    wrong = [shape[a] for a in dropped if shape[a] != 1]
    if wrong:
        raise Unsupported(
            f"it drops an axis of size {wrong[0]}, not 1", "give the axis a size with the input shapes"
        )
    return tuple(dim for a, dim in enumerate(shape) if a not in dropped)


def unsqueezed(call: Call, shape: Shape) -> Shape:
    axes = call.integers(1, "axes") or ()
    rank = len(shape) + len(axes)
    added, rest = {a % rank for a in axes}, iter(shape)
    return tuple(1 if a in added else next(rest) for a in range(rank))


def flattened(call: Call, shape: Shape) -> Shape:
    axis = call.attrs.get("axis", 1)
    axis += len(shape) if axis < 0 else 0
    return onnx_sizes.total(shape[:axis]), onnx_sizes.total(shape[axis:])


def reshape(call: Call) -> None:
    """Reshape to constant sizes (0 copies, -1 takes the rest) or to sizes computed from Shape."""
    sizes = call.walk.dims.get(call.node.input[1])
    if sizes is None:
        target = call.integers(1, "shape") or ()
        if call.attrs.get("allowzero") and 0 in target:
            raise Unsupported("allowzero=1 with an axis of size 0")
        return call.result("reshape", [call.operand(0)], {"shape": target})
    return call.result("reshape", [call.operand(0)], reshape_to(call.shape(0), sizes))


def transpose(call: Call) -> None:
    """Transpose; without perm the axes turn around."""
    perm = tuple(call.attrs.get("perm", reversed(range(len(call.shape(0))))))
    call.result("transpose", [call.operand(0)], {"perm": perm})


# --- parts


def cut(
    call: Call, starts: Mapping[int, int], ends: Mapping[int, int], steps: Mapping[int, int], output: str = ""
) -> None:
    """A slice with plain limits on axes of known size; a slice that takes everything is left out."""
    shape = call.shape(0)
    limits = {axis: _limits(shape[axis], starts[axis], ends[axis], steps[axis]) for axis in starts}
    kept = {axis: cut for axis, cut in limits.items() if cut not in ((0, shape[axis], 1), (0, TO_THE_END, 1))}
    if not kept:
        return call.bind(call.operand(0), output)
    low, high, step = zip(*kept.values(), strict=True)
    attrs = {"starts": low, "ends": high, "axes": tuple(kept), "steps": step}
    return call.result("slice", [call.operand(0)], attrs, output)


def _limits(dim: Dim, start: int, end: int, step: int) -> tuple[int, int, int]:
    if isinstance(dim, int) and step > 0:
        low, high, _ = slice(start, end, step).indices(dim)
        return low, max(high, low), step
    return max(start, -TO_THE_END), max(min(end, TO_THE_END), -TO_THE_END), step


def slice_(call: Call) -> None:
    """Slice with constant limits."""
    starts, ends = (call.need(i, what).tolist() for i, what in ((1, "starts"), (2, "ends")))
    rank = len(call.shape(0))
    axes = [a % rank for a in (call.integers(3, "axes") or range(len(starts)))]
    steps = call.integers(4, "steps") or [1] * len(starts)
    low, high, step = (dict(zip(axes, values, strict=True)) for values in (starts, ends, steps))
    cut(call, low, high, step)


def gather(call: Call) -> None:
    """Gather at one constant place, or at places with one stride -> slice."""
    indices = call.need(1, "indices")
    shape = call.shape(0)
    axis = call.attrs.get("axis", 0) % len(shape)
    size = shape[axis]
    if indices.ndim > 1 or not indices.size or not isinstance(size, int):
        raise Unsupported(f"indices of shape {list(indices.shape)} along an axis of {size}")
    places = [int(i) % size for i in indices.reshape(-1)]
    step = places[1] - places[0] if len(places) > 1 else 1
    if step < 1 or any(b - a != step for a, b in pairwise(places)):
        raise Unsupported("its indices do not grow by one stride")
    attrs = {"starts": (places[0],), "ends": (places[-1] + 1,), "axes": (axis,), "steps": (step,)}
    if indices.ndim:
        return call.result("slice", [call.operand(0)], attrs)
    part = call.step("slice", [call.operand(0)], attrs)
    return call.result("reshape", [part], reshape_to(call.type_shape(part), shape[:axis] + shape[axis + 1 :]))


def split(call: Call) -> None:
    """Split -> one slice per part."""
    axis = call.attrs.get("axis", 0) % len(call.shape(0))
    size, count = call.shape(0)[axis], len(call.node.output)
    if not isinstance(size, int):
        raise Unsupported(f"it splits the open axis {size!r}", "give the axis a size with the input shapes")
    part = -(-size // count)
    sizes = call.integers(1, "split") or [min(part, size - i * part) for i in range(count)]
    start = 0
    for output, length in zip(call.node.output, sizes, strict=True):
        if output:
            cut(call, {axis: start}, {axis: start + length}, {axis: 1}, output)
        start += length


def pad(call: Call) -> None:
    """Pad with zeros, mirrored or with the edge."""
    given, mode = call.integers(1, "pads") or (), call.word("mode", "constant")
    rank = len(call.shape(0))
    value = call.array(2)
    if mode not in ("constant", "reflect", "edge"):
        raise Unsupported(f"mode {mode!r}", "it reads constant, reflect and edge")
    if min(given, default=0) < 0 or (value is not None and np.any(value)):
        raise Unsupported("negative widths, or padding with something other than 0")
    axes = [a % rank for a in (call.integers(3, "axes") or range(rank))]
    pads = [0] * 2 * rank
    for place, axis in enumerate(axes):
        pads[axis], pads[rank + axis] = given[place], given[len(axes) + place]
    call.result("pad", [call.operand(0)], {"pads": tuple(pads), "mode": mode})


def concat(call: Call) -> None:
    """Concat along one axis."""
    inputs = [call.walk.operand(value) for value in call.node.input]
    rank = len(call.type_shape(inputs[0]))
    call.result("concat", inputs, {"axis": call.attrs["axis"] % rank})


HANDLERS: dict[str, Handler] = {
    "Add": binary("add"),
    "AveragePool": onnx_layers.pool("average_pool"),
    "BatchNormalization": onnx_layers.batch_normalization,
    "Cast": onnx_sizes.or_reals(onnx_sizes.same, skip),
    "Clip": clip,
    "Concat": onnx_sizes.or_reals(onnx_sizes.concat, concat),
    "Constant": constant,
    "ConstantOfShape": onnx_sizes.constant_of_shape,
    "Conv": onnx_layers.conv,
    "Div": onnx_sizes.or_reals(onnx_sizes.quotient_of, divide),
    "Dropout": skip,
    "Exp": unary("exp"),
    "Expand": onnx_sizes.expand,
    "Flatten": into(flattened),
    "Gather": onnx_sizes.or_reals(onnx_sizes.gather, gather),
    "Gemm": onnx_layers.gemm,
    "GlobalAveragePool": onnx_layers.global_average_pool,
    "Identity": onnx_sizes.or_reals(onnx_sizes.same, skip),
    "LSTM": onnx_layers.lstm,
    "Log": unary("log"),
    "MatMul": onnx_layers.matmul,
    "MaxPool": onnx_layers.pool("max_pool"),
    "Mul": onnx_sizes.or_reals(onnx_sizes.product_of, binary("mul")),
    "Pad": pad,
    "Pow": power,
    "ReduceMean": onnx_layers.reduce_mean,
    "Relu": unary("relu"),
    "Reshape": onnx_sizes.or_reals(onnx_sizes.same, reshape),
    "Shape": onnx_sizes.shape,
    "Sigmoid": unary("sigmoid"),
    "Slice": onnx_sizes.or_reals(onnx_sizes.cut, slice_),
    "Split": split,
    "Sqrt": unary("sqrt"),
    "Squeeze": onnx_sizes.or_reals(onnx_sizes.same, into(squeezed)),
    "Sub": binary("sub"),
    "Tanh": unary("tanh"),
    "Transpose": transpose,
    "Unsqueeze": onnx_sizes.or_reals(onnx_sizes.same, into(unsqueezed)),
}
