"""What a machine is: a MAC array, lanes, memories, a host, and the numerics contract they keep.

All times are cycles of the accelerator's clock. Bandwidths are exact fractions of a byte per
cycle, so that a cycle count never depends on a rounding of the figures it comes from.
"""

from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from typing import Literal

from nnaq.ir.numerics import Numerics
from nnaq.ir.types import Palette

Dataflow = Literal["output_stationary", "weight_stationary"]


@dataclass(frozen=True)
class Array:
    """The MAC array: `rows` x `columns`.

    dataflow        what stays in a cell: its sum (output_stationary) or its weight
    double_buffered weights and accumulators have a shadow, so that one fold fills while the last runs
    cycles_per_mac  passes an operand of each dtype takes: {i8: 1, i16: 2} on an 8-bit array
    """

    rows: int
    columns: int
    dataflow: Dataflow
    double_buffered: bool
    cycles_per_mac: tuple[tuple[str, int], ...]

    @property
    def dtypes(self) -> tuple[str, ...]:
        """The dtypes an operand of the array may have."""
        return tuple(dtype for dtype, _ in self.cycles_per_mac)

    def passes(self, left: str, right: str) -> int:
        """Passes of one product: i16 x i8 takes 2 and i16 x i16 takes 4 where i16 stands for 2."""
        passes = dict(self.cycles_per_mac)
        return passes[left] * passes[right]


@dataclass(frozen=True)
class Memory:
    """A memory: what it holds (None: as much as is wanted) and what it moves in a cycle."""

    bytes_per_cycle: Fraction
    bytes: int | None = None

    def cycles(self, moved: int) -> int:
        """Cycles that `moved` bytes take."""
        return ceil(moved / self.bytes_per_cycle)


@dataclass(frozen=True)
class Host:
    """The processor beside the accelerator, in cycles of the accelerator.

    It runs what the accelerator does not: one operation per MAC, element or look-up. Codes that
    cross between the two pay `sync_cycles` once per node and the link's bandwidth.
    """

    operations_per_cycle: Fraction
    bytes_per_cycle: Fraction
    sync_cycles: int

    def cycles(self, operations: int, crossing: int) -> int:
        """Cycles of a node with this many operations and bytes that cross to or from the accelerator."""
        sync = self.sync_cycles if crossing else 0
        return sync + ceil(operations / self.operations_per_cycle) + ceil(crossing / self.bytes_per_cycle)


@dataclass(frozen=True)
class Decompression:
    """A unit next to the MACs that turns palette indices into the i8 codes they stand for.

    What it takes rests and moves as indices, tables and zero maps, in DRAM and in SRAM.

    index_bits           widths of an index that it expands
    codewords_per_cycle  codes that leave it in a cycle
    zero_map             whether it puts back the zeros that a map marks, too
    max_tables           tables it takes for one constant; None: as many as there are
    """

    index_bits: tuple[int, ...]
    codewords_per_cycle: int
    zero_map: bool = False
    max_tables: int | None = None

    def refusal(self, palette: Palette) -> str | None:
        """Why the unit cannot expand a palette, to follow the target's name; None if it can."""
        if palette.bits not in self.index_bits:
            widths = ", ".join(map(str, self.index_bits))
            return f"expands indices of {widths} bits, not {palette.bits}"
        if palette.zeros is not None and not self.zero_map:
            return "expands no zero maps"
        if self.max_tables is not None and len(palette.tables) > self.max_tables:
            return f"takes {self.max_tables} tables for one constant, not {len(palette.tables)}"
        return None

    def cycles(self, codes: int) -> int:
        """Cycles that expanding `codes` takes."""
        return ceil(codes / self.codewords_per_cycle)


@dataclass(frozen=True)
class Energy:
    """Picojoules that one of each takes: the accelerator's and its memories', the host's not counted.

    mac        a product of two i8 codes and its sum; an operand of n passes takes n of them
    sram_byte  a byte through the SRAM port
    dram_byte  a byte from DRAM
    element    an element in the vector lanes
    lookup     a look-up in the table lanes
    codeword   an index expanded next to the MACs
    """

    mac: float
    sram_byte: float
    dram_byte: float
    element: float
    lookup: float
    codeword: float = 0.0


@dataclass(frozen=True)
class Target:
    """A machine. `source` says where its figures come from.

    vector_lanes and lut_lanes: elements and look-ups per cycle. widths: dtypes that activations on
    the accelerator may have. exclude: operators it does not run. decompression: None where weights
    rest as plain codes. energy: None where nobody says what anything takes.
    """

    name: str
    description: str
    source: str
    clock_hz: int
    array: Array
    vector_lanes: int
    lut_lanes: int
    sram: Memory
    dram: Memory
    host: Host
    numerics: Numerics
    widths: tuple[str, ...]
    exclude: tuple[str, ...] = ()
    decompression: Decompression | None = None
    energy: Energy | None = None

    @property
    def sram_bytes(self) -> int:
        """What fits on the chip."""
        assert self.sram.bytes is not None
        return self.sram.bytes

    def microseconds(self, cycles: int) -> float:
        """Time of `cycles`."""
        return cycles * 1e6 / self.clock_hz

    def show(self) -> str:
        """The machine as a table of text."""
        array, passes = self.array, self.array.cycles_per_mac
        peak = array.rows * array.columns * self.clock_hz / 1e9
        rows = [
            ("target", f"{self.name}: {self.description}"),
            ("array", f"{array.rows} x {array.columns} MACs, {array.dataflow.replace('_', ' ')}"),
            ("", "double-buffered" if array.double_buffered else "fills exposed at every fold"),
            ("", ", ".join(f"{dtype} in {n}" for dtype, n in passes) + " cycles per MAC"),
            ("clock", f"{self.clock_hz / 1e6:g} MHz, {peak:g} GMAC/s at most"),
            ("lanes", f"{self.vector_lanes} vector, {self.lut_lanes} look-up"),
            ("SRAM", f"{self.sram_bytes / 1024:g} KiB, {float(self.sram.bytes_per_cycle):g} bytes per cycle"),
            ("DRAM", f"{float(self.dram.bytes_per_cycle):g} bytes per cycle"),
            (
                "host",
                f"{float(self.host.operations_per_cycle):g} operations per cycle, "
                f"{float(self.host.bytes_per_cycle):g} bytes per cycle, {self.host.sync_cycles} to meet",
            ),
            ("palettes", _decompresses(self.decompression)),
            ("numerics", f"rounding {self.numerics.rounding}, inputs {self.numerics.input_rounding}"),
            ("operators", f"all but {', '.join(self.exclude)}" if self.exclude else "all"),
            ("widths", ", ".join(self.widths)),
            *([] if self.energy is None else [("energy", _takes(self.energy))]),
            ("source", self.source),
        ]
        return "\n".join(f"{left:<10} {right}" for left, right in rows)


def _decompresses(unit: Decompression | None) -> str:
    if unit is None:
        return "rest as plain i8 codes"
    widths = ", ".join(map(str, unit.index_bits))
    tables = "" if unit.max_tables is None else f", {unit.max_tables} tables per constant at most"
    zeros = "zero maps" if unit.zero_map else "no zero maps"
    return f"rest as indices of {widths} bits, {zeros}{tables}; {unit.codewords_per_cycle} codes per cycle"


def _takes(energy: Energy) -> str:
    figures = ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in vars(energy).items())
    return f"{figures} pJ"
