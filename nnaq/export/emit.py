"""A lowered model in the formats of other tools: `nnaq lower … --emit NAME,NAME`.

    golden       check_golden.py, which holds a device to golden.npz and needs NumPy alone
    encodings    encodings.json, scales and offsets in the shape of AIMET's
    safetensors  weights.safetensors, every integer constant with its type
    qdq          model.qdq.onnx, float ONNX with QuantizeLinear and DequantizeLinear
    qonnx        model.qonnx.onnx, float ONNX with Quant nodes of any width
    tflite       model.tflite, one frame a run, with the integers of tflite-micro

What each keeps and loses stands in docs/exports.md.
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from nnaq.errors import ArtifactError
from nnaq.export import check_golden
from nnaq.export.encodings import encodings
from nnaq.export.qdq import qdq_model
from nnaq.export.qonnx import qonnx_model
from nnaq.export.tflite import tflite_model
from nnaq.export.weights import weights_file
from nnaq.ir.graph import Graph


@dataclass(frozen=True)
class Lowered:
    """What an emitter reads: the integers, and the real graph with its roundings."""

    integer: Graph
    fake: Graph


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


EMITTERS: dict[str, Callable[[Lowered, Path], None]] = {
    "golden": _golden,
    "encodings": _encodings,
    "safetensors": _safetensors,
    "qdq": _qdq,
    "qonnx": _qonnx,
    "tflite": _tflite,
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
