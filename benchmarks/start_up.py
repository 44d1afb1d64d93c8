"""How long a command takes to start and end: cold, with nothing compiled yet, and warm.

    python benchmarks/start_up.py [.demo] [--rounds 5]

    help       `nnaq --help`
    cold       `nnaq lower` of the voice detector as `make demo` does it, with an empty cache of kernels:
               compiling is most of it
    warm       the same with the kernels of the cold run
    cold words the first half of `make demo` with an empty cache: the recogniser lowered, words on the screen
    cold demo  both halves, one after the other, as `make demo` runs them
    warm words, warm demo    the same once more

Wall seconds of the whole process, medians of the rounds; cold runs once, each into a new folder. `processor`
are the seconds of user and system time of the process: on a machine with other work wall seconds are more.
Rows with a target have no peer: nobody else makes these files.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from measuring import RESULTS, THREADS, circumstances
from rich.progress import track

TARGETS = {"cold": 60.0, "warm": 5.0, "cold words": 60.0, "cold demo": 60.0}
SPEECH = Path(__file__).parents[1] / "examples" / "speech"


def taken(words: list[str], cache: str) -> tuple[float, float]:
    """Wall and processor seconds of a command of nnaq. Raises CalledProcessError where it fails."""
    # Installed packages have their bytecode; a development machine may forbid to write it for this one.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    command = [sys.executable, "-m", "nnaq", *words]
    subprocess.run(
        command, env=environment | THREADS | {"NNAQ_CACHE": cache}, check=True, capture_output=True
    )
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def lowering(demo: Path, out: str) -> list[str]:
    """The words of `make demo`."""
    return [
        "lower", str(demo / "silero_vad_16k_sequence.onnx"), "--target", "edge8", "--recipe", "silero_vad",
        "--calibrate", str(demo / "calibrate"), "--evaluate", str(demo / "evaluate"),
        "--metric", "decision:speech_probs>0.5", "-o", out, "--force",
    ]  # fmt: skip


def hearing(out: str) -> list[list[str]]:
    """The words of the first half of `make demo`."""
    calibrate, evaluate = str(SPEECH / "calibrate"), SPEECH / "evaluate"
    lowered = ["lower", "rnnt", "--target", "edge8", "--calibrate", calibrate, "--evaluate", str(evaluate)]
    return [
        [*lowered, "-o", out, "--force"],
        ["transcribe", out, *(str(sound) for sound in sorted(evaluate.glob("*.flac")))],
    ]


def together(commands: list[list[str]], cache: str) -> tuple[float, float]:
    """Wall and processor seconds of commands one after the other."""
    walls, processors = zip(*(taken(words, cache) for words in commands), strict=True)
    return sum(walls), sum(processors)


def whole_demo(demo: Path, folder: str, name: str) -> dict[str, list[tuple[float, float]]]:
    """Times of `make demo`, in a cache of its own: until words are there, and in all."""
    cache = f"{folder}/demo"
    first = together(hearing(f"{folder}/words"), cache)
    second = taken(lowering(demo, f"{folder}/out"), cache)
    return {f"{name} words": [first], f"{name} demo": [(first[0] + second[0], first[1] + second[1])]}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("demo", type=Path, nargs="?", default=Path(".demo"), help="made by `make demo`")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    if not (given.demo / "calibrate").is_dir():
        parser.error(f"{given.demo} holds no data of the demo; run `make demo`, or name its folder")
    with TemporaryDirectory() as folder:
        words = lowering(given.demo, f"{folder}/out")
        cold = [taken(words, f"{folder}/cold")]
        rounds = track(range(given.rounds), description="rounds")
        both = [(taken(["--help"], f"{folder}/cold"), taken(words, f"{folder}/cold")) for _ in rounds]
        demos = whole_demo(given.demo, folder, "cold") | whole_demo(given.demo, folder, "warm")
    times = {"help": [one for one, _ in both], "cold": cold, "warm": [two for _, two in both]} | demos
    rows = [
        {
            "work": work,
            "seconds": round(statistics.median(wall for wall, _ in found), 2),
            "processor": round(statistics.median(processor for _, processor in found), 2),
            "target": TARGETS.get(work),
            "rounds": len(found),
            "threads": 1,
            **circumstances(),
        }
        for work, found in times.items()
    ]
    (RESULTS / "start_up.json").write_text(json.dumps(rows, indent=1) + "\n")
    for row in rows:
        print(f"{row['work']:<10} {row['seconds']:>7} s  processor {row['processor']:>7} s")


if __name__ == "__main__":
    main()
