"""Commands about this machine: `nnaq warm`, `nnaq doctor`, `nnaq bench`."""

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nnaq.cli.options import AsJson, Plugins
from nnaq.cli.progress import reporting

if TYPE_CHECKING:
    from nnaq.speed.bench import Bench, NodeTime
    from nnaq.speed.surroundings import Surroundings

SHOWN = 12  # nodes in a table; --json has all


def warm(
    lowered: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Folders or model.onnx files that nnaq lowered, or int8 .tflite files. "
            "Default: every operator in every form."
        ),
    ] = None,
    plugin: Plugins = [],  # noqa: B006
    as_json: AsJson = False,
) -> None:
    """Compile kernels beforehand, so that nothing waits for the compiler later.

    Kernels are compiled when they are first called and kept in a cache folder, ~/.cache/nnaq or
    NNAQ_CACHE, once for every build of nnaq. All of them take minutes; those of a lowered model seconds.
    """
    import time

    from nnaq.speed.surroundings import must_keep, see_cache

    must_keep()  # before kernels are imported
    from nnaq.speed.warm import warm_models, warm_operators

    before, start = see_cache(), time.perf_counter()
    with reporting(quiet=as_json) as reporter:
        warm_models(lowered, reporter) if lowered else warm_operators(reporter)
    cache, seconds = see_cache(), time.perf_counter() - start
    figures = {
        "folder": cache.folder,
        "compiled": cache.files - before.files,
        "kernels": cache.files,
        "bytes": cache.bytes,
        "seconds": seconds,
    }
    if as_json:
        print(json.dumps(figures, indent=2))
        return
    print(f"compiled {figures['compiled']} kernels in {seconds:.1f} s")
    print(f"{cache.folder} holds {cache.files} kernels, {cache.bytes / 1e6:.1f} MB")


def doctor(as_json: AsJson = False) -> None:
    """Say what nnaq sees here: versions, CPU and its instructions, threads, cache, and what is missing."""
    from nnaq.speed.surroundings import look

    found = look()
    print(json.dumps(asdict(found), indent=2)) if as_json else _show_surroundings(found)


def bench(
    lowered: Annotated[
        Path | None,
        typer.Argument(
            help="A folder or model.onnx that nnaq lowered, or an int8 .tflite file. Default: a few layers."
        ),
    ] = None,
    float_model: Annotated[
        Path | None,
        typer.Option("--float", help="The float .onnx file that was lowered, to race against."),
    ] = None,
    plugin: Plugins = [],  # noqa: B006
    as_json: AsJson = False,
) -> None:
    """Measure how fast integers run here: a lowered model whole and frame by frame, and where its time goes.

    The inputs are those of golden.npz beside the model, else random. Where ONNX Runtime is installed the
    two take turns, the runtime on one thread; a ratio above 1 says that nnaq is the faster. It takes less
    than half a minute for small models.
    """
    from nnaq.errors import NnaqError
    from nnaq.speed.bench import bench_layers, bench_model, must_be_file

    if float_model is not None and lowered is None:
        raise NnaqError("--float races a lowered model; name its folder")
    with reporting(quiet=as_json) as reporter:
        if lowered is None:
            found = bench_layers(reporter)
        else:
            found = bench_model(lowered, float_model and must_be_file(float_model), reporter)
    print(json.dumps(asdict(found), indent=2)) if as_json else _show_bench(found)


def _show_surroundings(found: "Surroundings") -> None:
    """One page of text."""
    cpu, threads, cache = found.cpu, found.threads, found.cache
    print("versions   " + ", ".join(f"{name} {v or 'not installed'}" for name, v in found.versions.items()))
    print(f"CPU        {cpu.name}, {cpu.usable} of {cpu.count} usable")
    print(f"kernels    {_tiers(cpu.tier, cpu.available, cpu.fault)}")
    print(f"threads    Numba {threads.numba}, torch {threads.torch or 'not installed'}")
    print("           " + ", ".join(f"{name}={v or 'not set'}" for name, v in threads.variables.items()))
    state = (
        f"cannot be written: {cache.refusal}"
        if cache.refusal
        else f"{cache.files} kernels, {_mb(cache.bytes)}"
    )
    print(f"cache      {cache.folder}: {state}")
    if cache.older:
        print(f"           {cache.older} folders of other builds, {_mb(cache.older_bytes)}")
    label = "extras"
    for name, extra in found.extras.items():
        print(f"{label:<10} {name:<12} {extra.version or f'{extra.install}   ({extra.purpose})'}")
        label = ""
    label = "advice"
    for line in found.advice:
        print(f"{label:<10} {line}")
        label = ""


def _tiers(chosen: str | None, available: tuple[str, ...], fault: str | None) -> str:
    if chosen is None:
        return fault or "no tier"
    others = [name for name in available if name != chosen]
    return f"tier {chosen}" + (f" (NNAQ_TIER can force {', '.join(others)})" if others else "")


def _mb(size: int) -> str:
    return f"{size / 1e6:.1f} MB"


def _show_bench(found: "Bench") -> None:
    for race in found.races:
        frames = found.frames if race.work in ("whole", "frame by frame") else None
        line = f"{race.work:<38} {_time(race.seconds / (frames or 1)):>10}{' per frame' if frames else ''}"
        if frames and found.sound_seconds:
            line += f", {found.sound_seconds * frames / race.seconds:,.0f} x real time"
        if race.ratio is not None and race.peer_seconds is not None:
            line += f"; {race.peer}: {_time(race.peer_seconds / (frames or 1))}, ratio {race.ratio:.2f}"
        print(line)
    _show_nodes(f"where the time goes, {found.frames} frames at once", found.whole)
    _show_nodes("where the time goes, one frame", found.step)
    for note in found.notes:
        print(f"note: {note}")


def _show_nodes(title: str, nodes: "Iterable[NodeTime]") -> None:
    from rich.console import Console
    from rich.table import Table

    rows = list(nodes)
    if not rows:
        return
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for head, side in (("node", "left"), ("op", "left"), ("time", "right"), ("share", "right")):
        table.add_column(head, justify=side)  # type: ignore[arg-type]
    for row in rows[:SHOWN]:
        table.add_row(row.name, row.op, _time(row.seconds), f"{row.share:.1%}")
    if rest := rows[SHOWN:]:
        table.add_row(
            f"{len(rest)} others",
            "",
            _time(sum(r.seconds for r in rest)),
            f"{sum(r.share for r in rest):.1%}",
        )
    Console(soft_wrap=True, markup=False).print("", table)


def _time(seconds: float) -> str:
    for limit, factor, unit in ((1e-3, 1e6, "us"), (1.0, 1e3, "ms")):
        if seconds < limit:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds:.3g} s"
