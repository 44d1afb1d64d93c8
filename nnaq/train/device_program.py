"""A body made ready to run on torch tensors: constants worked out, places known, values let go of early.

Shapes, and whatever follows from shapes and constants alone, stay on the host; everything else runs where
the operands are. Constants are copied to a device once. A Scan is a loop over frames in Python.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from nnaq.errors import OpError
from nnaq.export.plain_functions import Function, Step
from nnaq.train.device_matmul import integer_product
from nnaq.train.device_operators import HOST, OPERATORS, Run
from nnaq.train.device_ranges import ANYTHING, Range, Ranges, ranges_of

Values = dict[str, Any]


@dataclass(frozen=True)
class Action:
    """One operator made ready.

    bound: operands that are host constants, by position; moved: positions of host values that go to the
    device; free: values that nobody reads later.
    """

    run: Run
    operands: tuple[str, ...]
    results: tuple[str, ...]
    bound: Mapping[int, Tensor]
    moved: frozenset[int]
    free: tuple[str, ...]


@dataclass(frozen=True)
class Loop(Action):
    """A Scan: states first among the ports, then the rows of each frame."""

    ports: tuple[str, ...]
    frame: tuple[Action, ...]
    outputs: tuple[str, ...]
    states: int


class Program:
    """What runs a function, for operands in given ranges."""

    def __init__(self, function: Function, ranges: Sequence[Range]) -> None:
        self.function = function
        self.constants: dict[str, Tensor] = {}
        self.copies: dict[torch.device, dict[str, Tensor]] = {}
        self._host: set[str] = set()
        limits = ranges_of(function, ranges)
        self.actions = self._actions(function.steps, limits, function.outputs)

    def __call__(self, operands: Sequence[Tensor | None], device: torch.device) -> tuple[Tensor, ...]:
        """The results, on the device that the operands are on."""
        values: Values = {**self._copied(device), **dict(zip(self.function.inputs, operands, strict=True))}
        execute(self.actions, values, device)
        return tuple(values[name].to(device) for name in self.function.outputs)

    def _copied(self, device: torch.device) -> dict[str, Tensor]:
        if device not in self.copies:
            self.copies[device] = {name: value.to(device) for name, value in self.constants.items()}
        return self.copies[device]

    def _actions(self, steps: Sequence[Step], limits: Ranges, kept: Sequence[str]) -> tuple[Action, ...]:
        """Actions of the steps that are left when constants are worked out."""
        left = [step for step in steps if not self._folds(step, limits)]
        last = {value: i for i, step in enumerate(left) for value in (*read_by(step), *step.outputs)}
        made = {value for step in left for value in step.outputs}
        free: dict[int, list[str]] = {}
        for value in made - set(kept):
            free.setdefault(last[value], []).append(value)
        return tuple(self._action(step, limits, tuple(free.get(i, ()))) for i, step in enumerate(left))

    def _folds(self, step: Step, limits: Ranges) -> bool:
        """Whether a step is a constant; it is worked out then."""
        if step.op == "Constant":
            self.constants[step.outputs[0]] = torch.tensor(step.attrs["value"], device="cpu")
            return True
        if step.op in ("Scan", "Shape") or not all(v in self.constants for v in step.inputs if v):
            return False
        operands = [self.constants[v] if v else None for v in step.inputs]
        self.constants.update(zip(step.outputs, results_of(self._run(step, limits)(*operands)), strict=True))
        return True

    def _action(self, step: Step, limits: Ranges, free: tuple[str, ...]) -> Action:
        if step.op == "Scan":
            return self._scan(step, limits, free)
        on_host = step.op == "Shape" or all(v in self.constants or v in self._host for v in step.inputs if v)
        read = range(len(step.inputs)) if on_host and step.op != "Shape" else HOST.get(step.op, ())
        bound = {i: self.constants[v] for i, v in enumerate(step.inputs) if i in read and v in self.constants}
        moved = {i for i, v in enumerate(step.inputs) if v in self._host and i not in read}
        if on_host:
            self._host.update(step.outputs)
        return Action(self._run(step, limits), step.inputs, step.outputs, bound, frozenset(moved), free)

    def _scan(self, step: Step, limits: Ranges, free: tuple[str, ...]) -> Loop:
        """The frame's own actions; rows that are on the host stay there."""
        frame: Function = step.attrs["body"]
        states = len(step.inputs) - int(step.attrs["num_scan_inputs"])
        rows = {i: v for i, v in enumerate(step.inputs) if i >= states}
        self._host |= {frame.inputs[i] for i, v in rows.items() if v in self.constants or v in self._host}
        return Loop(
            run=results_of,
            operands=step.inputs,
            results=step.outputs,
            bound={i: self.constants[v] for i, v in rows.items() if v in self.constants},
            moved=frozenset(i for i, v in enumerate(step.inputs) if v in self._host and i < states),
            free=free,
            ports=frame.inputs,
            frame=self._actions(frame.steps, limits, frame.outputs),
            outputs=frame.outputs,
            states=states,
        )

    def _run(self, step: Step, limits: Ranges) -> Run:
        """What runs a step. Raises OpError for an operator that is not among ours."""
        if step.op == "MatMul":
            range_a, range_b = (limits.get(v, ANYTHING) for v in step.inputs)
            return partial(integer_product, range_a=range_a, range_b=range_b)
        if step.op not in OPERATORS:
            raise OpError(f"a body uses the ONNX operator {step.op}, which has no form for other devices")
        attrs = dict(step.attrs)
        if step.op == "Gather":
            attrs["counts_back"] = limits.get(step.inputs[1], ANYTHING)[0] < 0
        return OPERATORS[step.op](attrs)


def read_by(step: Step) -> set[str]:
    """The values a step reads, those of the function inside it among them."""
    body: Function | None = step.attrs.get("body")
    inside = (read_by(inner) for inner in body.steps) if body else ()
    return set(step.inputs).union(*inside, body.outputs if body else ())


def results_of(made: Any) -> tuple[Any, ...]:
    return made if isinstance(made, tuple) else (made,)


def execute(actions: Sequence[Action], values: Values, device: torch.device) -> None:
    """Run actions one after another on the values of a body."""
    for action in actions:
        operands: list[Any] = [values[name] if name else None for name in action.operands]
        for position, constant in action.bound.items():
            operands[position] = constant
        for position in action.moved:
            operands[position] = operands[position].to(device)
        made = (
            _looped(action, operands, values, device) if isinstance(action, Loop) else action.run(*operands)
        )
        values.update(zip(action.results, results_of(made), strict=True))
        for name in action.free:
            del values[name]


def _looped(loop: Loop, operands: Sequence[Any], values: Values, device: torch.device) -> tuple[Tensor, ...]:
    """The last states, and what every frame gives, stacked; there is at least one frame."""
    states, rows = list(operands[: loop.states]), operands[loop.states :]
    made: list[list[Tensor]] = [[] for _ in loop.outputs[loop.states :]]
    for row in zip(*(x.unbind(0) for x in rows), strict=True):
        results = _frame(loop, [*states, *row], values, device)
        states = results[: loop.states]
        for column, result in zip(made, results[loop.states :], strict=True):
            column.append(result)
    return (*states, *(torch.stack(column) for column in made))


def _frame(loop: Loop, ports: Sequence[Tensor], values: Values, device: torch.device) -> list[Tensor]:
    """The next states and the results of one frame."""
    values.update(zip(loop.ports, ports, strict=True))
    execute(loop.frame, values, device)
    return [values[name] for name in loop.outputs]
