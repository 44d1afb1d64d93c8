"""Speaker verification by the lowered voice encoder: equal error rates, float and integer on the same trials.

    python benchmarks/speaker.py PRETRAINED.pt --data AN4 [--activations 8 auto 16] \
        [--out results/speaker.json]

PRETRAINED.pt comes from the wheel of resemblyzer 0.1.4 (see `voice_encoder.py`), AN4 is a folder with
`train.tsv` and `test.tsv` (path, speaker, seconds). Utterances longer than 1.8 s of both lists take part:
806 of 84 speakers. `--judge` speakers are judged on, every pair of their utterances a trial: those of the
test list and some of the training list. Of the others `--calibrate` speakers are drawn by seed. Besides,
the float model is judged on all 806, with the windows of the package (1.3 per second) and with whole
windows only (1.25 per second).
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import on_one_thread
from voice_encoder import (
    VoiceEncoder,
    band_scales,
    batches,
    load_encoder,
    real_embeddings,
    utterance_embeddings,
)
from voice_features import BANDS, FRAMES, SAMPLE_RATE, utterance_windows

import nnaq
from nnaq.crossing import Lowering
from nnaq.interpret import run
from nnaq.ir.graph import Graph
from nnaq.quantize.recipe import Recipe, load_recipe
from nnaq.tasks.metrics import sqnr_db
from nnaq.tasks.recordings import read_audio
from nnaq.tasks.verification import Utterance, all_trials, equal_error_rate, read_utterances

LONGER_THAN = 1.8
CALIBRATION_WINDOWS, PER_RECORDING = 96, 16
EXAMPLE = torch.zeros(2, FRAMES, BANDS)
WHOLE_WINDOWS = {"rate": 1.25, "min_coverage": 1.0}


@dataclass(frozen=True)
class Heard:
    """Utterances as the encoder hears them: windows [W,160,40], how many of each utterance, who speaks."""

    windows: np.ndarray
    counts: list[int]
    speakers: list[str]

    def equal_error_rate(self, embeddings: np.ndarray) -> float:
        """Of all pairs of utterances, from the embeddings of all windows [W,256]."""
        return equal_error_rate(*all_trials(utterance_embeddings(embeddings, self.counts), self.speakers))

    def scaled(self, scales: np.ndarray) -> "Heard":
        """The same with every band multiplied by its scale."""
        return replace(self, windows=np.asarray(self.windows * scales, np.float32))


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("weights", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--activations", nargs="+", default=["8", "auto", "16"])
    parser.add_argument("--calibrate", type=int, default=12, help="speakers to calibrate on")
    parser.add_argument("--judge", type=int, default=72, help="speakers to judge on")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


def long_utterances(folder: Path) -> list[Utterance]:
    """Those of both lists that are longer than 1.8 s."""
    return [u for u in read_utterances(folder, ("train.tsv", "test.tsv")) if u.seconds > LONGER_THAN]


def by_speaker(
    utterances: Sequence[Utterance], calibrate: int, judge: int, seed: int
) -> tuple[list[Utterance], list[Utterance]]:
    """Utterances to calibrate and to judge on, which share no speaker.

    Judged, whatever the seed, are the speakers of the second list and as many of the first as are
    missing from `judge`; `calibrate` others of the first are drawn by seed.
    """
    known = sorted({u.speaker for u in utterances if u.name.startswith("train")})
    unknown = {u.speaker for u in utterances} - set(known)
    order = np.random.default_rng(0).permutation(known).tolist()
    judged = unknown | set(order[: max(0, judge - len(unknown))])
    rest = sorted(set(known) - judged)
    drawn = set(np.random.default_rng(seed).permutation(rest)[:calibrate].tolist())
    return [u for u in utterances if u.speaker in drawn], [u for u in utterances if u.speaker in judged]


def hear(utterances: Sequence[Utterance], **windows: float) -> Heard:
    """Read and cut utterances."""
    cut = [utterance_windows(read_audio(u.path, SAMPLE_RATE), **windows) for u in utterances]
    return Heard(np.concatenate(cut), [len(c) for c in cut], [u.speaker for u in utterances])


def calibration_recordings(heard: Heard, seed: int) -> tuple[np.ndarray, list[dict[str, np.ndarray]]]:
    """Band scales from all windows of the calibration set, and some of the windows as recordings."""
    scales = band_scales(heard.windows)
    drawn = np.random.default_rng(seed).permutation(len(heard.windows))[:CALIBRATION_WINDOWS]
    chosen = heard.scaled(scales).windows[np.sort(drawn)]
    parts = [chosen[start : start + PER_RECORDING] for start in range(0, len(chosen), PER_RECORDING)]
    return scales, [{"mels": part} for part in parts]


def lowered(
    encoder: VoiceEncoder,
    calibration: Sequence[dict[str, np.ndarray]],
    recipe: Recipe,
    target: str = "edge8",
) -> Lowering:
    """The encoder as integers."""
    return nnaq.lower(encoder, EXAMPLE, calibration, calibration[:1], recipe, target, outputs=["embedding"])


def integer_embeddings(graph: Graph, windows: np.ndarray) -> np.ndarray:
    """The embedding of every window by the integer graph, as reals [W,256]."""
    return np.concatenate([run(graph, {"mels": part}).outputs["embedding"] for part in batches(windows)])


def float_rows(encoder: VoiceEncoder, utterances: Sequence[Utterance]) -> dict[str, dict[str, float]]:
    """The float model on all utterances, by way of cutting windows."""
    rows = {}
    for name, windows in {"package windows": {}, "whole windows": WHOLE_WINDOWS}.items():
        heard = hear(utterances, **windows)
        rate = heard.equal_error_rate(real_embeddings(encoder, heard.windows))
        size = len(utterances)
        rows[name] = {"utterances": size, "trials": size * (size - 1) // 2, "equal_error_rate": rate}
        print(f"float, all {size} utterances, {name}: {100 * rate:.2f} %", flush=True)
    return rows


def integer_row(
    encoder: VoiceEncoder,
    activations: str,
    calibration: Sequence[dict[str, np.ndarray]],
    judged: Heard,
    exact: np.ndarray,
) -> dict[str, Any]:
    """One lowering, judged; the bands of `judged` are scaled, `exact` holds the float embeddings."""
    start = time.perf_counter()
    recipe = load_recipe("voice_encoder").merged(activations=activations)
    crossing = lowered(encoder, calibration, recipe).crossing
    middle = time.perf_counter()
    found = integer_embeddings(crossing.integer, judged.windows)
    row = {
        "activations": activations,
        "equal_error_rate": judged.equal_error_rate(found),
        "sqnr_db": sqnr_db(exact, found).db,
        "islands": len(crossing.islands),
        "raises": [asdict(r) for r in crossing.raises],
        "seconds": {"lowering": middle - start, "judging": time.perf_counter() - middle},
    }
    print(row, flush=True)
    return row


def main() -> None:
    """Judge the float model, then one lowering per width of activations."""
    given = arguments()
    on_one_thread()
    utterances = long_utterances(given.data)
    overall = float_rows(load_encoder(given.weights), utterances)
    calibrating, others = by_speaker(utterances, given.calibrate, given.judge, given.seed)
    scales, calibration = calibration_recordings(hear(calibrating), given.seed)
    encoder, judged = load_encoder(given.weights, scales), hear(others).scaled(scales)
    exact = real_embeddings(encoder, judged.windows)
    size, people = len(others), len(set(judged.speakers))
    trials: dict[str, float] = {"utterances": size, "speakers": people, "trials": size * (size - 1) // 2}
    trials["float"] = judged.equal_error_rate(exact)
    print(f"float, speakers not calibrated on: {trials}", flush=True)
    rows = [integer_row(encoder, wide, calibration, judged, exact) for wide in given.activations]
    if given.out:
        kept = {name: vars(given)[name] for name in ("calibrate", "judge", "seed")}
        result = {**kept, "float_on_all": overall, "trials": trials, "rows": rows}
        given.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
