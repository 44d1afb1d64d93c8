"""Comparisons of reductions, resizing and transposed convolutions.

Images are NHWC; multipliers and right shifts (31 - s) are the oracle's.
"""

import math
from collections.abc import Iterator

import numpy as np
from integer_nodes import quantized

from comparisons.table import Pair, Vectors, compares, outcome
from nnaq.ir.op import Signature, lookup
from nnaq.ir.types import TensorType
from nnaq.kernels.pool import half_away_reference


@compares("tosa__reduce_sum_int32", "exact")
@compares("tosa__reduce_max_int8", "exact")
@compares("tosa__reduce_max_int16", "exact")
@compares("tosa__reduce_min_int8", "exact")
@compares("tosa__reduce_min_int16", "exact")
def tosa_reduce(vectors: Vectors, mode: str, kernel: str) -> Iterator[Pair]:
    name, bits = vectors.op.rsplit("_int", 1)
    for case in vectors.cases:
        kinds = (quantized(f"i{bits}", case[side].shape) for side in ("x", "y"))
        attrs = {"axes": (int(case["axis"]),), "keepdims": True}
        signature = Signature((next(kinds),), (next(kinds),), attrs)
        yield outcome(kernel, lookup(name), signature, [case["x"]]), case["y"]


@compares("tosa__resize_nearest_int8", "exact")
@compares("tosa__resize_bilinear_int8", "exact")
def tosa_resize(vectors: Vectors, mode: str, kernel: str) -> Iterator[Pair]:
    """The oracle's bilinear results are sums with whole weights: nnaq divides them once."""
    linear = "bilinear" in vectors.op
    for case in vectors.cases:
        factors = case["factors"].tolist()
        attrs = {
            "scales": (1.0, *(m / k for m, k in factors), 1.0),
            "mode": "linear" if linear else "nearest",
            "coordinates": "half_pixel",
            "nearest": "round_prefer_ceil",
        }
        kinds = [quantized("i8", case[side].shape) for side in ("x", "y")]
        # An axis that keeps its size takes no part in nnaq's divisor; the oracle weighs it by 2.
        divisor = math.prod(2 * m for m, _ in factors) if linear else 1
        theirs = [half_away_reference(int(total), divisor) for total in case["y"].ravel()]
        found = outcome(kernel, lookup("resize"), Signature((kinds[0],), (kinds[1],), attrs), [case["x"]])
        yield found, np.array(theirs).reshape(case["y"].shape)


@compares("tosa__transpose_conv2d_int8", "single", "double")
@compares("tosa__transpose_conv2d_int16x8", "double_m16")
def tosa_transpose_conv2d(vectors: Vectors, mode: str, kernel: str) -> Iterator[Pair]:
    """out_pad takes entries away where it is negative; at the end it may add some."""
    for case in vectors.cases:
        x, weight = (
            np.ascontiguousarray(np.moveaxis(case[n], -1, at)) for n, at in (("x", 1), ("weights", 0))
        )
        top, bottom, left, right = case["pad"].tolist()
        attrs = {
            "stride": tuple(case["stride"].tolist()),
            "padding": (-top, -left, max(-bottom, 0), max(-right, 0)),
            "output_padding": (max(bottom, 0), max(right, 0)),
            "rounding": mode,
        }
        outputs = case["weights"].shape[:1]
        wide = x.dtype == np.int16
        zero_points = [int(case[f"{name}_zero_point"]) for name in ("x", "weight")]
        kinds = [
            quantized("i16" if wide else "i8", x.shape, 1.0, zero_points[0]),
            quantized("i8", weight.shape, 1.0, zero_points[1]),
        ]
        constants = [np.broadcast_to(case[name], outputs) for name in ("bias", "multiplier")]
        constants.append(np.broadcast_to(31 - case["shift"], outputs).astype(np.int8))
        kinds += [TensorType(d, outputs) for d in ("i48" if wide else "i32", "i32", "i8")]
        result = quantized(kinds[0].dtype, (), 1.0, int(case.get("y_zero_point", 0)))
        signature = Signature(tuple(kinds), (result,), attrs)
        found = outcome(kernel, lookup("conv_transpose2d"), signature, [x, weight, *constants])
        theirs = case["y"] if wide else case[f"y_{mode}"]
        yield found, np.ascontiguousarray(np.moveaxis(theirs, -1, 1))
