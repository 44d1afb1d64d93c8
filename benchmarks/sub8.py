"""Weights below 8 bits, on two real models: what fewer bits cost in accuracy and save in bytes and time.

    python benchmarks/sub8.py --data AN4 --detector SILERO.onnx --noise kitchen.flac --encoder PRETRAINED.pt
        [--quick] [--tables per_channel …] [--seeds 0 1 2] [--judge 24] [--journal FILE]
        [--out results/sub8.json]

    python benchmarks/sub8.py --data AN4 --encoder PRETRAINED.pt --judge 72 --quick
        --out results/sub8_speakers.json

Every weight of a model rests as indices into tables of int8 codes: bits x method x granularity, without
training, and plain int8 beside it. Methods find tables without data; `repair` says what the calibration
data did besides: `weighted`, errors count by the activations that meet them; `feedback`, error feedback
follows; `repaired`, bias correction follows that. Ranges of activations are calibrated once per seed,
which draws the recordings; every row crosses the same calibrated model anew. Columns:

    accuracy   voice detector: share of frames decided as the float model does, on `test` of the data,
               a third of the recordings clean, a third with the second half of the noise at 10 dB, a
               third at 0 dB; the first half was calibrated on (see `silero_accuracy.py`)
               speaker encoder: equal error rate on speakers not calibrated on (see `speaker.py`), and
               the 95 % interval of its distance from float's (see `sub8_intervals.py`)
    SQNR       of the output against the float model's
    bytes      indices, tables, scales (5 each)
    latency    of one frame on the target edge8-sub8, modelled

A table per gate is for LSTM weights; the others then have one per tensor. The first seed has all rows, the
others those of the optimal method at 4 bits; the encoder, which is slow, has fewer (`GRIDS`). `--quick`:
the optimal method at 4 bits, the first seed; with `--tables` of these granularities only, every seed. With a
journal a run that was cut short goes on where it
was; the results hold the rows that are done, and those of a model that this run leaves out.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from measuring import on_one_thread
from silero_accuracy import drawn, feeds, noisy
from speaker import (
    Heard,
    by_speaker,
    calibration_recordings,
    hear,
    integer_embeddings,
    long_utterances,
    lowered,
)
from sub8_intervals import Trials, resampled_rates
from voice_encoder import load_encoder, real_embeddings, utterance_embeddings

from nnaq import pipeline
from nnaq.codebooks.choice import Granularity, Method, PaletteChoice
from nnaq.codebooks.storage import storage_of_graph
from nnaq.crossing import Inputs, import_options, lower_graph, outputs_of
from nnaq.errors import PassError
from nnaq.frontends import load
from nnaq.ir.graph import Graph
from nnaq.passes.assign_codebooks import shared_rows
from nnaq.quantize.moments import measure_moments
from nnaq.quantize.overrides import weights_of
from nnaq.quantize.recipe import load_recipe
from nnaq.search.journal import Journal, digest, opened
from nnaq.simulate import simulate
from nnaq.targets import load_target
from nnaq.tasks.intervals import interval
from nnaq.tasks.metrics import agreement, sqnr_db
from nnaq.tasks.recordings import find_recordings, read_audio

TARGET = "edge8-sub8"
BITS = (4, 6, 5, 3, 2, 1)
SHARING: tuple[Granularity, ...] = ("per_channel", "per_gate", "per_tensor")
METHODS: tuple[Method, ...] = ("lloyd_max", "mu_law", "uniform", "power_of_two")
REPAIRS: dict[str, tuple[str, ...]] = {
    "weighted": (),
    "feedback": ("error_feedback",),
    "repaired": ("error_feedback", "correct_bias"),
}
MAIN_BITS = 4  # all granularities and repairs, with every seed
RECORDINGS = 60
SPEAKERS = 12
Figures = dict[str, float | None]


@dataclass(frozen=True)
class Bench:
    """A model calibrated with plain int8 weights, and what judges an integer graph made from it.

    The options of the crossing hold the moments of the activations.
    """

    crossing: pipeline.Crossing
    judge: Callable[[Graph], Figures]


@dataclass(frozen=True)
class Way:
    """How all weights of a model rest; without a choice as plain int8. repair: see REPAIRS, or none."""

    choice: PaletteChoice | None = None
    repair: str | None = None

    def described(self) -> dict[str, Any]:
        """What varies between rows."""
        if self.choice is None:
            return {"bits": 8, "method": None, "granularity": None, "repair": None}
        words = {"method": self.choice.method, "granularity": self.choice.granularity}
        return {"bits": self.choice.bits, **words, "repair": self.repair}


@dataclass(frozen=True)
class Grid:
    """Which rows a model has besides those at 4 bits: who shares a table, bits that are repaired too, bits
    of the methods that are not optimal."""

    sharing: tuple[Granularity, ...]
    repaired: tuple[int, ...]
    others: tuple[int, ...]


GRIDS = {
    "detector": Grid(SHARING, (4, 3, 2), BITS),
    "encoder": Grid(("per_channel", "per_tensor"), (4, 3), (4,)),
}


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in ("detector", "noise", "encoder", "journal", "out"):
        parser.add_argument(f"--{name}", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--tables", nargs="+", choices=SHARING, help="with --quick: these, and every seed")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--judge", type=int, default=24, help="speakers to judge the encoder on")
    given = parser.parse_args()
    if given.detector and not given.noise:
        parser.error("--detector needs --noise")
    if given.tables and not given.quick:
        parser.error("--tables goes with --quick")
    return given


def ways(model: str, given: argparse.Namespace, first_seed: bool) -> Iterator[Way]:
    """The rows of a model."""
    grid, whole = GRIDS[model], first_seed and not given.quick
    yield Way()
    for bits in BITS if whole else (MAIN_BITS,):
        for shared in given.tables or SHARING if bits == MAIN_BITS else grid.sharing:
            yield Way(PaletteChoice(bits, shared))
            if bits in grid.repaired:
                weighted = PaletteChoice(bits, shared, weighting="activations")
                yield from (Way(weighted, repair) for repair in REPAIRS)
    if whole:
        for bits, shared, method in product(grid.others, SHARING, METHODS):
            yield Way(PaletteChoice(bits, shared, method=method))


def detector_bench(given: argparse.Namespace, seed: int) -> Bench:
    """The voice detector: half of the calibration is noisy, so are two thirds of the evaluation."""
    recipe = load_recipe("silero_vad")
    graph = load(given.detector, import_options(recipe)).graph
    noise = read_audio(given.noise, 16000)
    seen, unseen = noise[: len(noise) // 2], noise[len(noise) // 2 :]
    speech = drawn(given.data / "train", RECORDINGS, seed)
    quarter = len(speech) // 4
    mixed = noisy(speech[:quarter], seen, 10) + noisy(speech[quarter : 2 * quarter], seen, 0)
    calibration = feeds(mixed + speech[2 * quarter :])
    clean = [read_audio(r.path, 16000) for r in find_recordings(given.data / "test")]
    evaluation = feeds(clean[::3] + noisy(clean[1::3], unseen, 10) + noisy(clean[2::3], unseen, 0))
    lowering = lower_graph(graph, calibration, calibration[:1], recipe, load_target(TARGET))
    crossing = with_moments(lowering.crossing, calibration)
    exact = outputs_of(crossing.real, evaluation)["speech_probs"]

    def judge(integer: Graph) -> Figures:
        found = outputs_of(integer, evaluation)["speech_probs"]
        return {"agreement": agreement(exact, found, 0.5), "sqnr_db": sqnr_db(exact, found).db}

    return Bench(crossing, judge)


def encoder_bench(given: argparse.Namespace, seed: int) -> Bench:
    """The speaker encoder; the float model is judged by torch on the same trials."""
    calibrating, judged = by_speaker(long_utterances(given.data), SPEAKERS, given.judge, seed)
    scales, calibration = calibration_recordings(hear(calibrating), seed)
    heard, encoder = hear(judged).scaled(scales), load_encoder(given.encoder, scales)
    exact = real_embeddings(encoder, heard.windows)
    rate, float_rates = heard.equal_error_rate(exact), rates_of(heard, exact)
    lowering = lowered(encoder, calibration, load_recipe("voice_encoder"), TARGET)
    crossing = with_moments(lowering.crossing, calibration)

    def judge(integer: Graph) -> Figures:
        found = integer_embeddings(integer, heard.windows)
        error = heard.equal_error_rate(found)
        low, high = interval(rates_of(heard, found) - float_rates)
        return {
            **{"equal_error_rate": error, "float": rate, "sqnr_db": sqnr_db(exact, found).db},
            **{"difference_low": low, "difference_high": high},
        }

    return Bench(crossing, judge)


def rates_of(heard: Heard, embeddings: np.ndarray) -> np.ndarray:
    """The equal error rates of embeddings of all windows, on resamples of speakers."""
    return resampled_rates(Trials.of(utterance_embeddings(embeddings, heard.counts), heard.speakers))


BENCHES = {"detector": detector_bench, "encoder": encoder_bench}


def weights(real: Graph) -> list[str]:
    """The constants that some node reads as its weights."""
    return sorted({weight for node in real.nodes for weight in weights_of(real, node)})


def with_moments(crossing: pipeline.Crossing, calibration: Sequence[Inputs]) -> pipeline.Crossing:
    """The crossing with moments of what meets every weight."""
    moments = measure_moments(crossing.real, calibration, weights(crossing.real))
    return replace(crossing, options=replace(crossing.options, moments=moments))


def palettes(crossing: pipeline.Crossing, choice: PaletteChoice) -> dict[str, PaletteChoice]:
    """The choice for every weight; for one that has no such rows, one table per tensor."""
    rounded = {node.inputs[0]: node for node in crossing.fake.nodes if node.op == "fake_quantize"}
    found = {}
    for weight in weights(crossing.real):
        try:
            shared_rows(crossing.fake, rounded[weight], choice)
            found[weight] = choice
        except PassError:
            found[weight] = replace(choice, granularity="per_tensor")
    return found


def measured(bench: Bench, way: Way) -> dict[str, Any]:
    """One row: accuracy, bytes at rest, modelled time, and seconds to cross and to judge."""
    start = time.perf_counter()
    before, integer = bench.crossing, bench.crossing.integer
    if way.choice is not None:
        repair = REPAIRS[way.repair] if way.repair else ()
        options = replace(before.options, palettes=palettes(before, way.choice), repair=repair)
        integer = pipeline.cross(before.real, before.ranges, options).integer
    crossed = time.perf_counter()
    figures = bench.judge(integer)
    simulation = simulate(integer, load_target(TARGET))
    storage = storage_of_graph(integer)
    parts = ("index_bytes", "table_bytes", "scale_bytes", "total_bytes")
    return {
        **figures,
        **{part: sum(getattr(one, part) for one in storage) for part in parts},
        "microseconds_per_frame": simulation.microseconds_per_step,
        "seconds": [crossed - start, time.perf_counter() - crossed],
    }


def rows_of(model: str, given: argparse.Namespace, journal: Journal) -> Iterator[dict[str, Any]]:
    """All rows of a model, seed by seed; what the journal holds is not measured again."""
    for seed in given.seeds[: 1 if given.quick and not given.tables else None]:
        wanted = {row_name(model, seed, way): way for way in ways(model, given, seed == given.seeds[0])}
        missing = wanted.keys() - journal.results.keys()
        bench = BENCHES[model](given, seed) if missing else None
        for name, way in wanted.items():
            if bench is not None and name in missing:
                journal.add(name, json.dumps(measured(bench, way)))
            figures = journal.results[name]
            assert isinstance(figures, dict)
            print(name, figures, flush=True)
            yield {"model": model, "seed": seed, **way.described(), **figures}


def row_name(model: str, seed: int, way: Way) -> str:
    """The name of a row in the journal."""
    words = (str(word) for word in way.described().values() if word is not None)
    return f"{model}, seed {seed}: {' '.join(words)}"


def identity(given: argparse.Namespace) -> dict[str, str]:
    """What decides the rows besides the code: the models, and on whom they are judged."""
    files = {name: vars(given)[name] for name in ("detector", "encoder", "noise")}
    read = {name: digest(path.read_bytes()) for name, path in files.items() if path}
    return {**read, "judge": str(given.judge)}


def main() -> None:
    """Measure what the journal lacks, and write all rows."""
    given = arguments()
    on_one_thread()
    models = [model for model in BENCHES if vars(given)[model]]
    kept = json.loads(given.out.read_text())["rows"] if given.out and given.out.exists() else []
    rows = [row for row in kept if row["model"] not in models]
    with opened(given.journal, identity(given), say=print) as journal:
        for row in (row for model in models for row in rows_of(model, given, journal)):
            rows.append(row)
            if given.out:
                result = {"judge": given.judge, "rows": rows}
                given.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
