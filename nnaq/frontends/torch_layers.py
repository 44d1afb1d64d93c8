"""Linear layers, products, norms, windows and reductions."""

from typing import Any

import numpy as np
import torch

from nnaq.frontends.ports import Unsupported
from nnaq.frontends.torch_arithmetic import is_flag
from nnaq.frontends.torch_convolutions import numbers
from nnaq.frontends.torch_importer import GETITEM, Call, Handler, operator
from nnaq.ir.dims import multiply
from nnaq.ir.op import Attr


def linear(call: Call) -> None:
    """nn.Linear; a computed weight makes it a product."""
    weight, bias = call.array("weight"), call.args.get("bias")
    if weight is None:
        turned = call.step("transpose", [call.operand("weight")], {"perm": (1, 0)})
        if bias is None:
            return call.result("matmul", [call.operand("input"), turned], {})
        return call.result(
            "add", [call.step("matmul", [call.operand("input"), turned]), call.operand("bias")]
        )
    inputs = [call.operand("input"), call.constant("weight", "", weight)]
    if bias is not None:
        inputs.append(call.constant("bias", "", call.need("bias")))
    return call.result("fully_connected", inputs, {"activation": "none"})


# --- norms


def over_last_axes(op: str, *keys: str) -> Handler:
    """layer_norm, rms_norm over the last axes."""

    def handle(call: Call) -> None:
        epsilon = call.args["eps"]
        attrs: dict[str, Attr] = {"axis": -len(call.args["normalized_shape"])}
        attrs["epsilon"] = float(np.finfo(np.float32).eps if epsilon is None else epsilon)
        weights = [call.operand(key) if call.args.get(key) is not None else "" for key in keys]
        while weights and not weights[-1]:
            weights.pop()
        call.result(op, [call.operand("input"), *weights], attrs)

    return handle


def group_norm(call: Call) -> None:
    _grouped(call, call.args["num_groups"])


def instance_norm(call: Call) -> None:
    """instance_norm over the recording itself -> group_norm with a group for every channel."""
    channels = call.shape("input")[1]
    if not call.args["use_input_stats"] or not isinstance(channels, int):
        raise Unsupported("running statistics or an open number of channels", "use batch norm")
    _grouped(call, channels)


def _grouped(call: Call, groups: int) -> None:
    weights = [call.operand(key) if call.args.get(key) is not None else "" for key in ("weight", "bias")]
    while weights and not weights[-1]:
        weights.pop()
    attrs: dict[str, Attr] = {"groups": groups, "epsilon": float(call.args["eps"])}
    call.result("group_norm", [call.operand("input"), *weights], attrs)


def vector_norm(call: Call) -> None:
    """The length of vectors: sqrt(Σ x²)."""
    if call.args["ord"] != 2:
        raise Unsupported(f"ord={call.args['ord']}", "use the norm of order 2")
    attrs = _over(call, call.args["dim"], bool(call.args["keepdim"]))
    squares = call.step("square", [call.operand("self")])
    call.result("sqrt", [call.step("reduce_sum", [squares], attrs)])


# --- products


def product(right: str) -> Handler:
    """mm, bmm, matmul -> fully_connected with a constant [K,N] on the right, else matmul."""

    def handle(call: Call) -> None:
        array = call.array(right)
        if min(len(call.shape("self")), len(call.shape(right))) < 2:
            raise Unsupported("a product with a vector", "give it an axis of size 1")
        if array is None or array.ndim != 2 or call.array("self") is not None:
            return call.result("matmul", [call.operand("self"), call.operand(right)], {})
        weight = call.derived(right, "transposed", torch.t, right)
        return call.result("fully_connected", [call.operand("self"), weight], {"activation": "none"})

    return handle


def add_product(left: str, right: str) -> Handler:
    """addmm, baddbmm: beta * self + alpha * left @ right."""

    def handle(call: Call) -> None:
        if call.args["beta"] != 1:
            raise Unsupported(f"beta={call.args['beta']}", "multiply the term instead")
        made = call.step(
            "matmul", [call.operand(left), call.operand(right)], {"gain": float(call.args["alpha"])}
        )
        call.result("add", [made, call.operand("self")])

    return handle


def einsum(call: Call) -> None:
    """einsum of two operands that is one matmul over batch axes: at most one axis of each other kind."""
    left, right, out = _letters(call)
    a, b = call.args["tensors"]
    batch = [c for c in out if c in left and c in right]
    summed = [c for c in left if c in right and c not in out]
    rows, columns = (
        [c for c in out if c in own and c not in other] for own, other in ((left, right), (right, left))
    )
    known = set(batch + summed + rows + columns)
    if set(left) | set(right) != known or max(map(len, (summed, rows, columns))) > 1 or not summed:
        raise Unsupported(f"the sum {call.args['equation']!r}", "write it with matmul and permute")
    first = _ordered(call, call.value(a), left, [*batch, *(rows or "1"), *summed])
    second = _ordered(call, call.value(b), right, [*batch, *summed, *(columns or "1")])
    made = [*batch, *(rows or "1"), *(columns or "1")]
    perm = tuple(made.index(c) for c in out) + tuple(i for i, c in enumerate(made) if c == "1")
    if perm == tuple(range(len(out))):
        return call.result("matmul", [first, second], {})
    value = call.step("matmul", [first, second], {})
    if perm != tuple(range(len(made))):
        value = call.step("transpose", [value], {"perm": perm})
    return call.reshape(value, call.type_shape(value)[: len(out)])


def _letters(call: Call) -> tuple[str, str, str]:
    """The letters of two operands and the result."""
    equation = call.args["equation"].replace(" ", "")
    operands, arrow, out = equation.partition("->")
    names = operands.split(",")
    if not arrow or len(names) != 2 or "." in equation or any(len(set(n)) < len(n) for n in (*names, out)):
        raise Unsupported(f"the sum {equation!r}", "it reads two operands, each axis once, and a result")
    return names[0], names[1], out


def _ordered(call: Call, value: str, letters: str, wanted: list[str]) -> str:
    """An operand with its axes in the order wanted; `1` is an axis of one entry."""
    present = [c for c in wanted if c != "1"]
    perm = tuple(letters.index(c) for c in present)
    if perm != tuple(range(len(perm))):
        value = call.step("transpose", [value], {"perm": perm})
    if len(present) == len(wanted):
        return value
    sizes = iter(call.type_shape(value))
    return call.reshaped(value, tuple(1 if c == "1" else next(sizes) for c in wanted))


# --- windows and reductions


def pool(op: str, spatial: int) -> Handler:
    """max_pool1d … avg_pool2d."""

    def handle(call: Call) -> None:
        kernel = numbers(call.args["kernel_size"], spatial)
        dilation = numbers(call.args.get("dilation", 1), spatial)
        if call.args.get("ceil_mode") or call.args.get("divisor_override") or max(dilation) > 1:
            raise Unsupported("ceil_mode, dilation or a divisor of its own")
        padding = numbers(call.args["padding"], spatial) * 2
        attrs: dict[str, Attr] = {"kernel": kernel, "padding": padding}
        attrs["stride"] = numbers(call.args["stride"] or kernel, spatial)
        if call.args.get("count_include_pad") and any(padding):
            attrs["count_include_pad"] = True
        call.result(op, [call.operand("self")], attrs)

    return handle


def adaptive(op: str, reduction: str, spatial: int) -> Handler:
    """Adaptive pooling to one entry, or to sizes that divide those of the operand."""

    def handle(call: Call) -> None:
        sizes, rank = numbers(call.args["output_size"], spatial), len(call.shape())
        space = call.shape()[rank - spatial :]
        if all(size == 1 for size in sizes):
            axes = tuple(range(rank - spatial, rank))
            return call.result(reduction, [call.operand("self")], {"axes": axes, "keepdims": True})
        whole = [dim for dim in space if isinstance(dim, int)]
        if len(whole) < spatial or any(dim % size for dim, size in zip(whole, sizes, strict=True)):
            raise Unsupported(f"{list(space)} pooled to {list(sizes)}", "pool to 1, or to sizes that divide")
        kernel = tuple(dim // size for dim, size in zip(whole, sizes, strict=True))
        attrs: dict[str, Attr] = {"kernel": kernel, "stride": kernel, "padding": (0,) * 2 * spatial}
        return call.result(op, [call.operand("self")], attrs)

    return handle


def _over(call: Call, dims: Any, keep: bool) -> dict[str, Attr]:
    """Attributes of a reduction over some axes or all."""
    rank = len(call.shape())
    given = range(rank) if dims is None or dims == [] else [dims] if isinstance(dims, int) else dims
    return {"axes": tuple(sorted(d % rank for d in given)), "keepdims": keep}


def reduction(op: str) -> Handler:
    """sum, mean, amax, amin over some axes or all."""

    def handle(call: Call) -> None:
        attrs = _over(call, call.args.get("dim"), bool(call.args.get("keepdim")))
        call.result(op, [call.operand("self")], attrs)

    return handle


def extremum(op: str) -> Handler:
    """max, min along an axis: the values; where they stand is not there."""

    def handle(call: Call) -> None:
        if any(user.args[1] == 1 and user.users for user in call.node.users if operator(user) == GETITEM):
            raise Unsupported("the places of its results are read", "read the values only")
        reduction(op)(call)

    return handle


def any_or_all(op: str) -> Handler:
    """any, all of flags: their maximum, their minimum."""

    def handle(call: Call) -> None:
        if not is_flag(call.args["self"]):
            raise Unsupported("its operand is no flag", "compare with 0 first")
        reduction(op)(call)

    return handle


def variance(root: bool) -> Handler:
    """var, std: the mean of squared distances from the mean, by n - correction."""

    def handle(call: Call) -> None:
        attrs = _over(call, call.args.get("dim"), True)
        value, shape = call.operand("self"), call.shape()
        count = multiply(*(shape[axis] for axis in attrs["axes"]))  # type: ignore[index,union-attr]
        unbiased = call.args.get("unbiased")
        given = call.args.get("correction", 1 if unbiased is None else int(unbiased))
        given = 1 if given is None else given
        if given and not isinstance(count, int):
            raise Unsupported(
                f"it divides by {count} - {given}", "give correction=0, or the axis a whole size"
            )
        distance = call.step("sub", [value, call.step("reduce_mean", [value], attrs)])
        last = {**attrs, "keepdims": bool(call.args.get("keepdim"))}
        squares = call.step("square", [distance])
        mean = call.step("reduce_mean", [squares], last)
        if given and isinstance(count, int):
            mean = call.step("mul", [mean, call.number(count / (count - given))])
        return call.result("sqrt", [mean]) if root else call.bind(mean)

    return handle


def cumulative(call: Call) -> None:
    """cumsum."""
    attrs: dict[str, Attr] = {"axis": call.axis(), "exclusive": False, "reverse": False}
    call.result("cumulative_sum", [call.operand("self")], attrs)


def upsample(mode: str, spatial: int) -> Handler:
    """interpolate by whole or fractional factors."""

    def handle(call: Call) -> None:
        given, rank = call.args.get("scale_factors"), len(call.shape("input"))
        if given is None:
            space, sizes = call.shape("input")[2:], call.args["output_size"]
            if not all(isinstance(d, int) for d in (*space, *sizes)):
                raise Unsupported("it resizes an open axis to a size", "give scale_factor")
            given = [size / int(dim) for size, dim in zip(sizes, space, strict=True)]
        aligned = bool(call.args.get("align_corners"))
        coordinates = "align_corners" if aligned else "asymmetric" if mode == "nearest" else "half_pixel"
        attrs: dict[str, Attr] = {"scales": (1.0,) * (rank - spatial) + tuple(map(float, given))}
        attrs |= {"mode": mode, "coordinates": coordinates}
        if mode == "nearest":
            attrs["rounding"] = "floor"
        call.result("resize", [call.operand("input")], attrs)

    return handle


HANDLERS: dict[str, Handler] = {
    "aten::adaptive_avg_pool1d": adaptive("average_pool", "reduce_mean", 1),
    "aten::adaptive_avg_pool2d": adaptive("average_pool", "reduce_mean", 2),
    "aten::addmm": add_product("mat1", "mat2"),
    "aten::all": any_or_all("reduce_min"),
    "aten::amax": reduction("reduce_max"),
    "aten::amin": reduction("reduce_min"),
    "aten::any": any_or_all("reduce_max"),
    "aten::avg_pool1d": pool("average_pool", 1),
    "aten::avg_pool2d": pool("average_pool", 2),
    "aten::baddbmm": add_product("batch1", "batch2"),
    "aten::bmm": product("mat2"),
    "aten::cumsum": cumulative,
    "aten::einsum": einsum,
    "aten::group_norm": group_norm,
    "aten::instance_norm": instance_norm,
    "aten::layer_norm": over_last_axes("layer_norm", "weight", "bias"),
    "aten::linalg_vector_norm": vector_norm,
    "aten::linear": linear,
    "aten::matmul": product("other"),
    "aten::max": extremum("reduce_max"),
    "aten::max_pool1d": pool("max_pool", 1),
    "aten::max_pool2d": pool("max_pool", 2),
    "aten::mean": reduction("reduce_mean"),
    "aten::min": extremum("reduce_min"),
    "aten::mm": product("mat2"),
    "aten::rms_norm": over_last_axes("rms_norm", "weight"),
    "aten::std": variance(root=True),
    "aten::sum": reduction("reduce_sum"),
    "aten::upsample_bilinear2d": upsample("linear", 2),
    "aten::upsample_linear1d": upsample("linear", 1),
    "aten::upsample_nearest1d": upsample("nearest", 1),
    "aten::upsample_nearest2d": upsample("nearest", 2),
    "aten::var": variance(root=False),
}
