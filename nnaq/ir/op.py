"""Operators: one object per operator, holding everything nnaq knows about it.

The same operator stands in the real graph (all operands f32) and in the integer graph (typed
codes, every multiplier and table a constant operand). `prepare` is the crossing between the two.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

import numpy as np

from nnaq.errors import OpError
from nnaq.ir.dims import Shape
from nnaq.ir.numerics import Numerics
from nnaq.ir.types import TensorType

if TYPE_CHECKING:
    from nnaq.ir.graph import Graph

Attr = int | float | str | bool | tuple[int, ...] | tuple[float, ...] | tuple[str, ...]
Arrays = tuple[np.ndarray, ...]
Kernel = Callable[..., Arrays]


@dataclass(frozen=True)
class Bindable:
    """A kernel of one node that can be bound to operands which keep their places.

    bind        (*operands) -> (results, run): room for the results, and run() fills it from what the
                operands hold at that moment, as often as it is called; None where the results are views
                of operands, or depend on their shapes alone. Results lie in one piece, as operands do that
                keep their places. Only constants among those hold anything that counts when they are bound
    at_once     the kernel for one call, where it is not best bound for that one run
    """

    bind: Callable[..., tuple[Arrays, Callable[[], object] | None]]
    at_once: Kernel | None = None

    def __call__(self, *arrays: Any) -> Arrays:
        if self.at_once is not None:
            return self.at_once(*arrays)
        results, run = self.bind(*arrays)
        if run is not None:
            run()
        return results


@dataclass(frozen=True)
class Signature:
    """All an operator is told besides its arrays.

    inputs: operand types (None for an absent optional operand); outputs: result types;
    attrs: attributes of the node.
    """

    inputs: tuple[TensorType | None, ...]
    outputs: tuple[TensorType, ...]
    attrs: Mapping[str, Attr] = field(default_factory=dict)

    def input(self, position: int) -> TensorType:
        """The type of an operand that must be there."""
        found = self.inputs[position] if position < len(self.inputs) else None
        if found is None:
            raise OpError(f"operand {position} is missing")
        return found

    def has(self, position: int) -> bool:
        """Whether an optional operand is there."""
        return position < len(self.inputs) and self.inputs[position] is not None


@dataclass(frozen=True)
class Constant:
    """A compile-time integer array that the crossing adds to a node, under a name of its own."""

    name: str
    type: TensorType
    value: np.ndarray


@dataclass(frozen=True)
class Prepared:
    """The integer form of a real node.

    operands: in the order of the integer form; a number takes over that operand of the real
    node, a `Constant` becomes a new constant of the graph. attrs: attributes of the new node.
    """

    operands: tuple[int | Constant, ...]
    attrs: Mapping[str, Attr]


@dataclass(frozen=True)
class Work:
    """What an operator does, in units no target owns; bytes come from the types."""

    macs: int = 0
    elementwise: int = 0
    lookups: int = 0

    def __add__(self, other: "Work") -> "Work":
        return Work(
            self.macs + other.macs,
            self.elementwise + other.elementwise,
            self.lookups + other.lookups,
        )


def no_primitives(signature: Signature) -> "Graph | None":
    """The operator is a primitive itself."""
    return None


def nothing_follows(signature: Signature) -> tuple[TensorType, ...] | None:
    """The operator's result types are free: they come from calibration."""
    return None


def reads_everything(signature: Signature) -> Mapping[int, int]:
    """The operator reads every entry of its operands."""
    return {}


def as_is(signature: Signature, constants: tuple[np.ndarray | None, ...], numerics: Numerics) -> Prepared:
    """The integer form has the operands and attributes of the real form."""
    return Prepared(tuple(range(len(signature.inputs))), signature.attrs)


@dataclass(frozen=True)
class Op:
    """An operator.

    name        the word in graph texts
    operands    names of the operands of the real form; a trailing `?` marks an optional one
    forms       integer forms as `dtypes of operands -> dtypes of results`, for example
                `i8 i8 i32 i32 i8 -> i8`; what verification admits and a target lists
    infer       (input types, attrs) -> result shapes; the same for both forms, except that the
                integer form has extra constant operands after the real ones
    real        (xp, attrs, *arrays) -> tuple of arrays: the meaning over the reals, against an
                array namespace (numpy or torch)
    prepare     (signature with code types, constants or None per operand, numerics) -> Prepared
    reference   (signature, *arrays) -> tuple of arrays, in plain Python integers
    fast        (signature, *arrays) -> tuple of arrays, compiled; equal to reference, bit for bit
    load        (signature, constants or None per operand) -> the fast kernel of one node, (*arrays) ->
                tuple of arrays: what does not change from call to call is done once, weights are put
                in the order in which machines read them; a `Bindable` where the operands' places can be
                settled too; None where there is nothing of the kind
    follow      (signature with code types of operands; outputs are f32) -> result types where
                they follow from the operands alone (movement, exact i32 results), else None
    primitives  signature -> the normative graph of a composite, else None
    work        (signature with whole dimensions) -> Work
    weights     operands that are weights (symmetric, per_channel codes): channel axis by position
    reals       positions of operands that stay real until `prepare` turns them into integers (bias)
    moves       every result code is a code of an operand (or its zero_point): operands and results
                share one code type, nothing is rounded
    ties        groups of positions that share one code type; results count as ~0, ~1, …
    demands     what a position insists on, whatever the recipe says:
                `i16` for 16 bit, `i16 power_of_two` for 16 bit with a scale 2^-n,
                `whole` for whole numbers (indices, counts), i32 with scale 1,
                `flag` for truth values 0 and 1, i8 with scale 1,
                `probability` for [0, 1], i8 with scale 2^-8 and zero_point -128 or i16 with scale 2^-15,
                `accumulates N` for sums of the codes of operand N, i32 with their scale
    accumulator (signature with code types of operands; outputs are f32) -> result types before the
                last requantisation, for a result that was chosen to be i32, else None
    reads       (signature with whole dimensions) -> how many entries of an operand are read, by
                position, where that is not all of them: rows of a table, none of a `like`
    imports     operators of model files that are this one, with the same operands and attributes:
                `DOMAIN::NAME` of ONNX, `NAMESPACE::NAME` of torch; nnaq's own are in its front-ends
    packed      operands (positions of the integer form) that `fast` also takes as packed indices:
                `PackedCodes` of nnaq.kernels.codebook in the place of an array
    body        (body, signature, *operands) -> results: the exported form in standard operators, for
                an operator from outside; nnaq's own stand in `nnaq.export.bodies`
    doc         the integer formula
    """

    name: str
    operands: tuple[str, ...]
    forms: tuple[str, ...]
    infer: Callable[[tuple[TensorType | None, ...], Mapping[str, Attr]], tuple[Shape, ...]]
    real: Callable[..., tuple[Any, ...]]
    prepare: Callable[[Signature, tuple[np.ndarray | None, ...], Numerics], Prepared]
    reference: Callable[..., Arrays]
    fast: Callable[..., Arrays]
    work: Callable[[Signature], Work]
    doc: str
    follow: Callable[[Signature], tuple[TensorType, ...] | None] = nothing_follows
    primitives: Callable[[Signature], "Graph | None"] = no_primitives
    weights: Mapping[int, int] = field(default_factory=dict)
    reals: tuple[int, ...] = ()
    moves: bool = False
    ties: tuple[tuple[int, ...], ...] = ()
    demands: Mapping[int, str] = field(default_factory=dict)
    accumulator: Callable[[Signature], tuple[TensorType, ...] | None] = nothing_follows
    reads: Callable[[Signature], Mapping[int, int]] = reads_everything
    imports: tuple[str, ...] = ()
    packed: tuple[int, ...] = ()
    body: Callable[..., tuple[str, ...]] | None = None
    load: Callable[[Signature, tuple[Any, ...]], Kernel] | None = None

    @property
    def is_host_only(self) -> bool:
        """Whether the operator has no integer form: it stays real, on the host."""
        return not self.forms

    @property
    def is_composite(self) -> bool:
        return self.primitives is not no_primitives


def at_once(load: Callable[[Signature, tuple[Any, ...]], Kernel]) -> Callable[..., Arrays]:
    """The `fast` of an operator that is loaded: load for this one call."""

    def fast(signature: Signature, *arrays: Any) -> Arrays:
        return load(signature, arrays)(*arrays)

    return fast


_TABLE: dict[str, Op] = {}


def register(op: Op) -> Op:
    """Add `op` to the operator table; a name may be taken once."""
    if op.name in _TABLE:
        raise OpError(f"operator {op.name!r} is registered twice; import kernels as nnaq.kernels only")
    _TABLE[op.name] = op
    return op


def lookup(name: str) -> Op:
    """The operator called `name`. Raises OpError with the nearest name."""
    if name in _TABLE:
        return _TABLE[name]
    close = get_close_matches(name, _TABLE, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    raise OpError(f"no operator {name!r}{hint}")


def table() -> dict[str, Op]:
    """All operators by name, sorted."""
    return dict(sorted(_TABLE.items()))
