"""Operators that move codes: both runtimes give the interpreter's codes, on whole and open axes."""

import numpy as np
import pytest
from export.integer_graphs import one_node, random_inputs
from export.runtimes import runtimes_agree

from nnaq.ir.graph import Graph

CODES = {"i8": "<0.5, -3>", "i16": "<0.5, 0>", "i32": "<0.5, 0>"}
WHOLE = "<1.0, 0>"
HUGE = 2**63 - 1


def agree(graphs: list[Graph], folder, time: int = 7) -> None:
    runtimes_agree([(g, random_inputs(g, seed, time), None) for seed, g in enumerate(graphs)], folder)


def moving(op: str, shape: str, attrs) -> list[Graph]:
    """The operator over codes of every width."""
    return [
        one_node(op, [f"{dtype}[{shape}]{quant}"], [f"{dtype}[]{quant}"], attrs)
        for dtype, quant in CODES.items()
    ]


def cut(start: int, end: int, step: int = 1):
    return {"axes": (0,), "starts": (start,), "ends": (end,), "steps": (step,)}


def test_slices_of_open_axes(tmp_path):
    graphs = []
    for part in ((-3, HUGE), (2, HUGE), (0, 4), (0, -2), (-5, -1), (1, -1, 2), (6, 2)):
        graphs += moving("slice", "T,3", cut(*part))
    graphs += moving("slice", "T+4,3", cut(-4, HUGE)) + moving("slice", "T,3", cut(-(2**63), HUGE, 2))
    agree(graphs, tmp_path)


def gathered(shape: str, indices: np.ndarray, axis: int) -> list[Graph]:
    kind = f"i32[{','.join(map(str, indices.shape))}]{WHOLE}"
    return [
        one_node("gather", [f"{d}[{shape}]{q}", kind], [f"{d}[]{q}"], {"axis": axis}, weights={1: indices})
        for d, q in CODES.items()
    ]


def test_gather(tmp_path):
    places = np.array([[3, -4, 0], [-1, 2, 2]], np.int32)
    agree(
        gathered("4,6", places, 0)
        + gathered("T,4", places[0], 1)
        + gathered("T,4", np.array(-1, np.int32), -1)
        + gathered("5,T", np.array([], np.int32), 0),
        tmp_path,
    )


def test_indices_may_come_from_outside(tmp_path):
    table = np.arange(-60, 60, dtype=np.int8).reshape(10, 12)
    kinds = ["i8[10,12]<0.5, -3>", f"i32[2,T]{WHOLE}"]
    graph = one_node("gather", kinds, ["i8[]<0.5, -3>"], {"axis": 0}, weights={0: table})
    indices = np.random.default_rng(0).integers(-10, 10, (2, 6)).astype(np.int32)
    hot = [
        one_node("one_hot", [f"i32[2,T]{WHOLE}"], [f"i8[]{WHOLE}"], {"depth": 10, "axis": axis})
        for axis in (0, 1, -1)
    ]
    feeds = [(graph, {"x1": indices}, None), *((g, {"x0": indices}, None) for g in hot)]
    runtimes_agree(feeds, tmp_path)


@pytest.mark.parametrize("like", list(CODES))
def test_what_takes_a_shape_only(like, tmp_path):
    other = f"{like}[T,5,2]{CODES[like]}"
    wide = {"sizes": (-1, 4, -1, -1), "like_axes": (0, -1, -1, -1)}
    tall = {"sizes": (0, -1), "like_axes": (1, -1)}
    agree(
        [
            one_node("expand", ["i8[4,1,3]<0.5, -3>", other], ["i8[]<0.5, -3>"], wide),
            one_node("expand", ["i16[1,3]<0.5, 0>", other], ["i16[]<0.5, 0>"], tall),
            one_node("expand", ["i32[1,3]<0.5, 0>", other], ["i32[]<0.5, 0>"], tall),
            one_node("arange", [other], [f"i32[]{WHOLE}"], {"axis": 0, "start": -3, "step": 2}),
            one_node("arange", [other], [f"i32[]{WHOLE}"], {"axis": 1, "start": 0, "step": -(10**6)}),
        ],
        tmp_path,
    )


def test_repeated_turned_and_shifted(tmp_path):
    agree(
        moving("expand", "T,1,3", {"sizes": (2, -1, 4, 3), "like_axes": (-1,) * 4})
        + moving("tile", "T,2,3", {"repeats": (2, 1, 3)})
        + moving("reverse", "T,2,3", {"axes": (0, -1)})
        + moving("reverse", "T,2", {"axes": ()})
        + moving("relative_shift", "2,T,2*T-1", {})
        + moving("relative_shift", "T,2,3,4", {})
        + moving("relative_shift", "1,T", {}),
        tmp_path,
    )


def test_joined_open_axes(tmp_path):
    q = CODES["i8"]
    graphs = [one_node("concat", [f"i8[N,3]{q}", f"i8[T,3]{q}", f"i8[2,3]{q}"], [f"i8[]{q}"], {"axis": 0})]
    assert graphs[0].types[graphs[0].outputs[0].name].shape == ("N+T+2", 3)
    for shape in ((0, -1, 3), (-1, 6), (-1, 0, 2)):
        graphs += moving("reshape", "T,N,6", {"shape": shape})
    agree(graphs, tmp_path)
