"""Importers into one graph: `load` takes a file, `nnaq.frontends.torch.load` a torch module."""

from pathlib import Path

from nnaq.errors import FrontendError
from nnaq.frontends.ports import Imported, ImportOptions, Problem

__all__ = ["ImportOptions", "Imported", "Problem", "check", "load"]


def load(path: Path, options: ImportOptions | None = None) -> Imported:
    """The real graph of a model file, and what the import decided by itself.

    Raises FrontendError: a file that cannot be read, or all operators that cannot be imported.
    """
    from nnaq.frontends import onnx

    _must_be_onnx(path)
    return onnx.load(path, options)


def check(path: Path, options: ImportOptions | None = None) -> tuple[Problem, ...]:
    """Every node of a model file that cannot be imported; empty if all can."""
    from nnaq.frontends import onnx

    _must_be_onnx(path)
    return onnx.check(path, options)


def _must_be_onnx(path: Path) -> None:
    if path.suffix != ".onnx":
        raise FrontendError(
            f"{path} is no .onnx file; export the model to ONNX, or hand nnaq.lower the torch module itself"
        )
