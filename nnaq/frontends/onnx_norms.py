"""ONNX normalisations: over the batch's statistics, over groups, over the last axes, over a norm.

Weights and biases that are computed, not constant, stand beside the norm as products and sums.
"""

from collections.abc import Sequence

import numpy as np

from nnaq.frontends.onnx_importer import Call, Handler
from nnaq.frontends.onnx_softmax import along_last
from nnaq.frontends.ports import Unsupported
from nnaq.ir.dims import Shape
from nnaq.ir.op import Attr


def batch_normalization(call: Call) -> None:
    """BatchNormalization with constants -> batch_norm: x factor + offset."""
    if call.attrs.get("training_mode"):
        raise Unsupported("training_mode=1", "export the model in evaluation mode")
    scale, bias, mean, variance = (
        call.need(i, name).astype(np.float64)
        for i, name in enumerate(("scale", "bias", "mean", "variance"), 1)
    )
    factor = scale / np.sqrt(variance + call.attrs.get("epsilon", 1e-5))
    constants = [call.constant(1, f"factor {call.source}", factor)]
    constants.append(call.constant(2, f"offset {call.source}", bias - mean * factor))
    call.result("batch_norm", [call.operand(0), *constants])


def instance_normalization(call: Call) -> None:
    """InstanceNormalization -> group_norm with a group for every channel."""
    channels = call.shape(0)[1]
    if not isinstance(channels, int):
        raise Unsupported(f"it has {channels} channels", "give the axis a size with the input shapes")
    _grouped(call, channels, [call.need(i, what) for i, what in ((1, "scale"), (2, "bias"))])


def group_normalization(call: Call) -> None:
    """GroupNormalization; before opset 21 one weight stands for a whole group."""
    groups, channels = call.attrs["num_groups"], call.shape(0)[1]
    if not isinstance(channels, int):
        raise Unsupported(f"it has {channels} channels", "give the axis a size with the input shapes")
    held = [call.need(i, what) for i, what in ((1, "scale"), (2, "bias"))]
    _grouped(call, groups, [np.repeat(w, channels // w.size) if w.size != channels else w for w in held])


def _grouped(call: Call, groups: int, weights: Sequence[np.ndarray]) -> None:
    attrs: dict[str, Attr] = {"groups": groups, "epsilon": float(call.attrs.get("epsilon", 1e-5))}
    constants = [call.constant(i, f"{w.size}", w) for i, w in enumerate(weights, 1)]
    call.result("group_norm", [call.operand(0), *constants], attrs)


# --- over the last axes


def layer_normalization(call: Call) -> None:
    """LayerNormalization -> layer_norm; its mean and deviation are made apart where they are read."""
    _over_last_axes(call, "layer_norm")
    read = [v for v in call.node.output[1:] if v and (v in call.walk.readers or v in call.walk.wanted)]
    if read:
        _statistics(call)


def rms_normalization(call: Call) -> None:
    """RMSNormalization -> rms_norm."""
    _over_last_axes(call, "rms_norm")


def _over_last_axes(call: Call, op: str) -> None:
    """The norm with its constant weights; computed weights follow as a product and a sum."""
    shape = call.shape(0)
    axis = _axis(call)
    attrs: dict[str, Attr] = {"axis": axis, "epsilon": float(call.attrs.get("epsilon", 1e-5))}
    weights = [_weight(call, position, shape[axis:]) for position in (1, 2) if call.has(position)]
    fused = [name for name in weights if name]
    if len(fused) == len(weights):
        return call.result(op, [call.operand(0), *fused], attrs)
    scaled = [call.step(op, [call.operand(0)], attrs), call.operand(1)]
    if not call.has(2):
        return call.result("mul", scaled)
    return call.result("add", [call.step("mul", scaled), call.operand(2)])


def _axis(call: Call) -> int:
    rank = len(call.shape(0))
    return int(call.attrs.get("axis", -1)) % rank - rank


def _weight(call: Call, position: int, shape: Shape) -> str:
    """A constant weight of exactly `shape`; nothing where it is computed or the shape is open."""
    array = call.array(position)
    sizes = tuple(dim for dim in shape if isinstance(dim, int))
    if array is None or len(sizes) != len(shape) or array.ndim > len(sizes):
        return ""
    return call.constant(position, f"of {sizes}", np.broadcast_to(array, sizes))


def _statistics(call: Call) -> None:
    """Mean and 1 / deviation, which only training reads."""
    x, rank = call.operand(0), len(call.shape(0))
    over: dict[str, Attr] = {"axes": tuple(range(rank + _axis(call), rank)), "keepdims": True}
    mean, deviation = (*call.node.output[1:], "", "")[:2]
    centre = call.step("reduce_mean", [x], over)
    if mean:
        call.result("reshape", [centre], {"shape": (0,) * rank}, mean)
    if deviation:
        squares = call.step("square", [call.step("sub", [x, centre])])
        variance = call.step("reduce_mean", [squares], over)
        epsilon = call.number(call.attrs.get("epsilon", 1e-5))
        call.result("rsqrt", [call.step("add", [variance, epsilon])], {}, deviation)


# --- over a norm


def lp_normalization(call: Call) -> None:
    """LpNormalization: p=2 -> l2_normalize, p=1 -> x / Σ |x|, 0 where all are 0."""
    axis = int(call.attrs.get("axis", -1)) % len(call.shape(0))
    x = call.operand(0)
    if call.attrs.get("p", 2) == 2:
        return along_last(call, "l2_normalize", [x], axis, {"axis": -1, "epsilon": SMALLEST})
    over: dict[str, Attr] = {"axes": (axis,), "keepdims": True}
    total = call.step("reduce_sum", [call.step("abs", [x])], over)
    return call.result("div", [x, call.step("maximum", [total, call.number(SMALLEST)])])


SMALLEST = 1e-12  # stands below a norm of 0


def mean_variance_normalization(call: Call) -> None:
    """MeanVarianceNormalization: (x - mean) / (deviation + 1e-9) over axes 0, 2, 3."""
    axes = tuple(axis % len(call.shape(0)) for axis in call.attrs.get("axes", (0, 2, 3)))
    over: dict[str, Attr] = {"axes": tuple(sorted(axes)), "keepdims": True}
    centred = call.step("sub", [call.operand(0), call.step("reduce_mean", [call.operand(0)], over)])
    variance = call.step("reduce_mean", [call.step("square", [centred])], over)
    call.result("div", [centred, call.step("add", [call.step("sqrt", [variance]), call.number(1e-9)])])


HANDLERS: dict[str, Handler] = {
    "BatchNormalization": batch_normalization,
    "GroupNormalization": group_normalization,
    "InstanceNormalization": instance_normalization,
    "LayerNormalization": layer_normalization,
    "LpNormalization": lp_normalization,
    "MeanVarianceNormalization": mean_variance_normalization,
    "RMSNormalization": rms_normalization,
}
