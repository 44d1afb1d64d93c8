"""Accuracy of the lowered voice detector on recordings nothing was chosen from.

    python benchmarks/silero_accuracy.py MODEL.onnx --calibrate AN4/train --evaluate AN4/test \
        --noise kitchen.flac [--activations auto] [--count 200] [--out results/silero_accuracy.json]

Calibrates on `count` recordings drawn by seed, half of them clean, the others mixed with the first half
of the noise at 10 or 0 dB (`--clean`: all of them clean). Evaluates on every recording of the other
folder: clean, and mixed with the second half of the noise at 10 and 0 dB, so that neither speakers nor
noise were seen. Truth is the energy of the clean speech (a relative yardstick: both models are judged
by it). Then one hour of concatenated speech without a reset: the decisions of its last five minutes
against those of the first tell whether the rolled state drifts.
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np

from nnaq.crossing import Reporter, import_options, lower_graph, outputs_of
from nnaq.frontends import load
from nnaq.ir.graph import Graph
from nnaq.quantize.recipe import load_recipe
from nnaq.targets import load_target
from nnaq.tasks.framing import frames
from nnaq.tasks.metrics import agreement, parse_metric
from nnaq.tasks.mixing import energy_labels, mix
from nnaq.tasks.recordings import find_recordings, read_audio

HOUR = 3600 * 16000
FIVE_MINUTES = 300 * 16000 // 512


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path)
    for name in ("calibrate", "evaluate", "noise"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--activations", default="auto")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--clean", action="store_true", help="calibrate on clean speech only")
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


def drawn(folder: Path, count: int, seed: int) -> list[np.ndarray]:
    """Audio of `count` recordings of a folder, drawn by seed."""
    found = find_recordings(folder)
    order = np.random.default_rng(seed).permutation(len(found))[:count]
    return [read_audio(found[i].path, 16000) for i in sorted(order)]


def noisy(speech: list[np.ndarray], noise: np.ndarray, snr_db: float) -> list[np.ndarray]:
    """Every recording mixed with another stretch of the noise."""
    return [mix(audio, noise, snr_db, seed=number) for number, audio in enumerate(speech)]


def feeds(speech: list[np.ndarray]) -> list[dict[str, np.ndarray]]:
    """The model's input of every recording."""
    return [{"input": frames(audio, 512, 64)} for audio in speech]


def drift(real: Graph, integer: Graph, speech: list[np.ndarray]) -> dict[str, float]:
    """Agreement in the first and in the last five minutes of an hour without a reset."""
    whole = np.concatenate(speech)
    hour = [{"input": frames(np.tile(whole, HOUR // len(whole) + 1)[:HOUR], 512, 64)}]
    exact, found = (outputs_of(g, hour)["speech_probs"] for g in (real, integer))
    parts = {"first_five_minutes": slice(None, FIVE_MINUTES), "last_five_minutes": slice(-FIVE_MINUTES, None)}
    return {name: agreement(exact[part], found[part], 0.5) for name, part in parts.items()}


def main() -> None:
    """Calibrate, lower, evaluate; print and write the rows."""
    given = arguments()
    recipe = load_recipe("silero_vad").merged(activations=given.activations)
    graph = load(given.model, import_options(recipe)).graph
    noise = read_audio(given.noise, 16000)
    seen, unseen = noise[: len(noise) // 2], noise[len(noise) // 2 :]
    speech = drawn(given.calibrate, given.count, given.seed)
    quarter = 0 if given.clean else len(speech) // 4
    mixed = noisy(speech[:quarter], seen, 10) + noisy(speech[quarter : 2 * quarter], seen, 0)
    calibration = feeds(mixed + speech[2 * quarter :])
    clean = [read_audio(r.path, 16000) for r in find_recordings(given.evaluate)]
    lowering = lower_graph(
        graph, calibration, feeds(clean), recipe, load_target("edge8"), Reporter(say=print)
    )
    real, integer = lowering.crossing.real, lowering.crossing.integer
    labels = np.concatenate([energy_labels(audio, 512) for audio in clean])
    rows = {}
    for name, speech in {
        "clean": clean,
        "10 dB": noisy(clean, unseen, 10),
        "0 dB": noisy(clean, unseen, 0),
    }.items():
        exact, found = (outputs_of(g, feeds(speech)) for g in (real, integer))
        rows[name] = {
            k: asdict(v) for k, v in parse_metric(recipe.metric).evaluate(exact, found, labels).items()
        }
        print(name, {k: (v["real"], v["integer"]) for k, v in rows[name].items()})
    result = {
        "rows": rows,
        "drift": drift(real, integer, clean),
        "raises": [asdict(r) for r in lowering.crossing.raises],
    }
    print(result["drift"], [r["value"] for r in result["raises"]])
    if given.out:
        sets = {name: "/".join(vars(given)[name].parts[-2:]) for name in ("calibrate", "evaluate", "noise")}
        options = {name: vars(given)[name] for name in ("activations", "count", "seed", "clean")}
        given.out.write_text(json.dumps({**sets, **options, **result}, indent=1) + "\n")


if __name__ == "__main__":
    main()
