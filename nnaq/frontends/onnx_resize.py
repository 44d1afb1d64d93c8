"""ONNX Resize and Upsample: nnaq's resize where it has the rule, else a constant layer for every axis.

A resize is linear and treats axis by axis. What nnaq's operator does not have (cubic, antialiasing,
cutting out a region) becomes a product with what ONNX's own evaluator makes of the unit vectors.
"""

from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper
from onnx.reference import ReferenceEvaluator

from nnaq.frontends.onnx_importer import Call, Handler
from nnaq.frontends.ports import Unsupported
from nnaq.ir.op import Attr
from nnaq.kernels.resize import COORDINATES, MODES

_VERSION = 19  # of the Resize that weights are taken from
_AS_THEY_ARE = ("mode", "cubic_coeff_a", "exclude_outside", "antialias", "extrapolation_value")


@dataclass(frozen=True)
class Axis:
    """What happens to one axis: `scale` from `size` entries to `count`, of the region `start` to `end`."""

    size: int
    count: int
    scale: float
    region: tuple[float, float]


def resize(call: Call) -> None:
    """Resize, Upsample."""
    coordinates, mode = _coordinates(call), call.word("mode", "nearest")
    mode = "linear" if mode == "bilinear" else mode
    found = {axis: plan for axis, plan in _axes(call).items() if _changes(plan, coordinates)}
    shrinks = any(plan.scale < 1 for plan in found.values())
    plain = mode in MODES and coordinates in COORDINATES and not (call.attrs.get("antialias") and shrinks)
    if coordinates == "align_corners":  # ONNX aligns to a size that need not be whole
        plain &= all(plan.size * plan.scale == plan.count for plan in found.values())
    if not plain:
        return _layers(call, found, coordinates)
    scales = tuple(found[axis].scale if axis in found else 1.0 for axis in range(len(call.shape(0))))
    attrs: dict[str, Attr] = {"scales": scales, "mode": mode, "coordinates": coordinates}
    if mode == "nearest":
        attrs["nearest"] = _nearest(call)
    return call.result("resize", [call.operand(0)], attrs)


def _is_old(call: Call) -> bool:
    """Upsample, and Resize of opset 10, count from the corner and round down."""
    return call.node.op_type == "Upsample" or call.walk.opset < 11


def _coordinates(call: Call) -> str:
    word = call.word("coordinate_transformation_mode", "half_pixel")
    return "asymmetric" if _is_old(call) else word


def _nearest(call: Call) -> str:
    return "floor" if _is_old(call) else call.word("nearest_mode", "round_prefer_floor")


def _changes(plan: Axis, coordinates: str) -> bool:
    return plan.count != plan.size or plan.scale != 1 or coordinates == "tf_crop_and_resize"


def _axes(call: Call) -> dict[int, Axis]:
    """The plan of every axis that is named."""
    shape = call.shape(0)
    axes = [axis % len(shape) for axis in call.attrs.get("axes", range(len(shape)))]
    scales, sizes = _scales(call), call.array(3)
    roi = call.array(1) if call.node.op_type == "Resize" and not _is_old(call) else None
    region = np.zeros(2 * len(axes)) if roi is None or not roi.size else roi.astype(np.float64)
    if sizes is None or not sizes.size:
        ratios = [1.0] * len(axes) if scales is None else [float(scale) for scale in scales]
    else:
        ratios = _ratios(call, [_whole(call, axis) for axis in axes], [int(size) for size in sizes])
    plans = {}
    for place, (axis, ratio) in enumerate(zip(axes, ratios, strict=True)):
        start, end = float(region[place]), float(region[len(axes) + place])
        if ratio == 1 and not isinstance(shape[axis], int):
            continue  # an open axis that stays as it is
        size = _whole(call, axis)
        extent = (end - start) * size if _coordinates(call) == "tf_crop_and_resize" else size
        half = 0.0 if sizes is None or not sizes.size else 0.5
        count = int(np.floor(extent * ratio + half))
        if sizes is not None and sizes.size and not _keeps_ratio(call):
            count = int(sizes[place])
        plans[axis] = Axis(size, count, ratio, (start, end))
    return plans


def _scales(call: Call) -> np.ndarray | None:
    position = 1 if call.node.op_type == "Upsample" or call.walk.opset < 11 else 2
    if call.has(position):
        array = call.need(position, "scales")
        return array if array.size else None
    given = call.attrs.get("scales")
    return None if given is None else np.asarray(given)


def _keeps_ratio(call: Call) -> bool:
    return call.word("keep_aspect_ratio_policy", "stretch") != "stretch"


def _ratios(call: Call, sizes: list[int], wanted: list[int]) -> list[float]:
    """The scales that wanted sizes stand for; one for all axes where the ratio of the axes is kept."""
    found = [want / size for want, size in zip(wanted, sizes, strict=True)]
    if not _keeps_ratio(call):
        return found
    larger = call.word("keep_aspect_ratio_policy", "") == "not_smaller"
    return [max(found) if larger else min(found)] * len(found)


def _whole(call: Call, axis: int) -> int:
    size = call.shape(0)[axis]
    if not isinstance(size, int):
        raise Unsupported(f"it resizes the open axis {size!r}", "give the axis a size with the input shapes")
    return size


# --- as layers


def _layers(call: Call, found: dict[int, Axis], coordinates: str) -> None:
    """One product with a constant for every axis that changes."""
    value, last = call.operand(0), len(call.shape(0)) - 1
    for axis, plan in found.items():
        perm = tuple(last if a == axis else axis if a == last else a for a in range(last + 1))
        weight = call.weight(f"{call.source}.axis{axis}", _weight(call, plan, coordinates))
        if axis != last:
            value = call.step("transpose", [value], {"perm": perm})
        value = call.step("fully_connected", [value, weight], {"activation": "none"})
        if axis != last:
            value = call.step("transpose", [value], {"perm": perm})
    call.result("reshape", [value], {"shape": (0,) * (last + 1)})


def _weight(call: Call, plan: Axis, coordinates: str) -> np.ndarray:
    """[count, size]: what ONNX's evaluator makes of every unit vector."""
    attrs = {key: call.attrs[key] for key in _AS_THEY_ARE if key in call.attrs}
    attrs |= {"coordinate_transformation_mode": coordinates, "axes": [1], "nearest_mode": _nearest(call)}
    node = helper.make_node("Resize", ["x", "roi", "scales", "sizes"], ["y"], **attrs)
    by_scale = int(np.floor(plan.size * plan.scale)) == plan.count or plan.region != (0.0, 0.0)
    feeds: dict[str, np.ndarray] = {
        "roi": np.array(plan.region, np.float32),
        "scales": np.array([plan.scale] if by_scale else [], np.float32),
        "sizes": np.array([] if by_scale else [plan.count], np.int64),
    }
    if by_scale:
        node.input.pop()
    else:
        node.input[2] = ""
    made = _evaluate(node, np.eye(plan.size, dtype=np.float32), feeds)
    if np.any(_evaluate(node, np.zeros((1, plan.size), np.float32), feeds)):
        raise Unsupported("extrapolation_value is not 0")
    return made.T


def _evaluate(node: onnx.NodeProto, x: np.ndarray, feeds: dict[str, np.ndarray]) -> np.ndarray:
    operands = {"x": x, **{name: feeds[name] for name in node.input[1:] if name}}
    infos = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), None)
        for name, array in operands.items()
    ]
    y = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)
    graph = helper.make_graph([node], "resize", infos, [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _VERSION)], ir_version=9)
    (result,) = ReferenceEvaluator(model).run(None, operands)
    return np.asarray(result)


HANDLERS: dict[str, Handler] = {"Resize": resize, "Upsample": resize}
