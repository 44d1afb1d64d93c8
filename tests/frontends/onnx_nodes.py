"""The ONNX project's own cases, node by node, through the importer and the operators' real meaning."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from nnaq.errors import NnaqError
from nnaq.frontends.onnx import load_model
from nnaq.frontends.onnx_handlers import HANDLERS
from nnaq.frontends.onnx_importer import operator_of
from nnaq.frontends.onnx_simplify import walk
from nnaq.frontends.ports import ImportOptions
from nnaq.interpret import run

LIST = Path(__file__).with_name("onnx_node_passes.txt")
READ = {onnx.TensorProto.FLOAT, onnx.TensorProto.INT32, onnx.TensorProto.INT64, onnx.TensorProto.BOOL}
CONTROL = frozenset({"If", "Loop", "Scan"})


@dataclass(frozen=True)
class Case:
    """A model, one set of inputs and outputs, and how far results may be off."""

    name: str
    model: onnx.ModelProto
    inputs: dict[str, np.ndarray]
    outputs: dict[str, np.ndarray]
    rtol: float
    atol: float


@cache
def claimed() -> tuple[Case, ...]:
    """Every case whose operators have handlers and whose ports are float32, int32, int64 or bool."""
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return tuple(case for found in collect_testcases(None) for case in _cases(found))


def _cases(found) -> Iterator[Case]:
    model = found.model
    ports = [*model.graph.input, *model.graph.output]
    if not all(p.type.HasField("tensor_type") and p.type.tensor_type.elem_type in READ for p in ports):
        return
    if not {operator_of(node) for node in walk(model.graph)} <= HANDLERS.keys() | CONTROL:
        return
    for inputs, outputs in found.data_sets:
        yield Case(
            found.name.removeprefix("test_"),
            model,
            {p.name: np.asarray(a) for p, a in zip(model.graph.input, inputs, strict=True)},
            {p.name: np.asarray(a) for p, a in zip(model.graph.output, outputs, strict=True)},
            found.rtol,
            max(found.atol, 1e-6),
        )


def modes(case: Case) -> Iterator[tuple[str, frozenset[str]]]:
    """Which inputs are constants, from none to all.

    sizes: whole numbers and flags; weights: all but the first of float32; data: all but the first;
    constant: all, where all are numbers that only say how large a result is
    """
    dtypes = {name: array.dtype for name, array in case.inputs.items()}
    names = frozenset(dtypes)
    reals = [name for name, dtype in dtypes.items() if dtype.kind == "f"]
    tried = [("free", names), ("sizes", frozenset(reals)), ("weights", frozenset(reals[:1]))]
    tried.append(("data", frozenset(list(dtypes)[:1])))
    seen: list[frozenset[str]] = []
    for mode, free in tried:
        if free not in seen and (free or mode == "free"):
            seen.append(free)
            yield mode, names - free
    arrays = case.inputs.values()
    if all(array.size == 1 or (array.ndim == 1 and array.dtype == np.int64) for array in arrays):
        yield "constant", names


def with_constants(case: Case, names: frozenset[str]) -> onnx.ModelProto:
    """The model of a case with the named inputs as constants."""
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    held = (numpy_helper.from_array(case.inputs[name], name) for name in case.inputs if name in names)
    model.graph.initializer.extend(held)
    return model


def outcome(case: Case, expected: str = "") -> tuple[str, str]:
    """The mode a case passes in, the expected one if it does; else `fails` and why."""
    why = ""
    tried = dict(modes(case))
    if expected in tried and not difference(case, tried[expected]):
        return expected, ""
    for mode, names in tried.items():
        why = difference(case, names)
        if not why:
            return mode, ""
    return "fails", why


def difference(case: Case, names: frozenset[str]) -> str:
    """What is wrong with a case whose inputs `names` are constants; nothing where all is right."""
    inputs = {name: array for name, array in case.inputs.items() if name not in names}
    shapes = {name: array.shape for name, array in inputs.items()}
    try:
        graph = load_model(with_constants(case, names), case.name, ImportOptions(shapes=shapes)).graph
        given = {port.name: inputs[name] for port, name in zip(graph.inputs, inputs, strict=False)}
        with np.errstate(all="ignore"):
            result = run(graph, given)
    except NnaqError as error:
        return str(error)
    found = [*result.outputs.values(), *result.states.values()]
    if len(found) != len(case.outputs):
        return f"{len(found)} results"
    for (name, expected), array in zip(case.outputs.items(), found, strict=True):
        if array.shape != expected.shape:
            return f"{name} has shape {array.shape}, expected {expected.shape}"
        if not np.allclose(array, expected.astype(np.float32), case.rtol, case.atol, equal_nan=True):
            return f"{name} is off by {np.abs(array - expected.astype(np.float32)).max()}"
    return ""


def write_list() -> None:
    """Write what passes now, one line a case."""
    found = sorted((case.name, outcome(case)[0]) for case in claimed())
    LIST.write_text("".join(f"{mode:8} {name}\n" for name, mode in found if mode != "fails"), "utf-8")


if __name__ == "__main__":
    write_list()
