"""A plugin: an operator, a pass and a target that nnaq does not ship.

    nnaq lower model.onnx --plugin examples/plugin.py --target tiny_chip --calibrate data/ -o out

The operator `halved` stands for the node `Halve` of domain `vendor.audio` in ONNX files and for the
custom operator `vendor::halve` of torch. As a package the same objects are offered through the entry
points `nnaq.ops`, `nnaq.passes` and `nnaq.targets`; see docs/plugins.md.

    over the reals      y = max(x, 0) * 2^-steps
    over the integers   y = (max(q - z, 0) >> steps) + z, with one code type for x and y
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from nnaq.export.body_builder import Body
from nnaq.ir.dims import Shape
from nnaq.ir.graph import Graph
from nnaq.ir.numerics import Numerics
from nnaq.ir.op import Arrays, Attr, Op, Prepared, Signature, Work
from nnaq.ir.types import TensorType
from nnaq.passes import Pass, Step
from nnaq.passes.manager import Keeps


def steps(attrs: Mapping[str, Attr]) -> int:
    """How often x is halved; an attribute may be many things, this one is a whole number."""
    found = attrs["steps"]
    assert isinstance(found, int)
    return found


def infer(inputs: tuple[TensorType | None, ...], attrs: Mapping[str, Attr]) -> tuple[Shape, ...]:
    assert inputs[0] is not None
    return (inputs[0].shape,)


def real(xp: Any, attrs: Mapping[str, Attr], x: Any) -> tuple[Any, ...]:
    return (xp.clip(x, 0.0, None) * 2.0 ** -steps(attrs),)


def prepare(signature: Signature, constants: tuple[np.ndarray | None, ...], numerics: Numerics) -> Prepared:
    """Nothing is made beforehand: the integer form has the operands and attributes of the real one."""
    return Prepared((0,), signature.attrs)


def reference(signature: Signature, x: np.ndarray) -> Arrays:
    """One code at a time, in Python integers."""
    zero, places = signature.input(0).zero_point, steps(signature.attrs)
    codes = [(max(int(q) - zero, 0) >> places) + zero for q in x.ravel()]
    return (np.array(codes, np.int8).reshape(x.shape),)


def fast(signature: Signature, x: np.ndarray) -> Arrays:
    """The same codes, all at once."""
    zero = signature.input(0).zero_point
    kept = np.maximum(x.astype(np.int32) - zero, 0) >> steps(signature.attrs)
    return ((kept + zero).astype(np.int8),)


def body(body: Body, signature: Signature, x: str) -> tuple[str, ...]:
    """The same codes in standard operators, for the exported file."""
    kind = signature.input(0)
    kept = body.apply("Max", body.centred(x, kind.zero_point), body.constant(0))
    shifted = body.shift_right_by(kept, steps(signature.attrs))
    return (body.codes(body.add(shifted, body.constant(kind.zero_point)), kind.dtype),)


def work(signature: Signature) -> Work:
    """One vector operation per result."""
    return Work(elementwise=int(np.prod(signature.outputs[0].shape)))  # type: ignore[arg-type]


HALVED = Op(
    "halved", ("x",), ("i8 -> i8",), infer, real, prepare, reference, fast, work,
    "y = max(q - z, 0) >> steps, plus z", ties=((0, ~0),),
    imports=("vendor.audio::Halve", "vendor::halve"), body=body,
)  # fmt: skip


@dataclass(frozen=True)
class MarkGraph(Pass):
    """Mark the graph, so that one can see that it was here."""

    name: ClassVar[str] = "mark-graph"
    keeps: ClassVar[Keeps] = "reals"

    def run(self, graph: Graph) -> Graph:
        return replace(graph, name=graph.name + "-marked")


STEP = Step(MarkGraph, "wherever the graph is tidy", after="canonicalize")

OPS = HALVED
PASSES = [STEP]
TARGETS = Path(__file__).with_name("tiny_chip.toml")
