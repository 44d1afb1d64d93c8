"""Small integer graphs, node by node, with the constants that `prepare` makes."""

import numpy as np

import nnaq.kernels  # noqa: F401  (fills the operator table)
from nnaq.ir.build import Builder
from nnaq.ir.graph import Graph
from nnaq.ir.numerics import Numerics
from nnaq.ir.op import Signature, lookup
from nnaq.ir.types import TensorType, parse_type, storage
from nnaq.ir.verify import verify


class Lowered(Builder):
    """A Builder of integer nodes: `crossed` is one node, its operands named, absent or real arrays."""

    def codes(self, name: str, kind: str, seed: int = 0) -> str:
        """A constant of random codes."""
        parsed = parse_type(kind)
        low = -7 if parsed.palette is None and parsed.dtype == "i4" else -100
        values = np.random.default_rng(seed).integers(low, -low, parsed.shape)
        return self.constant(name, values.astype(storage(parsed.dtype)), parsed)

    def crossed(self, op: str, operands, results, name: str, **attrs) -> tuple[str, ...]:
        """The integer form of `op`; an array among the operands is a real, such as a bias."""
        reals = {i: v for i, v in enumerate(operands) if isinstance(v, np.ndarray)}
        types = tuple(
            TensorType("f32", v.shape) if i in reals else self.types[v] if v else None
            for i, v in enumerate(operands)
        )
        kinds = tuple(
            parse_type(kind).with_shape(shape)
            for kind, shape in zip(results, lookup(op).infer(types, attrs), strict=True)
        )
        constants = tuple(
            reals.get(i) if i in reals else self.constants.get(v) for i, v in enumerate(operands)
        )
        prepared = lookup(op).prepare(Signature(types, kinds, attrs), constants, Numerics())
        inputs = [
            operands[o] if isinstance(o, int) else self.constant(f"{name}.{o.name}", o.value, o.type)
            for o in prepared.operands
        ]
        names = [f"{name}{i or ''}" for i in range(len(kinds))]
        return self.node(op, inputs, prepared.attrs, names, kinds, name)


def layer(rows="T", inputs=64, outputs=96, weight="i8", x="i8") -> Graph:
    """One fully_connected layer between codes: x, y and an `outputs` x `inputs` weight."""
    build = Lowered("layer")
    build.input("x", parse_type(f"{x}[{rows},{inputs}]<0.01, 0>"), time_axis=0)
    scales = ", ".join(["0.01"] * outputs)
    build.codes("weight", f"{weight}[{outputs},{inputs}]<[{scales}]@0, 0>")
    (y,) = build.crossed("fully_connected", ("x", "weight", np.zeros(outputs)), ("i8[]<0.1, 0>",), "y")
    build.output(y)
    return verify(build.build())


def recurrent(features=40, units=64) -> Graph:
    """quantize -> lstm with its states -> dequantize -> exp, still real."""
    build, gates = Lowered("recurrent"), 4 * units
    scales = ", ".join(["0.01"] * gates)
    hidden, cell = f"i8[1,{units}]<0.0078125, 0>", f"i16[1,{units}]<{2**-11}, 0>"
    build.input("x", parse_type(f"f32[T,1,{features}]"), time_axis=0)
    kind = parse_type(f"i8[T,1,{features}]<0.02, 0>")
    (q,) = build.node("quantize", ("x",), {"rounding": "half_even"}, ("q",), (kind,))
    build.value("h0", parse_type(hidden))
    build.value("c0", parse_type(cell))
    build.codes("w_input", f"i8[{gates},{features}]<[{scales}]@0, 0>")
    build.codes("w_recurrent", f"i8[{gates},{units}]<[{scales}]@0, 0>")
    operands = (q, "h0", "c0", "w_input", "w_recurrent", np.zeros(gates))
    y, h, c = build.crossed("lstm", operands, (hidden, hidden, cell), "lstm")
    build.state("h", "h0", h, np.zeros((1, units), np.int8))
    build.state("c", "c0", c, np.zeros((1, units), np.int16))
    (real,) = build.node("dequantize", (y,), outputs=("real",))
    (power,) = build.node("exp", (real,), outputs=("power",))
    build.output(power, time_axis=0)
    return verify(build.build())
