"""Recipes: every choice of a lowering, in one readable file.

    name = "silero_vad"
    metric = "decision:speech_probs>0.5"   # what "no accuracy lost" is measured by

    [input]                                # how audio becomes the model's input
    kind = "frames"                        # overlapping frames of samples
    port = "input"
    sample_rate = 16000
    hop = 512
    context = 64                           # samples of the frame before; zeros before the first

    [ports]
    time = { input = 0, speech_probs = 0 } # the time axis of a port
    batch = {}                             # the batch axis of a port

    [states]                               # input = the output that is its next value
    h = "hn"

    [import]
    pins = { sr = 16000 }                  # inputs replaced by a constant
    shapes = { input = ["T", 576] }        # shapes of inputs; names are symbolic dimensions

    [quantize]
    activations = "auto"                   # "8", "16", or 8 raised to 16 where the goal asks for it
    weight_bits = 8                        # 8 or 4
    observer = "min_max"                   # or "percentile" (with percentile = 0.9999), "mse"
    goal = 0.995                           # agreement with the real model wanted on calibration
    seed = 0

    [values."lstm.h"]                      # a range chosen beforehand instead of observed
    dtype = "i8"
    low = -1.0
    high = 1.0

    [values.logits]                        # the 32-bit sums of a linear layer, for decoding on the host
    dtype = "i32"

    [palettes."conv.weight"]               # a constant that rests as indices into a codebook
    bits = 4

Everything but `name` may be left out. A lowering writes the recipe it ended with, ranges filled
in, as `recipe.toml`: the same choices can be read, edited and used again.
"""

import math
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal

import tomli_w
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from nnaq.errors import RecipeError
from nnaq.ir.graph import Graph
from nnaq.targets.toml_lines import key_lines

LARGEST = 1e30  # of a chosen range: scales must fit float32
SHIPPED = Path(__file__).parent / "recipes"


@dataclass(frozen=True)
class Framing:
    """How audio becomes the input `port`: frame t holds samples [t*hop - context, (t+1)*hop)."""

    kind: Literal["frames"]
    port: str
    sample_rate: int
    hop: int
    context: int


@dataclass(frozen=True)
class Quantize:
    """Widths of the codes and how ranges are observed; `percentile` only with that observer."""

    activations: Literal["auto", "8", "16"]
    weight_bits: Literal[4, 8]
    observer: Literal["min_max", "percentile", "mse"]
    percentile: float | None
    goal: float
    seed: int


@dataclass(frozen=True)
class Chosen:
    """The dtype and real range of a value, fixed by the recipe instead of observed.

    An i32 value keeps the sums of the product that makes it and has no range of its own.
    """

    dtype: Literal["i8", "i16", "i32"]
    low: float | None = None
    high: float | None = None

    @property
    def range(self) -> tuple[float, float] | None:
        """low and high, if they were chosen."""
        return None if self.low is None or self.high is None else (self.low, self.high)


def _nothing() -> Mapping[str, Any]:
    return MappingProxyType({})


@dataclass(frozen=True)
class Recipe:
    """The choices of one lowering; see the module for the file.

    time, batch: axis by port; states: next value (an output) by input; pins: constant by input;
    shapes: by input, names are symbolic dimensions; values: chosen ranges by value;
    palettes: bits by constant.
    """

    name: str
    quantize: Quantize
    metric: str | None = None
    input: Framing | None = None
    time: Mapping[str, int] = field(default_factory=_nothing)
    batch: Mapping[str, int] = field(default_factory=_nothing)
    states: Mapping[str, str] = field(default_factory=_nothing)
    pins: Mapping[str, int | float | bool] = field(default_factory=_nothing)
    shapes: Mapping[str, tuple[int | str, ...]] = field(default_factory=_nothing)
    values: Mapping[str, Chosen] = field(default_factory=_nothing)
    palettes: Mapping[str, int] = field(default_factory=_nothing)

    def __reduce__(self) -> tuple[object, ...]:
        # A MappingProxyType cannot be pickled; jobs carry recipes to other processes.
        return parse_recipe, (self.to_toml(),)

    def to_toml(self) -> str:
        """The recipe as a file that `load_recipe` reads back equal."""
        return tomli_w.dumps(_tables(self))

    def save(self, path: Path) -> None:
        """Write `to_toml()` to `path`."""
        path.write_text(self.to_toml(), encoding="utf-8")

    def merged(self, **overrides: Any) -> "Recipe":
        """A copy with other choices, checked like a file; None means not given.

        Names are those of the fields and of `Quantize`. Mappings are merged key by key.
        """
        given = {name: value for name, value in overrides.items() if value is not None}
        own = [f.name for f in fields(Recipe) if f.name != "quantize"]
        widths = [f.name for f in fields(Quantize)]
        unknown = [name for name in given if name not in (*own, *widths)]
        if unknown:
            mistakes = [f"no choice {name!r}{_hint(name, (*own, *widths))}" for name in unknown]
            raise _refusal(f"recipe {self.name!r}", mistakes)
        if given.get("observer", "percentile") != "percentile":
            given.setdefault("percentile", None)
        quantize = replace(self.quantize, **{name: given[name] for name in widths if name in given})
        changed = {name: _joined(getattr(self, name), given[name]) for name in own if name in given}
        return _checked(_tables(replace(self, quantize=quantize, **changed)), f"recipe {self.name!r}", {})

    def check(self, graph: Graph) -> None:
        """Raise RecipeError if the recipe names ports, values or constants the graph does not have."""
        ports = [port.name for port in (*graph.inputs, *graph.outputs)]
        inputs = [port.name for port in graph.inputs]
        named = [
            ("ports.time", self.time, "port", ports),
            ("ports.batch", self.batch, "port", ports),
            ("input.port", [self.input.port] if self.input else [], "input", inputs),
            ("values", self.values, "value", [v for v in graph.types if v not in graph.constants]),
            ("palettes", self.palettes, "constant", list(graph.constants)),
        ]
        mistakes = [
            f"{where}: graph {graph.name!r} has no {what} {name!r}{_hint(name, known)}"
            for where, names, what, known in named
            for name in names
            if name not in known
        ]
        if mistakes:
            raise _refusal(f"recipe {self.name!r}", mistakes)


def load_recipe(name_or_path: str | Path) -> Recipe:
    """A recipe file, or one that nnaq ships, by name.

    Raises RecipeError with all mistakes of the file at once: key, line, what was found and
    what is expected.
    """
    shipped = shipped_recipes()
    path = shipped.get(str(name_or_path), Path(name_or_path))
    if not path.is_file():
        hint = _hint(str(name_or_path), shipped)
        raise RecipeError(
            f"no recipe {str(name_or_path)!r}: neither a file nor one of {', '.join(shipped)}{hint}"
        )
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"recipe {path} cannot be read: {error}") from None
    return parse_recipe(text, f"recipe {path}")


def shipped_recipes() -> dict[str, Path]:
    """The recipes that come with nnaq, by name."""
    return {path.stem: path for path in sorted(SHIPPED.glob("*.toml"))}


def parse_recipe(text: str, who: str = "recipe") -> Recipe:
    """The recipe written in `text`; `who` stands in errors."""
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"{who} is no TOML: {error}") from None
    return _checked(tables, who, key_lines(text))


# The file as pydantic sees it. Nothing below leaves this module.


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
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _observed(self) -> "_Quantize":
        if self.percentile is not None and self.observer != "percentile":
            raise ValueError(f"a percentile needs observer = 'percentile', found observer {self.observer!r}")
        if self.observer == "percentile" and self.percentile is None:
            self.percentile = 0.9999
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


class _File(_Table):
    name: str = Field(min_length=1)
    metric: str | None = None
    input: _Input | None = None
    ports: _Ports = _Ports()
    states: dict[str, str] = {}
    imports: _Import = Field(default=_Import(), alias="import")
    quantize: _Quantize = _Quantize()
    values: dict[str, _Value] = {}
    palettes: dict[str, _Palette] = {}


def _checked(tables: Mapping[str, Any], who: str, lines: Mapping[tuple[str, ...], int]) -> Recipe:
    try:
        file = _File.model_validate(tables)
    except ValidationError as error:
        mistakes = sorted((_mistake(e, lines) for e in error.errors()), key=lambda mistake: mistake[0])
        raise _refusal(who, [said for _, said in mistakes]) from None
    return _frozen(file)


def _frozen(file: _File) -> Recipe:
    return Recipe(
        name=file.name,
        quantize=Quantize(**file.quantize.model_dump()),
        metric=file.metric,
        input=Framing(**file.input.model_dump()) if file.input else None,
        time=MappingProxyType(file.ports.time),
        batch=MappingProxyType(file.ports.batch),
        states=MappingProxyType(file.states),
        pins=MappingProxyType(file.imports.pins),
        shapes=MappingProxyType({name: tuple(shape) for name, shape in file.imports.shapes.items()}),
        values=MappingProxyType({name: Chosen(**v.model_dump()) for name, v in file.values.items()}),
        palettes=MappingProxyType({name: palette.bits for name, palette in file.palettes.items()}),
    )


def _tables(recipe: Recipe) -> dict[str, Any]:
    """The recipe as TOML tables; what is empty or None is left out."""
    tables = {
        "name": recipe.name,
        "metric": recipe.metric,
        "input": vars(recipe.input) if recipe.input else None,
        "ports": _filled({"time": dict(recipe.time), "batch": dict(recipe.batch)}),
        "states": dict(recipe.states),
        "import": _filled(
            {"pins": dict(recipe.pins), "shapes": {name: list(s) for name, s in recipe.shapes.items()}}
        ),
        "quantize": {k: v for k, v in vars(recipe.quantize).items() if v is not None},
        "values": {name: _filled(vars(chosen)) for name, chosen in recipe.values.items()},
        "palettes": {name: {"bits": bits} for name, bits in recipe.palettes.items()},
    }
    return _filled(tables)


def _joined(before: Any, given: Any) -> Any:
    return {**before, **given} if isinstance(given, Mapping) else given


def _filled(table: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in table.items() if value not in (None, {})}


def _refusal(who: str, mistakes: list[str]) -> RecipeError:
    if len(mistakes) == 1:
        return RecipeError(f"{who}: {mistakes[0]}")
    return RecipeError("\n  ".join([f"{who} has {len(mistakes)} mistakes:", *mistakes]))


def _mistake(error: Any, lines: Mapping[tuple[str, ...], int]) -> tuple[int, str]:
    """One mistake found by pydantic: its line (0 if unknown) and a sentence with line and key."""
    path = tuple(str(key) for key in error["loc"])
    line = next((lines[path[:n]] for n in range(len(path), 0, -1) if path[:n] in lines), 0)
    where = f"line {line}, " if line else ""
    key = ".".join(part if re.fullmatch(r"[\w-]+", part) else f'"{part}"' for part in path)
    return line, f"{where}{key}: {_said(error, path)}"


def _said(error: Any, path: tuple[str, ...]) -> str:
    kind, found = error["type"], error["input"]
    if kind == "extra_forbidden":
        return f"no such key{_hint(path[-1], _keys(path[:-1]))}"
    if kind == "missing":
        return "is missing"
    if kind == "value_error":
        return str(error["ctx"]["error"])
    if kind == "literal_error":
        choices = error["ctx"]["expected"]
        hint = _hint(str(found), re.findall(r"'([^']+)'", choices))
        return f"found {found!r}, expected {choices}{hint}"
    return f"found {found!r}; {error['msg'][0].lower()}{error['msg'][1:]}"


def _keys(path: tuple[str, ...]) -> list[str]:
    """The keys a table may have."""
    tables: dict[str, type[_Table]] = {
        "input": _Input, "ports": _Ports, "import": _Import,
        "quantize": _Quantize, "values": _Value, "palettes": _Palette,
    }  # fmt: skip
    model = tables[path[0]] if path else _File
    return [info.alias or name for name, info in model.model_fields.items()]


def _hint(name: str, known: Iterable[str]) -> str:
    close = get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
