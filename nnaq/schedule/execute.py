"""A compiled step executed: its commands on bytes, and on nothing else.

A `Machine` has the packed image in DRAM, SRAM of as many bytes as the plan takes, and what is held
by name: registers on the way to the array, sums, the host's reals. SRAM begins as noise, so that
what nobody wrote is no zero by chance. Commands run in any order that keeps their waits.

    Move        bytes, or codes where a place has steps
    Take        codes of what rests
    Multiply    sums of products over whole numbers, in float64, where they are exact: the sums of a
                layer with exact accumulators stay below 2^47
    Requantize  y = saturate(requantize(sums, multiplier, shift) + z_y)
    Run         the operator's fast kernel; over the reals its meaning
"""

from collections.abc import Iterable, Mapping
from functools import singledispatchmethod
from typing import Any

import numpy as np

from nnaq.interpret import Result, check_inputs, chunks, frame_count, initial_states, join
from nnaq.ir.dims import solve
from nnaq.ir.graph import Graph
from nnaq.ir.op import Signature, lookup
from nnaq.ir.types import storage
from nnaq.jit import jit
from nnaq.kernels.accumulate import output_range
from nnaq.kernels.fixedpoint import CODES, requantize, saturate
from nnaq.schedule.actions import Action, Held, Move, Multiply, Operand, Requantize, Run, Stored, Take, View
from nnaq.schedule.commands import Command
from nnaq.schedule.compile import Step, compile_step
from nnaq.schedule.emit import SRAM
from nnaq.schedule.memory import Pinning
from nnaq.schedule.places import Place, is_whole_bytes
from nnaq.schedule.rest import from_bytes, rest_bytes, to_bytes
from nnaq.schedule.sharing import IN_PLACE, VIEWS
from nnaq.targets import Target
from nnaq.targets.gemm import sizes

Values = dict[str, np.ndarray]


class Machine:
    """DRAM, SRAM and what is held by name, after the setup of a step has run."""

    def __init__(self, step: Step) -> None:
        self.step = step
        self.dram = step.image.pack()
        self.sram = np.random.default_rng(0).integers(0, 256, step.plan.sram_peak_bytes, np.uint8)
        self.held: dict[str, np.ndarray] = {}
        self.offsets = {p.buffer.name: p.offset for p in step.plan.placements}
        self.run(step.setup.commands)

    def __call__(self, inputs: Mapping[str, np.ndarray], order: Iterable[int] | None = None) -> Values:
        """Run one step and return its outputs; the states advance. order: of the commands, as they stand."""
        graph, commands = self.step.graph, self.step.commands
        for name, array in check_inputs(graph, inputs).items():
            self.put(name, array)
        old = {p.name: self.value(p.name).copy() for p in graph.outputs if self._is_old_state(p.name)}
        self.run(commands if order is None else (commands[at] for at in order))
        return {p.name: old.get(p.name, self.value(p.name)).copy() for p in graph.outputs}

    def _is_old_state(self, name: str) -> bool:
        """Whether a value is what a state holds before the step, or a view of it."""
        graph = self.step.graph
        while name in graph.producer and name in self.step.plan.shared and graph.producer[name].op in VIEWS:
            name = graph.producer[name].inputs[0]
        return any(state.input == name for state in graph.states)

    def states(self) -> Values:
        """What each state holds, by its name."""
        return {state.name: self.value(state.input).copy() for state in self.step.graph.states}

    def run(self, commands: Iterable[Command]) -> None:
        """Run commands in the order given."""
        for command in commands:
            if command.action is not None:
                self.do(command.action)

    def value(self, name: str) -> np.ndarray:
        """A value of the graph where it rests now."""
        if name in self.step.plan.places:
            return self.read(self._view(name))
        return self.step.graph.constants[name] if name in self.step.graph.constants else self.held[name]

    def put(self, name: str, array: np.ndarray) -> None:
        """Write a value of the graph where it rests."""
        self.write(self._view(name) if name in self.step.plan.places else Held(name), array)

    def _view(self, name: str) -> View:
        place = self.step.plan.places[name]
        offset = place.offset + self.offsets[place.buffer]
        return View(self.step.graph.types[name], Place(SRAM, offset, place.strides))

    # --- bytes

    def read(self, operand: Operand) -> np.ndarray:
        """The codes of an operand: a view of SRAM where they are whole bytes."""
        assert operand is not None
        if isinstance(operand, Held):
            return self.held[operand.name]
        if isinstance(operand, Stored):
            end = operand.address + rest_bytes(operand.kind)
            return from_bytes(self.dram[operand.address : end], operand.kind)
        if operand.place.strides is not None:
            return self._array(operand)[operand.index]
        start, stop = operand.span
        return from_bytes(self.sram[start:stop], operand.kind)[operand.index]

    def write(self, operand: View | Held, codes: np.ndarray) -> None:
        """Put codes where an operand is."""
        if isinstance(operand, Held):
            self.held[operand.name] = np.array(codes)
        elif is_whole_bytes(operand.kind):
            self._array(operand)[...] = codes
        else:
            start, stop = operand.span
            self.sram[start:stop] = to_bytes(codes, operand.kind)

    def _array(self, view: View) -> np.ndarray:
        kind, place = view.kind, view.place
        return np.ndarray(sizes(kind), storage(kind.dtype), self.sram.data, place.offset, place.strides)

    # --- commands

    @singledispatchmethod
    def do(self, action: Action) -> None:
        """What a command does."""
        raise AssertionError(f"no machine does {action}")

    @do.register
    def _move(self, action: Move) -> None:
        found = [self._taken(source, to) for source, to in action.pairs]
        for (source, to), codes in zip(action.pairs, found, strict=True):
            if isinstance(source, Stored):
                self.sram[slice(*to.span)] = codes
            else:
                self.write(to, codes)

    def _taken(self, source: Operand, to: View) -> np.ndarray:
        if isinstance(source, Stored) and to.place.strides is None:
            return self.dram[source.address : source.address + rest_bytes(source.kind)].copy()
        return self.read(source).copy()

    @do.register
    def _take(self, action: Take) -> None:
        for view, register in action.pairs:
            self.write(register, self.read(view))

    @do.register
    def _multiply(self, action: Multiply) -> None:
        op, signature = lookup(action.op), action.signature
        x, weight = (
            np.asarray(self.read(operand), np.float64) - kind.zero_point
            for operand, kind in zip((action.x, action.weight), signature.inputs, strict=False)
            if kind is not None
        )
        bias = () if action.bias is None else (np.asarray(self.read(action.bias), np.float64),)
        (sums,) = op.real(np, signature.attrs, x, weight, *bias)
        whole = np.asarray(sums, np.int64)
        self.held[action.sums.name] = whole if action.adds is None else whole + self.held[action.adds.name]

    @do.register
    def _requantize(self, action: Requantize) -> None:
        sums = self.held[action.sums.name]
        if action.multiplier is not None:
            rows = np.ascontiguousarray(np.moveaxis(sums, action.axis, 0))
            multiplier, shift = (np.array(self.read(one)) for one in (action.multiplier, action.shift))
            rounding = CODES[str(action.signature.attrs["rounding"])]
            limits = output_range(action.signature)
            _requantize_rows(rows.reshape(len(rows), -1), multiplier, shift, rounding, *limits)  # type: ignore[no-untyped-call]
            sums = np.moveaxis(rows, 0, action.axis)
        self.write(action.y, sums)

    @do.register
    def _run(self, action: Run) -> None:
        self._scribble(action)
        operands: list[Any] = [
            None if one is None else np.ascontiguousarray(self.read(one)).reshape(self.read(one).shape)
            for one in action.operands
        ]
        for position, parts in action.parts:
            operands[position] = np.concatenate([self.read(part) for part in parts])
        for result, array in zip(action.results, _kernel(action.op, action.signature, operands), strict=True):
            self.write(result, array)

    def _scribble(self, action: Run) -> None:
        """Spoil what results are written over before operands are read: an engine may write early.

        An elementwise result in the place of an operand is written entry by entry, after that was read.
        """
        taken = {operand.place for operand in action.operands if isinstance(operand, View)}
        for result in action.results if action.op not in VIEWS else ():
            if isinstance(result, View) and not (action.op in IN_PLACE and result.place in taken):
                start, stop = result.span
                if is_whole_bytes(result.kind):
                    self._array(result)[...] ^= 0x5A
                else:
                    self.sram[start:stop] ^= 0x5A


def _kernel(name: str, signature: Signature, operands: list[Any]) -> tuple[np.ndarray, ...]:
    """The results of an operator; over the reals where it touches no codes."""
    op = lookup(name)
    if all(kind is None or kind.dtype == "f32" for kind in (*signature.inputs, *signature.outputs)):
        return tuple(np.asarray(one, np.float32) for one in op.real(np, signature.attrs, *operands))
    return op.fast(signature, *operands)


@jit
def _requantize_rows(rows, multiplier, shift, rounding, zero_point, low, high):  # type: ignore[no-untyped-def]
    """Sums [outputs, positions] into codes, in place."""
    for o in range(rows.shape[0]):
        for i in range(rows.shape[1]):
            y = requantize(rows[o, i], np.int64(multiplier[o]), np.int64(shift[o]), rounding)  # type: ignore[no-untyped-call]
            rows[o, i] = saturate(y, zero_point, low, high)  # type: ignore[no-untyped-call]


def execute_plan(
    graph: Graph,
    target: Target,
    inputs: Mapping[str, np.ndarray],
    states: Mapping[str, np.ndarray] | None = None,
    chunk: int | None = None,
    pinning: Pinning = "greedy",
) -> Result:
    """Run a whole recording by its compiled commands, inside the planned arena; equal to `interpret.run`.

    graph: integer; symbolic dimensions are those of the inputs. states: what they begin with, by name;
    None: as the graph has it. chunk: frames per step; None: all at once. Each length of chunk is
    compiled once. Outputs are joined along the time axis of their port. Raises DataError for inputs
    that the graph does not take.
    """
    machines: dict[tuple[tuple[str, int], ...], Machine] = {}
    held, made = dict(states or initial_states(graph)), []
    given = check_inputs(graph, inputs)
    for piece in chunks(graph, given, chunk or max(frame_count(graph, given), 1)):
        binding = _binding(graph, piece)
        key = tuple(sorted(binding.items()))
        if key not in machines:
            machines[key] = Machine(compile_step(graph, target, binding, pinning))
        machine = machines[key]
        for state in graph.states:
            machine.put(state.input, held[state.name])
        made.append(machine(piece))
        held = machine.states()
    outputs = {p.name: join([one[p.name] for one in made], p.time_axis) for p in graph.outputs}
    return Result(outputs, held)


def _binding(graph: Graph, inputs: Mapping[str, np.ndarray]) -> dict[str, int]:
    """The sizes of symbolic dimensions that inputs have."""
    found: dict[str, int] = {}
    for name, array in inputs.items():
        found |= solve(graph.types[name].shape, array.shape, f"input {name!r}")
    return found
