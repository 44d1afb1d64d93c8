"""What a search keeps: the voice detector at five bits per weight on average, beside 8 bits for all.

    python benchmarks/search_accuracy.py MODEL.onnx --calibrate AN4/train --evaluate AN4/test
        --noise kitchen.flac [--seeds 0 1 2] [--bits 5] [--count 60] [--jobs 2]
        [--out results/search_accuracy.json]

For every seed `count` recordings are drawn to calibrate and to search on, half of them mixed with the first
half of the noise. `nnaq search` gets a budget of bytes: those of 8-bit weights, less 8 - bits of every
weight. Tables are weighted by activations, error feedback and bias correction follow. Judged, after the
choice, on a third of the other folder clean, a third with the second half of the noise at 10 dB and a third
at 0 dB.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from silero_accuracy import drawn, noisy

from nnaq.crossing import Reporter, import_options
from nnaq.frontends import load
from nnaq.pipeline import simplify
from nnaq.quantize.overrides import weights_of
from nnaq.quantize.recipe import Recipe, load_recipe
from nnaq.search.budget import parse_budgets
from nnaq.search.candidates import choices_of
from nnaq.search.choose import Wish
from nnaq.search.front import to_dict
from nnaq.search.jobs import processes
from nnaq.search.search import Question, search
from nnaq.targets import load_target
from nnaq.tasks.recordings import find_recordings, read_audio

RATE = 16000


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path)
    for name in ("calibrate", "evaluate", "noise"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--bits", type=float, default=5)
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


def written(folder: Path, recordings: list[np.ndarray]) -> Path:
    """A folder of recordings for `nnaq search`, in 16-bit PCM."""
    folder.mkdir()
    for number, audio in enumerate(recordings):
        soundfile.write(folder / f"{number:03d}.flac", np.clip(audio, -1, 1), RATE, subtype="PCM_16")
    return folder


def count_of_weights(model: Path, recipe: Recipe) -> int:
    """Entries of all weights of a model file."""
    graph = simplify(load(model, import_options(recipe)).graph)
    names = {weight for node in graph.nodes for weight in weights_of(graph, node)}
    return sum(graph.constants[name].size for name in names)


def searched(given: argparse.Namespace, seed: int) -> dict[str, Any]:
    """The row of a seed."""
    noise = read_audio(given.noise, RATE)
    seen, unseen = noise[: len(noise) // 2], noise[len(noise) // 2 :]
    speech = drawn(given.calibrate, given.count, seed)
    quarter = len(speech) // 4
    heard = noisy(speech[:quarter], seen, 10) + noisy(speech[quarter : 2 * quarter], seen, 0)
    clean = [read_audio(r.path, RATE) for r in find_recordings(given.evaluate)]
    unheard = clean[::3] + noisy(clean[1::3], unseen, 10) + noisy(clean[2::3], unseen, 0)
    target = load_target("edge8-sub8")
    recipe = load_recipe("silero_vad").merged(repair=["error_feedback", "correct_bias"], seed=seed)
    budget = f"bytes<=-{int(count_of_weights(given.model, recipe) * (8 - given.bits) / 8)}"  # against 8 bits
    choices = choices_of(
        target, "3,4,5,6", "per_tensor,per_group:8,per_channel", "optimal", "activations", "free"
    )
    question = Question(target, recipe, choices, Wish(parse_budgets([budget], target.clock_hz)))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        parts = written(folder / "heard", heard + speech[2 * quarter :]), written(folder / "unheard", unheard)
        pool = processes(given.jobs)
        found = search(given.model, parts[0], folder / "found", question, parts[1], pool, Reporter(say=print))
    eight = next(p for p in found.front.measured if not p.palettes)
    return {
        "seed": seed,
        "budget": budget,
        "eight_bits": to_dict(eight),
        "chosen": to_dict(found.front.chosen),
    }


def main() -> None:
    """Search for every seed; print and write the rows."""
    given = arguments()
    rows = []
    for seed in given.seeds:
        row = searched(given, seed)
        kept = {name: row[name]["held_out"].get("agreement") for name in ("eight_bits", "chosen")}
        print(seed, kept, flush=True)
        rows.append(row)
    if given.out:
        result = {"bits": given.bits, "count": given.count, "rows": rows}
        given.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
