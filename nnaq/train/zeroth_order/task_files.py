"""Tasks from files: examples with labels in .npz, as `nnaq finetune` takes them.

    one array per input     by its name
    labels                  whole numbers; below 0: left out of loss and accuracy
    output                  the name of the output with the logits; may be left out where there is one output

Of a model that takes many examples at once (an input has an open axis that is not time) arrays have the shape
of the input and labels are [N] or [N, positions…]. Of another model a file is one example as `nnaq run` takes
it, time first, with labels [positions…], or has one more axis in front, over examples.

A task is a file, or a folder whose files, in the order of their names, are one task together. Nothing is ever
unpickled.
"""

import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from nnaq.errors import DataError
from nnaq.ir.graph import Graph, Port
from nnaq.train.zeroth_order.examples import Examples, Recordings, logits_of
from nnaq.train.zeroth_order.frozen import Data

LABELS, OUTPUT = "labels", "output"


def read_tasks(graph: Graph, paths: Sequence[Path]) -> dict[str, Data]:
    """Tasks by the name of their file or folder.

    Raises DataError: no such file, arrays that are missing, too many or misshapen, two tasks of one name.
    """
    found: dict[str, Data] = {}
    for path in paths:
        if path.stem in found:
            raise DataError(f"two tasks are called {path.stem!r}; give their files other names")
        found[path.stem] = read_task(graph, path)
    return found


def read_task(graph: Graph, path: Path) -> Data:
    """The examples of a file, or of a folder's files together."""
    files = sorted(path.glob("*.npz")) if path.is_dir() else [path]
    if not files:
        raise DataError(f"folder {path} holds no task; put files NAME.npz into it")
    tables = [(file, _arrays(file)) for file in files]
    outputs = {_output(graph, file, table) for file, table in tables}
    if len(outputs) > 1:
        raise DataError(
            f"the files of {path} are of several outputs, {', '.join(sorted(outputs))}; part them"
        )
    output = outputs.pop()
    if all(port.batch_axis is not None for port in graph.inputs):
        return _together(graph, [_one(graph, file, table, output, 0) for file, table in tables])
    parts = [one for file, table in tables for one in _apart(graph, file, table, output)]
    return Recordings(tuple(parts))


def batched(graph: Graph) -> Graph:
    """The graph with the open axis over examples named at every input that has one; time is none."""

    def port(one: Port) -> Port:
        shape = graph.types[one.name].shape
        axes = (a for a, dim in enumerate(shape) if isinstance(dim, str) and a != one.time_axis)
        return one if one.batch_axis is not None else replace(one, batch_axis=next(axes, None))

    return replace(graph, inputs=tuple(map(port, graph.inputs)))


def _arrays(path: Path) -> dict[str, np.ndarray]:
    if not zipfile.is_zipfile(path):
        why = "is no npz file" if path.is_file() else "does not exist"
        raise DataError(f"task {path} {why}; write one with numpy.savez: an array per input, and {LABELS}")
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, MemoryError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"task {path} cannot be read as npz arrays: {error}") from None


def _output(graph: Graph, path: Path, table: Mapping[str, np.ndarray]) -> str:
    """The output whose logits the labels are of."""
    there = [port.name for port in graph.outputs]
    if OUTPUT not in table and len(there) > 1:
        raise DataError(f"task {path} does not say which output it is of; add `{OUTPUT}`: {', '.join(there)}")
    name = str(table[OUTPUT]) if OUTPUT in table else there[0]
    if graph.types[logits_of(graph, name)].rank < 1:
        raise DataError(f"task {path}: output {name!r} has no axis of logits")
    return name


def _one(graph: Graph, path: Path, table: Mapping[str, np.ndarray], output: str, more: int) -> Examples:
    """A file's arrays with `more` axes in front of what the model takes. Raises DataError."""
    names = [port.name for port in graph.inputs]
    if set(table) - {OUTPUT} != {*names, LABELS}:
        raise DataError(
            f"task {path}: found arrays {', '.join(table)}; expected {', '.join(names)}, {LABELS} and, where "
            f"the model has several outputs, {OUTPUT}"
        )
    for name in names:
        rank = graph.types[name].rank + more
        if table[name].ndim != rank or table[name].dtype.kind not in "fiub":
            raise DataError(
                f"task {path}: array {name!r} is {table[name].dtype} {list(table[name].shape)}; the model "
                f"takes {rank} axes of numbers"
            )
    labels = table[LABELS]
    if labels.dtype.kind not in "iu" or not labels.size:
        raise DataError(f"task {path}: {LABELS} are whole numbers, found {labels.dtype} {list(labels.shape)}")
    return Examples({name: table[name] for name in names}, labels.astype(np.int64), output)


def _apart(graph: Graph, path: Path, table: Mapping[str, np.ndarray], output: str) -> Iterator[Examples]:
    """The examples of a file for a model that takes one at a time, in the model's own layout."""
    first = graph.inputs[0].name
    more = int(first in table and table[first].ndim > graph.types[first].rank)
    whole = _one(graph, path, table, output, more)
    counts = {len(array) for array in (*whole.inputs.values(), whole.labels)}
    if more and len(counts) > 1:
        raise DataError(f"task {path}: its arrays have different numbers of examples, {sorted(counts)}")
    for number in range(len(whole.labels) if more else 1):
        taken = {name: array[number] if more else array for name, array in whole.inputs.items()}
        moved = {p.name: np.moveaxis(taken[p.name], 0, p.time_axis or 0) for p in graph.inputs}
        yield Examples(moved, whole.labels[number] if more else whole.labels, output)


def _together(graph: Graph, tables: Iterable[Examples]) -> Examples:
    """The examples of several files as one, along the axis over examples."""
    tables = list(tables)
    axes = {port.name: port.batch_axis or 0 for port in graph.inputs}
    for one in tables:
        counts = {name: one.inputs[name].shape[axis] for name, axis in axes.items()}
        if set(counts.values()) != {len(one)}:
            raise DataError(f"a task has {len(one)} labels, but examples {counts}; give one label to each")
    inputs = {name: np.concatenate([one.inputs[name] for one in tables], axis) for name, axis in axes.items()}
    return Examples(inputs, np.concatenate([one.labels for one in tables]), tables[0].output)
