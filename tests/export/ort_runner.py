"""Runs ONNX files on ONNX Runtime in a process of its own: `ort_runner.py FOLDER`.

Every `NAME.onnx` in the folder is run with the arrays of `NAME.in.npz`; results go to
`NAME.out.npz`. Optimisations are off, so that the bodies run as they are written.
"""

import sys
from pathlib import Path

import numpy as np
import onnxruntime


def run(path: Path) -> None:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    with np.load(path.with_suffix(".in.npz")) as feeds:
        results = session.run(None, dict(feeds))
    names = [output.name for output in session.get_outputs()]
    np.savez(path.with_suffix(".out.npz"), **dict(zip(names, results, strict=True)))


if __name__ == "__main__":
    for file in sorted(Path(sys.argv[1]).glob("*.onnx")):
        run(file)
