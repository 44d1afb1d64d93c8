"""`nnaq search`."""

import json
import sys
from functools import partial
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
    Repairs,
    Shapes,
    States,
    TargetName,
    Times,
    at_least,
    recipe_of,
)
from nnaq.cli.progress import reporting


def search(
    model: Model,
    calibrate: Calibrate,
    out: Annotated[Path, typer.Option("-o", "--output", help="Folder to write.")],
    budget: Annotated[
        list[str],
        typer.Option(
            "--budget",
            help="What must hold: FIGURE>=N or FIGURE<=N, such as 'agreement>=0.99' (or 99%), 'sqnr>=25', "
            "'bytes<=300kB' (k, M: 1000s; Ki, Mi: 1024s; B optional), 'latency<=250us', 'energy<=3uJ'; "
            "a signed N is a change, in % one of points. Repeat, or use commas.",
        ),
    ],
    target: TargetName = "edge8-sub8",
    evaluate: Evaluate = None,
    bits: Annotated[
        str | None,
        typer.Option(
            "--bits", help="Widths of an index to try, such as 2,3,4. Default: all the target takes."
        ),
    ] = None,
    granularity: Annotated[
        str,
        typer.Option(
            "--granularity",
            help="Who shares a table: per_tensor, per_gate, per_channel, per_group:ROWS; several by commas.",
        ),
    ] = "per_tensor",
    method: Annotated[
        str,
        typer.Option(
            "--method",
            help="How tables are found: optimal, lloyd_max, mu_law, uniform, power_of_two; or several.",
        ),
    ] = "optimal",
    weighting: Annotated[
        str,
        typer.Option("--weighting", help="What an error weighs: none, activations; several by commas."),
    ] = "none",
    zero: Annotated[
        str, typer.Option("--zero", help="Where zeros rest: free, forced, mapped; several by commas.")
    ] = "free",
    minimize: Annotated[
        str | None,
        typer.Option(
            "--minimize",
            help="bytes, latency or energy. Default: bytes where accuracy has a budget, else the loss.",
        ),
    ] = None,
    exact: Annotated[
        bool, typer.Option("--exact", help="Allocate exactly by HiGHS (pip install 'nnaq[search]').")
    ] = False,
    preselect: Annotated[
        bool,
        typer.Option(
            "--preselect", help="Leave out palettes that another beats by far, by curvature (torch)."
        ),
    ] = False,
    jobs: Annotated[int, typer.Option("--jobs", callback=at_least(1), help="Processes that measure.")] = 1,
    ray: Annotated[
        str | None,
        typer.Option(
            "--ray",
            help="Measure on a Ray cluster at this address, or 'auto' (pip install 'nnaq[distributed]').",
        ),
    ] = None,
    points: Annotated[
        int, typer.Option("--points", callback=at_least(0), help="Points of the front to measure.")
    ] = 5,
    recipe: RecipeName = None,
    activations: Activations = None,
    repair: Repairs = [],  # noqa: B006  (typer copies it)
    metric: MetricName = None,
    time: Times = [],  # noqa: B006
    state: States = [],  # noqa: B006
    pin: Pins = [],  # noqa: B006
    shape: Shapes = [],  # noqa: B006
    seed: Annotated[
        int | None,
        typer.Option("--seed", help="Seed of everything drawn at random (the held-out recordings)."),
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Forget what an earlier, unfinished search has measured.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an output folder that nnaq wrote.")] = False,
    plugin: Plugins = [],  # noqa: B006
    as_json: AsJson = False,
) -> None:
    """Find which weights may rest in fewer bits, and how few, within budgets.

    Every weight is tried alone on every palette; an allocation by loss per byte saved says which
    to combine, and whole models are crossed, simulated and run until the budget holds as measured.
    The folder gets the recipe for nnaq lower, the Pareto front and the sensitivities. A search that
    was killed goes on where it was when its command is repeated; one without a solution exits with 3.

    For example, the fewest bytes at which 99 % of a voice detector's decisions stay:

    nnaq search vad.onnx --recipe silero_vad --calibrate sounds --budget 'agreement>=0.99' -o found

    nnaq lower vad.onnx --recipe found/recipe.toml --target edge8-sub8 --calibrate sounds -o out
    """
    from nnaq.search.budget import BudgetError, parse_budgets
    from nnaq.search.candidates import choices_of
    from nnaq.search.choose import Wish
    from nnaq.search.front import show_front
    from nnaq.search.jobs import processes
    from nnaq.search.ray_executor import RayExecutor
    from nnaq.search.search import Question
    from nnaq.search.search import search as search_model
    from nnaq.targets import load_target

    machine = load_target(target)
    wish = Wish(parse_budgets(budget, machine.clock_hz), minimize, exact, points)
    palettes = choices_of(machine, bits, granularity, method, weighting, zero)
    choices = recipe_of(recipe, model, time, state, pin, shape).merged(
        activations=activations, metric=metric, seed=seed, repair=repair or None
    )
    try:
        with reporting(quiet=as_json) as reporter:
            question = Question(machine, choices, palettes, wish, preselect)
            pool = processes(jobs) if ray is None else partial(RayExecutor, None, ray)
            found = search_model(model, calibrate, out, question, evaluate, pool, reporter, fresh, force)
    except BudgetError as error:
        print(f"nnaq: {error}", file=sys.stderr)
        raise typer.Exit(3) from None
    if as_json:
        print(json.dumps(found.to_json(), indent=2))
    else:
        show_front(found.front)
        print(f"\nwrote {out}")
