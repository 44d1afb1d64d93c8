"""One tiny real node per operator: what `nnaq warm` crosses to integers in every form, and runs.

Shapes say as much as a kernel needs to be compiled; `T` is the number of frames.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from nnaq.ir.build import Builder
from nnaq.ir.dims import Shape, bind
from nnaq.ir.graph import Graph
from nnaq.ir.op import Attr, lookup
from nnaq.ir.types import TensorType
from nnaq.ir.verify import verify

CONV: Mapping[str, Attr] = {"stride": 1, "dilation": 1, "padding": (2, 0), "groups": 1, "activation": "none"}
CONV_2D: Mapping[str, Attr] = {**CONV, "stride": (1, 1), "dilation": (1, 1), "padding": (2, 0, 0, 0)}
POOL: Mapping[str, Attr] = {
    "kernel": (2, 2),
    "stride": (1, 1),
    "padding": (0, 0, 0, 0),
    "count_include_pad": False,
}
UNARY = (
    "abs ceil celu cos elu erf exp floor gelu hard_sigmoid hard_swish leaky_relu log log_sigmoid logical_not "
    "mish neg reciprocal relu round rsqrt selu sigmoid sign silu sin softmax softplus softsign sqrt square "
    "tanh thresholded_relu"
).split()
BINARY = (
    "add div equal floor_divide greater greater_or_equal less less_or_equal logical_and logical_or "
    "logical_xor maximum minimum mul prelu sub"
).split()
REDUCTIONS = "reduce_max reduce_mean reduce_min reduce_sum".split()


@dataclass(frozen=True)
class Sample:
    """A node: shapes of its inputs and of its constants, which follow them, and its attributes."""

    op: str
    inputs: tuple[Shape, ...]
    constants: tuple[tuple[int, ...], ...] = ()
    attrs: Mapping[str, Attr] = field(default_factory=dict)

    def graph(self, squared: bool = False) -> Graph:
        """The real graph of this node: inputs x0, x1, …, constants w0, w1, …, results y0, y1, …

        squared: the node reads the squares of its inputs, whose codes are i32.
        """
        build, random = Builder(self.op), np.random.default_rng(0)
        names = [build.input(f"x{i}", TensorType("f32", shape)) for i, shape in enumerate(self.inputs)]
        if squared:
            names = [build.node("square", [name])[0] for name in names]
        for i, shape in enumerate(self.constants):
            names.append(build.constant(f"w{i}", random.normal(0, 0.5, shape).astype(np.float32)))
        operands = tuple(build.types[name] for name in names)
        count = len(lookup(self.op).infer(operands, self.attrs))
        for name in build.node(self.op, names, self.attrs, [f"y{i}" for i in range(count)]):
            build.output(name)
        return verify(build.build())

    def feeds(self, frames: int) -> dict[str, np.ndarray]:
        """Inputs of so many frames: positive reals, small whole numbers and flags where those belong."""
        random = np.random.default_rng(1)
        found = {}
        for i, shape in enumerate(self.inputs):
            reals = np.abs(random.normal(0, 1.5, bind(shape, {"T": frames}))) + 0.25
            demand = lookup(self.op).demands.get(i)
            limit = {"flag": 1, "whole": 2}.get(demand or "")
            found[f"x{i}"] = (np.minimum(np.rint(reals), limit) if limit else reals).astype(np.float32)
        return found


def samples() -> list[Sample]:
    """A node of every operator that has an integer form; two where a kernel has two roads."""
    return [
        *(Sample(op, ((3, 4),), (), {"exponent": 1.5} if op == "power" else {}) for op in (*UNARY, "power")),
        *(Sample(op, ((3, 4), (3, 4))) for op in BINARY),
        *(Sample(op, ((3, 4), (1, 4))) for op in BINARY),
        *(Sample(op, ((3, 2, 4),), (), {"axes": (1,)}) for op in REDUCTIONS),
        *_choices(),
        *_movement(),
        *_layers(),
        *_norms(),
        *_recurrent(),
    ]


def _choices() -> list[Sample]:
    return [
        Sample("clip", ((3, 4),), (), {"low": 0.5, "high": 1.0}),
        Sample("where", ((3, 4), (3, 4), (3, 4))),
        Sample("softmax", ((3, 4), (3, 4))),
        Sample("max_pool", ((1, 2, 4, 4),), (), POOL),
        Sample("average_pool", ((1, 2, 4, 4),), (), POOL),
        Sample("cumulative_sum", ((3, 4),), (), {"axis": 0}),
        Sample("running_mean", (("T", 1, 4), (1, 4), (1, 1)), (), {"limit": 3}),
        Sample("resize", ((1, 2, 4),), (), {"scales": (1.0, 1.0, 2.0), "mode": "linear"}),
        Sample("resize", ((1, 2, 4),), (), {"scales": (1.0, 1.0, 2.0), "mode": "nearest"}),
    ]


def _movement() -> list[Sample]:
    return [
        Sample("reshape", ((3, 4),), (), {"shape": (4, 3)}),
        Sample("transpose", ((3, 4),), (), {"perm": (1, 0)}),
        Sample("slice", ((3, 4),), (), {"starts": (1,), "ends": (3,), "axes": (0,), "steps": (1,)}),
        Sample("pad", ((3, 4),), (), {"pads": (0, 1, 1, 0), "mode": "constant"}),
        Sample("concat", ((3, 4), (3, 2)), (), {"axis": -1}),
        Sample("gather", ((3, 4), (2,)), (), {"axis": 0}),
        Sample("one_hot", ((3, 4),), (), {"depth": 3, "axis": -1}),
        Sample("arange", ((3, 4),), (), {"axis": 0, "start": 0, "step": 1}),
        Sample("relative_shift", ((2, 3, 5),)),
        Sample("expand", ((3, 1),), (), {"sizes": (-1, 4), "like_axes": (-1, -1)}),
        Sample("tile", ((3, 4),), (), {"repeats": (1, 2)}),
        Sample("reverse", ((3, 4),), (), {"axes": (0,)}),
    ]


def _layers() -> list[Sample]:
    return [
        Sample("fully_connected", (("T", 8),), ((6, 8), (6,)), {"activation": "none"}),
        Sample("matmul", ((2, "T", 8), (2, 8, 3))),
        Sample("conv1d", ((1, 8, "T"),), ((6, 8, 3), (6,)), CONV),
        Sample("conv1d", ((1, 8, "T"),), ((8, 1, 3), (8,)), {**CONV, "groups": 8}),
        Sample("conv2d", ((1, 8, "T", 4),), ((6, 8, 3, 2), (6,)), CONV_2D),
        Sample("conv2d", ((1, 8, "T", 4),), ((8, 1, 3, 2), (8,)), {**CONV_2D, "groups": 8}),
        Sample("conv_transpose1d", ((1, 8, "T"),), ((8, 6, 2), (6,)), {**CONV, "padding": (0, 0)}),
        Sample(
            "conv_transpose2d", ((1, 8, "T", 4),), ((8, 6, 2, 2), (6,)), {**CONV_2D, "padding": (0, 0, 0, 0)}
        ),
    ]


def _norms() -> list[Sample]:
    return [
        Sample("layer_norm", (("T", 8),), ((8,), (8,)), {"axis": -1, "epsilon": 1e-5}),
        Sample("rms_norm", (("T", 8),), ((8,),), {"axis": -1, "epsilon": 1e-5}),
        Sample("group_norm", ((1, 8, "T"),), ((8,), (8,)), {"groups": 2, "epsilon": 1e-5}),
        Sample("batch_norm", ((1, 8, "T"),), ((8,), (8,))),
        Sample("l2_normalize", (("T", 8),), (), {"axis": -1, "epsilon": 1e-5}),
    ]


def _recurrent() -> list[Sample]:
    lstm = (("T", 1, 6), (1, 8), (1, 8))
    gru = (("T", 1, 6), (1, 8))
    return [
        Sample("lstm", lstm, ((32, 6), (32, 8), (32,))),
        Sample("lstm", (lstm[0], (1, 4), (1, 8)), ((32, 6), (32, 4), (32,), (4, 8))),
        Sample("lstm", (lstm[0], (1, 4), (1, 8)), ((32, 6), (32, 4), (32,), (4, 8), (32,), (32,))),
        Sample("gru", gru, ((24, 6), (24, 8), (24,), (24,)), {"linear_before_reset": True}),
        Sample("gru", gru, ((24, 6), (24, 8), (24,), (24,)), {"linear_before_reset": False}),
    ]
