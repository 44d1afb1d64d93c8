"""What a machine is: a MAC array, lanes, memories, a host, and the numerics contract they keep.

All times are cycles of the accelerator's clock. Bandwidths are exact fractions of a byte per
cycle, so that a cycle count never depends on a rounding of the figures it comes from.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from typing import Literal

from nnaq.ir.numerics import Numerics
from nnaq.ir.types import Palette

ALL = "*"
"""In a list of excluded operators: every one."""

Dataflow = Literal["output_stationary", "weight_stationary"]


@dataclass(frozen=True)
class Array:
    """The MAC array: `rows` x `columns`, and as many copies side by side as it has `positions`.

    dataflow          what stays in a cell: its sum (output_stationary) or its weight
    double_buffered   weights and accumulators have a shadow, so that one fold fills while the last runs
    cycles_per_mac    passes an operand of each dtype takes: {i8: 1, i16: 2} on an 8-bit array
    positions         rows of activations that meet the same weights at once, each in a copy of the array
    position_rows     how many of the positions stand below each other on a map of more than one row
    cycles_per_step   cycles a step takes where fewer multipliers than cells take turns
    weights_per_cycle weights that reach the cells in a cycle; None: as many as they want
    turnaround_cycles cycles between two folds where no step hides them; only beside weights_per_cycle
    channel_block     channels of one tap that stay together where a step takes several taps of a
                      convolution: a divisor of rows; None: terms follow each other without a gap
    max_dilation      dilation of a window up to which it skips between taps; None: any
    depthwise_rows    terms of a sum that a column takes in a step when every column works on a group of
                      its own (products of one output each); None: one group after the other
    """

    rows: int
    columns: int
    dataflow: Dataflow
    double_buffered: bool
    cycles_per_mac: tuple[tuple[str, int], ...]
    positions: int = 1
    position_rows: int = 1
    cycles_per_step: int = 1
    weights_per_cycle: int | None = None
    turnaround_cycles: int = 0
    channel_block: int | None = None
    max_dilation: int | None = None
    depthwise_rows: int | None = None

    @property
    def dtypes(self) -> tuple[str, ...]:
        """The dtypes an operand of the array may have."""
        return tuple(dtype for dtype, _ in self.cycles_per_mac)

    @property
    def macs_per_cycle(self) -> Fraction:
        """Products of one pass that it makes in a cycle at most."""
        return Fraction(self.rows * self.columns * self.positions, self.cycles_per_step)

    def passes(self, left: str, right: str) -> int:
        """Passes of one product: i16 x i8 takes 2 and i16 x i16 takes 4 where i16 stands for 2."""
        passes = dict(self.cycles_per_mac)
        return passes[left] * passes[right]


@dataclass(frozen=True)
class Memory:
    """A memory: what it holds (None: as much as is wanted) and how fast it moves.

    cycles = latency_cycles + ceil(ceil(bursts / banks) * burst_bytes / bytes_per_cycle)

    bytes_per_cycle what the port of one bank moves in a cycle
    banks           parts that work at once; bursts rest in them by turns
    latency_cycles  from asking to the first byte
    burst_bytes     it moves whole bursts: a part of one takes as long as all of it
    """

    bytes_per_cycle: Fraction
    bytes: int | None = None
    banks: int = 1
    latency_cycles: int = 0
    burst_bytes: int = 1

    @property
    def peak_bytes_per_cycle(self) -> Fraction:
        """What all banks move in a cycle at most."""
        return self.bytes_per_cycle * self.banks

    def cycles(self, *moved: int) -> int:
        """Cycles that streams of `moved` bytes each take that are asked for at once; none for nothing."""
        return self.latency_cycles + self.moving_cycles(*moved) if any(moved) else 0

    def moving_cycles(self, *moved: int) -> int:
        """The same without the latency: what keeps the memory busy."""
        rounds = ceil(sum(ceil(size / self.burst_bytes) for size in moved) / self.banks)
        return ceil(rounds * self.burst_bytes / self.bytes_per_cycle)


@dataclass(frozen=True)
class Dma:
    """The channels between DRAM and the chip. A channel carries one transfer after the other.

    channels     transfers under way at once: they share the bandwidth and hide each other's starts
    start_cycles what a channel takes to set up a transfer
    """

    channels: int = 1
    start_cycles: int = 0

    def cycles(self, memory: Memory, *moved: int) -> int:
        """Cycles that transfers of `moved` bytes each take: starts and latencies in turns of all channels."""
        turns = ceil(sum(size > 0 for size in moved) / self.channels)
        return turns * (self.start_cycles + memory.latency_cycles) + memory.moving_cycles(*moved)


@dataclass(frozen=True)
class Host:
    """The processor beside the accelerator, in cycles of the accelerator.

    It runs what the accelerator does not. Codes that cross between the two pay `sync_cycles` once per
    node and the link's bandwidth.

    operations_per_cycle   elements, and MACs and look-ups where their own rates are not given
    bytes_per_cycle        of the link to the accelerator
    macs_per_cycle         products and their sums
    lookups_per_cycle      look-ups
    memory_bytes_per_cycle weights that a product reads, again for every repeat that waits for the last;
                           None: nothing waits for them
    node_cycles            what starting a node takes
    product_cycles         what starting each of its products takes besides
    element_passes         operations that an element of an operator takes, where it is not one
    """

    operations_per_cycle: Fraction
    bytes_per_cycle: Fraction
    sync_cycles: int
    macs_per_cycle: Fraction | None = None
    lookups_per_cycle: Fraction | None = None
    memory_bytes_per_cycle: Fraction | None = None
    node_cycles: int = 0
    product_cycles: int = 0
    element_passes: tuple[tuple[str, Fraction], ...] = ()

    def cycles(
        self,
        operations: int,
        crossing: int,
        lookups: int = 0,
        products: Iterable[tuple[int, int]] = (),
        op: str = "",
    ) -> int:
        """Cycles of a node: its own work, and the bytes that cross to or from the accelerator for it.

        operations: elements of the operator `op`. products: MACs, and bytes of weights read beside them.
        """
        rate, memory = self.operations_per_cycle, self.memory_bytes_per_cycle
        working = operations * dict(self.element_passes).get(op, Fraction(1)) / rate
        working += lookups / (self.lookups_per_cycle or rate)
        for macs, size in products:
            reading = Fraction(0) if memory is None else size / memory
            working += self.product_cycles + max(macs / (self.macs_per_cycle or rate), reading)
        return self.node_cycles + ceil(working) + self.crossing_cycles(crossing)

    def crossing_cycles(self, crossing: int) -> int:
        """Cycles that bytes take across the link, and none where none cross."""
        return (self.sync_cycles if crossing else 0) + ceil(crossing / self.bytes_per_cycle)


@dataclass(frozen=True)
class Decompression:
    """A unit next to the MACs that turns palette indices into the i8 codes they stand for.

    What it takes rests and moves as indices, tables and zero maps, in DRAM and in SRAM.

    index_bits           widths of an index that it expands
    codewords_per_cycle  codes that leave it in a cycle
    zero_map             whether it puts back the zeros that a map marks, too
    zero_run             whether zeros may rest as lengths of runs instead of a map, where that is shorter
    max_tables           tables it takes for one constant; None: as many as there are
    entropy              whether weights (i8 or i4 constants of two axes or more) rest in an entropy code
    """

    index_bits: tuple[int, ...]
    codewords_per_cycle: int
    zero_map: bool = False
    zero_run: bool = False
    max_tables: int | None = None
    entropy: bool = False

    def refusal(self, palette: Palette) -> str | None:
        """Why the unit cannot expand a palette, to follow the target's name; None if it can."""
        if not self.index_bits:
            return "expands no indices"
        if palette.bits not in self.index_bits:
            widths = ", ".join(map(str, self.index_bits))
            return f"expands indices of {widths} bits, not {palette.bits}"
        if palette.zeros is not None and not (self.zero_map or self.zero_run):
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
    rest as plain codes. energy: None where nobody says what anything takes. element_passes: passes of
    the vector lanes that an element of an operator takes, where it is not one.
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
    dma: Dma = Dma()
    element_passes: tuple[tuple[str, Fraction], ...] = ()

    @property
    def has_accelerator(self) -> bool:
        """Whether anything runs elsewhere than on the host."""
        return ALL not in self.exclude

    @property
    def sram_bytes(self) -> int:
        """What fits on the chip."""
        assert self.sram.bytes is not None
        return self.sram.bytes

    def vector_cycles(self, op: str, elements: int) -> int:
        """Cycles that elements of an operator take in the vector lanes."""
        return ceil(elements * dict(self.element_passes).get(op, Fraction(1)) / self.vector_lanes)

    def microseconds(self, cycles: int) -> float:
        """Time of `cycles`."""
        return cycles * 1e6 / self.clock_hz

    def show(self) -> str:
        """The machine as a table of text."""
        rows = [
            ("target", f"{self.name}: {self.description}"),
            *(self._accelerator_rows() if self.has_accelerator else []),
            *_host_rows(self.host, self.has_accelerator),
            ("numerics", f"rounding {self.numerics.rounding}, inputs {self.numerics.input_rounding}"),
            ("operators", _runs(self.exclude)),
            ("widths", ", ".join(self.widths)),
            *([] if self.energy is None else [("energy", _takes(self.energy))]),
            ("source", self.source),
        ]
        return "\n".join(f"{left:<10} {right}" for left, right in rows)

    def _accelerator_rows(self) -> list[tuple[str, str]]:
        peak = self.giga(self.array.macs_per_cycle)
        passes = ", ".join(f"{op} {float(count):g}" for op, count in self.element_passes)
        return [
            *_array_rows(self.array),
            ("clock", f"{self.clock_hz / 1e6:g} MHz, {peak:g} GMAC/s at most"),
            ("lanes", f"{self.vector_lanes} vector, {self.lut_lanes} look-up"),
            *([("", f"passes of an element: {passes}")] if passes else []),
            ("SRAM", f"{self.sram_bytes / 1024:g} KiB, {_moves(self.sram)}"),
            ("DRAM", _moves(self.dram)),
            ("DMA", f"{_channels(self.dma.channels)}, {self.dma.start_cycles} cycles to start a transfer"),
            ("palettes", _decompresses(self.decompression)),
        ]

    def giga(self, per_cycle: Fraction) -> float:
        """Thousands of millions per second of what is done per cycle."""
        return float(per_cycle * self.clock_hz / 10**9)


def _array_rows(array: Array) -> list[tuple[str, str]]:
    copies = f", {array.positions} positions at once" if array.positions > 1 else ""
    steps = f", {array.cycles_per_step} cycles per step" if array.cycles_per_step > 1 else ""
    rate = array.weights_per_cycle
    loads = "" if rate is None else f", {rate} weights per cycle"
    passes = ", ".join(f"{dtype} in {n}" for dtype, n in array.cycles_per_mac)
    return [
        ("array", f"{array.rows} x {array.columns} MACs, {array.dataflow.replace('_', ' ')}{copies}{steps}"),
        ("", ("double-buffered" if array.double_buffered else "fills exposed at every fold") + loads),
        ("", passes + " cycles per MAC"),
    ]


def _host_rows(host: Host, meets: bool) -> list[tuple[str, str]]:
    rates = [("operations", host.operations_per_cycle), ("MACs", host.macs_per_cycle)]
    rates += [("look-ups", host.lookups_per_cycle), ("bytes of weights", host.memory_bytes_per_cycle)]
    told = [f"{float(rate):g} {what} per cycle" for what, rate in rates if rate is not None]
    starts = [("node", host.node_cycles), ("product", host.product_cycles)]
    told += [f"{cycles} cycles per {what}" for what, cycles in starts if cycles]
    link = f"{float(host.bytes_per_cycle):g} bytes per cycle, {host.sync_cycles} cycles to meet"
    return [("host", ", ".join(told)), *([("link", link)] if meets else [])]


def _moves(memory: Memory) -> str:
    banks = f" in each of {memory.banks} banks" if memory.banks > 1 else ""
    bursts = f", bursts of {memory.burst_bytes} bytes" if memory.burst_bytes > 1 else ""
    latency = f", {memory.latency_cycles} cycles of latency" if memory.latency_cycles else ""
    return f"{float(memory.bytes_per_cycle):g} bytes per cycle{banks}{bursts}{latency}"


def _runs(exclude: tuple[str, ...]) -> str:
    if ALL in exclude:
        return "none: all run on the host"
    return f"all but {', '.join(exclude)}" if exclude else "all"


def _channels(count: int) -> str:
    return "1 channel" if count == 1 else f"{count} channels"


def _decompresses(unit: Decompression | None) -> str:
    if unit is None:
        return "rest as plain i8 codes"
    if not unit.index_bits:
        return f"rest as i8 codes in an entropy code; {unit.codewords_per_cycle} codes per cycle"
    widths = ", ".join(map(str, unit.index_bits))
    tables = "" if unit.max_tables is None else f", {unit.max_tables} tables per constant at most"
    forms = [name for name, has in (("zero maps", unit.zero_map), ("runs of zeros", unit.zero_run)) if has]
    zeros = " and ".join(forms) or "no zero maps"
    return f"rest as indices of {widths} bits, {zeros}{tables}; {unit.codewords_per_cycle} codes per cycle"


def _takes(energy: Energy) -> str:
    figures = ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in vars(energy).items())
    return f"{figures} pJ"
