"""What commands do to bytes: the machine's own instructions.

An operand is a `View` of SRAM, a constant `Stored` in DRAM, or `Held` under a name: in a register
of the accelerator (codes on their way to the array, sums), or by the host (reals). All addresses are
settled; nothing here knows a graph.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from nnaq.ir.op import Signature
from nnaq.ir.types import TensorType
from nnaq.schedule.places import Place, extent
from nnaq.schedule.rest import rest_bytes


@dataclass(frozen=True)
class View:
    """A value in SRAM. place: relative to the start of SRAM; index: what is wanted of it when it is read."""

    kind: TensorType
    place: Place
    index: tuple[slice, ...] = ()

    @property
    def span(self) -> tuple[int, int]:
        """The first byte, and the one behind the last."""
        return extent(self.kind, self.place, rest_bytes(self.kind))


@dataclass(frozen=True)
class Stored:
    """A constant, or a piece of one, in the packed image in DRAM."""

    kind: TensorType
    address: int


@dataclass(frozen=True)
class Held:
    """What has a name and no address."""

    name: str


Operand = View | Stored | Held | None


@dataclass(frozen=True)
class Move:
    """Copy sources to destinations, all read before any is written; from DRAM byte by byte as packed."""

    pairs: tuple[tuple[View | Stored | Held, View], ...]

    def reads(self) -> Iterator[Operand]:
        return (source for source, _ in self.pairs)

    def writes(self) -> Iterator[Operand]:
        return (view for _, view in self.pairs)


@dataclass(frozen=True)
class Take:
    """Turn constants at rest into codes held next to the array: expand indices, or just take them in."""

    pairs: tuple[tuple[View, Held], ...]

    def reads(self) -> Iterator[Operand]:
        return (view for view, _ in self.pairs)

    def writes(self) -> Iterator[Operand]:
        return (held for _, held in self.pairs)


@dataclass(frozen=True)
class Multiply:
    """sums = adds + bias + op(x - z_x, weight - z_w), exactly: the op over whole numbers.

    signature: of the node, for zero points and attributes; adds: sums of the inputs before these.
    """

    op: str
    signature: Signature
    x: Operand
    weight: Operand
    bias: Operand
    adds: Held | None
    sums: Held

    def reads(self) -> Iterator[Operand]:
        return iter((self.x, self.weight, self.bias, self.adds))

    def writes(self) -> Iterator[Operand]:
        return iter((self.sums,))


@dataclass(frozen=True)
class Requantize:
    """y = saturate(requantize(sums, multiplier, shift) + z_y), or the sums themselves without a multiplier.

    axis: of the result along which multipliers and shifts stand, if there is more than one.
    """

    signature: Signature
    sums: Held
    multiplier: Operand
    shift: Operand
    axis: int
    y: View

    def reads(self) -> Iterator[Operand]:
        return iter((self.sums, self.multiplier, self.shift))

    def writes(self) -> Iterator[Operand]:
        return iter((self.y,))


@dataclass(frozen=True)
class Run:
    """The whole operator by its kernel, or over the reals where nothing in its signature is a code.

    parts: operands, by position, to put together along their first axis of what was taken in.
    """

    op: str
    signature: Signature
    operands: tuple[Operand, ...]
    parts: tuple[tuple[int, tuple[Operand, ...]], ...]
    results: tuple[View | Held, ...]

    def reads(self) -> Iterator[Operand]:
        yield from self.operands
        for _, held in self.parts:
            yield from held

    def writes(self) -> Iterator[Operand]:
        return iter(self.results)


Action = Move | Take | Multiply | Requantize | Run
