"""A lowered model in the formats of other tools: `nnaq lower … --emit NAME,NAME`.

    golden       check_golden.py, which holds a device to golden.npz and needs NumPy alone
    encodings    encodings.json, scales and offsets in the shape of AIMET's
    safetensors  weights.safetensors, every integer constant with its type
    qdq          model.qdq.onnx, float ONNX with QuantizeLinear and DequantizeLinear
    qonnx        model.qonnx.onnx, float ONNX with Quant nodes of any width
    tflite       model.tflite, one frame a run, with the integers of tflite-micro
    c            hardware/, known answers per node as hex and C with C99 references, packed image, commands

What each keeps and loses stands in docs/exports.md.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import numpy as np

from nnaq.errors import ArtifactError
from nnaq.export import check_golden
from nnaq.export.c import write_c
from nnaq.export.encodings import encodings
from nnaq.export.qdq import qdq_model
from nnaq.export.qonnx import qonnx_model
from nnaq.export.tflite import tflite_model
from nnaq.export.weights import weights_file
from nnaq.ir.graph import Graph
from nnaq.targets import Target


@dataclass(frozen=True)
class Lowered:
    """What an emitter reads: the integers, the real graph with its roundings, the target, and a recording."""

    integer: Graph
    fake: Graph
    target: Target
    inputs: Mapping[str, np.ndarray]


def _golden(model: Lowered, folder: Path) -> None:
    (folder / "check_golden.py").write_bytes(Path(check_golden.__file__).read_bytes())


def _encodings(model: Lowered, folder: Path) -> None:
    text = json.dumps(encodings(model.integer), indent=1)
    (folder / "encodings.json").write_text(text + "\n", encoding="utf-8")


def _safetensors(model: Lowered, folder: Path) -> None:
    (folder / "weights.safetensors").write_bytes(weights_file(model.integer))


def _qdq(model: Lowered, folder: Path) -> None:
    (folder / "model.qdq.onnx").write_bytes(qdq_model(model.fake).SerializeToString(deterministic=True))


def _qonnx(model: Lowered, folder: Path) -> None:
    (folder / "model.qonnx.onnx").write_bytes(qonnx_model(model.fake).SerializeToString(deterministic=True))


def _tflite(model: Lowered, folder: Path) -> None:
    (folder / "model.tflite").write_bytes(tflite_model(model.integer))


def _c(model: Lowered, folder: Path) -> None:
    write_c(model.integer, model.inputs, model.target, folder / "hardware")


EMITTERS: dict[str, Callable[[Lowered, Path], None]] = {
    "golden": _golden,
    "encodings": _encodings,
    "safetensors": _safetensors,
    "qdq": _qdq,
    "qonnx": _qonnx,
    "tflite": _tflite,
    "c": _c,
}


def formats(asked: Iterable[str]) -> tuple[str, ...]:
    """The formats of `--emit a,b --emit c`, each once. Raises ArtifactError for one that there is not."""
    names = dict.fromkeys(name.strip() for words in asked for name in words.split(","))
    for name in names:
        if name not in EMITTERS:
            near = get_close_matches(name, EMITTERS, 1)
            meant = f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(EMITTERS)}"
            raise ArtifactError(f"no format {name!r} to emit{meant}")
    return tuple(names)


def emit(model: Lowered, names: Iterable[str], folder: Path) -> None:
    """Write a lowered model into a folder in each of the formats. Raises ArtifactError for what one lacks."""
    for name in formats(names):
        EMITTERS[name](model, folder)
