"""Integer graphs, mostly of one node, in which every operator with an integer form has its turn."""

from collections.abc import Iterator

import numpy as np
from export import test_bodies as basic
from export import test_bodies_of_arithmetic as arithmetic
from export import test_bodies_of_conv_transpose as transposed
from export import test_bodies_of_functions as functions
from export import test_bodies_of_logarithm as logarithm
from export import test_bodies_of_movement as movement
from export import test_bodies_of_narrow as narrow
from export import test_bodies_of_norm as norm
from export import test_bodies_of_resize as resize
from export import test_bodies_of_softmax as softmax
from export import test_bodies_of_windows as windows
from export.integer_graphs import one_node, random_inputs
from export.test_bodies_of_gru import stream as gru
from export.test_bodies_of_lstm import stream as lstm

from nnaq.ir.graph import Graph
from nnaq.ir.numerics import ROUNDINGS

Case = tuple[Graph, dict[str, np.ndarray]]
X8, X16, X32 = "i8[T,3,4]<0.5, -9>", "i16[T,3,4]<0.5, 0>", "i32[T,3,4]<0.5, 0>"
SUM, FLAG, WHOLE = "i32[]<0.5, 0>", "i8[]<1.0, 0>", "i32[]<1.0, 0>"


def edges() -> Iterator[Graph]:
    for mode in ("half_even", "half_away"):
        yield one_node("quantize", ["f32[T,64]"], ["i8[]<0.05, -7>"], {"rounding": mode})
        yield one_node("quantize", ["f32[T,64]"], ["i16[]<0.0003, 0>"], {"rounding": mode})
        yield one_node("quantize", ["f32[T,64]"], ["i32[]<1e-9, 0>"], {"rounding": mode})
    yield one_node("dequantize", ["i8[T,64]<0.05, -7>"], ["f32[]"])
    yield one_node("dequantize", ["i32[T,64]<0.0001, 0>"], ["f32[]"])
    for rounding in ROUNDINGS:
        yield from basic.rescales(rounding)


def tables() -> Iterator[Graph]:
    for op in ("sigmoid", "tanh", "exp"):
        yield one_node(op, ["i8[256]<0.03, 4>"], ["i8[]<0.0078125, 1>"])
        yield one_node(op, ["i16[T,999]<0.000244140625, 0>"], ["i16[]<3.0517578125e-05, 0>"])
    yield one_node("tanh", ["i16[T,300]<0.0003, 0>"], ["i8[]<0.1, 7>"], lut_entries=65536)
    yield from functions.tables()
    yield from functions.straight_pieces()
    yield from logarithm.logarithms()


def inverses() -> Iterator[Graph]:
    yield from functions.inverses()
    yield from functions.quotients()
    for rounding in ("single", "double", "half_even"):
        yield one_node("sqrt", ["i32[T,3000]<0.0123, 0>"], ["i16[]<0.173, 0>"], rounding=rounding)
        yield one_node("sqrt", ["i8[256]<0.0123, -9>"], ["i8[]<0.173, -100>"], rounding=rounding)


def elementwise() -> Iterator[Graph]:
    for rounding in ("single", "double", "half_even"):
        yield from arithmetic.sums("add", rounding)
        yield from arithmetic.sums("sub", rounding)
        yield one_node("mul", ["i8[T,64]<0.1, 3>", "i8[64]<0.07, -20>"], ["i8[]<0.5, 9>"], rounding=rounding)
    yield one_node("mul", ["i32[T,64]<1.0, 0>", "i32[64]<1.0, 0>"], [WHOLE])
    yield one_node("square", ["i16[T,300]<0.5, 0>"], ["i32[]<0.25, 0>"])
    for x in (X8, X16, X32):
        yield one_node("relu", [x], [x.replace("T,3,4", "")])
    yield from functions.signs_and_whole_parts()
    yield from functions.flags()
    yield from functions.choices()


def layers() -> Iterator[Graph]:
    yield from basic.layers()
    yield one_node("matmul", ["i8[N,T,6]<0.1, 3>", "i8[N,6,5]<0.2, -1>"], ["i8[]<0.5, 2>"])
    yield one_node("matmul", ["i8[2,3,T,6]<0.1, 3>", "i8[6,5]<0.2, -1>"], ["i16[]<0.1, 0>"])
    yield one_node("matmul", ["i16[T,6]<0.001, 0>", "i16[6,5]<0.002, 0>"], ["i16[]<0.004, 0>"])
    x, time = "i8[N,6,12]<0.1, -9>", "i8[1,6,T]<0.1, -9>"
    yield windows.conv1d(x, (4, 6, 3), stride=2, padding=(1, 2), activation="relu")
    yield windows.conv1d(time, (6, 2, 3), padding=(2, 0), groups=3)
    yield windows.conv1d("i16[T,6,12]<0.001, 0>", (4, 6, 3), y="i16[]<0.002, 0>")
    yield windows.conv2d("i8[1,4,T,8]<0.1, -9>", (4, 4, 3, 3), stride=(2, 2), padding=(1, 1, 1, 1))
    yield windows.conv2d("i8[N,4,6,8]<0.1, -9>", (4, 1, 3, 3), padding=(1, 1, 1, 1), groups=4)
    yield transposed.layer(x, (6, 4, 4), stride=2, padding=(1, 1), activation="relu")
    yield transposed.layer(time, (6, 2, 3), stride=2, dilation=3, padding=(2, 0), groups=3, output_padding=1)
    yield transposed.layer("i8[1,4,T,5]<0.1, -9>", (4, 3, 4, 3), stride=(2, 3), padding=(1, 0, 1, 0))


def narrow_layers() -> Iterator[Graph]:
    for contract in narrow.CONTRACTS[:4]:
        yield narrow.layer("fully_connected", "i8[T,11]<1.0, -9>", (6, 11), 6, contract)
        for depth in ("9", "T"):
            kinds = [f"i8[2,5,{depth}]<1.0, 7>", f"i8[{depth},4]<1.0, -100>"]
            yield one_node("matmul", kinds, ["i16[]<1.0, 0>"], **contract)
    yield lstm(**narrow.CONTRACTS[1])
    yield gru(**narrow.CONTRACTS[1])


def reductions() -> Iterator[Graph]:
    for axes in ((0,), (-1, 0), ()):
        attrs = {"axes": axes, "keepdims": axes == (0,)}
        for x in (X8, X16, X32):
            yield one_node("reduce_sum", [x], [SUM], attrs)
            for op in ("reduce_max", "reduce_min"):
                yield one_node(op, [x], [x.replace("T,3,4", "")], attrs)
        yield one_node("reduce_mean", [X8], ["i8[]<0.23, 5>"], attrs, "double")
        yield one_node("reduce_mean", [X16], ["i16[]<0.017, 0>"], attrs)
    for exclusive, reverse in ((False, False), (True, False), (True, True)):
        attrs = {"axis": 0, "exclusive": exclusive, "reverse": reverse}
        yield one_node("cumulative_sum", [X8], [SUM], attrs)
        yield one_node("cumulative_sum", [X16], ["i16[]<1.3, 0>"], attrs, "double")
    kinds = ["i8[T,2,3]<0.5, -9>", SUM.replace("[]", "[2,3]"), WHOLE.replace("[]", "[2,1]")]
    yield one_node("running_mean", kinds, ["i8[]<0.23, 5>", SUM, WHOLE], {"limit": 4})
    for dtype, q in (("i8", "<0.5, -9>"), ("i16", "<0.5, 0>")):
        for op in ("max_pool", "average_pool"):
            attrs = {"kernel": (3,), "stride": (2,), "padding": (2, 1)}
            yield one_node(op, [f"{dtype}[1,3,T]{q}"], [f"{dtype}[]{q}"], attrs)
            yield one_node(op, [f"{dtype}[2,3,9]{q}"], [f"{dtype}[]{q}"], attrs)
    for mode in ("nearest", "linear"):
        for coordinates in ("half_pixel", "align_corners"):
            words = {"mode": mode, "coordinates": coordinates}
            yield from resize.graphs_of("T,6", (1.5, 0.5), **words)


def normalisations() -> Iterator[Graph]:
    for x, y in norm.PAIRS:
        yield from norm.normalisations(x, y)
    yield from norm.normalisations("i16", "i16", "half_even")


def moves() -> Iterator[Graph]:
    yield from movement.moving("reshape", "T,N,6", {"shape": (0, -1, 3)})
    yield from movement.moving("transpose", "T,4,6", {"perm": (2, 0, 1)})
    for part in ((-3, movement.HUGE), (1, -1, 2), (6, 2)):
        yield from movement.moving("slice", "T,3", movement.cut(*part))
    for part in ((-1, -100, -2), (4, 1, -1), (2, 2)):
        yield from movement.moving("slice", "6,T", movement.cut(*part))
    for mode in ("constant", "reflect", "edge"):
        yield from movement.moving("pad", "T,3", {"pads": (2, 1, 0, 4), "mode": mode})
    yield from movement.gathered("T,4", np.array([3, -4, 0], np.int32), 1)
    yield from movement.moving("expand", "T,1,3", {"sizes": (2, -1, 4, 3), "like_axes": (-1,) * 4})
    like = {"sizes": (-1, 4, -1, -1), "like_axes": (0, -1, -1, -1)}
    yield one_node("expand", ["i8[4,1,3]<0.5, -3>", "i8[T,5,2]<0.5, -3>"], ["i8[]<0.5, -3>"], like)
    yield from movement.moving("tile", "T,2,3", {"repeats": (2, 1, 3)})
    yield from movement.moving("reverse", "T,2,3", {"axes": (0, -1)})
    yield from movement.moving("relative_shift", "2,T,2*T-1", {})
    yield one_node("arange", [X8], [WHOLE], {"axis": 0, "start": -3, "step": 2})
    yield one_node("concat", [X8, X8.replace("3,", "2,")], ["i8[]<0.5, -9>"], {"axis": 1})


def recurrent() -> Iterator[Graph]:
    yield from (lstm(), lstm(projection=3, cifg=True), gru(), gru(linear_before_reset=False))


FAMILIES = {
    make.__name__: make
    for make in (
        *(edges, tables, inverses, elementwise, layers, narrow_layers),
        *(reductions, normalisations, moves, recurrent),
    )
}


def cases(family: str) -> Iterator[Case]:
    """The graphs of a family with random codes; masks and indices come after them."""
    if family == "masks_and_indices":
        yield from masks_and_indices()
        return
    for seed, graph in enumerate(FAMILIES[family]()):
        yield graph, random_inputs(graph, seed, 7)


def masks_and_indices() -> Iterator[Case]:
    for x, y in softmax.PAIRS:
        for scale, mask in ((0.05 if x == "i8" else 0.0004, "T,1"), (0.3, None)):
            graph = softmax.softmax(x, y, "2,T,20", scale, mask)
            yield graph, softmax.feeds(graph, 1)
    indices = np.random.default_rng(0).integers(-10, 10, (2, 6)).astype(np.int32)
    kinds = ["i8[10,12]<0.5, -3>", "i32[2,T]<1.0, 0>"]
    table = np.arange(-60, 60, dtype=np.int8).reshape(10, 12)
    graph = one_node("gather", kinds, ["i8[]<0.5, -3>"], {"axis": 0}, weights={0: table})
    yield graph, {"x1": indices}
    for axis in (0, -1):
        yield one_node("one_hot", kinds[1:], [FLAG], {"depth": 10, "axis": axis}), {"x0": indices}


NAMES = (*FAMILIES, "masks_and_indices")
