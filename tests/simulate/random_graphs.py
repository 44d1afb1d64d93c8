"""Graphs of layers, sums and views, drawn at random, for what holds of every graph."""

import numpy as np
from hypothesis import strategies as st
from simulate.lowered import Lowered

from nnaq.ir.graph import Graph
from nnaq.ir.types import parse_type
from nnaq.ir.verify import verify


@st.composite
def graphs(draw, most: int = 6) -> Graph:
    """One to `most` nodes over [T, width] codes: products, additions of any two, curves, islands of reals."""
    build = Lowered("drawn")
    width = draw(st.sampled_from([8, 40, 96]))
    build.input("x", parse_type(f"i8[T,{width}]<0.02, 0>"), time_axis=0)
    values = ["x"]
    for place in range(draw(st.integers(1, most))):
        name, kind = f"n{place}", draw(st.sampled_from(["layer", "add", "relu", "reals"]))
        source = draw(st.sampled_from(values))
        if kind == "layer":
            scales = ", ".join(["0.01"] * width)
            build.codes(f"w{place}", f"i8[{width},{width}]<[{scales}]@0, 0>", seed=place)
            operands = (source, f"w{place}", np.zeros(width))
            made = build.crossed("fully_connected", operands, ("i8[]<0.02, 0>",), name)
        elif kind == "add":
            operands = (source, draw(st.sampled_from(values)))
            made = build.crossed("add", operands, ("i8[]<0.02, 0>",), name)
        elif kind == "relu":
            made = build.crossed("relu", (source,), ("i8[]<0.02, 0>",), name)
        else:
            (real,) = build.node("dequantize", (source,), outputs=(f"{name}.real",))
            made = build.node(
                "quantize",
                (real,),
                {"rounding": "half_even"},
                (name,),
                (parse_type(f"i8[T,{width}]<0.02, 0>"),),
            )
        values += made
    build.output(values[-1], time_axis=0)
    return verify(build.build())
