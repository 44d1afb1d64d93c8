"""Quantised TFLite files as integer graphs, directly: their codes, scales and constants are kept.

    read -> one handler per operator -> variables as states -> verify

Every node is prepared as the crossing would prepare it, under the rounding `double` of TFLite's own
kernels, so the graph's integers are those of tflite-micro. Ports carry the file's codes (u8 moved to
i8). A variable that READ_VARIABLE and ASSIGN_VARIABLE use is a state of the graph; one run of the
file is one step. Images are [N,H,W,C] in a file and [N,C,H,W] in nnaq: transposes stand around the
operators that look at neighbours.
"""

from pathlib import Path

from nnaq.errors import FrontendError, GraphError, OpError
from nnaq.frontends import ports
from nnaq.frontends.ports import Imported, ImportOptions, Names, Problem, Unsupported
from nnaq.frontends.tflite_handlers import HANDLERS
from nnaq.frontends.tflite_importer import Walk
from nnaq.frontends.tflite_model import File, read
from nnaq.ir.build import Builder
from nnaq.ir.order import without_dead_code
from nnaq.ir.verify import verify


def load(path: Path, options: ImportOptions | None = None) -> Imported:
    """The integer graph of a .tflite file. Raises FrontendError that lists all it cannot read."""
    if options is not None and (options.states or options.pins or options.shapes):
        raise FrontendError(f"{path}: a TFLite file says its own shapes and states; give none")
    return load_with_values(path)[0]


def load_with_values(path: Path) -> tuple[Imported, dict[int, str]]:
    """The graph of a file, and its name of each tensor's value, by the tensor's index in the file."""
    walk = _walk(read(path), path.stem)
    if walk.problems:
        raise ports.refusal(path.stem, walk.problems)
    return _finish(walk), dict(walk.values)


def check(path: Path, options: ImportOptions | None = None) -> tuple[Problem, ...]:
    """Every node of a .tflite file that cannot be imported; empty if all can."""
    return tuple(_walk(read(path), path.stem).problems)


def _walk(file: File, name: str) -> Walk:
    walk = Walk(Builder(ports.clean(name)), Names(), file)
    for tensor in file.inputs:
        try:
            kind = walk.port(tensor)
            walk.values[tensor.index] = walk.builder.input(walk.name(tensor), kind)
        except Unsupported as error:
            walk.problems.append(Problem(tensor.name, "Input", str(error), error.hint))
            walk.lost.add(tensor.index)
    for node in file.operators:
        walk.run(node, HANDLERS.get(node.op))
    for tensor in file.outputs:
        if tensor.index not in walk.values and not walk.problems:
            walk.problems.append(Problem(tensor.name, "Output", "nothing computes it"))
    return walk


def _finish(walk: Walk) -> Imported:
    builder, notes = walk.builder, []
    for tensor in walk.file.outputs:
        builder.output(walk.output(tensor))
    for tensor in (*walk.file.inputs, *walk.file.outputs):
        if tensor.dtype == "UINT8":
            notes.append(f"port {ports.clean(tensor.name)}: u8 in the file, its codes minus 128 here")
    for variable in walk.variables.values():
        builder.state(variable.name, variable.input, variable.value, variable.initial)
    try:
        graph = verify(without_dead_code(builder.build()))
    except (GraphError, OpError) as error:
        raise FrontendError(f"model {builder.name!r} does not fit together: {error}") from error
    if walk.variables:
        notes.append(f"kept from run to run: {ports.counted(len(walk.variables), 'variable')} of the file")
    return Imported(graph, tuple(notes))
