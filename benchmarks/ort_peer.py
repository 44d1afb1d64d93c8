"""ONNX Runtime in a process of its own: `ort_peer.py FOLDER JOB` measures once per line on its input.

FOLDER holds model.onnx and inputs.npz, JOB is JSON {chunk, states}; see `measuring.Peer`. A line is a number
of runs over the inputs, its answer the seconds of the processor that they take together. One thread, CPU,
all optimisations of the runtime on.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime


def open_session(model: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])


def pieces(inputs: dict[str, np.ndarray], states: dict[str, str], chunk: int | None) -> list[dict]:
    """The inputs cut along axis 0, states apart."""
    moving = {name: array for name, array in inputs.items() if name not in states}
    if chunk is None:
        return [moving]
    frames = max(len(array) for array in moving.values())
    return [{n: a[at : at + chunk] for n, a in moving.items()} for at in range(0, frames, chunk)]


def run(session: onnxruntime.InferenceSession, stream: list[dict], initial: dict, states: dict) -> None:
    """One pass over the stream; results of states are fed to the next piece."""
    names = [output.name for output in session.get_outputs()]
    fed = initial
    for piece in stream:
        made = dict(zip(names, session.run(None, {**piece, **fed}), strict=True))
        fed = {name: made[result] for name, result in states.items()}


def main(folder: Path, chunk: int | None, states: dict[str, str]) -> None:
    session = open_session(folder / "model.onnx")
    with np.load(folder / "inputs.npz") as file:
        inputs = dict(file)
    stream = pieces(inputs, states, chunk)
    initial = {name: inputs[name] for name in states}
    for line in sys.stdin:
        start = time.process_time()
        for _ in range(int(line)):
            run(session, stream, initial, states)
        print(time.process_time() - start, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), **json.loads(sys.argv[2]))
