"""Commands that compare: two forms of a model, or the contracts of a chip."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from nnaq.cli.options import (
    Activations,
    AsJson,
    Calibrate,
    Evaluate,
    MetricName,
    Model,
    Pins,
    Plugins,
    RecipeName,
    Shapes,
    States,
    TargetName,
    Times,
    at_least,
    recipe_of,
)
from nnaq.cli.progress import reporting


def diff(
    left: Annotated[str, typer.Argument(metavar="A", help="What should be: PATH or KIND:PATH.")],
    right: Annotated[str, typer.Argument(metavar="B", help="What is: PATH or KIND:PATH.")],
    inputs: Annotated[Path, typer.Option("--inputs", help="An .npz with one array per input, time first.")],
    csv: Annotated[
        Path | None, typer.Option("--csv", help="Write every layer to this file, worst first.")
    ] = None,
    top: Annotated[int, typer.Option("--top", callback=at_least(1), help="Layers to print.")] = 20,
    recipe: RecipeName = None,
    time: Times = [],  # noqa: B006
    state: States = [],  # noqa: B006
    pin: Pins = [],  # noqa: B006
    shape: Shapes = [],  # noqa: B006
    plugin: Plugins = [],  # noqa: B006
    as_json: AsJson = False,
) -> None:
    """Say where two forms of a model part, and which layer is to blame.

    KIND is float (a model file), fake (the same with every value rounded; give --recipe
    OUT/recipe.toml), integer (a folder or file that nnaq lowered), exported (that file, executed by
    another runtime) or dump (an .npz of another runtime, one array per value). PATH alone is
    recognised. Each layer's error is split into what it added and what its operands had wrong already.
    """
    from nnaq.artifact import write_text
    from nnaq.diff import compare, read_side
    from nnaq.diff.sides import InputsOf

    named = [text.partition(":")[2] or text for text in (left, right)]
    model = next((Path(n) for n in named if not n.endswith(".npz")), Path(named[0]))
    choices = recipe_of(recipe, model, time, state, pin, shape)
    found = compare(*(read_side(text, InputsOf(inputs), choices) for text in (left, right)))
    if csv is not None:
        write_text(csv, found.to_csv())
    if as_json:
        print(json.dumps(asdict(found), indent=2))
    else:
        from nnaq.diff.show import show_difference

        show_difference(found, top)


def numerics(
    model: Model,
    calibrate: Calibrate,
    sweep: Annotated[
        str, typer.Option("--sweep", help="What is changed, one choice at a time, separated by commas.")
    ] = "rounding,accumulator,lut,internals",
    target: TargetName = "edge8",
    evaluate: Evaluate = None,
    recipe: RecipeName = None,
    activations: Activations = None,
    metric: MetricName = None,
    csv: Annotated[Path | None, typer.Option("--csv", help="Write every row to this file.")] = None,
    time: Times = [],  # noqa: B006
    state: States = [],  # noqa: B006
    pin: Pins = [],  # noqa: B006
    shape: Shapes = [],  # noqa: B006
    plugin: Plugins = [],  # noqa: B006
    as_json: AsJson = False,
) -> None:
    """Say what each choice of a chip's numerics costs on a model: what if it truncates?

    The model is lowered once; then the target's contract is changed, one choice at a time, with the
    same ranges and widths, and judged on the same recordings. Sweeps are rounding (of every
    requantisation), accumulator (its width, and what it does when it overflows), lut (entries of a
    16-bit table) and internals (bits of the gates and cells of recurrent layers).
    """
    from nnaq.artifact import write_text
    from nnaq.lowering import lower_file
    from nnaq.targets import load_target
    from nnaq.whatif import chosen, show_rows, to_csv, to_json
    from nnaq.whatif import sweep as sweep_contracts

    asked, machine = chosen(sweep), load_target(target)
    choices = recipe_of(recipe, model, time, state, pin, shape).merged(activations=activations, metric=metric)
    with reporting(quiet=as_json) as reporter:
        lowering, _ = lower_file(model, calibrate, machine, choices, evaluate, reporter)
        rows = sweep_contracts(lowering, asked, reporter)
    if csv is not None:
        write_text(csv, to_csv(rows))
    if as_json:
        print(json.dumps(to_json(rows), indent=2))
    else:
        show_rows(rows)
