"""Run a .tflite file in tflite-micro, run after run, with the states it keeps.

    .oracles/tflm/bin/python tests/oracles/tflm_runs.py MODEL.tflite IN.npz OUT.npz OUTPUTS

IN.npz and OUT.npz hold `RUN:POSITION` for every input and each of so many outputs of every run.
"""

import sys
from pathlib import Path

import numpy as np
from tflite_micro import runtime

ARENA_BYTES = 1 << 24


def main(model: str, given: str, made: str, outputs: str) -> None:
    interpreter = runtime.Interpreter.from_bytes(Path(model).read_bytes(), arena_size=ARENA_BYTES)
    results = {}
    with np.load(given) as arrays:
        inputs = 1 + max(int(name.split(":")[1]) for name in arrays.files)
        for run in range(len(arrays.files) // inputs):
            for position in range(inputs):
                interpreter.set_input(np.ascontiguousarray(arrays[f"{run}:{position}"]), position)
            interpreter.invoke()
            for position in range(int(outputs)):
                results[f"{run}:{position}"] = np.array(interpreter.get_output(position))
    np.savez(made, **results)


if __name__ == "__main__":
    main(*sys.argv[1:])
