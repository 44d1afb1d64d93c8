"""ONNX operators with weights: convolution and matrix products.

Weights go into nnaq's layouts: a layer's weight is [N,K], and a constant added right behind a
layer is its bias.
"""

from collections.abc import Sequence

import numpy as np

from nnaq.frontends.onnx_constants import TRANSPOSED
from nnaq.frontends.onnx_importer import Call, Handler
from nnaq.frontends.onnx_windows import listed, window_padding
from nnaq.frontends.ports import Unsupported, reshape_to
from nnaq.ir.dims import Dim, multiply
from nnaq.ir.op import Attr

# --- convolution


def conv(call: Call) -> None:
    """Conv -> conv1d, conv2d."""
    weight = call.need(1, "weight")
    spatial = _spatial(weight)
    stride, dilation = listed(call, "strides", spatial), listed(call, "dilations", spatial)
    padding = window_padding(call, weight.shape[2:], stride, dilation)
    inputs = [call.operand(0), call.constant(1, "", weight), *_bias(call, weight.shape[0])]
    attrs: dict[str, Attr] = {"padding": padding, "groups": call.attrs.get("group", 1), "activation": "none"}
    call.result(f"conv{spatial}d", inputs, attrs | _per_axis(stride=stride, dilation=dilation))


def conv_transpose(call: Call) -> None:
    """ConvTranspose -> conv_transpose1d, conv_transpose2d."""
    weight = call.need(1, "weight")
    spatial, groups = _spatial(weight), call.attrs.get("group", 1)
    stride, dilation = listed(call, "strides", spatial), listed(call, "dilations", spatial)
    extra = tuple(call.attrs.get("output_padding", (0,) * spatial))
    padding, extra = _cropping(call, weight.shape[2:], stride, dilation, extra)
    inputs = [call.operand(0), call.constant(1, "", weight), *_bias(call, weight.shape[1] * groups)]
    attrs: dict[str, Attr] = {"padding": padding, "groups": groups, "activation": "none"}
    sizes = _per_axis(stride=stride, dilation=dilation, output_padding=extra)
    call.result(f"conv_transpose{spatial}d", inputs, attrs | sizes)


def _spatial(weight: np.ndarray) -> int:
    if weight.ndim - 2 not in (1, 2):
        raise Unsupported(f"it convolves {weight.ndim - 2} axes", "convolutions of 1 and 2 axes are read")
    return weight.ndim - 2


def _per_axis(**sizes: tuple[int, ...]) -> dict[str, Attr]:
    """Attributes of one number per spatial axis; of one axis the number itself."""
    return {key: value[0] if len(value) == 1 else value for key, value in sizes.items()}


def _bias(call: Call, channels: int) -> list[str]:
    if call.has(2):
        return [call.constant(2, "", call.need(2, "bias"))]
    return _following_bias(call, channels, axis=1)


def _cropping(
    call: Call, kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int], extra: tuple[int, ...]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """What a transposed convolution cuts off, begins then ends, and what it adds at the ends."""
    count, mode = len(kernel), call.word("auto_pad", "NOTSET")
    wanted = call.attrs.get("output_shape")
    if wanted is None and not mode.startswith("SAME"):
        return window_padding(call, kernel, stride, dilation), extra
    begins, ends, added = [], [], []
    for axis, (k, s, d) in enumerate(zip(kernel, stride, dilation, strict=True)):
        size = call.shape(0)[2 + axis]
        excess = _excess(size, None if wanted is None else wanted[-count:][axis], k, s, d, extra[axis])
        short = max(excess, 0) // 2
        begins.append(max(excess, 0) - short if mode == "SAME_LOWER" else short)
        ends.append(max(excess, 0) - begins[-1])
        added.append(extra[axis] + max(-excess, 0))
    return (*begins, *ends), tuple(added)


def _excess(size: Dim, wanted: int | None, kernel: int, stride: int, dilation: int, extra: int) -> int:
    """Entries beyond the wanted size, by default stride times the operand's."""
    reach = (kernel - 1) * dilation + 1 + extra
    if wanted is None:
        return reach - stride
    if not isinstance(size, int):
        raise Unsupported(f"output_shape over the open axis {size!r}", "give the axis a size")
    return (size - 1) * stride + reach - wanted


# --- matrix products


def _following_bias(call: Call, channels: int, axis: int) -> list[str]:
    """The bias that an Add of a constant right behind a layer amounts to, as a list of none or one.

    channels: size of the layer's result along `axis` (1, or -1 for the last).
    """
    add = call.follower("Add")
    if add is None:
        return []
    position = 1 - list(add.node.input).index(call.node.output[0])
    array = add.array(position)
    bias = None if array is None else per_channel(array, len(call.shape(0)), channels, axis)
    if bias is None:
        return []
    name = add.constant(position, f"bias{channels}", bias)
    call.absorb(add)
    return [name]


def per_channel(array: np.ndarray, rank: int, channels: int, axis: int) -> np.ndarray | None:
    """The [channels] vector that `array` amounts to when broadcast along `axis`, else None."""
    if array.ndim > rank:
        return None
    shape = (1,) * (rank - array.ndim) + array.shape
    others = [size for a, size in enumerate(shape) if a != axis % rank]
    if any(size != 1 for size in others) or shape[axis] not in (1, channels):
        return None
    return np.broadcast_to(array.reshape(-1), (channels,))


def matmul(call: Call) -> None:
    """MatMul -> fully_connected with a constant side, matmul of two activations otherwise."""
    left, right = call.array(0), call.array(1)
    if right is not None and right.ndim == 2:
        inputs = [call.operand(0), call.constant(1, TRANSPOSED, right.T)]
        call.result(
            "fully_connected", inputs + _following_bias(call, right.shape[1], axis=-1), {"activation": "none"}
        )
    elif left is not None and left.ndim == 2 and len(call.shape(1)) >= 2:
        rank = len(call.shape(1))
        swap = {"perm": (*range(rank - 2), rank - 1, rank - 2)}
        turned = call.step("transpose", [call.operand(1)], swap)
        product = call.step("fully_connected", [turned, call.constant(0, "", left)], {"activation": "none"})
        call.result("transpose", [product], swap)
    else:
        _of_activations(call)


def _of_activations(call: Call) -> None:
    """MatMul of two values; a vector is a row on the left, a column on the right."""
    shapes = [call.shape(0), call.shape(1)]
    values = [call.operand(0), call.operand(1)]
    if min(map(len, shapes)) > 1:
        return call.result("matmul", values, {})
    for place, (shape, target) in enumerate(zip(shapes, ((1, *shapes[0]), (*shapes[1], 1)), strict=True)):
        if len(shape) == 1:
            values[place] = call.step("reshape", [values[place]], reshape_to(shape, target))
    product = call.step("matmul", values, {})
    left = list(call.type_shape(product))
    if len(shapes[0]) == 1:
        del left[-2]
    if len(shapes[1]) == 1:
        del left[-1]
    return call.result("reshape", [product], reshape_to(call.type_shape(product), tuple(left)))


def gemm(call: Call) -> None:
    """Gemm -> fully_connected; without a constant right side matmul and add."""
    alpha, beta = call.attrs.get("alpha", 1.0), call.attrs.get("beta", 1.0)
    x = call.operand(0)
    if call.attrs.get("transA"):
        x = call.step("transpose", [x], {"perm": (1, 0)}, call.node.input[0])
    right = call.array(1)
    if right is None:
        return _gemm_of_activations(call, x, alpha, beta)
    form = "" if call.attrs.get("transB") else TRANSPOSED
    weight = (right.T if form else right) * np.float32(alpha)
    inputs = [x, call.constant(1, form if alpha == 1 else f"{alpha} {form}", weight)]
    if not call.has(2):
        inputs += _following_bias(call, weight.shape[0], axis=-1)
        return call.result("fully_connected", inputs, {"activation": "none"})
    added = call.array(2)
    bias = None if added is None else per_channel(added * np.float32(beta), 2, weight.shape[0], axis=-1)
    if bias is not None:
        inputs.append(call.constant(2, f"bias{beta}{weight.shape[0]}", bias))
        return call.result("fully_connected", inputs, {"activation": "none"})
    product = call.step("fully_connected", inputs, {"activation": "none"})
    return _plus(call, product, beta)


def _gemm_of_activations(call: Call, x: str, alpha: float, beta: float) -> None:
    y = call.operand(1)
    if call.attrs.get("transB"):
        y = call.step("transpose", [y], {"perm": (1, 0)}, call.node.input[1])
    gain: dict[str, Attr] = {} if alpha == 1 else {"gain": float(alpha)}
    if not call.has(2):
        return call.result("matmul", [x, y], gain)
    return _plus(call, call.step("matmul", [x, y], gain), beta)


def _plus(call: Call, product: str, beta: float) -> None:
    other = call.operand(2)
    if beta != 1:
        other = call.step("mul", [other, call.weight(f"{call.source}.beta", np.array(beta))])
    call.result("add", [product, other])


# --- sums of products


def einsum(call: Call) -> None:
    """Einsum of one value (sums, turns) or of two (a matrix product between turns)."""
    left, arrow, right = call.word("equation", "").replace(" ", "").partition("->")
    terms = left.split(",")
    if len(terms) != len(call.node.input) or len(terms) > 2:
        raise Unsupported(f"{len(terms)} terms", "it reads one or two")
    ranks = [len(call.shape(i)) for i in range(len(terms))]
    letters, right = _spelled(ranks, terms, right if arrow else _once(left))
    if any(len(set(term)) != len(term) for term in (*letters, right)):
        raise Unsupported("a letter twice in one term (a diagonal)")
    values = [
        _without(call, call.operand(i), term, _kept(letters, right, i)) for i, term in enumerate(letters)
    ]
    if len(values) == 1:
        return _turned(call, *values[0], right)
    return _product(call, values[0], values[1], right)


def _once(left: str) -> str:
    """The right side that an equation without one has: dots, then the letters that stand once, sorted."""
    once = sorted(c for c in set(left) - {",", "."} if left.count(c) == 1)
    return ("..." if "..." in left else "") + "".join(once)


def _spelled(ranks: list[int], terms: list[str], right: str) -> tuple[list[str], str]:
    """The terms and the result with letters for their dots."""
    spare = [chr(code) for code in range(ord("A"), ord("Z") + 1) if chr(code) not in "".join(terms)]
    counts = (rank - len(term) + 3 for rank, term in zip(ranks, terms, strict=True) if "." in term)
    dots = max(counts, default=0)
    names = "".join(spare[:dots])
    found = []
    for rank, term in zip(ranks, terms, strict=True):
        own = rank - len(term) + 3
        found.append(term.replace("...", names[dots - own :] if own else ""))
    return found, right.replace("...", names)


def _kept(letters: list[str], right: str, place: int) -> set[str]:
    return set(right).union(*(term for i, term in enumerate(letters) if i != place))


def _without(call: Call, value: str, term: str, kept: set[str]) -> tuple[str, str]:
    """A value summed over the letters that nobody else has."""
    axes = tuple(axis for axis, letter in enumerate(term) if letter not in kept)
    if not axes:
        return value, term
    total = call.step("reduce_sum", [value], {"axes": axes, "keepdims": False})
    return total, "".join(letter for letter in term if letter in kept)


def _turned(call: Call, value: str, term: str, right: str) -> None:
    """The result is `value` with its axes in the order of `right`."""
    call.result("transpose", [value], {"perm": tuple(term.index(letter) for letter in right)})


def _product(call: Call, a: tuple[str, str], b: tuple[str, str], right: str) -> None:
    """Batch letters stand in all three, summed letters only in the operands."""
    batch = [c for c in right if c in a[1] and c in b[1]]
    summed = [c for c in a[1] if c in b[1] and c not in right]
    rows = [c for c in right if c in a[1] and c not in b[1]]
    columns = [c for c in right if c in b[1] and c not in a[1]]
    sizes = {c: dim for value, term in (a, b) for c, dim in zip(term, call.type_shape(value), strict=True)}
    left = _grouped(call, a, [batch, rows, summed], sizes)
    other = _grouped(call, b, [batch, summed, columns], sizes)
    product = call.step("matmul", [left, other], {})
    order = [*batch, *rows, *columns]
    target = tuple(sizes[c] for c in order)
    opened = call.step("reshape", [product], reshape_to(call.type_shape(product), target))
    _turned(call, opened, "".join(order), right)


def _grouped(call: Call, held: tuple[str, str], groups: list[list[str]], sizes: dict[str, Dim]) -> str:
    """A value with batch letters first, then one axis for each of the last two groups."""
    value, term = held
    order = [c for group in groups for c in group]
    turned = call.step("transpose", [value], {"perm": tuple(term.index(c) for c in order)})
    batch, *pair = groups
    target = (*(sizes[c] for c in batch), *(multiply(*(sizes[c] for c in group)) for group in pair))
    return call.step("reshape", [turned], reshape_to(call.type_shape(turned), target))


HANDLERS: dict[str, Handler] = {
    "Conv": conv,
    "ConvTranspose": conv_transpose,
    "Einsum": einsum,
    "Gemm": gemm,
    "MatMul": matmul,
}
