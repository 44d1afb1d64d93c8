"""Run a .tflite file in tflite-micro, run after run, with the states it keeps.

    .oracles/tflm/bin/python tests/oracles/tflm_runs.py MODEL.tflite IN.npz OUT.npz

IN.npz and OUT.npz hold `RUN:POSITION` for every input and every output of every run.
"""

import sys
from pathlib import Path

import numpy as np
from tflite_micro import runtime

ARENA_BYTES = 1 << 24


def main(model: str, given: str, made: str) -> None:
    interpreter = runtime.Interpreter.from_bytes(Path(model).read_bytes(), arena_size=ARENA_BYTES)
    results = {}
    with np.load(given) as arrays:
        inputs = 1 + max(int(name.split(":")[1]) for name in arrays.files)
        for run in range(len(arrays.files) // inputs):
            for position in range(inputs):
                interpreter.set_input(np.ascontiguousarray(arrays[f"{run}:{position}"]), position)
            interpreter.invoke()
            position = 0
            while (array := _output(interpreter, position)) is not None:
                results[f"{run}:{position}"] = array
                position += 1
    np.savez(made, **results)


def _output(interpreter, position: int) -> np.ndarray | None:
    try:
        return np.array(interpreter.get_output(position))
    except (IndexError, ValueError, RuntimeError):
        return None


if __name__ == "__main__":
    main(*sys.argv[1:])
