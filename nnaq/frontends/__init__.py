"""Importers into one graph: `load` takes a file, `nnaq.frontends.torch.load` a torch module."""

from importlib import import_module
from pathlib import Path
from types import ModuleType

from nnaq.errors import FrontendError
from nnaq.frontends.ports import Imported, ImportOptions, Problem

__all__ = ["ImportOptions", "Imported", "Problem", "check", "load"]


def load(path: Path, options: ImportOptions | None = None) -> Imported:
    """The graph of a model file: real of an .onnx file, integer of a quantised .tflite file.

    Raises FrontendError: a file that cannot be read, or all operators that cannot be imported.
    """
    imported: Imported = _reader(path).load(path, options)
    return imported


def check(path: Path, options: ImportOptions | None = None) -> tuple[Problem, ...]:
    """Every node of a model file that cannot be imported; empty if all can."""
    problems: tuple[Problem, ...] = _reader(path).check(path, options)
    return problems


def _reader(path: Path) -> ModuleType:
    """The module that reads a file of this kind; each brings heavy libraries along."""
    kinds = {".onnx": "onnx", ".tflite": "tflite"}
    if path.suffix not in kinds:
        raise FrontendError(
            f"{path} is neither .onnx nor .tflite; export the model to ONNX, or hand nnaq.lower the torch "
            "module itself"
        )
    return import_module(f"nnaq.frontends.{kinds[path.suffix]}")
