"""The tables of a target file, as pydantic reads them.

Every field's description completes the sentence "write …" of its error message.
"""

from difflib import get_close_matches
from fractions import Fraction
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator
from pydantic_core import PydanticCustomError

import nnaq.kernels  # noqa: F401  (fills the operator table)
from nnaq.ir.op import table
from nnaq.targets.target import ALL, Dataflow

Count = Annotated[int, Field(ge=1)]
Waiting = Annotated[int, Field(ge=0)]
Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Picojoules = Annotated[float, Field(ge=0, allow_inf_nan=False)]
IndexBits = Annotated[int, Field(ge=1, le=8)]
Width = Literal["i8", "i16", "i32", "i48", "bool", "index"]
Operand = Literal["i4", "i8", "i16", "i32"]
Rounding = Literal["single", "double", "half_up_shift", "pot_shift", "floor", "truncate"]


class Table(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class ArrayTable(Table):
    rows: Count = Field(description="a whole number of rows, at least 1")
    columns: Count = Field(description="a whole number of columns, at least 1")
    dataflow: Dataflow = Field(description='"output_stationary" or "weight_stationary"')
    double_buffered: bool = Field(description="true if one fold fills while the last one runs, else false")
    cycles_per_mac: dict[Operand, Count] = Field(
        description="a table of dtypes (i4, i8, i16, i32) and whole cycles, such as { i8 = 1, i16 = 2 }"
    )
    positions: Count = Field(
        default=1, description="a whole number of rows of activations that meet the same weights, at least 1"
    )
    position_rows: Count = Field(default=1, description="a whole number that divides positions, at least 1")
    cycles_per_step: Count = Field(default=1, description="a whole number of cycles, at least 1")
    weights_per_cycle: Count | None = Field(
        default=None, description="a whole number of weights per cycle, at least 1, or leave it out"
    )
    turnaround_cycles: Waiting = Field(default=0, description="a whole number of cycles, at least 0")
    channel_block: Count | None = Field(
        default=None, description="a whole number of channels that divides rows, or leave it out"
    )
    max_dilation: Count | None = Field(
        default=None, description="a whole number, at least 1, or leave it out"
    )
    depthwise_rows: Count | None = Field(
        default=None, description="a whole number of terms, at least 1, or leave it out"
    )


class BandwidthTable(Table):
    """A rate per cycle or per second: one of the two, which the reader sees to."""

    bytes_per_cycle: Rate | None = Field(default=None, description="bytes per cycle, above 0")
    bytes_per_second: Rate | None = Field(default=None, description="bytes per second, above 0")

    def per_cycle(self, clock_hz: int) -> Fraction:
        if self.bytes_per_cycle is not None:
            return Fraction(self.bytes_per_cycle)
        assert self.bytes_per_second is not None
        return Fraction(self.bytes_per_second) / clock_hz


class MemoryTable(BandwidthTable):
    banks: Count = Field(default=1, description="a whole number of banks, at least 1")
    latency_cycles: Waiting = Field(default=0, description="a whole number of cycles, at least 0")
    burst_bytes: Count = Field(default=1, description="a whole number of bytes, at least 1")


class SramTable(MemoryTable):
    bytes: Count = Field(description="a whole number of bytes, at least 1")


class HostTable(BandwidthTable):
    operations_per_second: Rate = Field(description="operations per second, above 0")
    sync_cycles: Waiting = Field(description="a whole number of cycles of the accelerator, at least 0")
    macs_per_second: Rate | None = Field(default=None, description="MACs per second, above 0")
    lookups_per_second: Rate | None = Field(default=None, description="look-ups per second, above 0")
    memory_bytes_per_second: Rate | None = Field(
        default=None, description="bytes of constants per second, above 0"
    )
    node_cycles: Waiting = Field(
        default=0, description="a whole number of cycles of the accelerator, at least 0"
    )
    product_cycles: Waiting = Field(
        default=0, description="a whole number of cycles of the accelerator, at least 0"
    )
    element_passes: dict[str, Rate] = Field(
        default={}, description="a table of operators and operations above 0, such as { add = 3 }"
    )

    @field_validator("element_passes")
    @classmethod
    def of_operators(cls, passes: dict[str, float]) -> dict[str, float]:
        return {known_operator(name): count for name, count in passes.items()}


class DmaTable(Table):
    channels: Count = Field(default=1, description="a whole number of channels, at least 1")
    start_cycles: Waiting = Field(default=0, description="a whole number of cycles, at least 0")


class NumericsTable(Table):
    rounding: Rounding = Field(
        default="single",
        description='"single", "double", "half_up_shift", "pot_shift", "floor" or "truncate" '
        "(half_even and double_m16 are for imported models, no machine's default)",
    )
    input_rounding: Literal["half_even", "half_away"] = Field(
        default="half_even", description='"half_even" or "half_away"'
    )
    accumulator_bits: int = Field(default=32, ge=16, le=32, description="a whole number from 16 to 32")
    overflow: Literal["saturate", "wrap"] = Field(default="saturate", description='"saturate" or "wrap"')
    array_depth: int = Field(default=32, ge=1, description="a whole number of products, at least 1")
    lut_entries: Literal[513, 65536] = Field(default=513, description="513 or 65536")
    internal_bits: int = Field(default=16, ge=6, le=16, description="a whole number from 6 to 16")
    curves: Literal["rounded", "tflite"] = Field(default="rounded", description='"rounded" or "tflite"')


class OpsTable(Table):
    widths: tuple[Width, ...] = Field(
        min_length=1, strict=False, description='a list of activation dtypes, such as ["i8", "i16", "i32"]'
    )
    exclude: tuple[str, ...] = Field(
        default=(), strict=False, description='a list of operators, such as ["exp"], or ["*"] for all'
    )

    @field_validator("exclude")
    @classmethod
    def known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(name if name == ALL else known_operator(name) for name in names)


def known_operator(name: str) -> str:
    """The name of an operator. Raises a mistake of the file for any other word."""
    if name not in table():
        close = get_close_matches(name, table(), n=1)
        hint = f"; did you mean {close[0]!r}?" if close else f"; there are {', '.join(table())}"
        raise PydanticCustomError("op", "no operator '{name}'{hint}", {"name": name, "hint": hint})
    return name


class DecompressionTable(Table):
    index_bits: tuple[IndexBits, ...] = Field(
        default=(),
        min_length=1,
        strict=False,
        description="a list of index widths from 1 to 8, such as [2, 4]",
    )
    codewords_per_cycle: Count = Field(description="a whole number of codes per cycle, at least 1")
    zero_map: bool = Field(default=False, description="true if zero maps are expanded too, else false")
    zero_run: bool = Field(default=False, description="true if zeros may rest as lengths of runs, else false")
    max_tables: Count | None = Field(
        default=None, description="a whole number of tables per constant, at least 1"
    )
    entropy: bool = Field(default=False, description="true if weights rest in an entropy code, else false")

    @field_validator("index_bits")
    @classmethod
    def sorted_once(cls, widths: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(sorted(set(widths)))


class EnergyTable(Table):
    """Picojoules of one of each."""

    mac: Picojoules = Field(description="picojoules of an i8 product and its sum, at least 0")
    sram_byte: Picojoules = Field(description="picojoules of a byte of SRAM, at least 0")
    dram_byte: Picojoules = Field(description="picojoules of a byte of DRAM, at least 0")
    element: Picojoules = Field(description="picojoules of an element in the vector lanes, at least 0")
    lookup: Picojoules = Field(description="picojoules of a look-up, at least 0")
    codeword: Picojoules = Field(default=0.0, description="picojoules of an expanded index, at least 0")


class TargetTable(Table):
    name: str = Field(min_length=1, description="the target's name as text")
    description: str = Field(description="one line of text on what the machine is")
    source: str = Field(description="a text that says where the figures come from")
    clock_hz: Count = Field(description="a whole number of cycles per second, such as 500_000_000")
    vector_lanes: Count = Field(description="a whole number of elements per cycle, at least 1")
    lut_lanes: Count = Field(description="a whole number of look-ups per cycle, at least 1")
    array: ArrayTable = Field(description="a table [array]")
    sram: SramTable = Field(description="a table [sram]")
    dram: MemoryTable = Field(description="a table [dram]")
    host: HostTable = Field(description="a table [host]")
    numerics: NumericsTable = Field(default=NumericsTable(), description="a table [numerics]")
    ops: OpsTable = Field(description="a table [ops]")
    dma: DmaTable = Field(default=DmaTable(), description="a table [dma]")
    element_passes: dict[str, Rate] = Field(
        default={}, description="a table of operators and passes above 0, such as { add = 3 }"
    )
    decompression: DecompressionTable | None = Field(default=None, description="a table [decompression]")
    energy: EnergyTable | None = Field(default=None, description="a table [energy]")

    @field_validator("element_passes")
    @classmethod
    def of_operators(cls, passes: dict[str, float]) -> dict[str, float]:
        return {known_operator(name): count for name, count in passes.items()}
