"""How long the parts of a recogniser of paper size take on this CPU: int8 beside palettes of 5, 4 and 2 bits.

    python benchmarks/recogniser_steps.py [--rounds 15] [--size paper]

The RNN-T of `recogniser_sizes.py` (52 M parameters, most of them in the encoder; random weights and evenly
spaced tables) is lowered at every width. Each width runs in a process of its own; the processes take turns,
so that what else the machine does falls on all alike, and who begins changes from turn to turn. Told are

    step      one frame of the encoder, 60 ms of sound, as a stream
    answer    from the last sound to the result: features of the frame, encoder, the step of the joint that
              says a label, predictor, and the step of the joint that says blank
    operands  bytes of constants that the encoder's kernels were given: codes, or packed indices and tables
    resident  growth of the process's resident set by an encoder that was read from its file and has run; it
              holds the plain codes of its graph too

Times are medians of STEPS in a turn, and of turns, by a wall clock; `processor` is the same by the clock of
the process, which leaves out the time of others. `low` and `high` are the 10th and 90th percentile of turns,
ratios int8's time by the processor divided by that of the same turn. Writes results/recogniser_steps.json.
"""

import argparse
import gc
import os
import statistics
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from ceilings import caches
from measuring import circumstances, on_one_thread, write_results
from recogniser_sizes import FEATURES, FRAMING, LOG_MEL, lowered_parts, real_graph

from nnaq.export.onnx import save
from nnaq.export.read import read_lowered
from nnaq.interpret import Interpreter
from nnaq.tasks.transducer_parts import SOUND, IntegerParts, PartGraphs

BITS = 8, 5, 4, 2
STEPS = 5  # of each kind in a turn
PARTS = "encoder", "predictor", "joint"


def main(rounds: int, size: str) -> None:
    """Lower, let all take turns, write."""
    with TemporaryDirectory() as place, ExitStack() as held:
        folders = lowered(Path(place), size)
        runners = {bits: Runner(folder) for bits, folder in folders.items()}
        for runner in runners.values():
            held.callback(runner.close)
        facts = {bits: runner.ask("facts") for bits, runner in runners.items()}
        load, turns = os.getloadavg()[0], [turn(runners, number) for number in range(rounds)]
    rows = [{"bits": bits, **facts[bits], **times(turns, bits)} for bits in BITS]
    found = {
        **circumstances("torch"), "threads": 1, "rounds": rounds, "steps": STEPS, "load": load,
        "encoder": "rnnt", "size": size, "caches": caches(), "rows": rows,
    }  # fmt: skip
    write_results("recogniser_steps", found)


def lowered(place: Path, size: str) -> dict[int, Path]:
    """The three parts at every width, as files in a folder each."""
    (_, graph), folders = real_graph("rnnt", size), {}
    for bits in BITS:
        parts = lowered_parts(graph, bits)
        folders[bits] = place / str(bits)
        folders[bits].mkdir()
        for name in PARTS:
            save(getattr(parts, name), folders[bits] / f"{name}.onnx")
    return folders


Turn = Mapping[int, Mapping[str, tuple[float, float]]]


def turn(runners: Mapping[int, "Runner"], number: int) -> Turn:
    """Everyone once: seconds by wall and by processor, of step and answer."""
    begin = number % len(BITS)
    return {bits: runners[bits].ask("turn") for bits in (*BITS[begin:], *BITS[:begin])}


def times(turns: list[Turn], bits: int) -> dict[str, Any]:
    """Medians, spread, and ratios to int8 of one width."""
    found: dict[str, Any] = {}
    for what in ("step", "answer"):
        wall, processor = zip(*(one[bits][what] for one in turns), strict=True)
        ratios = [one[8][what][1] / one[bits][what][1] for one in turns]
        found[what] = {
            "seconds": statistics.median(wall),
            "low": float(np.percentile(wall, 10)),
            "high": float(np.percentile(wall, 90)),
            "processor_seconds": statistics.median(processor),
            "ratio": statistics.median(ratios),
            "ratio_low": float(np.percentile(ratios, 10)),
            "ratio_high": float(np.percentile(ratios, 90)),
        }
    return found


class Runner:
    """A process that has one width, and works when it is asked to."""

    def __init__(self, folder: Path) -> None:
        context = get_context("spawn")
        self.line, there = context.Pipe()
        self.process = context.Process(target=serve, args=(there, folder))
        self.process.start()

    def ask(self, what: str) -> Any:
        self.line.send(what)
        return self.line.recv()

    def close(self) -> None:
        self.line.send("end")
        self.process.join()


def serve(line: Connection, folder: Path) -> None:
    """Answer until there is nothing more to do."""
    facts = resident(folder)
    graphs = [read_lowered(folder / f"{name}.onnx") for name in PARTS]
    step, answer = works(IntegerParts(PartGraphs(*graphs, scale=1.0)))
    answers: dict[str, Callable[[], Any]] = {
        "facts": lambda: facts,
        "turn": lambda: {"step": clocked(step), "answer": clocked(answer)},
    }
    while (asked := line.recv()) != "end":
        line.send(answers[asked]())


def resident(folder: Path) -> dict[str, int]:
    """Bytes of the encoder: of its file, of its kernels' operands, and of the process once it has run."""
    path = folder / "encoder.onnx"
    Interpreter(read_lowered(folder / "joint.onnx"))  # what is loaded for any model
    gc.collect()
    before = resident_bytes()
    interpreter = Interpreter(read_lowered(path))
    for _ in range(8):
        interpreter.step({SOUND: np.zeros((2, 1, FEATURES), np.float32)})
    gc.collect()
    operands = sum(constant.nbytes for constant in interpreter.constants.values())
    return {
        "file_bytes": path.stat().st_size,
        "operand_bytes": int(operands),
        "resident_bytes": resident_bytes() - before,
    }


def works(parts: IntegerParts) -> tuple[Callable[[], object], Callable[[], object]]:
    """A step of the encoder, and an answer, warm."""
    generator = np.random.default_rng(0)
    frame = generator.normal(size=(2, FEATURES)).astype(np.float32)
    sound = generator.normal(size=FRAMING.hop).astype(np.float32)
    g, state = parts.start()

    def answer() -> None:
        features = LOG_MEL(sound)
        (f,) = parts.hear(np.asarray(features, np.float32))
        parts.logits(f, g).argmax()
        read, _ = parts.read(state, 1)
        parts.logits(f, read).argmax()

    def step() -> None:
        parts.hear(frame)

    for _ in range(8):
        step()
        answer()
    return step, answer


def clocked(work: Callable[[], object]) -> tuple[float, float]:
    """Median seconds of a wall clock and of the process's, of STEPS runs."""
    wall, processor = [], []
    for _ in range(STEPS):
        begin = time.perf_counter(), time.process_time()
        work()
        wall.append(time.perf_counter() - begin[0])
        processor.append(time.process_time() - begin[1])
    return statistics.median(wall), statistics.median(processor)


def resident_bytes() -> int:
    """Of this process, now. Linux."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    on_one_thread()
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--size", default="paper")
    given = parser.parse_args()
    main(given.rounds, given.size)
