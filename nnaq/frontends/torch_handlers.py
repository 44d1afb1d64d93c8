"""The table of torch operators that nnaq reads, one line each, and their handlers."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from nnaq.frontends.ports import Unsupported, reshape_to
from nnaq.frontends.torch_importer import Call, Handler
from nnaq.frontends.torch_leaves import GRU, LSTM
from nnaq.ir.dims import Shape
from nnaq.ir.op import Attr
from nnaq.kernels.movement import TO_THE_END

BATCH_NORM = "aten::_native_batch_norm_legit_no_training"
HINTS = {
    GRU: "only nn.LSTM is read; train the model with LSTM layers",
    "aten::rnn_tanh": "only nn.LSTM is read",
    "aten::rnn_relu": "only nn.LSTM is read",
    "aten::_native_batch_norm_legit": "call module.eval() first",
    "aten::_native_batch_norm_legit_functional": "call module.eval() first",
}


def unary(op: str) -> Handler:
    """An operator of one operand."""
    return lambda call: call.result(op, [call.operand("self")])


def binary(op: str) -> Handler:
    """An operator of two operands that broadcast; one may be a number."""

    def handle(call: Call) -> None:
        if call.args.get("alpha", 1) != 1:
            raise Unsupported(f"alpha={call.args['alpha']}", "multiply the second operand instead")
        call.result(op, [call.operand("self"), call.operand("other")])

    return handle


def skip(call: Call) -> None:
    """Dropout in evaluation, clone, a cast between floats."""
    call.bind(call.value(call.node.args[0]))


def divide(call: Call) -> None:
    """Division by a constant -> mul by its reciprocal."""
    array = call.need("other")
    if not np.all(array) or call.args.get("rounding_mode"):
        raise Unsupported("it divides by zero or rounds the quotient")
    inverse = call.weight(f"{call.source}.reciprocal", 1.0 / array.astype(np.float64))
    call.result("mul", [call.operand("self"), inverse])


def power(call: Call) -> None:
    """Exponent 2 -> square, 1/2 -> sqrt."""
    ops = {2.0: "square", 0.5: "sqrt"}
    if call.args["exponent"] not in ops:
        raise Unsupported(f"the exponent is {call.args['exponent']}", "it reads the exponents 2 and 0.5")
    call.result(ops[call.args["exponent"]], [call.operand("self")])


# --- layers


def linear(call: Call) -> None:
    """nn.Linear."""
    inputs = [call.operand("input"), call.constant("weight", "", call.need("weight"))]
    if call.args.get("bias") is not None:
        inputs.append(call.constant("bias", "", call.need("bias")))
    call.result("fully_connected", inputs, {"activation": "none"})


def conv(spatial: int) -> Handler:
    """nn.Conv1d, nn.Conv2d with a BatchNorm right behind folded in."""

    def handle(call: Call) -> None:
        weight, bias = call.need("weight"), call.array("bias")
        norm = call.follower(BATCH_NORM)
        form = ""
        if norm is not None:
            factor, offset = batch_norm_factors(norm)
            bias = offset if bias is None else bias * factor + offset
            weight, form = weight * factor.reshape(-1, *[1] * (spatial + 1)), norm.source
            call.absorb(norm)
            call.walk.notes.append(f"batch norm {norm.source} is folded into {call.source}")
        stride, dilation = (numbers(call.args[key], spatial) for key in ("stride", "dilation"))
        attrs: dict[str, Attr] = {"groups": call.args["groups"], "activation": "none"}
        attrs["padding"] = conv_padding(call.args["padding"], weight.shape[2:], dilation)
        attrs["stride"], attrs["dilation"] = (v[0] if spatial == 1 else v for v in (stride, dilation))
        inputs = [call.operand("input"), call.constant("weight", form, weight)]
        if bias is not None:
            has = call.args.get("bias") is not None
            inputs.append(
                call.constant("bias", form, bias) if has else call.weight(f"{call.source}.bias", bias)
            )
        call.result(f"conv{spatial}d", inputs, attrs)

    return handle


def numbers(given: int | Sequence[int], count: int) -> tuple[int, ...]:
    """One number or several as a tuple; torch repeats a single one."""
    values = [given] if isinstance(given, int) else list(given)
    return tuple(map(int, values * count if len(values) == 1 else values))


def conv_padding(given: Any, kernel: Sequence[int], dilation: Sequence[int]) -> tuple[int, ...]:
    """Padding as (begin of every axis, end of every axis)."""
    if isinstance(given, str):
        total = [d * (k - 1) if given == "same" else 0 for k, d in zip(kernel, dilation, strict=True)]
        return (*(t // 2 for t in total), *(t - t // 2 for t in total))
    return numbers(given, len(kernel)) * 2


def batch_norm_factors(call: Call) -> tuple[np.ndarray, np.ndarray]:
    """y = factor * x + offset, per channel."""
    mean, variance = (call.need(key).astype(np.float64) for key in ("running_mean", "running_var"))
    scale, shift = call.array("weight"), call.array("bias")
    factor = (1.0 if scale is None else scale) / np.sqrt(variance + call.args["eps"])
    return factor, (0.0 if shift is None else shift) - mean * factor


def batch_norm(call: Call) -> None:
    """A BatchNorm on its own -> mul, add."""
    factor, offset = batch_norm_factors(call)
    shape = (-1, *[1] * (len(call.shape("input")) - 2))
    scaled = call.step(
        "mul", [call.operand("input"), call.weight(f"{call.source}.factor", factor.reshape(shape))]
    )
    call.result("add", [scaled, call.weight(f"{call.source}.offset", offset.reshape(shape))])


def product(right: str) -> Handler:
    """mm, bmm, matmul -> fully_connected with a constant [K,N] on the right, else matmul."""

    def handle(call: Call) -> None:
        array = call.array(right)
        if min(len(call.shape("self")), len(call.shape(right))) < 2:
            raise Unsupported("a product with a vector", "give it an axis of size 1")
        if array is None or array.ndim != 2:
            return call.result("matmul", [call.operand("self"), call.operand(right)], {})
        weight = call.constant(right, "transposed", array.T)
        return call.result("fully_connected", [call.operand("self"), weight], {"activation": "none"})

    return handle


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


def lstm(call: Call) -> None:
    """nn.LSTM, one direction -> one lstm per layer; batch_first turns axes around them."""
    args = call.args
    if args["bidirectional"] or args["width"] != args["units"] or len(call.shape("x")) != 3:
        raise Unsupported("a backward direction, a projection, or x without a batch axis")
    swap: dict[str, Attr] = {"perm": (1, 0, 2)}
    x = call.operand("x")
    if args["batch_first"]:
        x = call.step("transpose", [x], swap)
    per_layer = 4 if args["bias"] else 2
    last: list[tuple[str, str]] = []
    for layer in range(args["layers"]):
        weights = args["weights"][layer * per_layer : (layer + 1) * per_layer]
        first = [_layer_state(call, key, layer) for key in ("h", "c")]
        names = _lstm_names(call, layer)
        inputs = [x, *first, *_lstm_weights(call, weights, layer)]
        x, h, c = call.walk.builder.node("lstm", inputs, {}, names, source=call.source)
        last.append((h, c))
    if args["batch_first"]:
        call.result("transpose", [x], swap)
    else:
        call.bind(x)
    for position, parts in enumerate(zip(*last, strict=True), 1):
        _stacked(call, parts, position)


def _lstm_names(call: Call, layer: int) -> list[str]:
    """y, h and c of a layer; y of the last takes the node's own name where nothing follows it."""
    only = call.args["layers"] == 1
    stem = call.source if only else f"{call.source}.l{layer}"
    fresh = call.walk.names.fresh
    is_result = layer == call.args["layers"] - 1 and not call.args["batch_first"]
    y = call.walk.name_of(call.node) if is_result else fresh(f"{stem}.y")
    return [y, fresh(f"{stem}.h"), fresh(f"{stem}.c")]


def _lstm_weights(call: Call, nodes: Sequence[Any], layer: int) -> list[str]:
    """w_input, w_recurrent and the sum of both biases."""
    held = call.walk.arrays
    if any(node.name not in held for node in nodes):
        raise Unsupported("its weights are computed")
    made = [call.walk.constant(node.name, "", held[node.name][1]) for node in nodes[:2]]
    if len(nodes) == 4:
        total = held[nodes[2].name][1].astype(np.float64) + held[nodes[3].name][1]
        made.append(call.weight(f"{call.source}.bias_l{layer}", total))
    return made


def _layer_state(call: Call, key: str, layer: int) -> str:
    """h or c of one layer as [B,H], from [layers,B,H] or from zeros."""
    given = call.args[key]
    batch = call.shape("x")[0 if call.args["batch_first"] else 1]
    if given is None:
        if not isinstance(batch, int):
            raise Unsupported(f"it starts from zeros for an open batch {batch}", "fix the batch axis")
        return call.weight(f"{call.source}.{key}0", np.zeros((batch, call.args["units"])))
    shape, value = call.shape_of(given), call.value(given, key)
    if shape[0] != 1:
        cut: dict[str, Attr] = {"starts": (layer,), "ends": (layer + 1,), "axes": (0,), "steps": (1,)}
        value = call.step("slice", [value], cut)
    return call.step("reshape", [value], reshape_to((1, *shape[1:]), shape[1:]))


def _stacked(call: Call, parts: Sequence[str], position: int) -> None:
    """The [B,H] states of the layers as one result [layers,B,H]."""
    shape = (batch, units) = call.walk.builder.types[parts[0]].shape
    if len(parts) == 1:
        return call.reshape(parts[0], shape, (1, batch, units), position)
    rows = [call.step("reshape", [part], reshape_to(shape, (1, batch, units))) for part in parts]
    return call.result("concat", rows, {"axis": 0}, position)


# --- shapes and parts


def shaped(call: Call) -> None:
    """view, reshape, squeeze, unsqueeze, flatten: torch has worked out the shape."""
    call.reshape(call.operand("self"), call.shape(), call.target())


def permute(call: Call) -> None:
    rank = len(call.shape())
    call.result("transpose", [call.operand("self")], {"perm": tuple(d % rank for d in call.args["dims"])})


def swap_axes(call: Call) -> None:
    """transpose(dim0, dim1), and t() of a matrix."""
    perm = list(range(len(call.shape())))
    a, b = (call.args.get(key, place) % max(len(perm), 1) for place, key in enumerate(("dim0", "dim1")))
    perm[a], perm[b] = perm[b], perm[a]
    call.result("transpose", [call.operand("self")], {"perm": tuple(perm)})


def cut(
    call: Call, axis: int, start: int, end: int, step: int = 1
) -> tuple[list[str], dict[str, Attr]] | None:
    """Operands and attributes of a slice; None where it takes everything."""
    size = call.shape()[axis]
    if not all(isinstance(v, int) for v in (start, end, step)):
        raise Unsupported("its limits depend on an open axis")
    if isinstance(size, int):
        start, end, step = slice(start, end, step).indices(size)
        end = max(end, start)
    if (start, step) == (0, 1) and (end == size or end >= TO_THE_END):
        return None
    limits = max(start, -TO_THE_END), max(min(end, TO_THE_END), -TO_THE_END)
    attrs: dict[str, Attr] = {"starts": limits[:1], "ends": limits[1:], "axes": (axis,), "steps": (step,)}
    return [call.operand("self")], attrs


def slice_(call: Call) -> None:
    axis = call.args["dim"] % len(call.shape())
    start, end = call.args["start"], call.args["end"]
    part = cut(call, axis, start or 0, TO_THE_END if end is None else end, call.args["step"])
    if part is None:
        return call.bind(call.operand("self"))
    return call.result("slice", *part)


def select(call: Call) -> None:
    """x[..., i] -> slice, reshape."""
    axis, index = call.args["dim"] % len(call.shape()), call.args["index"]
    end = index + 1 if index != -1 else TO_THE_END
    part = cut(call, axis, index, end)
    value = call.operand("self") if part is None else call.step("slice", *part)
    shape: Shape = tuple(1 if a == axis else d for a, d in enumerate(call.shape()))
    call.reshape(value, shape, call.target())


def split(call: Call) -> None:
    """split, chunk, split_with_sizes -> one slice per part."""
    axis, start = call.args["dim"] % len(call.shape()), 0
    for position, made in enumerate(call.node.meta["val"]):
        size = made.shape[axis]
        part = cut(call, axis, start, start + size)
        if part is None:
            call.bind(call.operand("self"), position)
        else:
            call.result("slice", *part, position)
        start += size


def concat(call: Call) -> None:
    tensors = call.args["tensors"]
    axis = call.args["dim"] % len(call.target())
    call.result("concat", [call.value(t) for t in tensors], {"axis": axis})


def pad(call: Call) -> None:
    """Padding with zeros, mirrored or with the edge; torch counts from the last axis."""
    modes = {"constant": "constant", "reflect": "reflect", "replicate": "edge"}
    given, mode = call.args["pad"], call.args.get("mode", "constant")
    if mode not in modes or call.args.get("value") or min(given, default=0) < 0:
        raise Unsupported(f"mode {mode!r}, negative widths or a value other than 0", "pad with zeros")
    rank = len(call.shape())
    pads = [0] * 2 * rank
    for place in range(len(given) // 2):
        axis = rank - 1 - place
        pads[axis], pads[rank + axis] = given[2 * place : 2 * place + 2]
    call.result("pad", [call.operand("self")], {"pads": tuple(pads), "mode": modes[mode]})


HANDLERS: dict[str, Handler] = {
    BATCH_NORM: batch_norm,
    LSTM: lstm,
    "aten::_to_copy": skip,
    "aten::_unsafe_view": shaped,
    "aten::add": binary("add"),
    "aten::alias": skip,
    "aten::avg_pool1d": pool("average_pool", 1),
    "aten::avg_pool2d": pool("average_pool", 2),
    "aten::bmm": product("mat2"),
    "aten::cat": concat,
    "aten::chunk": split,
    "aten::clone": skip,
    "aten::constant_pad_nd": pad,
    "aten::contiguous": skip,
    "aten::conv1d": conv(1),
    "aten::conv2d": conv(2),
    "aten::detach": skip,
    "aten::div": divide,
    "aten::dropout": skip,
    "aten::exp": unary("exp"),
    "aten::flatten": shaped,
    "aten::linear": linear,
    "aten::log": unary("log"),
    "aten::matmul": product("other"),
    "aten::max_pool1d": pool("max_pool", 1),
    "aten::max_pool2d": pool("max_pool", 2),
    "aten::mm": product("mat2"),
    "aten::mul": binary("mul"),
    "aten::pad": pad,
    "aten::permute": permute,
    "aten::pow": power,
    "aten::relu": unary("relu"),
    "aten::reshape": shaped,
    "aten::select": select,
    "aten::sigmoid": unary("sigmoid"),
    "aten::slice": slice_,
    "aten::split": split,
    "aten::split_with_sizes": split,
    "aten::sqrt": unary("sqrt"),
    "aten::squeeze": shaped,
    "aten::sub": binary("sub"),
    "aten::t": swap_axes,
    "aten::tanh": unary("tanh"),
    "aten::transpose": swap_axes,
    "aten::unsqueeze": shaped,
    "aten::view": shaped,
}
