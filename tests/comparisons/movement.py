"""Comparisons of operators that move codes, and of pooling; images are NHWC."""

from collections.abc import Iterator

import numpy as np
from integer_nodes import crossed, quantized

from comparisons.elementwise import call
from comparisons.table import Case, Pair, Vectors, compares
from nnaq.ir.op import Attr, lookup


def attributes(op: str, case: Case) -> dict[str, Attr]:
    """The attributes of nnaq's operator of the same name."""
    lists = {name: tuple(np.ravel(case[name]).tolist()) for name in case if case[name].dtype == np.int32}
    if op == "pad":
        return {"pads": tuple(case["pads"].T.ravel().tolist()), "mode": "constant"}
    if op == "slice":
        return {"starts": lists["starts"], "ends": lists["ends"], "axes": (0, 1, 2), "steps": (1, 1, 1)}
    if op == "concat":
        return {"axis": int(case["axis"])}
    if op == "reverse":
        return {"axes": (int(case["axis"]),)}
    return {name: lists[name] for name in ("repeats", "perm") if name in lists}


def moved(op: str, case: Case, kernel: str, zero_point: int = 0) -> np.ndarray:
    """What nnaq makes of the same codes."""
    arrays = [case[name] for name in ("x", "a", "b") if name in case]
    kinds = tuple(quantized("i8", array.shape, 1.0, zero_point) for array in arrays)
    node = crossed(op, kinds, kinds[0].with_shape(case["y"].shape), attributes(op, case))
    return call(kernel, node, *arrays)


@compares("tosa__pad_int8", "exact")
@compares("tosa__concat_int8", "exact")
@compares("tosa__slice_int8", "exact")
@compares("tosa__reverse_int8", "exact")
@compares("tosa__tile_int8", "exact")
@compares("tosa__transpose_int8", "exact")
def tosa_movement(vectors: Vectors, mode: str, kernel: str) -> Iterator[Pair]:
    """Padding holds the zero point."""
    name = vectors.op.removesuffix("_int8")
    for case in vectors.cases:
        yield moved(name, case, kernel, int(case.get("zero_point", 0))), case["y"]


@compares("tosa__gather_int8", "exact")
def tosa_gather(vectors: Vectors, mode: str, kernel: str) -> Iterator[Pair]:
    for case in vectors.cases:
        x, indices = case["x"][0], case["indices"][0]
        kinds = quantized("i8", x.shape), quantized("i32", indices.shape)
        node = crossed("gather", kinds, quantized("i8", case["y"].shape[1:]), {"axis": 0})
        yield call(kernel, node, x, indices), case["y"][0]


@compares("tosa__max_pool2d_int8", "exact")
@compares("tosa__avg_pool2d_int8", "half_away")
def tosa_pools(vectors: Vectors, mode: str, kernel: str) -> Iterator[Pair]:
    name = "max_pool" if vectors.op.startswith("max") else "average_pool"
    for case in vectors.cases:
        x = np.ascontiguousarray(case["x"].transpose(0, 3, 1, 2))
        top, bottom, left, right = case["pad"].tolist()
        attrs = {
            "kernel": tuple(case["kernel"].tolist()),
            "stride": tuple(case["stride"].tolist()),
            "padding": (top, left, bottom, right),
        }
        kind = quantized("i8", x.shape)
        (shape,) = lookup(name).infer((kind,), attrs)
        node = crossed(name, (kind,), kind.with_shape(shape), attrs)
        yield call(kernel, node, x).transpose(0, 2, 3, 1), case["y"]
