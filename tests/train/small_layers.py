"""A lowered network of two layers and tasks for it, for the tests of tuning by forward passes."""

import numpy as np

from nnaq.ir.build import Builder
from nnaq.ir.graph import Graph
from nnaq.ir.numerics import Numerics
from nnaq.ir.op import Constant, Signature, lookup
from nnaq.ir.types import Quant, TensorType
from nnaq.ir.verify import verify
from nnaq.train.zeroth_order.examples import Examples

INPUT = TensorType("i8", ("N", 6), Quant((0.05,), 3))
HIDDEN = TensorType("i8", ("N", 8), Quant((0.05,), -128))
WEIGHTS = ("first.weight", "second.weight")


def network(seed: int = 0, classes: int = 2) -> Graph:
    """x [N, 6] -> 8 with relu -> i32 logits [N, classes]; random weights of the codes -90 to 90."""
    generator, build = np.random.default_rng(seed), Builder("small")
    x = build.input("x", INPUT, batch_axis=0)
    hidden = layer(build, generator, x, HIDDEN, "first", "relu")
    logits = TensorType("i32", ("N", classes), Quant((HIDDEN.scale * 0.004,), 0))
    build.output(layer(build, generator, hidden, logits, "second", "none"), batch_axis=0)
    return verify(build.build())


def layer(build: Builder, generator, x: str, made: TensorType, name: str, activation: str) -> str:
    """Add a fully_connected layer with the constants that its crossing makes."""
    shape = (made.shape[1], build.types[x].shape[1])
    codes = generator.integers(-90, 91, shape).astype(np.int8)
    kind = TensorType("i8", shape, Quant((0.004,), 0))
    weight = build.constant(f"{name}.weight", codes, kind)
    signature = Signature((build.types[x], kind), (made,), {"activation": activation})
    prepared = lookup("fully_connected").prepare(signature, (None, codes), Numerics())
    operands = [
        build.constant(f"{name}.{o.name}", o.value, o.type) if isinstance(o, Constant) else (x, weight)[o]
        for o in prepared.operands
    ]
    return build.node("fully_connected", operands, prepared.attrs, (f"{name}.y",), (made,), name)[0]


def task(seed: int, count: int = 64) -> Examples:
    """Which side of a plane an input lies on; those close to it are left out."""
    generator = np.random.default_rng(seed)
    normal = generator.standard_normal(6)
    x = generator.standard_normal((20 * count, 6))
    x = x[np.abs(x @ normal) > 0.5 * np.linalg.norm(normal)][:count]
    codes = np.clip(np.rint(x / INPUT.scale) + INPUT.zero_point, -128, 127).astype(np.int8)
    return Examples({"x": codes}, (x @ normal > 0).astype(np.int64), "second.y")
