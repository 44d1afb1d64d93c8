"""`nnaq lower`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
    Repairs,
    Shapes,
    States,
    TargetName,
    Times,
    recipe_of,
)
from nnaq.cli.progress import reporting
from nnaq.cli.train import must_be_installed

if TYPE_CHECKING:
    from nnaq.report import Report


def lower(
    model: Model,
    calibrate: Calibrate,
    out: Annotated[Path, typer.Option("-o", "--output", help="Folder to write.")],
    target: TargetName = "edge8",
    evaluate: Evaluate = None,
    recipe: RecipeName = None,
    activations: Activations = None,
    palette_bits: Annotated[
        int | None,
        typer.Option(
            "--palette-bits", help="1 to 8: weights rest as indices of so many bits; the recipe's own win."
        ),
    ] = None,
    repair: Repairs = [],  # noqa: B006  (typer copies it)
    metric: MetricName = None,
    goal: Annotated[
        float | None,
        typer.Option("--goal", help="Quality that `auto` works for on the calibration data."),
    ] = None,
    time: Times = [],  # noqa: B006
    state: States = [],  # noqa: B006
    pin: Pins = [],  # noqa: B006
    shape: Shapes = [],  # noqa: B006
    seed: Annotated[
        int | None,
        typer.Option("--seed", help="Seed of everything drawn at random (the held-out recordings)."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an output folder that nnaq wrote.")] = False,
    dump: Annotated[
        bool, typer.Option("--dump", help="Write the graph after every pass to OUT/passes.")
    ] = False,
    strict: Annotated[
        bool,
        typer.Option("--strict", help="Exit 3 if an operator is left to the host or the goal is missed."),
    ] = False,
    emit: Annotated[
        list[str],
        typer.Option(
            "--emit",
            help="For other tools too: golden, encodings, safetensors, qdq, qonnx, tflite, c. By commas.",
        ),
    ] = [],  # noqa: B006
    plugin: Plugins = [],  # noqa: B006
    as_json: AsJson = False,
) -> None:
    """Lower a model to integers, judge it on held-out recordings and simulate it on a target."""
    from nnaq.codebooks.choice import PaletteChoice
    from nnaq.export.emit import formats
    from nnaq.lowering import lower as lower_model
    from nnaq.targets import load_target
    from nnaq.tasks.hearing import is_recogniser, recogniser_at
    from nnaq.tasks.understanding import is_understander

    wanted, machine = formats(emit), load_target(target)
    lower_one, model = lower_model, recogniser_at(model)
    if is_recogniser(model):
        must_be_installed("lowering a recogniser")
        from nnaq.packing import lower_recogniser  # imports torch

        own = model / "recipe.toml"  # of a training through integers: the ranges it ended with
        lower_one, recipe = lower_recogniser, recipe or (str(own) if own.is_file() else "recogniser")
    if is_understander(model):
        must_be_installed("lowering a model of dialogues")
        from nnaq.packing_understander import lower_understander  # imports torch

        lower_one, recipe = lower_understander, recipe or "understander"
    choices = recipe_of(recipe, model, time, state, pin, shape).merged(
        activations=activations, metric=metric, goal=goal, seed=seed, repair=repair or None
    )
    if palette_bits is not None:
        choices = choices.with_palettes(PaletteChoice(palette_bits))
    with reporting(quiet=as_json) as reporter:
        report = lower_one(model, calibrate, out, machine, choices, evaluate, reporter, force, dump, wanted)
    if as_json:
        print(report.to_json(), end="")
    else:
        report.show()
        print(f"\nwrote {out}")
    broken = _broken(report, choices.quantize.goal, machine.sram_bytes) if strict else []
    for line in broken:
        print(f"nnaq: --strict: {line}", file=sys.stderr)
    if broken:
        raise typer.Exit(3)


def _broken(report: "Report", goal: float, sram_bytes: int) -> list[str]:
    """What --strict holds against a lowering."""
    found = [f"{i.op} {i.name!r} is left to the host: {i.reason}" for i in report.islands]
    agreement = report.accuracy.get("agreement")
    if agreement is not None and agreement.integer is not None and agreement.integer < goal:
        found.append(f"agreement {agreement.integer:.4f} is below the goal {goal}")
    if report.memory.sram_peak_bytes > sram_bytes:
        found.append(f"SRAM peak {report.memory.sram_peak_bytes} exceeds the target's {sram_bytes} bytes")
    for check in report.checks.values():
        if check.mismatches:
            found.append(
                f"model.onnx differs from the simulator in {check.mismatches} of {check.values} values"
            )
    return found
