"""Run a graph: over the reals, or over integers by reference or fast kernels.

A stream is a run in chunks along the time axes of the ports; states pass from chunk to chunk, so
chunked equals whole, bit for bit, for integers.

An interpreter of `fast` kernels holds a weight with a palette as packed indices, which its kernels read
directly, and no unpacked copy of it; `graph.constants` has its codes, because the graph is the compile-time
value. Packed where every reader reads it that way (`Op.packed`): not a constant that is a result, a state's
beginning or kept, and not one with a zero map, which no kernel reads.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from math import lcm
from threading import Lock
from typing import Any, Literal

import numpy as np

import nnaq.kernels  # noqa: F401  (fills the operator table)
from nnaq.errors import DataError, NnaqError
from nnaq.ir.dims import linear, show, solve
from nnaq.ir.graph import Graph, Node, Port
from nnaq.ir.op import Kernel, lookup
from nnaq.ir.time import time_axis
from nnaq.ir.types import Quant, storage
from nnaq.ir.verify import is_real, is_real_graph
from nnaq.kernels.arena import arena
from nnaq.kernels.codebook import PackedCodes, pack_codes
from nnaq.kernels.ends import is_finite
from nnaq.plan import Plans

Mode = Literal["fast", "reference"]
Values = dict[str, np.ndarray]
Constants = dict[str, np.ndarray | PackedCodes]


@dataclass(frozen=True)
class Result:
    """Outputs by name, next states by state name, and the values asked for with `keep`."""

    outputs: Values
    states: Values
    values: Values = field(default_factory=dict)


class Interpreter:
    """A graph made ready to run: kernels are looked up once, states are kept between steps.

    It is for one thread: states and the room of kernels are its own. Every thread makes one for itself.

    mode: `fast` or `reference` kernels for integer nodes; real nodes always run by their meaning
    over the reals. keep: values to hand out beside the outputs.
    """

    def __init__(self, graph: Graph, mode: Mode = "fast", keep: Iterable[str] = ()) -> None:
        self.graph = graph
        self.keep = frozenset(keep)
        self.constants = resident_constants(graph, mode, self.keep)
        with arena(sum(codes.nbytes for codes in graph.constants.values())):
            self.steps = [
                (node, kernel(graph, node, mode, self.constants), free)
                for node, free in _lifetimes(graph, self.keep)
            ]
        self.states = initial_states(graph)
        self._turn = Lock()
        self._check = InputCheck(graph)
        self.whole = self._check.whole
        everything = dict.fromkeys(
            (*sorted(graph.sources), *(v for node in graph.nodes for v in node.outputs))
        )
        self._kept = [name for name in everything if name in self.keep]
        self._wanted = dict.fromkeys(name for name in everything if name in self.keep | graph.results)

    @cached_property
    def _plans(self) -> Plans:
        """Made at the first step: until then `steps` may be changed."""
        return Plans([(node, call) for node, call, _ in self.steps], self.constants, self._wanted)

    def reset(self) -> None:
        """States back to what they are before the first step."""
        self.states = initial_states(self.graph)

    def step(self, inputs: Mapping[str, np.ndarray]) -> Result:
        """Run once over the given stretch of time and advance the states.

        Raises NnaqError where another thread is at a step.
        """
        if not self._turn.acquire(blocking=False):
            raise NnaqError(
                f"graph {self.graph.name!r}: two threads step one Interpreter at a time; "
                "make an Interpreter for each of them"
            )
        try:
            return self._step(inputs)
        finally:
            self._turn.release()

    def _step(self, inputs: Mapping[str, np.ndarray]) -> Result:
        values = self._check(inputs)
        given = list(values.values())
        for state in self.graph.states:
            values[state.input] = self.states[state.name]
        found = self._plans.step(values)
        if found is None:
            found = self._run(values)
        found = {name: _apart(array, given) for name, array in found.items()}
        states = {state.name: found[state.output] for state in self.graph.states}
        self.states = {name: array.copy() for name, array in states.items()}
        outputs = {port.name: found[port.name] for port in self.graph.outputs}
        return Result(outputs, states, {name: found[name] for name in self._kept})

    def _run(self, sources: Values) -> Values:
        """The wanted values of a step, node by node; the others go where nobody reads them any more."""
        values: dict[str, Any] = {**self.constants, **sources}
        found = {name: values[name] for name in self._wanted if name in values}
        size = 0
        for node, call, free in self.steps:
            made = call(*(values[v] if v else None for v in node.inputs))
            for name, array in zip(node.outputs, made, strict=True):
                values[name] = array
                size += array.nbytes
                if name in self._wanted:
                    found[name] = array
            for name in free:
                del values[name]
        self._plans.note(sources, size)
        return found


def _apart(array: np.ndarray, given: list[np.ndarray]) -> np.ndarray:
    """A result that is no part of an input: callers fill their buffers anew for the next step."""
    if array.base is None and all(array is not one for one in given):
        return array  # its memory is its own
    return array.copy() if any(np.may_share_memory(array, one) for one in given) else array


def kernel(graph: Graph, node: Node, mode: Mode, constants: Constants | None = None) -> Kernel:
    """The function that runs a node: its arrays in, its results out.

    constants: those that stay as they are from call to call; a fast kernel is loaded with them.
    """
    op, signature = lookup(node.op), graph.signature(node)
    if is_real(graph, node):
        return partial(_real, op.real, node.attrs)
    if mode == "reference":
        return partial(op.reference, signature)
    if op.load is None or constants is None:
        return partial(op.fast, signature)
    return op.load(signature, tuple(constants.get(name) if name else None for name in node.inputs))


def resident_constants(graph: Graph, mode: Mode, keep: Iterable[str] = ()) -> Constants:
    """The constants as kernels of a mode read them, in memory while a graph runs.

    Vectors, scales above all, are copied where they came from a file and cannot be written: Numba would
    compile every kernel once more for them.
    """
    found: Constants = {
        name: array.copy() if array.ndim == 1 and not array.flags.writeable else array
        for name, array in graph.constants.items()
    }
    if mode == "fast":
        whole = {*graph.results, *keep, *(state.initial for state in graph.states)}
        for name, codes in graph.constants.items():
            palette = graph.types[name].palette
            if palette is not None and name not in whole and _is_read_packed(graph, name):
                found[name] = pack_codes(codes, palette)
    return found


def _is_read_packed(graph: Graph, name: str) -> bool:
    """Whether every reader of a constant with a palette takes it as packed indices."""
    kind, readers = graph.types[name], graph.readers.get(name, ())
    if kind.palette is None or kind.palette.zeros is not None or kind.zero_point != 0 or not readers:
        return False
    return all(
        not is_real(graph, node)
        and all(place in lookup(node.op).packed for place, value in enumerate(node.inputs) if value == name)
        for node in readers
    )


def _real(real: Callable[..., tuple[Any, ...]], attrs: Mapping[str, Any], *arrays: Any) -> tuple[Any, ...]:
    return tuple(np.asarray(array, np.float32) for array in real(np, attrs, *arrays))


def _lifetimes(graph: Graph, keep: frozenset[str]) -> list[tuple[Node, tuple[str, ...]]]:
    """Each node with the values nobody reads after it."""
    last = {value: node.name for node in graph.nodes for value in (*node.inputs, *node.outputs) if value}
    return [
        (node, tuple(v for v in dict.fromkeys((*node.inputs, *node.outputs)) if v and last[v] == node.name))
        for node in graph.nodes
    ]


def initial_states(graph: Graph) -> Values:
    """What each state holds before the first step."""
    return {state.name: graph.constants[state.initial] for state in graph.states}


def check_inputs(
    graph: Graph, inputs: Mapping[str, np.ndarray], whole: frozenset[str] | None = None
) -> Values:
    """The inputs in the storage of their types. whole: `whole_inputs` of the graph, where they are known.

    Raises DataError: names or a shape that the graph does not take; what is no number; NaN or infinity
    for a graph with codes, which has none for them; fractions in an input of whole numbers, see
    `whole_inputs`. A real graph takes infinities: a mask may hold them.
    """
    arrays, whole = _named(graph, inputs), whole_inputs(graph) if whole is None else whole
    for name, array in arrays.items():
        kind = graph.types[name]
        if array.ndim != kind.rank:
            raise DataError(
                f"input {name!r} has shape {list(array.shape)}, the model takes {show(kind.shape)}"
            )
        solve(kind.shape, array.shape, f"input {name!r}")
    return {name: _stored(graph, name, array, name in whole) for name, array in arrays.items()}


def _named(graph: Graph, inputs: Mapping[str, Any]) -> Values:
    """The inputs in the order of the graph's, as arrays. Raises DataError for other names."""
    names = [port.name for port in graph.inputs]
    if set(inputs) != set(names):
        found = ", ".join(sorted(inputs)) or "none"
        raise DataError(f"graph {graph.name!r} takes {', '.join(names)}; found {found}")
    return {name: np.asarray(inputs[name]) for name in names}


def whole_inputs(graph: Graph) -> frozenset[str]:
    """Inputs that stand for whole numbers: reals that are read as i32 codes of scale 1 and nothing else."""
    return frozenset(port.name for port in graph.inputs if _is_whole(graph, port.name))


def _is_whole(graph: Graph, name: str) -> bool:
    readers = graph.readers.get(name, ())
    return (
        bool(readers)
        and graph.types[name].dtype == "f32"
        and all(
            node.op == "quantize"
            and (code := graph.types[node.outputs[0]]).dtype == "i32"
            and code.quant == Quant((1.0,))
            for node in readers
        )
    )


class InputCheck:
    """`check_inputs` of one graph, quick for arrays such as it has taken before."""

    def __init__(self, graph: Graph) -> None:
        self.graph, self.whole, self.is_real = graph, whole_inputs(graph), is_real_graph(graph)
        self.taken: dict[str, set[tuple[int, ...]]] = {port.name: set() for port in graph.inputs}
        self.kinds = [
            (port.name, storage(graph.types[port.name].dtype), self.taken[port.name]) for port in graph.inputs
        ]

    def __call__(self, inputs: Mapping[str, np.ndarray]) -> Values:
        if inputs.keys() == self.taken.keys() and self._are_plain(inputs):
            return {name: inputs[name] for name in self.taken}
        found = check_inputs(self.graph, inputs, self.whole)
        for name in found.keys() - self.whole:
            self.taken[name].add(found[name].shape)
        return found

    def _are_plain(self, inputs: Mapping[str, np.ndarray]) -> bool:
        """Whether they are arrays of dtypes and shapes that were taken, without NaN or infinity."""
        for name, dtype, taken in self.kinds:
            array = inputs[name]
            if type(array) is not np.ndarray or array.dtype != dtype or array.shape not in taken:
                return False
            if dtype.kind == "f" and not self.is_real and not _is_finite(array):
                return False
        return True


def _is_finite(array: np.ndarray) -> bool:
    """Whether an array of floats holds neither NaN nor infinity."""
    if array.dtype != np.float32:
        return bool(np.isfinite(array).all())
    return bool(is_finite(array.reshape(-1)))  # type: ignore[no-untyped-call]


def _stored(graph: Graph, name: str, array: np.ndarray, whole: bool) -> np.ndarray:
    """One input in the storage of its type; see check_inputs."""
    dtype = graph.types[name].dtype
    if array.dtype.kind not in "fiub":
        raise DataError(f"input {name!r} holds {array.dtype}, the model takes {dtype}")
    if array.dtype.kind == "f":
        if dtype == "f32" and array.dtype != np.float32:
            with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite
                array = np.asarray(array, np.float32)
        if (dtype != "f32" or not is_real_graph(graph)) and not _is_finite(array):
            raise DataError(f"input {name!r} holds values that are NaN or infinite")
        if whole and (parts := array[array != np.rint(array)]).size:
            raise DataError(f"input {name!r} takes whole numbers, found {parts[0]}")
    return np.asarray(array, storage(dtype))


def chunks(graph: Graph, inputs: Mapping[str, np.ndarray], size: int) -> Iterator[Values]:
    """The inputs cut along their time axes into stretches of at most `size` frames.

    Where an input takes frames in groups, as `3*T` says, stretches are of whole groups, up from `size`.
    """
    frames, size = frame_count(graph, inputs), whole_groups(graph, size)
    for start in range(0, max(frames, 1), size):
        yield {p.name: _cut(inputs[p.name], p, start, start + size) for p in graph.inputs}


def frame_count(graph: Graph, inputs: Mapping[str, np.ndarray]) -> int:
    """Frames of time in the inputs; 1 where no input has a time axis."""
    return max(
        (inputs[p.name].shape[p.time_axis] for p in graph.inputs if p.time_axis is not None), default=1
    )


def whole_groups(graph: Graph, frames: int) -> int:
    """So many frames or the next more that the inputs take: a multiple of 3 for `3*T`, of 1 for `T`."""
    axes = (graph.types[p.name].shape[p.time_axis] for p in graph.inputs if p.time_axis is not None)
    found = (linear(dim) for dim in axes if isinstance(dim, str))
    group = lcm(*(step for _, step, _ in filter(None, found)))
    return -(-frames // group) * group


def _cut(array: np.ndarray, port: Port, start: int, stop: int) -> np.ndarray:
    if port.time_axis is None:
        return array
    return array[(slice(None),) * port.time_axis + (slice(start, stop),)]


def run(
    graph: Graph,
    inputs: Mapping[str, np.ndarray],
    mode: Mode = "fast",
    keep: Iterable[str] = (),
    chunk: int | None = None,
) -> Result:
    """Run a whole recording from the initial states, in chunks of `chunk` frames (default: at once).

    Outputs are joined along the time axis of their port, kept values along the axis that has the
    time of an input in its size; without one the last chunk's stands.
    """
    interpreter, inputs = Interpreter(graph, mode, keep), _named(graph, inputs)
    pieces = [
        interpreter.step(piece)
        for piece in chunks(graph, inputs, chunk or max(frame_count(graph, inputs), 1))
    ]
    axes = {port.name: port.time_axis for port in graph.outputs}
    outputs = {name: join([p.outputs[name] for p in pieces], axes[name]) for name in pieces[0].outputs}
    values = {
        name: join([p.values[name] for p in pieces], time_axis(graph, name)) for name in pieces[0].values
    }
    return Result(outputs, pieces[-1].states, values)


def run_steps(graph: Graph, steps: Iterable[Mapping[str, np.ndarray]], mode: Mode = "fast") -> Result:
    """Run a graph once per step, its states carried from each to the next; outputs are stacked in front."""
    interpreter = Interpreter(graph, mode)
    made = [interpreter.step(step).outputs for step in steps]
    outputs = {p.name: np.stack([m[p.name] for m in made]) if made else np.zeros(0) for p in graph.outputs}
    return Result(outputs, dict(interpreter.states))


def join(arrays: list[np.ndarray], axis: int | None) -> np.ndarray:
    """The pieces of a stream as one array; the last piece where time is in no axis."""
    return arrays[-1] if len(arrays) == 1 or axis is None else np.concatenate(arrays, axis)
