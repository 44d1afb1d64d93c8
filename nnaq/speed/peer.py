"""ONNX Runtime in a process of its own, which measures when it is told to: run as
`python -m nnaq.speed.peer FOLDER`.

FOLDER holds model.onnx, inputs.npz and job.json, a `Job`. Each line on standard input is answered by the
seconds of one measurement, or by `error: …`. One thread, all optimisations of the runtime on.
"""

import json
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any

import numpy as np

from nnaq.errors import NnaqError

DTYPES: dict[str, Any] = {"tensor(float)": np.float32, "tensor(int64)": np.int64, "tensor(int32)": np.int32}
Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Job:
    """How the peer runs a model: frames per call along the time axes (None: all), calls per measurement.

    states: results by the input that they feed in the next call, zeros at first unless they are among the
    inputs; pins: inputs of one number.
    """

    axes: Mapping[str, int | None]
    states: Mapping[str, str] = field(default_factory=dict)
    pins: Mapping[str, float] = field(default_factory=dict)
    chunk: int | None = None
    calls: int = 1

    def to_json(self) -> str:
        maps = {"axes": dict(self.axes), "states": dict(self.states), "pins": dict(self.pins)}
        return json.dumps({**maps, "chunk": self.chunk, "calls": self.calls})


def is_there() -> bool:
    """Whether ONNX Runtime is installed."""
    return find_spec("onnxruntime") is not None


class Peer:
    """A running peer; `seconds()` measures once, now. Raises NnaqError where it cannot run the model."""

    def __init__(self, model: bytes, inputs: Mapping[str, np.ndarray], job: Job) -> None:
        self.folder = TemporaryDirectory()
        place = Path(self.folder.name)
        (place / "model.onnx").write_bytes(model)
        np.savez(place / "inputs.npz", **inputs)  # type: ignore[arg-type]
        (place / "job.json").write_text(job.to_json())
        self.process = subprocess.Popen(
            [sys.executable, "-m", "nnaq.speed.peer", self.folder.name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def seconds(self) -> float:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with suppress(BrokenPipeError):  # the last words of a peer that ended say why
            self.process.stdin.write("measure\n")
            self.process.stdin.flush()
        said = self.process.stdout.readline().strip()
        try:
            return float(said)
        except ValueError:
            reason = said.removeprefix("error: ") or "it ended without a word"
            raise NnaqError(f"ONNX Runtime did not run the model: {reason}") from None

    def __enter__(self) -> "Peer":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()
        self.folder.cleanup()


def serve(folder: Path) -> None:
    """Answer every line of standard input with the seconds of a measurement."""
    job = Job(**json.loads((folder / "job.json").read_text()))
    session = _session(folder / "model.onnx")
    with np.load(folder / "inputs.npz") as file:
        inputs = dict(file)
    kinds = {entry.name: entry for entry in session.get_inputs()}
    pinned = {name: np.full(_shape(kinds[name]), v, _dtype(kinds[name])) for name, v in job.pins.items()}
    initial = {
        name: inputs.pop(name) if name in inputs else np.zeros(_shape(kinds[name]), _dtype(kinds[name]))
        for name in job.states
    }
    pieces = cut(inputs, job.axes, job.chunk)
    for _ in sys.stdin:
        start = time.perf_counter()
        for _ in range(job.calls):
            _stream(session, pieces, initial, pinned, job.states)
        print(time.perf_counter() - start, flush=True)


def cut(inputs: Arrays, axes: Mapping[str, int | None], chunk: int | None) -> list[Arrays]:
    """The inputs in stretches of `chunk` frames along their time axes."""
    timed = {name: axis for name, axis in axes.items() if axis is not None}
    if chunk is None or not timed:
        return [inputs]
    frames = max(inputs[name].shape[axis] for name, axis in timed.items())
    return [
        {
            name: np.ascontiguousarray(array.take(range(at, min(at + chunk, frames)), timed[name]))
            if name in timed
            else array
            for name, array in inputs.items()
        }
        for at in range(0, frames, chunk)
    ]


def _session(model: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])


def _stream(
    session: Any, pieces: list[Arrays], initial: Arrays, pinned: Arrays, states: Mapping[str, str]
) -> None:
    """One pass over the inputs; results of states are fed to the next piece."""
    names, fed = [output.name for output in session.get_outputs()], initial
    for piece in pieces:
        made = dict(zip(names, session.run(None, {**piece, **fed, **pinned}), strict=True))
        fed = {name: made[result] for name, result in states.items()}


def _shape(entry: Any) -> list[int]:
    return [dim if isinstance(dim, int) else 1 for dim in entry.shape]


def _dtype(entry: Any) -> np.dtype[Any]:
    kind: np.dtype[Any] = np.dtype(DTYPES.get(entry.type, np.float32))
    return kind


def main(folder: str) -> None:
    """Serve; what goes wrong is said in one line, whatever the runtime calls it."""
    try:
        serve(Path(folder))
    except Exception as error:
        print(f"error: {' '.join(str(error).split())[:300]}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
