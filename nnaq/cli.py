"""The command line: parse, call, print. Every command imports what it needs when it runs.

Exit codes: 0 done; 1 a bug (traceback); 2 the input was wrong, said in one sentence; 3 `--strict`
found host islands or an accuracy or memory budget is broken.
"""

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nnaq.errors import NnaqError

if TYPE_CHECKING:
    from nnaq.lowering import Reporter
    from nnaq.quantize.recipe import Recipe
    from nnaq.report import Report

EPILOG = (
    "Exit codes: 0 done; 1 a bug; 2 your input, one sentence; "
    "3 --strict found host islands or a broken budget."
)
app = typer.Typer(
    name="nnaq",
    help="Quantise a model and emulate it, bit for bit, on a neural network accelerator.",
    epilog=EPILOG,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Model = Annotated[Path, typer.Argument(help="A model file, .onnx.")]
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
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on standard output, nothing else.")]


@app.command()
def lower(
    model: Model,
    calibrate: Annotated[
        Path, typer.Option("--calibrate", help="Folder of .wav, .flac or .npz to choose ranges from.")
    ],
    out: Annotated[Path, typer.Option("-o", "--output", help="Folder to write.")],
    target: TargetName = "edge8",
    evaluate: Annotated[
        Path | None,
        typer.Option("--evaluate", help="Folder to judge on. Default: 20 % of the recordings are held out."),
    ] = None,
    recipe: RecipeName = None,
    activations: Annotated[
        str | None,
        typer.Option("--activations", help="8, 16, or auto: 8, raised to 16 where the goal asks for it."),
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option("--metric", help="What is judged, such as 'decision:speech_probs>0.5'."),
    ] = None,
    goal: Annotated[
        float | None,
        typer.Option("--goal", help="Quality that `auto` works for on the calibration data."),
    ] = None,
    time: Times = [],  # noqa: B006  (typer copies it)
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
    as_json: AsJson = False,
) -> None:
    """Lower a model to integers, judge it on held-out recordings and simulate it on a target."""
    from nnaq.lowering import lower as lower_model
    from nnaq.targets import load_target

    machine = load_target(target)
    choices = _recipe(recipe, model, time, state, pin, shape).merged(
        activations=activations, metric=metric, goal=goal, seed=seed
    )
    with _reporter(quiet=as_json) as reporter:
        report = lower_model(model, calibrate, out, machine, choices, evaluate, reporter, force, dump)
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


@app.command()
def run(
    lowered: Annotated[Path, typer.Argument(help="A lowered model.onnx that nnaq wrote.")],
    inputs: Annotated[Path, typer.Argument(help="An .npz with one array per input, time first.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="The .npz to write: outputs and last states.")
    ],
    reference: Annotated[
        bool, typer.Option("--reference", help="Use the plain Python kernels instead of the compiled ones.")
    ] = False,
    chunk: Annotated[
        int | None,
        typer.Option("--chunk", min=1, help="Frames at a time; the integers are the same for any."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run a lowered model on arrays: `output:NAME` and `state:NAME` of the result."""
    import numpy as np

    from nnaq.artifact import write_arrays
    from nnaq.export.read import read_lowered
    from nnaq.interpret import run as run_graph
    from nnaq.tasks.recordings import read_arrays

    graph = read_lowered(lowered)
    result = run_graph(graph, read_arrays(inputs, graph), "reference" if reference else "fast", chunk=chunk)
    arrays = {f"output:{n}": a for n, a in result.outputs.items()}
    arrays |= {f"state:{n}": a for n, a in result.states.items()}
    write_arrays(output, arrays)
    shapes = {name: list(np.shape(array)) for name, array in arrays.items()}
    print(json.dumps(shapes) if as_json else "\n".join(f"{n} {s}" for n, s in shapes.items()))


@app.command()
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
) -> None:
    """Print a model's graph as text: as imported, as lowered, or after any pass."""
    from nnaq.artifact import stage_text
    from nnaq.export.read import is_lowered, read_lowered
    from nnaq.frontends import load
    from nnaq.ir.text import print_graph, summarise
    from nnaq.lowering import import_options

    path = model / "model.onnx" if model.is_dir() else model
    if stage is not None:
        text = stage_text(model, stage)
        print(text if full else summarise(text), end="")
        return
    if path.suffix == ".onnx" and is_lowered(path):
        graph = read_lowered(path)
    else:
        graph = load(path, import_options(_recipe(recipe, path, time, state, pin, shape))).graph
    text = print_graph(graph)
    print(text if full else summarise(text), end="")


@app.command()
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
    as_json: AsJson = False,
) -> None:
    """Say which operators nnaq cannot import and which the target leaves to the host; nothing is run."""
    from nnaq.errors import FrontendError
    from nnaq.frontends import check as problems_of
    from nnaq.frontends import load
    from nnaq.frontends.ports import counted
    from nnaq.lowering import foreseen_islands, import_options
    from nnaq.targets import load_target

    options = import_options(_recipe(recipe, model, time, state, pin, shape))
    machine = load_target(target)
    problems = problems_of(model, options)
    graph = None if problems else load(model, options).graph
    islands = foreseen_islands(graph, machine) if graph else []
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


@app.command()
def ops(as_json: AsJson = False) -> None:
    """List the operators: operands, integer forms, formula."""
    import nnaq.kernels  # noqa: F401  (fills the operator table)
    from nnaq.ir.op import table

    if as_json:
        rows = {n: {"operands": op.operands, "forms": op.forms, "doc": op.doc} for n, op in table().items()}
        print(json.dumps(rows, indent=2))
        return
    for name, op in table().items():
        print(f"{name}({', '.join(op.operands)})\n    {op.doc}")


@app.command()
def passes(as_json: AsJson = False) -> None:
    """List the passes in pipeline order: what each keeps, and why it stands where it stands."""
    from nnaq.passes import PIPELINE

    if as_json:
        rows = [{"name": s.made_by.name, "keeps": s.made_by.keeps, "reason": s.reason} for s in PIPELINE]
        print(json.dumps(rows, indent=2))
        return
    for step in PIPELINE:
        print(f"{step.made_by.name:<20} keeps {step.made_by.keeps:<6} {step.reason}")


@app.command()
def targets(
    name: Annotated[str | None, typer.Argument(help="Show this target in full.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the shipped targets, or show one (by name or .toml file) in full."""
    from nnaq.targets import load_target, shipped

    machines = [load_target(n) for n in ([name] if name else shipped())]
    if as_json:
        print(json.dumps({m.name: m.description for m in machines}, indent=2))
    elif name:
        print(machines[0].show())
    else:
        print("\n".join(f"{m.name:<16} {m.description}" for m in machines))


def _recipe(
    name: str | None, model: Path, time: list[str], state: list[str], pin: list[str], shape: list[str]
) -> "Recipe":
    """The named recipe, or an empty one, with the model's ports as said on the command line."""
    from nnaq.quantize.recipe import load_recipe, parse_recipe

    recipe = (
        load_recipe(name) if name else parse_recipe(f"name = {json.dumps(model.stem, ensure_ascii=False)}")
    )
    return recipe.merged(
        time=_pairs(time, ":", int, "--time"),
        states=_pairs(state, "=", str, "--state"),
        pins=_pairs(pin, "=", _number, "--pin"),
        shapes=_pairs(shape, "=", _dims, "--shape"),
    )


def _pairs(texts: list[str], mark: str, convert: Callable[[str], Any], option: str) -> dict[str, Any] | None:
    """`NAME:AXIS` texts as a mapping; None where there are none."""
    found = {}
    for text in texts:
        name, _, value = text.rpartition(mark)
        try:
            found[name] = convert(value)
        except ValueError:
            name = ""
        if not name or not value:
            raise NnaqError(f"{option} takes NAME{mark}VALUE, found {text!r}")
    return found or None


def _dims(text: str) -> list[int | str]:
    return [int(dim) if dim.strip().isdigit() else dim.strip() for dim in text.split(",")]


def _number(text: str) -> int | float:
    return int(text) if text.lstrip("-").isdigit() else float(text)


class _reporter:
    """Progress bars and lines on standard error, so that --json owns standard output."""

    def __init__(self, quiet: bool) -> None:
        self.quiet = quiet

    def __enter__(self) -> "Reporter":
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        from nnaq.lowering import Reporter

        columns = (
            TextColumn("{task.description:<14}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        console = Console(stderr=True, quiet=self.quiet)
        # Bars are for people who watch: in a pipe or a log they would be stray lines.
        self.progress = Progress(*columns, console=console, disable=not console.is_terminal)
        self.progress.start()

        def track(items: Iterable[Any], what: str, total: int) -> Iterator[Any]:
            return iter(self.progress.track(items, total=total, description=what))

        return Reporter(
            lambda line: console.print(line, markup=False, highlight=False, soft_wrap=True), track
        )

    def __exit__(self, *error: object) -> None:
        self.progress.stop()


def main() -> None:
    """Run the command line; a NnaqError becomes one line and exit code 2."""
    try:
        app(prog_name="nnaq")
    except NnaqError as error:
        print(f"nnaq: {error}", file=sys.stderr)
        raise SystemExit(2) from None
