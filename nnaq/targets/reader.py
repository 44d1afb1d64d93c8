"""Reading a target file: TOML through pydantic into the frozen `Target`, all mistakes at once.

Every field's description completes the sentence "write …" of its error message.
"""

import tomllib
from difflib import get_close_matches
from fractions import Fraction
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic_core import ErrorDetails, PydanticCustomError

import nnaq.kernels  # noqa: F401  (fills the operator table)
from nnaq.errors import TargetError
from nnaq.ir.numerics import Numerics
from nnaq.ir.op import table
from nnaq.targets.target import Array, Dataflow, Decompression, Energy, Host, Memory, Target
from nnaq.targets.toml_lines import Key, key_lines, line_of

Mistake = tuple[Key, str]  # where, and what was found and what to write
Count = Annotated[int, Field(ge=1)]
Waiting = Annotated[int, Field(ge=0)]
Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Picojoules = Annotated[float, Field(ge=0, allow_inf_nan=False)]
IndexBits = Annotated[int, Field(ge=1, le=8)]
Width = Literal["i8", "i16", "i32", "i48", "bool", "index"]
Operand = Literal["i4", "i8", "i16", "i32"]
Rounding = Literal["single", "double", "half_up_shift", "pot_shift", "floor", "truncate"]


class _Table(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class _Array(_Table):
    rows: Count = Field(description="a whole number of rows, at least 1")
    columns: Count = Field(description="a whole number of columns, at least 1")
    dataflow: Dataflow = Field(description='"output_stationary" or "weight_stationary"')
    double_buffered: bool = Field(description="true if one fold fills while the last one runs, else false")
    cycles_per_mac: dict[Operand, Count] = Field(
        description="a table of dtypes (i4, i8, i16, i32) and whole cycles, such as { i8 = 1, i16 = 2 }"
    )


class _Bandwidth(_Table):
    """A rate per cycle or per second: one of the two, which `_rate_mistakes` sees to."""

    bytes_per_cycle: Rate | None = Field(default=None, description="bytes per cycle, above 0")
    bytes_per_second: Rate | None = Field(default=None, description="bytes per second, above 0")

    def per_cycle(self, clock_hz: int) -> Fraction:
        if self.bytes_per_cycle is not None:
            return Fraction(self.bytes_per_cycle)
        assert self.bytes_per_second is not None
        return Fraction(self.bytes_per_second) / clock_hz


class _Sram(_Bandwidth):
    bytes: Count = Field(description="a whole number of bytes, at least 1")


class _Host(_Bandwidth):
    operations_per_second: Rate = Field(description="operations per second, above 0")
    sync_cycles: Waiting = Field(description="a whole number of cycles of the accelerator, at least 0")


class _Numerics(_Table):
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


class _Ops(_Table):
    widths: tuple[Width, ...] = Field(
        min_length=1, strict=False, description='a list of activation dtypes, such as ["i8", "i16", "i32"]'
    )
    exclude: tuple[str, ...] = Field(
        default=(), strict=False, description='a list of operators, such as ["exp"]'
    )

    @field_validator("exclude")
    @classmethod
    def known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if name not in table():
                close = get_close_matches(name, table(), n=1)
                hint = f"; did you mean {close[0]!r}?" if close else f"; there are {', '.join(table())}"
                raise PydanticCustomError("op", "no operator '{name}'{hint}", {"name": name, "hint": hint})
        return names


class _Decompression(_Table):
    index_bits: tuple[IndexBits, ...] = Field(
        min_length=1, strict=False, description="a list of index widths from 1 to 8, such as [2, 4]"
    )
    codewords_per_cycle: Count = Field(description="a whole number of codes per cycle, at least 1")
    zero_map: bool = Field(default=False, description="true if zero maps are expanded too, else false")
    max_tables: Count | None = Field(
        default=None, description="a whole number of tables per constant, at least 1"
    )

    @field_validator("index_bits")
    @classmethod
    def sorted_once(cls, widths: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(sorted(set(widths)))


class _Energy(_Table):
    """Picojoules of one of each."""

    mac: Picojoules = Field(description="picojoules of an i8 product and its sum, at least 0")
    sram_byte: Picojoules = Field(description="picojoules of a byte of SRAM, at least 0")
    dram_byte: Picojoules = Field(description="picojoules of a byte of DRAM, at least 0")
    element: Picojoules = Field(description="picojoules of an element in the vector lanes, at least 0")
    lookup: Picojoules = Field(description="picojoules of a look-up, at least 0")
    codeword: Picojoules = Field(default=0.0, description="picojoules of an expanded index, at least 0")


class _Target(_Table):
    name: str = Field(min_length=1, description="the target's name as text")
    description: str = Field(description="one line of text on what the machine is")
    source: str = Field(description="a text that says where the figures come from")
    clock_hz: Count = Field(description="a whole number of cycles per second, such as 500_000_000")
    vector_lanes: Count = Field(description="a whole number of elements per cycle, at least 1")
    lut_lanes: Count = Field(description="a whole number of look-ups per cycle, at least 1")
    array: _Array = Field(description="a table [array]")
    sram: _Sram = Field(description="a table [sram]")
    dram: _Bandwidth = Field(description="a table [dram]")
    host: _Host = Field(description="a table [host]")
    numerics: _Numerics = Field(default=_Numerics(), description="a table [numerics]")
    ops: _Ops = Field(description="a table [ops]")
    decompression: _Decompression | None = Field(default=None, description="a table [decompression]")
    energy: _Energy | None = Field(default=None, description="a table [energy]")


def read_target(text: str, who: str) -> Target:
    """The target a TOML text describes; `who` names the file in messages.

    Raises TargetError with one line per mistake: line, key, what was found, what to write.
    """
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise TargetError(f"target file {who} is not TOML: {error}") from None
    mistakes = _rate_mistakes(values)
    try:
        read = _Target.model_validate(values)
    except ValidationError as error:
        mistakes += [(_path(detail), _sentence(detail)) for detail in error.errors(include_url=False)]
    if mistakes:
        raise TargetError(_report(mistakes, text, who))
    return _frozen(read)


def _frozen(read: _Target) -> Target:
    array, clock = read.array, read.clock_hz
    passes = tuple((str(dtype), cycles) for dtype, cycles in array.cycles_per_mac.items())
    return Target(
        name=read.name,
        description=read.description,
        source=read.source,
        clock_hz=clock,
        array=Array(array.rows, array.columns, array.dataflow, array.double_buffered, passes),
        vector_lanes=read.vector_lanes,
        lut_lanes=read.lut_lanes,
        sram=Memory(read.sram.per_cycle(clock), read.sram.bytes),
        dram=Memory(read.dram.per_cycle(clock)),
        host=Host(
            Fraction(read.host.operations_per_second) / clock,
            read.host.per_cycle(clock),
            read.host.sync_cycles,
        ),
        numerics=Numerics(**read.numerics.model_dump()),
        widths=read.ops.widths,
        exclude=read.ops.exclude,
        decompression=None
        if read.decompression is None
        else Decompression(**read.decompression.model_dump()),
        energy=None if read.energy is None else Energy(**read.energy.model_dump()),
    )


def _rate_mistakes(values: dict[str, Any]) -> list[Mistake]:
    """Tables that give their bandwidth twice or not at all."""
    mistakes: list[Mistake] = []
    for name in ("sram", "dram", "host"):
        rates = values.get(name)
        if not isinstance(rates, dict):
            continue  # the whole table is missing or misspelt: pydantic's to tell
        given = [key for key in ("bytes_per_cycle", "bytes_per_second") if key in rates]
        if len(given) != 1:
            found = "both" if given else "neither"
            mistakes.append(((name,), f"found {found}; write either bytes_per_cycle or bytes_per_second"))
    return mistakes


def _report(mistakes: list[Mistake], text: str, who: str) -> str:
    lines = key_lines(text)
    numbered = sorted((line_of(lines, path), ".".join(path), sentence) for path, sentence in mistakes)
    count = f"{len(mistakes)} mistake" + "s" * (len(mistakes) > 1)
    rows = (f"  line {line}, {path}: {sentence}" for line, path, sentence in dict.fromkeys(numbered))
    return f"target file {who} has {count}:\n" + "\n".join(rows)


def _path(detail: ErrorDetails) -> Key:
    """The key at fault; list positions and pydantic's own marks are left off."""
    return tuple(part for part in detail["loc"] if isinstance(part, str) and part != "[key]")


def _sentence(detail: ErrorDetails) -> str:
    path = _path(detail)
    if detail["type"] == "op":
        return detail["msg"]
    if detail["type"] == "extra_forbidden":
        names = list(_fields(path[:-1]))
        close = get_close_matches(path[-1], names, n=1)
        return "no such key; " + (f"did you mean {close[0]!r}?" if close else f"there are {', '.join(names)}")
    found = "it is missing" if detail["type"] == "missing" else f"found {detail['input']!r}"
    return f"{found}; write {_wanted(path)}"


def _fields(path: Key) -> dict[str, Any]:
    """The fields of the table at `path`."""
    model: type[BaseModel] = _Target
    for part in path:
        inner = table_of(model.model_fields[part].annotation)
        if inner is None:
            return {}
        model = inner
    return dict(model.model_fields)


def table_of(annotation: Any) -> type[BaseModel] | None:
    """The model of a table, required or not; None for what is no table."""
    for kind in (annotation, *get_args(annotation)):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind
    return None


def _wanted(path: Key) -> str:
    """What belongs at `path`: its description, or that of the nearest key around it."""
    while path[-1] not in _fields(path[:-1]):
        path = path[:-1]
    return str(_fields(path[:-1])[path[-1]].description)
