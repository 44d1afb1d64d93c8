"""Comparisons of absolute values, extremes, comparisons, logic and choices: exact in every oracle."""

from collections.abc import Iterator

import numpy as np
from integer_nodes import crossed, quantized

from comparisons.elementwise import call
from comparisons.table import Pair, Vectors, compares

NAMES = {"equal": "equal", "greater": "greater", "greater_equal": "greater_or_equal"}


@compares("tosa__abs_int32", "exact")
def tosa_abs(vectors: Vectors, mode: str, kernel: str) -> Iterator[Pair]:
    for case in vectors.cases:
        kind = quantized("i32", case["x"].shape)
        yield call(kernel, crossed("abs", (kind,), kind), case["x"]), case["y"]


@compares("tosa__maximum_int32", "exact")
@compares("tosa__minimum_int32", "exact")
def tosa_extremes(vectors: Vectors, mode: str, kernel: str) -> Iterator[Pair]:
    for case in vectors.cases:
        kinds = tuple(quantized("i32", case[name].shape) for name in "aby")
        node = crossed(vectors.op.removesuffix("_int32"), kinds[:2], kinds[2])
        yield call(kernel, node, case["a"], case["b"]), case["y"]


@compares("tosa__clamp", "exact")
def tosa_clamp(vectors: Vectors, mode: str, kernel: str) -> Iterator[Pair]:
    for case in vectors.cases:
        kind = quantized(f"i{case['bits']}", case["x"].shape)
        node = crossed("clip", (kind,), kind, {name: float(case[name]) for name in ("low", "high")})
        yield call(kernel, node, case["x"].astype(f"int{case['bits']}")), case["y"]


@compares("tosa__equal_int32", "exact")
@compares("tosa__greater_int32", "exact")
@compares("tosa__greater_equal_int32", "exact")
def tosa_comparisons(vectors: Vectors, mode: str, kernel: str) -> Iterator[Pair]:
    """`less` is `greater` with its operands changed over, and both are compared."""
    name = NAMES[vectors.op.removesuffix("_int32")]
    turned = name.replace("greater", "less")
    for case in vectors.cases:
        a, b = (quantized("i32", case[operand].shape) for operand in "ab")
        flag = quantized("i8", case["y"].shape)
        yield call(kernel, crossed(name, (a, b), flag), case["a"], case["b"]), case["y"]
        yield call(kernel, crossed(turned, (b, a), flag), case["b"], case["a"]), case["y"]


@compares("tosa__logical_and", "exact")
@compares("tosa__logical_or", "exact")
@compares("tosa__logical_xor", "exact")
def tosa_logic(vectors: Vectors, mode: str, kernel: str) -> Iterator[Pair]:
    for case in vectors.cases:
        kinds = tuple(quantized("i8", case[name].shape) for name in "aby")
        flags = (case[name].astype(np.int8) for name in "ab")
        yield call(kernel, crossed(vectors.op, kinds[:2], kinds[2]), *flags), case["y"]


@compares("tosa__logical_not", "exact")
def tosa_not(vectors: Vectors, mode: str, kernel: str) -> Iterator[Pair]:
    for case in vectors.cases:
        kind = quantized("i8", case["x"].shape)
        yield call(kernel, crossed("logical_not", (kind,), kind), case["x"].astype(np.int8)), case["y"]


@compares("tosa__select", "exact")
def tosa_select(vectors: Vectors, mode: str, kernel: str) -> Iterator[Pair]:
    for case in vectors.cases:
        dtype, storage = f"i{case['bits']}", f"int{case['bits']}"
        condition = quantized("i8", case["condition"].shape)
        a, b, y = (quantized(dtype, case[name].shape) for name in "aby")
        arrays = case["condition"].astype(np.int8), *(case[name].astype(storage) for name in "ab")
        yield call(kernel, crossed("where", (condition, a, b), y), *arrays), case["y"]
