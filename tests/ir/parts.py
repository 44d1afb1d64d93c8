"""What tests of nnaq/ir share: types to draw, and a small graph."""

import numpy as np
from hypothesis import strategies as st

import nnaq.kernels  # noqa: F401  (fills the operator table)
from nnaq.ir.build import Builder
from nnaq.ir.graph import Graph
from nnaq.ir.types import DTYPES, Palette, Quant, TensorType

scales = st.floats(min_value=1e-30, max_value=1e30)
quants = st.one_of(
    st.builds(lambda s, z: Quant((s,), z), scales, st.integers(-(2**31), 2**31 - 1)),
    st.builds(
        lambda s, z, axis: Quant(tuple(s), z, axis),
        st.lists(scales, min_size=2, max_size=5),
        st.integers(-128, 127),
        st.integers(0, 3),
    ),
)


@st.composite
def palettes(draw: st.DrawFn) -> Palette:
    """One table, or several and the rows that share one; with a zero map or without."""
    width, zeros = draw(st.integers(1, 8)), draw(st.none() | st.integers(0, 99))
    codes = st.integers(-128, 127).filter(lambda code: zeros is None or code != 0)
    table = st.sets(codes, min_size=1, max_size=min(2**width, 20)).map(lambda found: tuple(sorted(found)))
    tables = draw(st.lists(table, min_size=1, max_size=3))
    rows = draw(st.integers(0 if len(tables) == 1 else 1, 5))
    return Palette(width, tuple(tables), rows, zeros)


sizes = st.one_of(st.integers(0, 999), st.sampled_from(["T", "batch", "T-2", "(T-3)//2+1", "2*(T)"]))
types = st.builds(
    TensorType,
    st.sampled_from(DTYPES),
    st.lists(sizes, max_size=4).map(tuple),
    st.none() | quants,
    st.none() | palettes(),
)


def small() -> Graph:
    """y = relu(x + h) with h a state, next to a transposed copy."""
    build = Builder("small")
    x = build.input("x", TensorType("f32", ("T", 4)), time_axis=0)
    h = build.value("h", TensorType("f32", (1, 4)))
    (total,) = build.node("add", (x, h), outputs=("sum",), source="net.add")
    (y,) = build.node("relu", (total,), outputs=("y",))
    (flipped,) = build.node("transpose", (y,), {"perm": (1, 0)}, name="flip")
    build.output(y, time_axis=0)
    build.output(flipped, time_axis=1)
    build.state("h", h, h, np.zeros((1, 4), np.float32))
    return build.build()
