"""Fair times: nnaq and a peer take turns in one run, on one thread; the median of each counts.

The peer, ONNX Runtime, lives in a process of its own (`ort_peer.py`) and measures when it is told to,
so that whatever else the machine does falls on both sides alike. Seconds are those of the processor, summed
over the threads of a process: another program that takes its turn is not counted, a second thread would be.
"""

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Protocol

import numpy as np
import onnx

HERE = Path(__file__).parent
RESULTS = HERE / "results"
THREADS = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
PACKAGES = ("nnaq", "numpy", "numba", "onnxruntime")
TURN = 0.02  # seconds that one turn of a contest should take at least


def on_one_thread() -> None:
    """Start this script again, if need be, with one thread per library: they read it when they are loaded."""
    if any(os.environ.get(name) != value for name, value in THREADS.items()):
        os.execve(sys.executable, sys.orig_argv, {**os.environ, **THREADS})


def circumstances(*packages: str) -> dict[str, object]:
    """What a time depends on: CPU, versions, also of further packages, and the command that repeats it."""
    command = f"python benchmarks/{Path(sys.argv[0]).name} {' '.join(sys.argv[1:])}".strip()
    versions = {name: version(name) for name in (*PACKAGES, *packages)}
    return {"cpu": cpu(), "versions": {"python": platform.python_version(), **versions}, "command": command}


def cpu() -> str:
    """The model name of the CPU."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


class Peer:
    """ONNX Runtime on one model and one set of inputs, float or integer as the model says.

    chunk: frames per call along axis 0 of the inputs (None: all at once); states: outputs by the input they
    feed in the next call.
    """

    def __init__(
        self,
        model: onnx.ModelProto,
        inputs: Mapping[str, np.ndarray],
        chunk: int | None = None,
        states: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = TemporaryDirectory()
        onnx.save(model, f"{self.folder.name}/model.onnx")
        np.savez(f"{self.folder.name}/inputs.npz", **inputs)
        job = json.dumps({"chunk": chunk, "states": dict(states or {})})
        command = [sys.executable, str(HERE / "ort_peer.py"), self.folder.name, job]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def seconds(self, calls: int = 1) -> float:
        """Run over the inputs that often, now."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(f"{calls}\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())

    def __enter__(self) -> "Peer":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.communicate()
        self.folder.cleanup()


def seconds_of(work: Callable[[], object], calls: int = 1) -> float:
    """Seconds that `calls` runs of `work` take."""
    start = time.process_time()
    for _ in range(calls):
        work()
    return time.process_time() - start


class Timed(Protocol):
    """What takes turns."""

    def seconds(self, calls: int = 1) -> float:
        """Seconds that `calls` runs take."""


@dataclass(frozen=True)
class Here:
    """Work in this process."""

    work: Callable[[], object]

    def seconds(self, calls: int = 1) -> float:
        return seconds_of(self.work, calls)


def race(work: Callable[[], object], peer: Timed, rounds: int) -> dict[str, float]:
    """Median seconds of `work` and of the peer, and the median of the ratios turn by turn.

    Both warm up once. A ratio is the peer's time divided by ours; a slow moment of the machine falls on both
    sides of one turn.
    """
    work()
    peer.seconds()
    turns = [(seconds_of(work), peer.seconds()) for _ in range(rounds)]
    return figures(turns)


def contest(ours: Timed, peers: Mapping[str, Timed], rounds: int) -> dict[str, dict[str, float]]:
    """The figures of `race` by peer, of all in one run; who is quick runs as often as a turn has room for.

    Each warms up twice, and who begins a turn changes from turn to turn.
    """
    all_of_them = {"": ours, **peers}
    calls = {name: _calls_of_a_turn(one) for name, one in all_of_them.items()}
    order, turns = list(all_of_them), []
    for number in range(rounds):
        begin = number % len(order)
        turn = order[begin:] + order[:begin]
        turns.append({name: all_of_them[name].seconds(calls[name]) / calls[name] for name in turn})
    return {name: figures([(turn[""], turn[name]) for turn in turns]) for name in peers}


def _calls_of_a_turn(one: Timed) -> int:
    one.seconds()
    return max(1, round(TURN / max(one.seconds(), 1e-7)))


def figures(turns: list[tuple[float, float]]) -> dict[str, float]:
    """Medians of our seconds and of the peer's, and of the ratios."""
    ours, theirs = zip(*turns, strict=True)
    return {
        "ratio": statistics.median(b / a for a, b in turns),
        "seconds": statistics.median(ours),
        "peer_seconds": statistics.median(theirs),
    }


def write_results(name: str, records: object) -> None:
    """Write `results/NAME.json`, mostly one record per row."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(records, indent=1) + "\n")
