"""Commands on one model: run it, show it, check it."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from nnaq.cli.options import (
    AsJson,
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
from nnaq.errors import NnaqError


def run(
    lowered: Annotated[
        Path, typer.Argument(help="A folder or model.onnx that nnaq lowered, or an int8 .tflite file.")
    ],
    inputs: Annotated[Path, typer.Argument(help="An .npz with one array per input, time first.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="The .npz to write: outputs and last states.")
    ],
    reference: Annotated[
        bool, typer.Option("--reference", help="Use the plain Python kernels instead of the compiled ones.")
    ] = False,
    chunk: Annotated[
        int | None,
        typer.Option(
            "--chunk", callback=at_least(1), help="Frames at a time; the integers are the same for any."
        ),
    ] = None,
    steps: Annotated[
        bool,
        typer.Option(
            "--steps", help="The arrays have one more axis in front: run once per entry, states carried on."
        ),
    ] = False,
    plugin: Plugins = [],  # noqa: B006
    as_json: AsJson = False,
) -> None:
    """Run an integer model on arrays: `output:NAME` and `state:NAME` of the result."""
    import numpy as np

    from nnaq.artifact import result_arrays, write_arrays
    from nnaq.export.read import read_integer
    from nnaq.interpret import Mode, run_steps
    from nnaq.interpret import run as run_graph
    from nnaq.tasks.recordings import read_arrays, read_steps

    if steps and chunk is not None:
        raise NnaqError("--steps runs one step at a time, --chunk cuts a time axis; give one of them")
    graph = read_integer(lowered)
    mode: Mode = "reference" if reference else "fast"
    if steps:
        result = run_steps(graph, read_steps(inputs, graph), mode)
    else:
        result = run_graph(graph, read_arrays(inputs, graph), mode, chunk=chunk)
    arrays = result_arrays(graph, result, steps)
    write_arrays(output, arrays)
    shapes = {name: list(np.shape(array)) for name, array in arrays.items()}
    print(json.dumps(shapes) if as_json else "\n".join(f"{n} {s}" for n, s in shapes.items()))


def show(
    model: Annotated[
        Path, typer.Argument(help="A model, a lowered model.onnx, or an output folder of nnaq.")
    ],
    full: Annotated[bool, typer.Option("--full", help="Every scale in full; the text parses back.")] = False,
    stage: Annotated[
        str | None,
        typer.Option("--stage", help="A pass's name: the graph after it, of a folder made with --dump."),
    ] = None,
    recipe: RecipeName = None,
    time: Times = [],  # noqa: B006
    state: States = [],  # noqa: B006
    pin: Pins = [],  # noqa: B006
    shape: Shapes = [],  # noqa: B006
    plugin: Plugins = [],  # noqa: B006
) -> None:
    """Print a model's graph as text: as imported, as lowered, or after any pass."""
    from nnaq.artifact import stage_text
    from nnaq.crossing import import_options
    from nnaq.export.read import is_lowered, read_lowered
    from nnaq.frontends import load
    from nnaq.ir.text import print_graph, summarise

    path = model / "model.onnx" if model.is_dir() else model
    if stage is not None:
        text = stage_text(model, stage)
        print(text if full else summarise(text), end="")
        return
    if path.suffix == ".onnx" and is_lowered(path):
        graph = read_lowered(path)
    else:
        graph = load(path, import_options(recipe_of(recipe, path, time, state, pin, shape))).graph
    text = print_graph(graph)
    print(text if full else summarise(text), end="")


def check(
    model: Model,
    target: TargetName = "edge8",
    recipe: RecipeName = None,
    time: Times = [],  # noqa: B006
    state: States = [],  # noqa: B006
    pin: Pins = [],  # noqa: B006
    shape: Shapes = [],  # noqa: B006
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit 3 if the target leaves operators to the host.")
    ] = False,
    plugin: Plugins = [],  # noqa: B006
    as_json: AsJson = False,
) -> None:
    """Say which operators nnaq cannot import and which the target leaves to the host; nothing is run."""
    from nnaq.crossing import import_options
    from nnaq.errors import FrontendError
    from nnaq.findings import foreseen_islands
    from nnaq.frontends import check as problems_of
    from nnaq.frontends import load
    from nnaq.frontends.ports import counted
    from nnaq.ir.verify import is_real_graph
    from nnaq.targets import load_target

    options = import_options(recipe_of(recipe, model, time, state, pin, shape))
    machine = load_target(target)
    problems = problems_of(model, options)
    graph = None if problems else load(model, options).graph
    islands = foreseen_islands(graph, machine) if graph and is_real_graph(graph) else []
    if as_json:
        host = [asdict(island) for island in islands]
        print(json.dumps({"problems": [str(p) for p in problems], "islands": host}, indent=2))
    if problems:
        listed = "; ".join(str(p) for p in problems)
        raise FrontendError(f"{model} has {counted(len(problems), 'node')} that cannot be imported: {listed}")
    if not as_json:
        assert graph is not None
        nodes = counted(len(graph.nodes), "node")
        print(f"{model}: {nodes}, all imported; {len(islands)} left to the host by {machine.name}")
        for island in islands:
            print(f"  host: {island.op} {island.name!r}, {island.cycles} cycles per step: {island.reason}")
    if strict and islands:
        raise typer.Exit(3)
