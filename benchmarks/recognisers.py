"""The recognisers that ship with nnaq, judged on AN4's test set: float and integers, on the same recordings.

    python benchmarks/recognisers.py AN4 --target edge8

AN4 is a folder as `nnaq.tasks.an4` takes it. Each recogniser is lowered with the recordings of
examples/speech/calibrate and hears test.tsv: as a float module and by its integers, in chunks as they come.
Writes results/recognisers.json: word errors with 95 % intervals, the paired difference with its one-sided
upper bound, bytes, and what the machine takes for a frame of the encoder by the simulator.
"""

import argparse
import json
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from nnaq.crossing import Reporter
from nnaq.evaluation import heard_texts
from nnaq.package import open_package
from nnaq.packing import lower_recogniser
from nnaq.quantize.recipe import load_recipe
from nnaq.report import read_report
from nnaq.targets import load_target
from nnaq.tasks.decoding import NO_ERRORS, Errors, word_errors_by_utterance
from nnaq.tasks.hearing import SHIPPED
from nnaq.tasks.intervals import Scores, difference, rate_interval
from nnaq.tasks.recogniser import read_recogniser
from nnaq.tasks.recordings import read_audio
from nnaq.tasks.transcripts import read_texts

HERE = Path(__file__).parent
SPEECH = HERE.parent / "examples" / "speech"
WITHIN = 0.005  # of word error rate: what an integer model may lose


def main(data: Path, target: str) -> None:
    """Judge all, write the file, print a line for each."""
    rows = []
    for folder in sorted(path for path in SHIPPED.iterdir() if path.is_dir()):
        rows.append(judged(folder, data, target))
        print(json.dumps({key: rows[-1][key] for key in ("model", "float", "integer", "verdict")}))
    versions = {name: version(name) for name in ("nnaq", "torch", "numpy", "numba")}
    command = f"python benchmarks/recognisers.py AN4 --target {target}"
    found = {"command": command, "versions": versions, "table": "test.tsv", "within": WITHIN, "rows": rows}
    (HERE / "results" / "recognisers.json").write_text(json.dumps(found, indent=1) + "\n")


def judged(folder: Path, data: Path, target: str) -> dict[str, Any]:
    """One recogniser: its float module and its integers on the same recordings."""
    recogniser, texts = read_recogniser(folder), read_texts(data, "test.tsv")
    with TemporaryDirectory() as place:
        out = Path(place) / "out"
        calibrate, evaluate = SPEECH / "calibrate", SPEECH / "evaluate"
        machine = load_target(target)
        lower_recogniser(folder, calibrate, out, machine, load_recipe("recogniser"), evaluate)
        package, report = open_package(out), read_report(out / "report.json")
        integer = heard_texts(package, data, texts, 1, Reporter())
        beam = heard_texts(package, data, texts, 8, Reporter())
    rate = recogniser.hearing.log_mel.sample_rate
    sounds = (read_audio(data / path, rate) for path in texts)
    real = [
        recogniser.hearing.units.decode(recogniser.greedy(recogniser.hearing.features(sound)[:, None]))
        for sound in sounds
    ]
    found = {
        name: word_errors_by_utterance(texts.values(), said)
        for name, said in {"float": real, "integer": integer, "integer_beam_8": beam}.items()
    }
    paired = difference(Scores.of(found["float"]), Scores.of(found["integer"]))
    parameters = sum(p.numel() for p in recogniser.module.parameters())
    return {
        "model": folder.name,
        "target": target,
        "parameters": parameters,
        "seconds_per_frame": recogniser.hearing.seconds,
        "utterances": len(texts),
        "words": sum(errors.total for errors in found["float"]),
        **{name: told(errors) for name, errors in found.items()},
        "difference": paired.value,
        "upper": paired.upper,
        "detectable": paired.detectable,
        "verdict": paired.verdict(WITHIN),
        "weight_bytes": report.memory.weight_bytes,
        "state_bytes": report.memory.state_bytes,
        "sram_peak_bytes": report.memory.sram_peak_bytes,
        "cycles_per_frame": report.latency.cycles_per_step,
        "microseconds_per_frame": report.latency.microseconds_per_step,
    }


def told(errors: list[Errors]) -> dict[str, float]:
    """A rate, its interval, and the errors of each kind."""
    total, between = sum(errors, NO_ERRORS), rate_interval(Scores.of(errors))
    return {
        "word_error_rate": total.rate, "low": between.low, "high": between.high,
        "substitutions": total.substitutions, "deletions": total.deletions, "insertions": total.insertions,
    }  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", type=Path, help="folder of AN4")
    parser.add_argument("--target", default="edge8")
    given = parser.parse_args()
    main(given.data, given.target)
