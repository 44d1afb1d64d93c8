"""Commands about the machine's time: `nnaq simulate`, `nnaq compare`."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from nnaq.cli.options import AsJson, Plugins, at_least
from nnaq.errors import NnaqError

LOWERED = "A folder or model.onnx that nnaq lowered, or an int8 .tflite file."
Chunk = Annotated[
    int,
    typer.Option(
        "--chunk",
        callback=at_least(1),
        help="Frames a step takes; more where the model takes them in groups.",
    ),
]


def simulate(
    lowered: Annotated[Path, typer.Argument(help=LOWERED)],
    target: Annotated[
        str | None,
        typer.Option(
            "--target", help="A shipped target or a .toml file. Default: the one it was lowered for."
        ),
    ] = None,
    chunk: Chunk = 1,
    steps: Annotated[
        int,
        typer.Option(
            "--steps", callback=at_least(1), help="Steps one after another, as the trace shows them."
        ),
    ] = 1,
    stream: Annotated[
        Path | None,
        typer.Option(
            "--stream",
            help="A recording, heard in real time: latency, waiting, energy. A recogniser hears those of a "
            "folder, too.",
        ),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option("--recipe", help="How --stream frames audio. Default: the folder's recipe.toml."),
    ] = None,
    trace: Annotated[
        Path | None, typer.Option("--trace", help="Write the trace of all steps to this file, for Perfetto.")
    ] = None,
    execute: Annotated[
        str | None,
        typer.Option(
            "--execute", help="`plan`: run --inputs by the planned commands, and compare every integer."
        ),
    ] = None,
    inputs: Annotated[
        Path | None, typer.Option("--inputs", help="For --execute: an .npz with one array per input.")
    ] = None,
    plugin: Plugins = [],  # noqa: B006
    as_json: AsJson = False,
) -> None:
    """Say what a step of a lowered model takes on a target: cycles, bytes, energy, and what bounds them.

    Two models of time stand beside each other: the sum of what nodes cost, and the step's commands on
    their engines (`event_cycles_per_step`), where transfers run beside the work. Another target than the
    one a model was lowered for may be asked, as long as it computes the same integers. Where an executed
    plan gives other integers than the interpreter, the exit code is 1. --stream of a lowered recogniser
    tells how long a speaker waits for words: its own framing, labels as they are found.
    """
    from nnaq.artifact import write_text
    from nnaq.interpret import whole_groups
    from nnaq.opened import frames_of, open_lowered, sound_of, target_of
    from nnaq.package import is_package, open_package
    from nnaq.perceived import perceive
    from nnaq.quantize.recipe import load_recipe
    from nnaq.simulate import chrome_trace
    from nnaq.simulate import simulate as simulate_step
    from nnaq.simulate.executed import execute as run_plan
    from nnaq.simulate.listening import listen
    from nnaq.tasks.recordings import read_arrays

    if stream is not None and is_package(lowered):
        if (steps, trace, execute, inputs, recipe) != (1, None, None, None, None):
            raise NnaqError(
                "--stream of a recogniser goes with --target, --chunk and --json alone; leave the others out"
            )
        heard = perceive(open_package(lowered), target_of(open_lowered(lowered), target), stream, chunk)
        print(json.dumps({"stream": heard.to_json()}, indent=2) if as_json else heard.show())
        return
    if stream is not None and stream.is_dir():
        raise NnaqError(
            f"{lowered} is no recogniser that nnaq lowered, so --stream takes one recording; {stream} is a "
            "folder"
        )
    if stream is not None and steps != 1:
        raise NnaqError("--stream has as many steps as the recording has chunks; leave --steps out")
    if execute not in (None, "plan"):
        raise NnaqError(f"--execute takes plan, found {execute!r}")
    if (execute is None) != (inputs is None):
        raise NnaqError("--execute plan and --inputs go together; give both or none")
    model = open_lowered(lowered)
    machine, chunk = target_of(model, target), whole_groups(model.graph, chunk)
    step = simulate_step(model.graph, machine, frames_of(model.graph, chunk))
    found: dict[str, Any] = step.to_json()
    shown, series, starts = [step.show()], [step] * steps, None
    if stream is not None:
        sound = sound_of(model, stream, load_recipe(recipe) if recipe else None)
        listening = listen(model.graph, machine, sound, chunk)
        found["stream"] = listening.to_json()
        shown.append(listening.show())
        series, starts = list(listening.steps), listening.starts
    elif steps > 1:
        cycles = step.setup_cycles + steps * step.timing.cycles
        found["steps"] = {"count": steps, "cycles": cycles, "microseconds": machine.microseconds(cycles)}
        shown.append(f"{steps} steps: {cycles:,} cycles, {machine.microseconds(cycles):g} us")
    executed = None
    if inputs is not None:
        executed = run_plan(model.graph, machine, read_arrays(inputs, model.graph), chunk)
        found["executed"] = asdict(executed)
        shown.append(executed.show())
    if trace is not None:
        write_text(trace, json.dumps(chrome_trace(series, starts)) + "\n")
    print(json.dumps(found, indent=2) if as_json else "\n\n".join(shown))
    if executed is not None and executed.mismatches:
        raise typer.Exit(1)


def compare(
    left: Annotated[Path, typer.Argument(metavar="A", help=LOWERED)],
    right: Annotated[
        Path | None, typer.Argument(metavar="B", help="Another; left out, A is put on two targets.")
    ] = None,
    target: Annotated[
        list[str],
        typer.Option("--target", help="The target of A and, given twice, that of B. Default: their own."),
    ] = [],  # noqa: B006  (typer copies it)
    chunk: Chunk = 1,
    top: Annotated[int, typer.Option("--top", callback=at_least(1), help="Nodes to print.")] = 20,
    plugin: Plugins = [],  # noqa: B006
    as_json: AsJson = False,
) -> None:
    """Say what a step costs more or less: of two lowered models, or of one on two targets.

    Cycles, bytes, energy and signal to noise of every node and of the whole, B less A, with what bounds
    each. Nothing is run: how the numbers of two models differ is the question of `nnaq diff`.
    """
    from nnaq.compare import compare_simulations, show_comparison
    from nnaq.opened import frames_of, open_lowered, target_of
    from nnaq.simulate import simulate as simulate_step

    if len(target) > 2:
        raise NnaqError(f"two sides have two targets, found {len(target)} times --target")
    if right is None and len(target) != 2:
        raise NnaqError("one model is compared on two targets; give --target twice, or a second model")
    models = [open_lowered(path) for path in (left, right or left)]
    wanted: list[str | None] = [None, None] if not target else [target[0], target[-1]]
    machines = [target_of(model, name) for model, name in zip(models, wanted, strict=True)]
    steps = [
        simulate_step(model.graph, machine, frames_of(model.graph, chunk))
        for model, machine in zip(models, machines, strict=True)
    ]
    names = [f"{model.path} on {machine.name}" for model, machine in zip(models, machines, strict=True)]
    found = compare_simulations(
        steps[0], steps[1], (names[0], names[1]), (models[0].sqnr_db, models[1].sqnr_db)
    )
    if as_json:
        print(json.dumps(found.to_json(), indent=2))
    else:
        show_comparison(found, top)
