"""Comparisons of softmax. The runtime's scale must give the very multiplier, shift and cut of nnaq."""

from collections.abc import Iterator

import numpy as np
from integer_nodes import IntegerNode, crossed, quantized

from comparisons.table import Case, Pair, Vectors, compares, outcome
from nnaq.ir.op import Signature, lookup
from nnaq.kernels.softmax_numbers import REACH

PROBABILITY = {"i8": (2.0**-8, -128), "i16": (2.0**-15, 0)}


def node_of(case: Case, dtype: str) -> IntegerNode:
    """softmax of a case's type, after multiplier and shift were found equal to those of the runtime."""
    x = quantized(dtype, case["x"].shape, float(case["x_scale_f64"]))
    node = crossed("softmax", (x,), quantized(dtype, x.shape, *PROBABILITY[dtype]))  # type: ignore[arg-type]
    assert [int(c) for c in node.constants[1:3]] == [int(case["multiplier"]), int(case["shift"])]
    return node


@compares("tflm__softmax_int8", "gemmlowp")
def tflm_softmax_of_i8(vectors: Vectors, mode: str, kernel: str) -> Iterator[Pair]:
    for case in vectors.cases:
        node = node_of(case, "i8")
        assert REACH >> int(case["shift"]) == -case["lowest_difference"]
        yield outcome(kernel, node.op, node.signature, [case["x"], *node.constants]), case["y"]


@compares("tosa__softmax_int8", "gemmlowp")
def tosa_softmax(vectors: Vectors, mode: str, kernel: str) -> Iterator[Pair]:
    """The same algorithm in TOSA primitives."""
    for case in vectors.cases:
        yield probabilities(case, kernel), case["y"]


def probabilities(case: Case, kernel: str) -> np.ndarray:
    node = node_of(case, "i8")
    return outcome(kernel, node.op, node.signature, [case["x"], *node.constants])


@compares("tosa__attention_int8", "single")
def tosa_attention(vectors: Vectors, mode: str, kernel: str) -> Iterator[Pair]:
    """Both products and the softmax between them, each on the results of nnaq before it."""
    for case in vectors.cases:
        scores = product(case, ("q", case["q"]), ("k", case["k"]), "scores", mode, kernel)
        yield scores, case["scores"]
        scaled = {**case, "x": scores, "x_scale_f64": case["scores_scale_f64"]}
        shares = probabilities(scaled, kernel)
        yield shares, case["shares"]
        yield product(case, ("shares", shares), ("v", case["v"]), "y", mode, kernel), case["y"]


def product(
    case: Case, a: tuple[str, np.ndarray], b: tuple[str, np.ndarray], y: str, mode: str, kernel: str
) -> np.ndarray:
    """matmul with the multiplier of a case; TOSA's shift is 31 - s."""
    zeros = {"shares_zero_point": PROBABILITY["i8"][1], **case}
    kinds = tuple(quantized("i8", codes.shape, 1.0, int(zeros[f"{n}_zero_point"])) for n, codes in (a, b))
    result = quantized("i8", case[y].shape, 1.0, int(zeros[f"{y}_zero_point"]))
    signature = Signature(kinds, (result,), {"rounding": mode})
    rescale = [case[f"{y}_multiplier"], np.array(31 - int(case[f"{y}_shift"]), np.int8)]
    return outcome(kernel, lookup("matmul"), signature, [a[1], b[1], *rescale])


@compares("tflm__softmax_int16", "table")
def tflm_softmax_of_i16(vectors: Vectors, mode: str, kernel: str) -> Iterator[Pair]:
    """The runtime makes its tables in float32: two entries are one apart from those made in float64."""
    tables = [vectors.constants[name] for name in ("exp_table", "reciprocal_table")]
    for case in vectors.cases:
        node = node_of(case, "i16")
        apart = [
            np.abs(ours - theirs.astype(int)) for ours, theirs in zip(node.constants[3:], tables, strict=True)
        ]
        assert [int(a.sum()) for a in apart] == [0, 2]
        assert max(int(a.max()) for a in apart) == 1
        arrays = [case["x"], *node.constants[:3], *tables]
        yield outcome(kernel, node.op, node.signature, arrays), case["y"]
