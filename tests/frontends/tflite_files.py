"""Small .tflite files that tflite-micro ran, and the same runs through the reader."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from oracles.vectors import load_vectors

from nnaq.frontends import tflite
from nnaq.interpret import Interpreter, Mode

GOLDEN = Path(__file__).parents[1] / "golden" / "tflite"
GROUPS = (
    "activations", "batch_matmul", "conv_2d", "curves", "depthwise_conv_2d", "edges", "elementwise",
    "extremes", "fully_connected", "lstm", "movement", "pools", "reductions", "strided_slice",
    "transpose_conv", "variables",
)  # fmt: skip
STORAGE = {"INT8": np.int8, "UINT8": np.uint8, "INT16": np.int16, "INT32": np.int32, "FLOAT32": np.float32}


def cases(group: str, folder: Path = GOLDEN) -> list[dict[str, np.ndarray]]:
    """The cases of one file of vectors: model, steps, x, y."""
    return load_vectors(folder / f"tflite__{group}.npz")[1]


def model_of(case: dict[str, np.ndarray], path: Path) -> Path:
    """The model of a case as a file."""
    path.write_bytes(case["model"].tobytes())
    return path


def codes(array: np.ndarray) -> np.ndarray:
    """Codes of a file as nnaq holds them: u8 moved by 128."""
    return (array.astype(np.int16) - 128).astype(np.int8) if array.dtype == np.uint8 else array


class Bytes:
    """Bytes that are read tensor by tensor."""

    def __init__(self, data: np.ndarray) -> None:
        self.data, self.place = data.tobytes(), 0

    def take(self, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
        storage = np.dtype(STORAGE[dtype])
        size = storage.itemsize * int(np.prod(shape))
        self.place += size
        return np.frombuffer(self.data[self.place - size : self.place], storage).reshape(shape)


def compared(
    case: dict[str, np.ndarray], path: Path, mode: Mode = "fast"
) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Per output of every run: the name of its operators, what nnaq gives, what tflite-micro gave."""
    file = tflite.read(model_of(case, path))
    graph = tflite.load(path).graph
    interpreter, x, y = Interpreter(graph, mode), Bytes(case["x"]), Bytes(case["y"])
    what = " ".join(dict.fromkeys(node.op for node in file.operators))
    for _ in range(int(case["steps"])):
        feeds = {
            port.name: codes(x.take(tensor.dtype, tensor.kind.shape))  # type: ignore[union-attr, arg-type]
            for port, tensor in zip(graph.inputs, file.inputs, strict=True)
        }
        outputs = interpreter.step(feeds).outputs
        for port, tensor in zip(graph.outputs, file.outputs, strict=True):
            wanted = codes(y.take(tensor.dtype, tensor.kind.shape))  # type: ignore[union-attr, arg-type]
            yield what, outputs[port.name], wanted
