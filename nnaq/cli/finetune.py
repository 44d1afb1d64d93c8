"""`nnaq finetune`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from nnaq.cli.options import AsJson, Plugins, at_least
from nnaq.cli.progress import reporting
from nnaq.errors import NnaqError


def finetune(
    lowered: Annotated[Path, typer.Argument(help="A folder that `nnaq lower` wrote.")],
    tasks: Annotated[
        list[Path],
        typer.Option("--tasks", help="A task: an .npz of inputs, labels and output, or a folder. Repeat."),
    ],
    out: Annotated[Path | None, typer.Option("-o", "--output", help="Folder to write.")] = None,
    in_place: Annotated[
        bool, typer.Option("--in-place", help="Put the tuned model in the place of the one given.")
    ] = False,
    method: Annotated[
        str, typer.Option("--method", help="Which weights move: mazo, dense, random, large or small.")
    ] = "mazo",
    kept: Annotated[float, typer.Option("--kept", help="The fraction of every row that moves.")] = 0.1,
    weights: Annotated[
        list[str], typer.Option("--weights", help="Only weights of such a name, as 'head.*'. Repeat.")
    ] = [],  # noqa: B006  (typer copies it)
    steps: Annotated[int, typer.Option("--steps", callback=at_least(1), help="How many steps.")] = 100,
    rate: Annotated[
        float,
        typer.Option(
            "--rate", callback=at_least(0), help="Steps of the grid of codes that a typical step moves."
        ),
    ] = 0.05,
    queries: Annotated[
        int, typer.Option("--queries", callback=at_least(1), help="Directions a step, two passes each.")
    ] = 1,
    amplitude: Annotated[
        int, typer.Option("--amplitude", callback=at_least(1), help="Steps of the grid that a pass moves.")
    ] = 2,
    batch: Annotated[
        int, typer.Option("--batch", callback=at_least(1), help="Examples of every task in a step.")
    ] = 16,
    scoring: Annotated[
        int, typer.Option("--scoring", callback=at_least(1), help="Pairs of passes per layer, for mazo.")
    ] = 16,
    evaluate: Annotated[
        list[Path],
        typer.Option("--evaluate", help="Tasks of the same names to judge by. Default: a fifth held out."),
    ] = [],  # noqa: B006
    target: Annotated[
        str | None, typer.Option("--target", help="The target's file, where it does not ship with nnaq.")
    ] = None,
    seed: Annotated[
        int, typer.Option("--seed", callback=at_least(0), help="Seed of everything drawn at random.")
    ] = 0,
    dry: Annotated[bool, typer.Option("--dry", help="Tell passes and bytes, and do nothing.")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Forget an unfinished run.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an output folder that nnaq wrote.")] = False,
    plugin: Plugins = [],  # noqa: B006
    as_json: AsJson = False,
) -> None:
    """Adapt a lowered model to tasks by forward passes of its integers: no gradient, no float model.

    A task is an .npz with an array per input, `labels`, and `output` (which output the labels are of); a
    folder's files are one task. The folder written has what `nnaq lower` writes, the tasks' accuracy before
    and after in finetune.json, and in tuning/ the log, of which the same integers come again. A run that was
    killed goes on where it was when its command is repeated. Several tasks share one mask:

    nnaq finetune out --tasks sst2.npz --tasks trec.npz --method mazo --steps 500 -o tuned
    """
    from nnaq.finetune.run import budget_of
    from nnaq.finetune.run import finetune as finetune_model
    from nnaq.finetune.settings import Settings

    if (out is None) != in_place and not dry:
        raise NnaqError("nothing says where to write; give -o FOLDER or --in-place, one of them")
    settings = Settings(
        method,
        kept,
        steps,
        rate,
        queries,
        amplitude,
        batch,
        scoring,
        seed,
        tuple(weights),
    )
    if dry:
        budget = budget_of(lowered, tasks, evaluate, settings, target)
        print(json.dumps(budget.to_json(), indent=2) if as_json else budget.show())
        return
    place = lowered if out is None else out
    with reporting(quiet=as_json) as reporter:
        found = finetune_model(
            lowered, tasks, place, settings, evaluate, target, reporter, force or in_place, fresh
        )
    print(json.dumps(found.to_json(), indent=2) if as_json else f"{found.show()}\n\nwrote {place}")
