"""The processor time that compiling a step takes, for graphs of 300, 1,000 and 3,000 operators.

Residual blocks of fully connected layers, tables and sums, a join now and then and a host node in
every hundredth place, so that all parts of the compiler have work. Prints the seconds of each part
(best of three, one process) and the exponent e of seconds ~ operators^e between the ends.

    python benchmarks/schedule_scale.py [OPERATORS ...]
"""

import sys
from collections.abc import Callable
from dataclasses import replace
from math import log
from time import process_time

import numpy as np

from nnaq.ir.build import Builder
from nnaq.ir.graph import Graph
from nnaq.ir.numerics import Numerics
from nnaq.ir.op import Constant, Signature, lookup
from nnaq.ir.types import TensorType, parse_type
from nnaq.ir.verify import verify
from nnaq.schedule import compile_step, plan_memory
from nnaq.schedule.partition import partition
from nnaq.targets import load_target

PARTS = ("partition", "plan", "whole")
WIDTH, CODES = 256, "i8[4,256]<0.05, 0>"


def node(build: Builder, op: str, operands: tuple[str, ...], kind: str = CODES) -> str:
    """A node in integer form, with the constants that its operator prepares."""
    types = tuple(build.types[v] for v in operands)
    signature = Signature(types, (parse_type(kind),), {"axis": 0} if op == "concat" else {})
    given = tuple(build.constants.get(v) for v in operands)
    prepared = lookup(op).prepare(signature, given, Numerics())
    inputs = [
        build.constant(f"{op}.{one.name}", one.value, one.type)
        if isinstance(one, Constant)
        else operands[one]
        for one in prepared.operands
    ]
    return build.node(op, inputs, prepared.attrs, types=signature.outputs)[0]


def layer(build: Builder, x: str) -> str:
    """A fully connected layer of its own weights."""
    random = np.random.default_rng(len(build.nodes))
    scales = ", ".join(["0.01"] * WIDTH)
    kind: TensorType = parse_type(f"i8[{WIDTH},{WIDTH}]<[{scales}]@0, 0>")
    weight = build.constant("weight", random.integers(-100, 101, kind.shape).astype(np.int8), kind)
    return node(build, "fully_connected", (x, weight))


def network(operators: int) -> Graph:
    """A graph of about so many operators."""
    build = Builder(f"blocks of {operators}")
    x = build.input("x", parse_type(CODES))
    early = x
    while len(build.nodes) < operators:
        inner = node(build, "tanh", (layer(build, x),), "i8[4,256]<0.0078125, 0>")
        inner = node(build, "rescale", (inner,))
        x = node(build, "add", (x, inner))
        if len(build.nodes) % 100 < 5:
            x = node(build, "add", (x, early))
            joined = node(build, "concat", (x, early), "i8[8,256]<0.05, 0>")
            x = build.node(
                "slice", (joined,), {"starts": (0,), "ends": (4,), "axes": (0,), "steps": (1,)},
                types=[parse_type(CODES)],
            )[0]  # fmt: skip
            early = x = node(build, "neg", (x,))
    build.output(x)
    return verify(build.build())


def seconds(call: Callable[[], object]) -> float:
    """The best of three."""
    found = []
    for _ in range(3):
        start = process_time()
        call()
        found.append(process_time() - start)
    return min(found)


def main(sizes: tuple[int, ...]) -> None:
    """Print a row per size and the exponents."""
    target = replace(load_target("edge8"), exclude=("neg",))
    rows = []
    for size in sizes:
        graph = network(size)
        row = (
            seconds(lambda: partition(graph, target)),  # noqa: B023
            seconds(lambda: plan_memory(graph, target)),  # noqa: B023
            seconds(lambda: compile_step(graph, target)),  # noqa: B023
        )
        rows.append((len(graph.nodes), *row))
        parts = ", ".join(f"{part} {taken:.2f} s" for part, taken in zip(PARTS, row, strict=True))
        print(f"{len(graph.nodes):>6} operators: {parts}")
    (few, *first), (many, *last) = rows[0], rows[-1]
    if many > few:
        exponents = [log(b / a) / log(many / few) for a, b in zip(first, last, strict=True)]
        print("exponents: " + ", ".join(f"{e:.2f}" for e in exponents))


if __name__ == "__main__":
    main(tuple(map(int, sys.argv[1:])) or (300, 1000, 3000))
