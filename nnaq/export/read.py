"""Reading a lowered model back: the graph from its text, the arrays from the initializers."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import TensorProto, numpy_helper

import nnaq.kernels  # noqa: F401  (fills the operator table)
from nnaq.errors import ArtifactError, NnaqError, OpError
from nnaq.export.onnx import export_model
from nnaq.export.palette import unpack_constants
from nnaq.frontends import load
from nnaq.ir.graph import Graph
from nnaq.ir.op import lookup
from nnaq.ir.text import parse_graph
from nnaq.ir.types import storage
from nnaq.ir.verify import verify


def read_lowered(path: Path) -> Graph:
    """The graph of a file that `save` wrote.

    Raises ArtifactError if the file is not ONNX, was not written by nnaq, keeps arrays outside
    itself, was written by another version or build, has an operator of a plugin that is not loaded,
    or no longer says what nnaq wrote.
    """
    model = _parse(path)
    properties = {entry.key: entry.value for entry in model.metadata_props}
    if "nnaq.graph" not in properties:
        raise ArtifactError(f"{path} is not a lowered nnaq model; run `nnaq lower {path}` first")
    if properties.get("nnaq.version") != version("nnaq"):
        found, own = properties.get("nnaq.version", "an unknown version"), version("nnaq")
        raise ArtifactError(f"{path} was lowered by nnaq {found}, this is {own}; lower the model again")
    with _as_written(path):
        graph = parse_graph(properties["nnaq.graph"], _constants(path, model))
    _must_know_operators(path, graph)
    written = _digest(model)
    del model
    with _as_written(path):
        unchanged = _digest(export_model(verify(graph)))
    if written != unchanged:
        if _digest(_without_bodies(_parse(path))) == _digest(_without_bodies(export_model(graph))):
            raise ArtifactError(
                f"{path} was written by another build of nnaq, or changed since; lower the model again"
            )
        raise ArtifactError(f"{path} was changed after nnaq wrote it; lower the model again")
    return graph


def read_integer(path: Path) -> Graph:
    """The integer graph of an output folder, of a lowered .onnx file, or of a quantised .tflite file."""
    if path.suffix == ".tflite":
        return load(path).graph
    return read_lowered(path / "model.onnx" if path.is_dir() else path)


def is_lowered(path: Path) -> bool:
    """Whether a file calls itself a lowered nnaq model; `read_lowered` then says if it still is one."""
    return any(entry.key == "nnaq.graph" for entry in _parse(path).metadata_props)


@contextmanager
def _as_written(path: Path) -> Iterator[None]:
    """What nnaq wrote can be read and written again; where it cannot, the file was changed."""
    try:
        yield
    except (NnaqError, ValueError, TypeError, LookupError, AssertionError) as error:
        raise ArtifactError(f"{path} was changed after nnaq wrote it: {error}") from error


def _must_know_operators(path: Path, graph: Graph) -> None:
    """Raise ArtifactError for an operator that neither nnaq nor a loaded plugin has."""
    for node in graph.nodes:
        try:
            lookup(node.op)
        except OpError as error:
            raise ArtifactError(
                f"{path}: {error}; if a plugin adds it, install its package or give its file with --plugin"
            ) from None


def _without_bodies(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model itself, its functions taken out."""
    del model.functions[:]
    return model


def _digest(model: onnx.ModelProto) -> bytes:
    """What tells a model from every other. It is left without its arrays: they are read one by one and given
    up, so that of a large file no more copies than need be are in memory at once."""
    found = hashlib.sha256()
    for tensor in model.graph.initializer:
        found.update(tensor.SerializeToString(deterministic=True))
    del model.graph.initializer[:]
    found.update(model.SerializeToString(deterministic=True))
    return found.digest()


def _parse(path: Path) -> onnx.ModelProto:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read: {error.strerror}") from error
    try:
        return onnx.load_model_from_string(data)
    except DecodeError as error:
        raise ArtifactError(f"{path} is not an ONNX file") from error


def _constants(path: Path, model: onnx.ModelProto) -> dict[str, np.ndarray]:
    """Arrays by constant name, palettes unpacked, in the storage of their types."""
    found: dict[str, np.ndarray] = {}
    for tensor in model.graph.initializer:
        if tensor.data_location == TensorProto.EXTERNAL or tensor.external_data:
            raise ArtifactError(f"{path} keeps {tensor.name!r} outside the file, which nnaq never reads")
        array = numpy_helper.to_array(tensor)
        found[tensor.name] = array.astype(storage("i4")) if tensor.data_type == TensorProto.INT4 else array
    return unpack_constants(model, found)
