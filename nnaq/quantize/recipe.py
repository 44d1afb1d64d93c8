r"""Recipes: every choice of a lowering, in one readable file.

    name = "silero_vad"
    metric = "decision:speech_probs>0.5"   # what "no accuracy lost" is measured by
    codebooks = "codebooks.npz"            # a file beside this: codes and tables of weights, as trained

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
    repair = ["error_feedback", "correct_bias"]  # what mends rounded weights, with calibration data

    [values."lstm.h"]                      # a range chosen beforehand instead of observed
    dtype = "i8"
    low = -1.0
    high = 1.0

    [values.logits]                        # the 32-bit sums of a linear layer, for decoding on the host
    dtype = "i32"

    [palettes."conv.weight"]               # a weight that rests as indices into a codebook
    bits = 4                               # 1 to 8
    granularity = "per_channel"            # or "per_tensor", "per_gate", "per_group" (with group_size)
    method = "optimal"                     # or "lloyd_max", "mu_law", "uniform", "power_of_two"
    weighting = "activations"              # or "none": without calibration data
    zero = "free"                          # "forced": 0 is an entry; "mapped": zeros rest in a bit map
    scale = "fitted"                       # or "kept": the scales of the int8 codes

    [[overrides]]                          # choices for many: by regex, op or name; a later one wins,
    regex = 'encoder\..*'                  # and [palettes] and [values] above win over all of them
    palette = { bits = 4 }                 # or weight_bits = 4, activations = "16", or a scheme to train by

`[training]` is for models that train on as integers: see `nnaq.quantize.training`. Everything but
`name` may be left out. A lowering writes the recipe it ended with, ranges filled in, as
`recipe.toml`: the same choices can be read, edited and used again. `codebooks` is what a training through
the integers leaves behind (nnaq.codebooks.coded); its weights keep those very codes, over palettes, widths
and overrides.
"""

import shutil
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import tomli_w

from nnaq.codebooks.choice import PaletteChoice
from nnaq.codebooks.coded import FILE
from nnaq.errors import RecipeError
from nnaq.ir.graph import Graph
from nnaq.outside import parse_toml
from nnaq.quantize.recipe_file import File, checked, hint, refusal
from nnaq.quantize.training import SchemeChoice, Training
from nnaq.targets.toml_lines import key_lines

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
    """Widths of the codes and how ranges are observed; `percentile` only with that observer.

    repair: what mends rounded weights afterwards, in the order of the pipeline.
    """

    activations: Literal["auto", "8", "16"]
    weight_bits: Literal[4, 8]
    observer: Literal["min_max", "percentile", "mse"]
    percentile: float | None
    goal: float
    seed: int
    repair: tuple[str, ...] = ()


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


@dataclass(frozen=True)
class Override:
    """A choice for many layers: whom it is for (one of the three) and what is chosen (at least one).

    name   of a node or of a weight
    regex  a regular expression that a whole such name matches
    op     the operator of a node
    """

    name: str | None = None
    regex: str | None = None
    op: str | None = None
    palette: PaletteChoice | None = None
    weight_bits: Literal[4, 8] | None = None
    activations: Literal["8", "16"] | None = None
    scheme: SchemeChoice | None = None


def _nothing() -> Mapping[str, Any]:
    return MappingProxyType({})


@dataclass(frozen=True)
class Recipe:
    """The choices of one lowering; see the module for the file.

    time, batch: axis by port; states: next value (an output) by input; pins: constant by input;
    shapes: by input, names are symbolic dimensions; values: chosen ranges by value;
    palettes: by weight; overrides: for many layers, a later one wins; codebooks: the file of weights whose
    codes a training decided.
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
    palettes: Mapping[str, PaletteChoice] = field(default_factory=_nothing)
    overrides: tuple[Override, ...] = ()
    training: Training = field(default_factory=Training)
    codebooks: Path | None = None

    def __reduce__(self) -> tuple[object, ...]:
        # A MappingProxyType cannot be pickled; jobs carry recipes to other processes.
        return parse_recipe, (self.to_toml(),)

    def to_toml(self) -> str:
        """The recipe as a file that `load_recipe` reads back equal."""
        return tomli_w.dumps(_tables(self))

    def save(self, path: Path) -> None:
        """Write `to_toml()` to `path`, and the codebooks it names beside it."""
        named = self
        if self.codebooks is not None:
            beside = path.with_name(FILE)
            if self.codebooks.resolve() != beside.resolve():
                shutil.copyfile(self.codebooks, beside)
            named = replace(self, codebooks=Path(FILE))
        path.write_text(named.to_toml(), encoding="utf-8")

    def merged(self, **overrides: Any) -> "Recipe":
        """A copy with other choices, checked like a file; None means not given.

        Names are those of the fields and of `Quantize`. Mappings are merged key by key.
        """
        given = {name: value for name, value in overrides.items() if value is not None}
        own = [f.name for f in fields(Recipe) if f.name != "quantize"]
        widths = [f.name for f in fields(Quantize)]
        unknown = [name for name in given if name not in (*own, *widths)]
        if unknown:
            mistakes = [f"no choice {name!r}{hint(name, (*own, *widths))}" for name in unknown]
            raise refusal(f"recipe {self.name!r}", mistakes)
        if given.get("observer", "percentile") != "percentile":
            given.setdefault("percentile", None)
        quantize = replace(self.quantize, **{name: given[name] for name in widths if name in given})
        changed = {name: _joined(getattr(self, name), given[name]) for name in own if name in given}
        return _frozen(
            checked(_tables(replace(self, quantize=quantize, **changed)), f"recipe {self.name!r}", {})
        )

    def with_palettes(self, choice: PaletteChoice) -> "Recipe":
        """A copy in which every weight has this palette, unless the recipe says another thing of it.

        An override for every weight that chooses a palette only, as this one does, makes room.
        """
        kept = [o for o in self.overrides if o != Override(regex=".*", palette=o.palette)]
        return replace(self, overrides=(Override(regex=".*", palette=choice), *kept))

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
            f"{where}: graph {graph.name!r} has no {what} {name!r}{hint(name, known)}"
            for where, names, what, known in named
            for name in names
            if name not in known
        ]
        if mistakes:
            raise refusal(f"recipe {self.name!r}", mistakes)


def load_recipe(name_or_path: str | Path) -> Recipe:
    """A recipe file, or one that nnaq ships, by name.

    Raises RecipeError with all mistakes of the file at once: key, line, what was found and
    what is expected.
    """
    shipped = shipped_recipes()
    path = shipped.get(str(name_or_path), Path(name_or_path))
    if not path.is_file():
        near = hint(str(name_or_path), shipped)
        raise RecipeError(
            f"no recipe {str(name_or_path)!r}: neither a file nor one of {', '.join(shipped)}{near}"
        )
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"recipe {path} cannot be read: {error}") from None
    recipe = parse_recipe(text, f"recipe {path}")
    # A file that it names lies beside it, wherever the command runs.
    return replace(recipe, codebooks=recipe.codebooks and (path.parent / recipe.codebooks).resolve())


def shipped_recipes() -> dict[str, Path]:
    """The recipes that come with nnaq, by name."""
    return {path.stem: path for path in sorted(SHIPPED.glob("*.toml"))}


def parse_recipe(text: str, who: str = "recipe") -> Recipe:
    """The recipe written in `text`; `who` stands in errors."""
    try:
        tables = parse_toml(text)
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"{who} is no TOML: {error}") from None
    return _frozen(checked(tables, who, key_lines(text)))


def _frozen(file: File) -> Recipe:
    return Recipe(
        name=file.name,
        quantize=Quantize(**{**file.quantize.model_dump(), "repair": tuple(file.quantize.repair)}),
        metric=file.metric,
        input=Framing(**file.input.model_dump()) if file.input else None,
        time=MappingProxyType(file.ports.time),
        batch=MappingProxyType(file.ports.batch),
        states=MappingProxyType(file.states),
        pins=MappingProxyType(file.imports.pins),
        shapes=MappingProxyType({name: tuple(shape) for name, shape in file.imports.shapes.items()}),
        values=MappingProxyType({name: Chosen(**v.model_dump()) for name, v in file.values.items()}),
        palettes=MappingProxyType({name: palette.choice() for name, palette in file.palettes.items()}),
        overrides=tuple(
            Override(
                **{
                    **o.model_dump(),
                    "palette": o.palette and o.palette.choice(),
                    "scheme": o.scheme and o.scheme.choice(),
                }
            )
            for o in file.overrides
        ),
        training=file.training.choice(),
        codebooks=None if file.codebooks is None else Path(file.codebooks),
    )


def _tables(recipe: Recipe) -> dict[str, Any]:
    """The recipe as TOML tables; what is empty or None is left out."""
    tables = {
        "name": recipe.name,
        "metric": recipe.metric,
        "codebooks": None if recipe.codebooks is None else str(recipe.codebooks),
        "input": vars(recipe.input) if recipe.input else None,
        "ports": _filled({"time": dict(recipe.time), "batch": dict(recipe.batch)}),
        "states": dict(recipe.states),
        "import": _filled(
            {"pins": dict(recipe.pins), "shapes": {name: list(s) for name, s in recipe.shapes.items()}}
        ),
        "quantize": _filled({**vars(recipe.quantize), "repair": list(recipe.quantize.repair)}),
        "values": {name: _filled(vars(chosen)) for name, chosen in recipe.values.items()},
        "palettes": {name: palette.table() for name, palette in recipe.palettes.items()},
        "overrides": [
            _filled(
                {
                    **vars(o),
                    "palette": o.palette and o.palette.table(),
                    "scheme": o.scheme and o.scheme.table(),
                }
            )
            for o in recipe.overrides
        ],
        "training": recipe.training.table(),
    }
    return _filled(tables)


def _joined(before: Any, given: Any) -> Any:
    return {**before, **given} if isinstance(given, Mapping) else given


def _filled(table: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in table.items() if value is not None and value not in ({}, [])}
