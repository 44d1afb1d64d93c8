"""Every operator with MACs is covered by the matrix products the machine runs, to the last one."""

import numpy as np
import pytest
from simulate.lowered import Lowered, layer, recurrent

from nnaq.cost import bind_shapes
from nnaq.ir.op import lookup
from nnaq.ir.types import parse_type
from nnaq.ir.verify import verify
from nnaq.simulate import simulate
from nnaq.targets import Gemm, gemms, load_target

I8 = "i8[]<0.1, 0>"


def scales(channels: int) -> str:
    return f"[{', '.join(['0.01'] * channels)}]@0"


def convolution(op: str, x: str, weight: str, **attrs):
    build = Lowered(op)
    channels = parse_type(f"i8[{weight}]").shape[0]
    build.input("x", parse_type(f"i8[{x}]<0.02, 3>"))
    build.codes("weight", f"i8[{weight}]<{scales(channels)}, 0>")
    (y,) = build.crossed(op, ("x", "weight", np.zeros(channels)), (I8,), "y", activation="none", **attrs)
    build.output(y)
    return verify(build.build())


def attention():
    build = Lowered("attention")
    build.input("a", parse_type("i8[4,7,16]<0.02, 3>"))
    build.input("b", parse_type("i8[4,16,9]<0.02, 3>"))
    (y,) = build.crossed("matmul", ("a", "b"), (I8,), "y")
    build.output(y)
    return verify(build.build())


GRAPHS = {
    "fully_connected": (layer(inputs=64, outputs=96), [Gemm(3, 96, 64)]),
    "matmul": (attention(), [Gemm(7, 9, 16, repeats=4)]),
    "lstm": (recurrent(40, 64), [Gemm(3, 256, 40), Gemm(1, 256, 64, repeats=3, waits=True)]),
    "conv1d": (
        convolution("conv1d", "2,6,20", "8,3,5", stride=2, dilation=1, padding=(2, 2), groups=2),
        [Gemm(2 * 10, 4, 3 * 5, repeats=2)],
    ),
    "conv2d": (
        convolution(
            "conv2d", "1,4,10,12", "4,1,3,3", stride=(1, 1), dilation=(1, 1), padding=(1, 1, 1, 1), groups=4
        ),
        [Gemm(10 * 12, 1, 9, repeats=4)],
    ),
}


@pytest.mark.parametrize("op", GRAPHS)
def test_products_of_an_operator(op):
    graph, expected = GRAPHS[op]
    step = bind_shapes(graph, {"T": 3} if op in ("fully_connected", "lstm") else {})
    node = next(n for n in step.nodes if n.op == op)
    found = gemms(op, step.signature(node))
    assert list(found) == expected
    assert sum(g.macs for g in found) == lookup(op).work(step.signature(node)).macs


def test_a_depthwise_convolution_leaves_most_of_the_array_idle():
    """One column and nine rows of 32 x 32 at work."""
    step = simulate(GRAPHS["conv2d"][0], load_target("edge8"))
    assert step.costs[0].array_cycles == 4 * 120 + 62
    assert step.islands == ()
