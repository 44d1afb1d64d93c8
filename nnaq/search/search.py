"""`search()`: the fewest bytes, cycles or joules that keep the accuracy asked for, or the reverse.

    model -> lowered with 8-bit weights -> every weight alone on every palette, measured
          -> allocation by those figures -> whole models measured and tightened (see `choose`)
          -> held-out recordings, once, for the models that were measured

Every measurement is a job with a line in OUT.journal.jsonl beside the output folder, until the folder
is there: a search that was killed goes on where it was when the command is repeated.
"""

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from nnaq.artifact import writing
from nnaq.codebooks.choice import PaletteChoice
from nnaq.crossing import (
    ERROR_FRAMES,
    Inputs,
    Lowering,
    Reporter,
    import_options,
    lower_graph,
    moments_for,
    must_fit,
    stretches,
)
from nnaq.errors import FrontendError, RecipeError
from nnaq.frontends import load
from nnaq.ir.graph import Graph
from nnaq.ir.verify import is_real_graph
from nnaq.lowering import read_inputs, recordings_for
from nnaq.quantize.recipe import Override, Recipe
from nnaq.search.allocation import EIGHT_BITS, Option, Options
from nnaq.search.candidates import candidates
from nnaq.search.choose import Wish, absolute, choose
from nnaq.search.front import Front, Measured, Palettes, draw, to_csv, to_dict
from nnaq.search.hessian import preselect
from nnaq.search.jobs import Pool, Workers
from nnaq.search.journal import Identity, Journal, digest, opened
from nnaq.search.measure import Laboratory, bench_of, measure_model
from nnaq.targets import Target


@dataclass(frozen=True)
class SearchResult:
    """What a search found. recipe: of the chosen model, as `nnaq lower` takes it. alone: every weight
    with every palette it was tried on, alone, as measured on the calibration recordings."""

    recipe: Recipe
    front: Front
    base: Measured
    alone: Sequence[tuple[str, PaletteChoice, Measured]]
    about: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """`search.json`."""
        return {
            "versions": {"nnaq": version("nnaq")},
            **self.about,
            "axis": self.front.axis,
            "chosen": to_dict(self.front.chosen),
            "measured": [to_dict(point) for point in self.front.measured],
        }

    def sensitivity_csv(self) -> str:
        """`sensitivity.csv`: a row per weight and palette."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        figures = list(self.base.figures)
        writer.writerow(["weight", "palette", "bits", "added_noise", "bytes", "cycles", "energy", *figures])
        for name, choice, measured in [("", None, self.base), *self.alone]:
            costs = [getattr(measured.costs, key) for key in ("bytes", "cycles", "energy")]
            values = [measured.figures[figure].integer for figure in figures]
            row = [name, choice or "8 bits", choice.bits if choice else 8, measured.added, *costs, *values]
            writer.writerow(["" if value is None else value for value in row])
        return text.getvalue()

    def write(self, folder: Path) -> None:
        """Write recipe.toml, front.csv, front.png, sensitivity.csv and search.json into `folder`."""
        self.recipe.save(folder / "recipe.toml")
        (folder / "front.csv").write_text(to_csv(self.front), encoding="utf-8")
        draw(self.front, folder / "front.png")
        (folder / "sensitivity.csv").write_text(self.sensitivity_csv(), encoding="utf-8")
        text = json.dumps(self.to_json(), indent=1, allow_nan=False)
        (folder / "search.json").write_text(text + "\n", encoding="utf-8")


@dataclass(frozen=True)
class Question:
    """What a search is about: the palettes to try on every weight, and what is wished of the whole.

    is_preselected: palettes that another one is predicted to beat by far are not measured.
    """

    target: Target
    recipe: Recipe
    choices: tuple[PaletteChoice, ...]
    wish: Wish
    is_preselected: bool = False


def search(
    model: Path,
    calibrate_on: Path,
    out: Path,
    question: Question,
    evaluate_on: Path | None = None,
    pool: Pool | None = None,
    reporter: Reporter | None = None,
    fresh: bool = False,
    force: bool = False,
) -> SearchResult:
    """Search a model file with recordings and write the output folder.

    pool: where jobs run, see `Workers`. fresh: forget the journal of an unfinished search. Raises
    NnaqError subclasses, BudgetError among them; the journal then stays, the folder is as it was.
    """
    reporter = reporter or Reporter()
    out = out.resolve()
    journal = out.with_name(out.name + ".journal.jsonl")
    # The journal is held until it is gone: a search that begins meanwhile is not to lose its own.
    with ExitStack() as held:

        def take_up(run: Identity) -> Journal:
            return held.enter_context(opened(journal, run, fresh, reporter.say))

        with writing(out, force) as folder:
            found = _searched(model, calibrate_on, question, evaluate_on, pool, reporter, take_up)
            found.write(folder)
        journal.unlink(missing_ok=True)
    return found


def _searched(
    model: Path,
    calibrate_on: Path,
    question: Question,
    evaluate_on: Path | None,
    pool: Pool | None,
    reporter: Reporter,
    take_up: Callable[[Identity], Journal],
) -> SearchResult:
    recipe, target = question.recipe, question.target
    if recipe.codebooks is not None:
        raise RecipeError(
            f"recipe {recipe.name!r} keeps the codes of a training, whose bits are decided; take `codebooks` "
            "out of it to search others"
        )
    imported = load(model, import_options(recipe))
    if not is_real_graph(imported.graph):
        raise FrontendError(f"{model} holds integers already, there is nothing to search")
    must_fit(recipe, imported.graph)
    for note in imported.notes:
        reporter.say(note)
    groups = recordings_for(calibrate_on, evaluate_on, recipe.quantize.seed, reporter)
    calibration, evaluation = (read_inputs(g, recipe, imported.graph, reporter) for g in groups)
    lowering = lower_graph(
        imported.graph, calibration, evaluation, recipe, target, reporter, codes=imported.codes
    )
    lowering = _with_moments(lowering, question.choices, calibration, reporter)
    run = {
        "model": digest(model.read_bytes(), *_bytes([dict(imported.graph.constants)])),
        "recipe": digest(lowering.recipe.to_toml().encode()),
        "target": digest(repr(target).encode()),
        "recordings": digest(*_bytes(calibration), *_bytes(evaluation)),
        "nnaq": version("nnaq"),
    }
    bench = bench_of(lowering, calibration)
    journal = take_up(run)
    with Workers(measure_model, bench, pool) as workers:
        laboratory = Laboratory(workers, journal, reporter)
        tried = _tried(question, lowering, calibration, reporter)
        base, alone, front = _found(laboratory, question, tried, reporter)
    about = {
        "model": model.name,
        "target": target.name,
        "recipe": recipe.name,
        "budgets": [bound.text for bound in question.wish.bounds],
        "minimize": question.wish.minimize,
        "exact": question.wish.is_exact,
        "palettes": [choice.table() for choice in question.choices],
        "points": question.wish.points,
        "preselected": question.is_preselected,
        "seed": recipe.quantize.seed,
    }
    chosen = with_palettes(lowering.recipe, front.chosen.palettes, imported.graph)
    return SearchResult(chosen, front, base, alone, about)


def _bytes(groups: Iterable[Inputs]) -> Iterator[bytes]:
    """What arrays hold, with their names and shapes."""
    for arrays in groups:
        for name, array in sorted(arrays.items()):
            yield f"{name} {array.dtype} {array.shape}".encode()
            yield np.ascontiguousarray(array).tobytes()


def _with_moments(
    lowering: Lowering, choices: Sequence[PaletteChoice], calibration: Sequence[Inputs], reporter: Reporter
) -> Lowering:
    """The lowering with the moments of activations that a choice asks for."""
    asking = [choice for choice in choices if choice.weighting == "activations"]
    if not asking:
        return lowering
    crossing, options = lowering.crossing, lowering.crossing.options
    palettes = dict.fromkeys(candidates(lowering, asking), asking[0])
    moments = moments_for(crossing.real, replace(options, palettes=palettes), calibration, reporter)
    options = replace(options, moments={**options.moments, **moments})
    return replace(lowering, crossing=replace(crossing, options=options))


def _tried(
    question: Question, lowering: Lowering, calibration: Sequence[Inputs], reporter: Reporter
) -> list[tuple[str, PaletteChoice]]:
    """Every weight with every palette to measure it on."""
    found, crossing = candidates(lowering, question.choices), lowering.crossing
    if question.is_preselected:
        count = sum(map(len, found.values()))
        stretch = list(stretches(crossing.real, calibration, ERROR_FRAMES))
        found = preselect(crossing, stretch, found, seed=question.recipe.quantize.seed)
        reporter.say(f"preselected {sum(map(len, found.values()))} of {count} palettes by curvature")
    return [(weight, choice) for weight, own in found.items() for choice in own]


def _found(
    laboratory: Laboratory, question: Question, tried: Sequence[tuple[str, PaletteChoice]], reporter: Reporter
) -> tuple[Measured, list[tuple[str, PaletteChoice, Measured]], Front]:
    """The 8-bit model, every weight alone, and the front with its held-out figures."""
    (base,) = laboratory.on_calibration([{}])
    absolute(question.wish, base)  # what makes no sense is told before the long part
    measured = laboratory.on_calibration([{weight: choice} for weight, choice in tried])
    alone = [(weight, choice, found) for (weight, choice), found in zip(tried, measured, strict=True)]
    front = choose(
        options_of(alone, base),
        base,
        question.wish,
        laboratory.on_calibration,
        question.target.microseconds(1),
        reporter.say,
    )
    judged = laboratory.on_held_out([point.palettes for point in front.measured])
    held_out = {p.key: found.figures for p, found in zip(front.measured, judged, strict=True)}
    points = tuple(replace(p, held_out=held_out.get(p.key, {})) for p in front.points)
    chosen = replace(front.chosen, held_out=held_out[front.chosen.key])
    return base, alone, replace(front, points=points, chosen=chosen)


def options_of(alone: Iterable[tuple[str, PaletteChoice, Measured]], base: Measured) -> Options:
    """The options of every weight, against the 8-bit model."""
    found: dict[str, list[Option]] = {}
    for weight, choice, measured in alone:
        costs, before = measured.costs, base.costs
        option = Option(
            choice,
            measured.added,
            costs.bytes - before.bytes,
            costs.cycles - before.cycles,
            (costs.energy or 0.0) - (before.energy or 0.0),
        )
        found.setdefault(weight, [EIGHT_BITS]).append(option)
    return found


def with_palettes(recipe: Recipe, palettes: Palettes, graph: Graph) -> Recipe:
    """The recipe with palettes for weights of a simplified graph.

    A weight that only simplifying made is no constant of the model's own `graph`; an override names it.
    """
    own = {name: choice for name, choice in sorted(palettes.items()) if name in graph.constants}
    made = [Override(name=name, palette=c) for name, c in sorted(palettes.items()) if name not in own]
    return replace(recipe, palettes={**recipe.palettes, **own}, overrides=(*recipe.overrides, *made))
