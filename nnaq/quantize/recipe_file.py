"""A recipe file as pydantic sees it: which keys there are, what they hold, and a sentence per mistake."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from nnaq.codebooks.choice import Granularity, Method, PaletteChoice, Scale, Weighting, Zero
from nnaq.errors import RecipeError
from nnaq.quantize.training import Emulate, SchemeChoice, TrainedRanges, Training

LARGEST = 1e30  # of a chosen range: scales must fit float32


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class _Input(_Table):
    kind: Literal["frames"] = "frames"
    port: str
    sample_rate: int = Field(gt=0)
    hop: int = Field(gt=0)
    context: int = Field(default=0, ge=0)


class _Ports(_Table):
    time: dict[str, Annotated[int, Field(ge=0)]] = {}
    batch: dict[str, Annotated[int, Field(ge=0)]] = {}


def _one_of(what: str, *kinds: type) -> BeforeValidator:
    """One sentence for a union; pydantic would report each of its members."""

    def check(value: object) -> object:
        if not isinstance(value, kinds) or (isinstance(value, float) and not math.isfinite(value)):
            raise ValueError(f"found {value!r}, expected {what}")
        return value

    return BeforeValidator(check)


_Number = Annotated[int | float | bool, _one_of("a number or a boolean", int, float)]
_Dim = Annotated[int | str, _one_of("a size or the name of a symbolic dimension", int, str)]


class _Import(_Table):
    pins: dict[str, _Number] = {}
    shapes: dict[str, list[_Dim]] = {}


class _Quantize(_Table):
    activations: Literal["auto", "8", "16"] = "auto"
    weight_bits: Literal[4, 8] = 8
    observer: Literal["min_max", "percentile", "mse"] = "min_max"
    percentile: float | None = Field(default=None, gt=0.5, le=1)
    goal: float = Field(default=0.995, ge=0, le=1)
    repair: list[Literal["equalize_layers", "error_feedback", "ada_round", "correct_bias"]] = []
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _observed(self) -> "_Quantize":
        if self.percentile is not None and self.observer != "percentile":
            raise ValueError(f"a percentile needs observer = 'percentile', found observer {self.observer!r}")
        if self.observer == "percentile" and self.percentile is None:
            self.percentile = 0.9999
        if len(set(self.repair)) < len(self.repair):
            raise ValueError("repair names a step twice; each is done once")
        if {"error_feedback", "ada_round"} <= set(self.repair):
            raise ValueError("error_feedback and ada_round both choose the codes of weights: repair with one")
        return self


class _Value(_Table):
    dtype: Literal["i8", "i16", "i32"]
    low: float | None = None
    high: float | None = None

    @model_validator(mode="after")
    def _ordered(self) -> "_Value":
        given = (self.low is None) + (self.high is None)
        if given != (2 if self.dtype == "i32" else 0):
            raise ValueError("i8 and i16 need low and high, i32 (the sums of a product) has neither")
        if self.low is None or self.high is None:
            return self
        if self.low > self.high:
            raise ValueError(f"low must not be above high, found {self.low} and {self.high}")
        if max(-self.low, self.high) > LARGEST:
            raise ValueError(f"found {self.low} to {self.high}, expected reals up to {LARGEST:g}")
        return self


class _Palette(_Table):
    bits: int = Field(ge=1, le=8)
    granularity: Granularity = "per_tensor"
    group_size: int | None = Field(default=None, ge=1)
    method: Method = "optimal"
    weighting: Weighting = "none"
    zero: Zero = "free"
    scale: Scale = "fitted"

    @model_validator(mode="after")
    def _possible(self) -> "_Palette":
        try:
            self.choice()
        except RecipeError as error:
            raise ValueError(str(error)) from None
        return self

    def choice(self) -> PaletteChoice:
        return PaletteChoice(**self.model_dump())


class _Scheme(_Table):
    """A scheme's name, and its own options: what these are only the scheme knows, when it is made."""

    model_config = ConfigDict(extra="allow")
    name: str = Field(min_length=1)

    def choice(self) -> SchemeChoice:
        return SchemeChoice(self.name, dict(self.model_extra or {}))


def _scheme(found: object) -> object:
    """A scheme may be its name alone."""
    return {"name": found} if isinstance(found, str) else found


_SchemeOrName = Annotated[_Scheme, BeforeValidator(_scheme)]
_Share = Annotated[float, Field(ge=0, le=1)]


class _Training(_Table):
    scheme: _SchemeOrName = _Scheme(name="ste")
    emulate: Emulate = "integers"
    ranges: TrainedRanges = "calibrated"
    power_of_two: bool = False
    momentum: float = Field(default=0.99, ge=0, lt=1)
    freeze_ranges: _Share = 0.9
    fold_batch_norm: _Share = 0.0

    def choice(self) -> Training:
        given = {name: getattr(self, name) for name in type(self).model_fields}
        return Training(**{**given, "scheme": self.scheme.choice()})


class _Override(_Table):
    name: str | None = None
    regex: str | None = None
    op: str | None = None
    palette: _Palette | None = None
    weight_bits: Literal[4, 8] | None = None
    activations: Literal["8", "16"] | None = None
    scheme: _SchemeOrName | None = None

    @model_validator(mode="after")
    def _says_whom_and_what(self) -> "_Override":
        if sum(word is not None for word in (self.name, self.regex, self.op)) != 1:
            raise ValueError("an override is for one of name, regex or op")
        if all(c is None for c in (self.palette, self.weight_bits, self.activations, self.scheme)):
            raise ValueError("an override chooses a palette, weight_bits, activations or a scheme")
        if self.palette is not None and self.weight_bits is not None:
            raise ValueError("a palette holds 8-bit codes: choose a palette or weight_bits")
        try:
            re.compile(self.regex or "")
        except re.error as error:
            raise ValueError(f"regex {self.regex!r} is no regular expression: {error}") from None
        return self


class File(_Table):
    name: str = Field(min_length=1)
    metric: str | None = None
    codebooks: Annotated[str, Field(min_length=1)] | None = None
    input: _Input | None = None
    ports: _Ports = _Ports()
    states: dict[str, str] = {}
    imports: _Import = Field(default=_Import(), alias="import")
    quantize: _Quantize = _Quantize()
    training: _Training = _Training()
    values: dict[str, _Value] = {}
    palettes: dict[str, _Palette] = {}
    overrides: list[_Override] = []

    @model_validator(mode="after")
    def _decided_once(self) -> "File":
        if self.codebooks is not None and self.quantize.repair:
            raise ValueError(
                f"{', '.join(self.quantize.repair)} would change the codes that `codebooks` keeps from a "
                "training; leave one of them out"
            )
        return self


def checked(tables: Mapping[str, Any], who: str, lines: Mapping[tuple[str, ...], int]) -> File:
    """The file's tables, every default filled in; RecipeError tells all mistakes with their lines."""
    try:
        return File.model_validate(tables)
    except ValidationError as error:
        mistakes = sorted((_mistake(e, lines) for e in error.errors()), key=lambda mistake: mistake[0])
        raise refusal(who, [told for _, told in mistakes]) from None


def refusal(who: str, mistakes: list[str]) -> RecipeError:
    """The error that tells all mistakes of `who`."""
    return RecipeError(listed(who, mistakes))


def listed(who: str, mistakes: Sequence[str]) -> str:
    """One sentence for one mistake, a list for several."""
    if len(mistakes) == 1:
        return f"{who}: {mistakes[0]}"
    return "\n  ".join([f"{who} has {len(mistakes)} mistakes:", *mistakes])


def _mistake(error: Any, lines: Mapping[tuple[str, ...], int]) -> tuple[int, str]:
    """One mistake found by pydantic: its line (0 if unknown) and a sentence with line and key."""
    path = tuple(str(key) for key in error["loc"])
    line = next((lines[path[:n]] for n in range(len(path), 0, -1) if path[:n] in lines), 0)
    where = f"line {line}, " if line else ""
    key = ".".join(part if re.fullmatch(r"[\w-]+", part) else f'"{part}"' for part in path)
    table = "a table such as { bits = 4 }"
    if error["type"] == "list_type" and path == ("overrides",):
        return line, f"{where}{key}: found {error['input']!r}, expected [[overrides]] for each"
    return line, f"{where}{key}: {said(error, _keys(path[:-1]), table)}"


def said(error: Any, keys: Iterable[str], table: str = "a table") -> str:
    """A sentence on one mistake that pydantic found. keys: of the table it is in; table: how one looks."""
    kind, found = error["type"], error["input"]
    if kind == "extra_forbidden":
        return f"no such key{hint(str(error['loc'][-1]), keys)}"
    if kind == "missing":
        return "is missing"
    if kind in ("model_type", "dict_type"):
        return f"found {found!r}, expected {table}"
    if kind == "list_type":
        return f"found {found!r}, expected a list in brackets"
    if kind == "value_error":
        return str(error["ctx"]["error"])
    if kind == "literal_error":
        choices = error["ctx"]["expected"]
        near = hint(str(found), re.findall(r"'([^']+)'", choices))
        return f"found {found!r}, expected {choices}{near}"
    return f"found {found!r}; {error['msg'][0].lower()}{error['msg'][1:]}"


def _keys(path: tuple[str, ...]) -> list[str]:
    """The keys a table may have."""
    tables: dict[str, type[_Table]] = {
        "input": _Input, "ports": _Ports, "import": _Import,
        "quantize": _Quantize, "training": _Training, "values": _Value, "palettes": _Palette,
        "overrides": _Override,
    }  # fmt: skip
    model = tables.get(path[0]) if path else File
    if path[-1:] == ("palette",):
        model = _Palette
    if model is None:  # a table of names, such as [states]
        return []
    return [info.alias or name for name, info in model.model_fields.items()]


def hint(name: str, known: Iterable[str]) -> str:
    """`; did you mean …` where a known name is near."""
    close = get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
