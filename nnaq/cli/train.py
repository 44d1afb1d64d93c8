"""`nnaq train`."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nnaq.cli.options import AsJson, Plugins
from nnaq.errors import NnaqError

if TYPE_CHECKING:
    from nnaq.train.record import Watch


def train(
    out: Annotated[Path, typer.Option("-o", "--output", help="Folder to write.")],
    config: Annotated[
        str | None,
        typer.Option(
            "--config", help="A .toml file that says what is trained on what, and how; or one that ships."
        ),
    ] = None,
    task: Annotated[
        str | None,
        typer.Option("--task", help="The configuration TASK or, with --model, TASK_MODEL, which ships."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", help="For speech: rnnt, convrnnt, conformer or contextnet."),
    ] = None,
    data: Annotated[
        Path | None, typer.Option("--data", help="The folder of data; configurations that ship name none.")
    ] = None,
    start: Annotated[
        Path | None,
        typer.Option(
            "--start",
            help="A recogniser to go on from, its folder or `rnnt`; or the best.safetensors of a training.",
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the folder's last checkpoint, bit for bit.")
    ] = False,
    change: Annotated[
        list[str],
        typer.Option(
            "--set", help="Change a key of the file, such as training.epochs=3. Repeat for several."
        ),
    ] = [],  # noqa: B006  (typer copies it)
    force: Annotated[
        bool, typer.Option("--force", help="Replace an earlier training in the folder.")
    ] = False,
    plugin: Plugins = [],  # noqa: B006
    as_json: AsJson = False,
) -> None:
    """Train a model, over the reals or through the integers of a target, as a file says.

    With a recipe in the file's [emulation] the forward pass is the accelerator's own, kernel by kernel,
    and the folder gets the integer graph as model.onnx besides the parameters that were best on the
    development set, checkpoints, logs, and a summary with figures on the test set. A training that was
    killed is repeated with --resume and ends the same. A recogniser of speech needs no file:

    nnaq train --task speech --model rnnt --data AN4 -o out

    Several processes train one model together:

    torchrun --nproc-per-node 2 -m nnaq train --config words.toml -o out
    """
    if resume and force:
        raise NnaqError("--resume goes on with what --force would remove; give one of them")
    must_be_installed("training")
    from nnaq.train.config import load_config
    from nnaq.train.replicas import replicas
    from nnaq.train.run import Run

    if config is None and task is None:
        raise NnaqError("nothing says what to train; give --config FILE, or --task and --model")
    if config is not None and (task or model):
        raise NnaqError("--task and --model name a configuration, --config another; give one of them")
    if config is None and data is None and not any(one.startswith("data=") for one in change):
        raise NnaqError(f"task {task!r} needs data; name its folder with --data")
    paths = {"data": data, "start": start}
    named = [f"{key}={json.dumps(str(path))}" for key, path in paths.items() if path is not None]
    chosen = load_config(config or "_".join(filter(None, (task, model))), [*named, *change])
    with replicas() as here, watching(chosen.training.epochs, quiet=as_json or not here.is_first) as watch:
        summary = Run(chosen, out, here, watch).go(resume, force)
    if not here.is_first:
        return
    if as_json:
        print(json.dumps(summary, indent=2))
    else:
        show(summary)
        print(f"\nwrote {out}")


def must_be_installed(what: str) -> None:
    """Raise NnaqError where the packages are missing that training and its models need."""
    from importlib.util import find_spec

    missing = [name for name in ("torch", "safetensors") if find_spec(name) is None]
    if missing:
        raise NnaqError(f"{what} needs {' and '.join(missing)}; install with `pip install 'nnaq[train]'`")


def show(summary: Mapping[str, Any]) -> None:
    """A training's figures, best epoch and length."""
    for part in ("dev", "test"):
        print(f"{part:<6}" + "  ".join(f"{name} {value:.4g}" for name, value in summary[part].items()))
    early = ", stopped early" if summary["stopped_early"] else ""
    print(f"best   epoch {summary['best_epoch']} of {summary['epochs']}{early}; {summary['steps']} steps")


@contextmanager
def watching(epochs: int, quiet: bool) -> Iterator["Watch"]:
    """A progress bar on standard error for people who watch, a line per epoch and long work for all."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True, quiet=quiet)
    columns = (
        TextColumn("{task.description:<14}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[figures]}"),
        TimeRemainingColumn(),
    )
    # Bars are for people who watch: in a pipe or a log they would be stray lines.
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        bar, dev = progress.add_task(f"epoch 1/{epochs}", total=None, figures=""), ""

        def watch(row: Mapping[str, Any]) -> None:
            nonlocal dev
            if "doing" in row:
                console.print(row["doing"], markup=False, highlight=False, soft_wrap=True)
                return
            if "dev" in row:
                figures = "  ".join(f"{name} {value:.4g}" for name, value in row["dev"].items())
                dev = f"  dev {figures}"
                best = " (best)" if row["best"] else ""
                line = f"epoch {row['epoch'] + 1}/{epochs}  loss {row['loss']:.4g}{dev}{best}"
                console.print(line, markup=False, highlight=False, soft_wrap=True)
                return
            figures = f"loss {row['loss']:.4g}  rate {row['rate']:.2g}{dev}"
            described = f"epoch {row['epoch'] + 1}/{epochs}"
            progress.update(
                bar, total=row["steps"], completed=row["step"], description=described, figures=figures
            )

        yield watch
