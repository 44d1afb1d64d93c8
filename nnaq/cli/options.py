"""Options that several commands share, and what becomes of their texts."""

import json
from collections.abc import Callable
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nnaq.errors import NnaqError

if TYPE_CHECKING:
    from nnaq.quantize.recipe import Recipe

Model = Annotated[
    Path,
    typer.Argument(help="A model file, .onnx or .tflite; to lower also a recogniser: its folder, or `rnnt`."),
]
Calibrate = Annotated[
    Path, typer.Option("--calibrate", help="Folder of .wav, .flac or .npz to choose ranges from.")
]
Evaluate = Annotated[
    Path | None,
    typer.Option("--evaluate", help="Folder to judge on. Default: 20 % of the recordings are held out."),
]
Activations = Annotated[
    str | None,
    typer.Option("--activations", help="8, 16, or auto: 8, raised to 16 where the goal asks for it."),
]
Repairs = Annotated[
    list[str],
    typer.Option(
        "--repair",
        help="Mend rounded weights: equalize_layers, error_feedback or ada_round, correct_bias. Repeat.",
    ),
]
MetricName = Annotated[
    str | None, typer.Option("--metric", help="What is judged, such as 'decision:speech_probs>0.5'.")
]
TargetName = Annotated[
    str, typer.Option("--target", help="A shipped target (see `nnaq targets`) or a .toml file.")
]
RecipeName = Annotated[
    str | None,
    typer.Option("--recipe", help="A shipped recipe, such as silero_vad, or a .toml file."),
]
Times = Annotated[
    list[str], typer.Option("--time", help="Time axis of a port, NAME:AXIS. Repeat for several.")
]
States = Annotated[
    list[str], typer.Option("--state", help="A carried state, INPUT=OUTPUT. Repeat; default: paired by name.")
]
Pins = Annotated[
    list[str], typer.Option("--pin", help="Fix an input to a value, NAME=VALUE. Repeat for several.")
]
Shapes = Annotated[
    list[str],
    typer.Option("--shape", help="Shape of an input, NAME=1,576 or NAME=T,576. Repeat for several."),
]
Plugins = Annotated[
    list[Path],
    typer.Option(
        "--plugin",
        help="A Python file with operators, passes or targets of your own. Repeat for several.",
        callback=lambda paths: load_plugins(paths),
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on standard output, nothing else.")]


def at_least(least: float) -> Callable[[typer.CallbackParam, float | None], float | None]:
    """The callback of an option whose numbers begin at `least`. It raises NnaqError for any other."""

    def checked(param: typer.CallbackParam, value: float | None) -> float | None:
        if value is not None and not least <= value < inf:
            raise NnaqError(f"{param.opts[0]} takes a number from {least} up, found {value}")
        return value

    return checked


def load_plugins(paths: list[Path]) -> list[Path]:
    """Add what installed packages and the given files offer, before the command reads any name."""
    from nnaq.plugins import load_file, load_installed

    load_installed()
    for path in paths:
        load_file(path.resolve())
    return paths


def recipe_of(
    name: str | None, model: Path, time: list[str], state: list[str], pin: list[str], shape: list[str]
) -> "Recipe":
    """The named recipe, or an empty one, with the model's ports as said on the command line."""
    from nnaq.quantize.recipe import load_recipe, parse_recipe

    empty = f"name = {json.dumps(model.stem, ensure_ascii=False)}"
    recipe = load_recipe(name) if name else parse_recipe(empty)
    return recipe.merged(
        time=pairs(time, ":", int, "--time"),
        states=pairs(state, "=", str, "--state"),
        pins=pairs(pin, "=", number, "--pin"),
        shapes=pairs(shape, "=", dims, "--shape"),
    )


def pairs(texts: list[str], mark: str, convert: Callable[[str], Any], option: str) -> dict[str, Any] | None:
    """`NAME:AXIS` texts as a mapping; None where there are none. Raises NnaqError for a name said twice."""
    found: dict[str, Any] = {}
    for text in texts:
        name, _, value = text.rpartition(mark)
        try:
            converted = convert(value)
        except ValueError:
            name = ""
        if not name or not value:
            raise NnaqError(f"{option} takes NAME{mark}VALUE, found {text!r}")
        if name in found:
            raise NnaqError(f"{option} says {name!r} twice; give one value")
        found[name] = converted
    return found or None


def dims(text: str) -> list[int | str]:
    return [int(dim) if dim.strip().isdigit() else dim.strip() for dim in text.split(",")]


def number(text: str) -> int | float:
    return int(text) if text.lstrip("-").isdigit() else float(text)
