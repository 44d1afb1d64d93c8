"""Integer nodes from shapes alone: random codes and weights, prepared as a lowering prepares them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

import nnaq.kernels  # noqa: F401  (fills the operator table)
from nnaq.ir.build import Builder
from nnaq.ir.dims import bind
from nnaq.ir.graph import Graph
from nnaq.ir.numerics import Numerics
from nnaq.ir.op import Arrays, Attr, Constant, Op, Signature, lookup
from nnaq.ir.types import Palette, Quant, TensorType, storage
from nnaq.ir.verify import verify
from nnaq.kernels.codebook import PackedCodes, pack_codes

RANDOM = np.random.default_rng(0)
Kernel = Callable[..., Arrays]


def codes(*shape: int, dtype: str = "i8", scale: float = 2.0**-7, zero_point: int = 0) -> TensorType:
    """The type of codes with one scale."""
    return TensorType(dtype, shape, Quant((scale,), zero_point))


def reals(*shape: int) -> TensorType:
    """The type of a bias, which stays real until it is prepared."""
    return TensorType("f32", shape)


def sums(depth: int) -> float:
    """The scale at which products of random codes of scale 2^-7, summed over `depth`, fill 8 bits.

    A random code deviates by 74, so that the sum deviates by (74 / 2^7)^2 * sqrt(depth): 42 codes.
    """
    return 2.0**-7 * float(np.sqrt(depth))


@dataclass(frozen=True)
class IntegerNode:
    """An integer node: its operator, signature, all its arrays, and how many of them are activations."""

    op: Op
    signature: Signature
    arrays: tuple[np.ndarray | PackedCodes, ...]
    activations: int

    def kernel(self) -> Kernel:
        """The compiled kernel, made ready for these weights: called with all arrays."""
        return load(self.op, self.signature, (None,) * self.activations + self.arrays[self.activations :])

    def call(self) -> Callable[[], object]:
        """One run on the node's own arrays."""
        return partial(self.kernel(), *self.arrays)

    def stream(self, states: Mapping[int, int]) -> Graph:
        """A graph of this node alone, whose inputs are its activations, x0, x1, … by position.

        states: activations that are results of the step before instead, by position.
        """
        build, names = Builder(self.op.name), []
        for place, (kind, array) in enumerate(zip(self.signature.inputs, self.arrays, strict=True)):
            assert kind is not None
            add = build.value if place in states else build.input
            is_constant = place >= self.activations
            names.append(build.constant(f"w{place}", array, kind) if is_constant else add(f"x{place}", kind))
        made = build.node(self.op.name, names, self.signature.attrs, types=self.signature.outputs)
        for place, result in states.items():
            build.state(f"s{place}", names[place], made[result], np.asarray(self.arrays[place]))
        build.output(made[0])
        return verify(build.build())

    def packed(self, palette: Palette) -> "IntegerNode":
        """The same node on packed indices of its weights, which hold entries of one table of `palette`."""
        arrays = list(self.arrays)
        for place in range(self.activations, len(arrays)):
            if place in self.op.packed and self.signature.input(place).rank > 1:
                arrays[place] = pack_codes(np.asarray(arrays[place]), palette)
        return IntegerNode(self.op, self.signature, tuple(arrays), self.activations)


def load(op: Op, signature: Signature, constants: tuple[np.ndarray | PackedCodes | None, ...]) -> Kernel:
    """The compiled kernel of a node, its weights packed once where the operator does so."""
    return op.load(signature, constants) if op.load else partial(op.fast, signature)


def node_of(
    name: str,
    activations: tuple[TensorType, ...],
    parameters: tuple[TensorType, ...],
    outputs: tuple[TensorType, ...],
    attrs: Mapping[str, Attr] | None = None,
    table: tuple[int, ...] = (),
) -> IntegerNode:
    """A node of the operator `name`.

    parameters: codes of weights, entries of `table` where one is given, and reals.
    """
    op, kinds = lookup(name), (*activations, *parameters)
    arrays = [
        random_array(kind, () if place < len(activations) else table) for place, kind in enumerate(kinds)
    ]
    given = [None] * len(activations) + arrays[len(activations) :]
    prepared = op.prepare(Signature(kinds, outputs, attrs or {}), tuple(given), Numerics())
    parts = [
        (p.type, p.value) if isinstance(p, Constant) else (kinds[p], arrays[p]) for p in prepared.operands
    ]
    signature = Signature(tuple(kind for kind, _ in parts), outputs, prepared.attrs)
    return IntegerNode(op, signature, tuple(array for _, array in parts), len(activations))


def random_array(kind: TensorType, table: tuple[int, ...] = ()) -> np.ndarray:
    """Codes over the whole range of their dtype or out of `table`; reals of a normal distribution."""
    shape = bind(kind.shape, {})
    if kind.dtype == "f32":
        return RANDOM.standard_normal(shape)
    dtype = storage(kind.dtype)
    if table:
        return RANDOM.choice(np.array(table, dtype), shape)
    limits = np.iinfo(dtype)
    return RANDOM.integers(limits.min, limits.max, shape, dtype, endpoint=True)
