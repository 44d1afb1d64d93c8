"""Fair times: nnaq and a peer take turns in one run, on one thread; the median of each counts.

The peer, ONNX Runtime, lives in a process of its own (`ort_peer.py`) and measures when it is told to,
so that whatever else the machine does falls on both sides alike.
"""

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType

import numpy as np
import onnx

HERE = Path(__file__).parent
RESULTS = HERE / "results"
THREADS = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
PACKAGES = ("nnaq", "numpy", "numba", "onnxruntime")


def on_one_thread() -> None:
    """Start this script again, if need be, with one thread per library: they read it when they are loaded."""
    if any(os.environ.get(name) != value for name, value in THREADS.items()):
        os.execve(sys.executable, sys.orig_argv, {**os.environ, **THREADS})


def circumstances() -> dict[str, object]:
    """What a time depends on: CPU, versions, and the command that repeats it."""
    command = f"python benchmarks/{Path(sys.argv[0]).name} {' '.join(sys.argv[1:])}".strip()
    versions = {name: version(name) for name in PACKAGES}
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
    feed in the next call; calls: how often the inputs are run per measurement.
    """

    def __init__(
        self,
        model: onnx.ModelProto,
        inputs: Mapping[str, np.ndarray],
        chunk: int | None = None,
        states: Mapping[str, str] | None = None,
        calls: int = 1,
    ) -> None:
        self.folder = TemporaryDirectory()
        onnx.save(model, f"{self.folder.name}/model.onnx")
        np.savez(f"{self.folder.name}/inputs.npz", **inputs)
        job = json.dumps({"chunk": chunk, "states": dict(states or {}), "calls": calls})
        command = [sys.executable, str(HERE / "ort_peer.py"), self.folder.name, job]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def seconds(self) -> float:
        """Measure once, now."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write("measure\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())

    def __enter__(self) -> "Peer":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()
        self.folder.cleanup()


def seconds_of(work: Callable[[], object], calls: int = 1) -> float:
    """Seconds that `calls` runs of `work` take."""
    start = time.perf_counter()
    for _ in range(calls):
        work()
    return time.perf_counter() - start


def race(work: Callable[[], object], peer: Peer, rounds: int, calls: int = 1) -> dict[str, float]:
    """Median seconds per call of `work` and of the peer, and the median of the ratios turn by turn.

    Both warm up once. A ratio is the peer's time divided by ours; a slow moment of the machine falls on both
    sides of one turn.
    """
    work()
    peer.seconds()
    turns = [(seconds_of(work, calls) / calls, peer.seconds() / calls) for _ in range(rounds)]
    ours, theirs = zip(*turns, strict=True)
    return {
        "ratio": statistics.median(b / a for a, b in turns),
        "seconds": statistics.median(ours),
        "peer_seconds": statistics.median(theirs),
    }


def write_results(name: str, records: list[dict[str, object]]) -> None:
    """Write `results/NAME.json`, one record per row."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(records, indent=1) + "\n")
