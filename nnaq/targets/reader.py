"""Reading a target file: TOML through pydantic into the frozen `Target`, all mistakes at once."""

import operator
import tomllib
from collections.abc import Callable
from difflib import get_close_matches
from fractions import Fraction
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from nnaq.errors import TargetError
from nnaq.ir.numerics import Numerics
from nnaq.outside import parse_toml
from nnaq.targets.tables import ArrayTable, HostTable, MemoryTable, TargetTable
from nnaq.targets.target import Array, Decompression, Dma, Energy, Host, Memory, Target
from nnaq.targets.toml_lines import Key, key_lines, line_of

Mistake = tuple[Key, str]  # where, and what was found and what to write


def read_target(text: str, who: str) -> Target:
    """The target a TOML text describes; `who` names the file in messages.

    Raises TargetError with one line per mistake: line, key, what was found, what to write.
    """
    try:
        values = parse_toml(text)
    except tomllib.TOMLDecodeError as error:
        raise TargetError(f"target file {who} is not TOML: {error}") from None
    mistakes = _rate_mistakes(values) + _joint_mistakes(values)
    try:
        read = TargetTable.model_validate(values)
    except ValidationError as error:
        mistakes += [(_path(detail), _sentence(detail)) for detail in error.errors(include_url=False)]
    if mistakes:
        raise TargetError(_report(mistakes, text, who))
    return _frozen(read)


def _frozen(read: TargetTable) -> Target:
    clock = read.clock_hz
    unit, energy = read.decompression, read.energy
    return Target(
        name=read.name,
        description=read.description,
        source=read.source,
        clock_hz=clock,
        array=_array(read.array),
        vector_lanes=read.vector_lanes,
        lut_lanes=read.lut_lanes,
        sram=_memory(read.sram, clock, read.sram.bytes),
        dram=_memory(read.dram, clock, None),
        host=_host(read.host, clock),
        numerics=Numerics(**read.numerics.model_dump()),
        widths=read.ops.widths,
        exclude=read.ops.exclude,
        decompression=None if unit is None else Decompression(**unit.model_dump()),
        energy=None if energy is None else Energy(**energy.model_dump()),
        dma=Dma(**read.dma.model_dump()),
        element_passes=tuple((op, Fraction(count)) for op, count in read.element_passes.items()),
    )


def _array(read: ArrayTable) -> Array:
    passes = tuple((str(dtype), cycles) for dtype, cycles in read.cycles_per_mac.items())
    return Array(**(read.model_dump() | {"cycles_per_mac": passes}))


def _memory(read: MemoryTable, clock: int, size: int | None) -> Memory:
    return Memory(read.per_cycle(clock), size, read.banks, read.latency_cycles, read.burst_bytes)


def _host(read: HostTable, clock: int) -> Host:
    def rate(per_second: float | None) -> Fraction | None:
        return None if per_second is None else Fraction(per_second) / clock

    return Host(
        Fraction(read.operations_per_second) / clock,
        read.per_cycle(clock),
        read.sync_cycles,
        rate(read.macs_per_second),
        rate(read.lookups_per_second),
        rate(read.memory_bytes_per_second),
        read.node_cycles,
        read.product_cycles,
        tuple((op, Fraction(count)) for op, count in read.element_passes.items()),
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


def _joint_mistakes(values: dict[str, Any]) -> list[Mistake]:
    """Numbers that are right each by itself, but not together."""
    mistakes: list[Mistake] = []
    for (table, key), (other, limit), wrong, wanted in _JOINT:
        one, two = _number(values, table, key), _number(values, other, limit)
        if one is not None and two is not None and wrong(one, two):
            mistakes.append(((table, key), f"found {one} with {limit} = {two}; write {wanted}"))
    unit = values.get("decompression")
    if isinstance(unit, dict) and "index_bits" not in unit and unit.get("entropy") is not True:
        path = ("decompression", "index_bits")
        mistakes.append((path, f"it is missing; write {_wanted(path)}, or entropy = true"))
    return mistakes


def _no_divisor(found: int, whole: int) -> bool:
    return whole % found != 0


_JOINT: tuple[tuple[tuple[str, str], tuple[str, str], Callable[[int, int], bool], str], ...] = (
    (("array", "depthwise_rows"), ("array", "rows"), operator.gt, "no more than rows"),
    (("array", "channel_block"), ("array", "rows"), _no_divisor, "a divisor of rows"),
    (("array", "position_rows"), ("array", "positions"), _no_divisor, "a divisor of positions"),
    (("sram", "banks"), ("sram", "bytes"), _no_divisor, "a divisor of bytes"),
    (("sram", "burst_bytes"), ("sram", "bytes"), operator.gt, "no more than bytes"),
)
"""Two keys each, when the first is wrong beside the second, and what to write."""


def _number(values: dict[str, Any], table: str, key: str) -> int | None:
    """A whole number above 0 at a key; None for anything else, which is told by its own field."""
    inner = values.get(table)
    found = inner.get(key) if isinstance(inner, dict) else None
    return found if type(found) is int and found > 0 else None


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
    model: type[BaseModel] = TargetTable
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
