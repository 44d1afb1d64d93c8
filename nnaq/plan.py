"""A plan: the nodes of a graph bound to arrays that stay where they are, for inputs of one shape.

A stream brings the same shapes at every step, so most of what a node does around its kernel comes out the
same every time. A plan is made while it runs for the first time. Each value in it is

    live   an array of this step, handed on as it was made, or
    held   an array of the plan, which keeps its place from step to step, or even
    fixed  a held array that is the same at every step: a constant, or made of constants and shapes alone.

A node whose kernel can be bound (`nnaq.ir.op.Bindable`) has held operands and results: sizes, views, room and
arguments of compiled loops are settled when the plan is made. Where its result is a view of an operand (a
reshape, one frame of several) nothing at all is left to do, nor where its operands are fixed. A live value
that it reads is copied to a place of its own first. Every other node runs by its kernel, and its results are
live; so a real node works on the very arrays that it would have without a plan, in the same order of memory.

A plan that has been repeated some times is compiled: runs of bound nodes that follow each other become one
function (kernels/machine/calls.py), and a step costs little more than their kernels.

Held arrays lie in one piece and never leave the plan: what is handed out of them is copied.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any

import numpy as np

from nnaq.ir.graph import Node
from nnaq.ir.op import Arrays, Bindable, Kernel
from nnaq.kernels.bound import single
from nnaq.kernels.machine.calls import Calls, can_be_called

Run = Callable[[], object]
Values = dict[str, Any]
Step = tuple[Node, Kernel]

PLANS = 8  # shapes that are remembered at a time
ROOM = 1 << 22  # bytes of values beyond which Python no longer counts beside the kernels
REPEATS = 128  # steps behind which a plan is compiled, for some ten milliseconds: a stream has thousands
ABSENT = ""  # the name of an operand that is not there


class Plan:
    """One step of a graph, done once over given values, and the way to repeat it over others of their shapes.

    values: all that is there before the first node; constants: which of them are the same at every step;
    wanted: values to hand out.
    """

    def __init__(
        self,
        steps: Iterable[Step],
        values: Mapping[str, Any],
        constants: Iterable[str],
        wanted: Iterable[str],
    ) -> None:
        self._values: Values = {**values, ABSENT: None}
        self._held: Values = {name: values[name] for name in constants} | {ABSENT: None}
        self._fixed, self._given = set(self._held), frozenset(values)
        self._brought: list[Run] = []
        self._runs: list[Run] = []
        self._repeats = 0
        for node, call in steps:
            if isinstance(call, Bindable):
                self._bind(node, call)
            else:
                self._add(calling(self._values, node, call))
        places = [self._held[name] for name in self._held.keys() - {ABSENT, *constants}]
        self._wanted = [(name, shares(self._values[name], places)) for name in wanted]

    def step(self, values: Mapping[str, np.ndarray]) -> Values:
        """Run over inputs and states of the shapes that the plan was made for; the values to hand out."""
        self._values.update(values)
        for run in self._brought:
            run()
        for run in self._runs:
            run()
        self._repeats += 1
        if self._repeats == REPEATS:
            self._runs = compiled(self._runs)
        return self.results()

    def results(self) -> Values:
        """The values to hand out, of the last step."""
        values = self._values
        return {name: values[name].copy() if held else values[name] for name, held in self._wanted}

    def _bind(self, node: Node, kernel: Bindable) -> None:
        results, run = kernel.bind(*map(self._hold, node.inputs))
        found = dict(zip(node.outputs, results, strict=True))
        self._held.update(found)
        self._values.update(found)
        changing = [self._held[name] for name in node.inputs if name not in self._fixed]
        if run is None:
            self._fixed.update(name for name, array in found.items() if not shares(array, changing))
        elif changing:
            self._add(run)
        else:
            run()
            self._fixed.update(found)

    def _hold(self, name: str) -> Any:
        """The place of a value; a live one is brought to it at every step."""
        if name not in self._held:
            self._held[name] = np.empty(self._values[name].shape, self._values[name].dtype)
            run = bringing(self._values, name, self._held[name])
            if name in self._given:
                run()
                self._brought.append(run)
            else:
                self._add(run)
        return self._held[name]

    def _add(self, run: Run) -> None:
        """Do it now, and at every step."""
        run()
        self._runs.append(run)


def shares(array: np.ndarray, places: Iterable[np.ndarray]) -> bool:
    """Whether an array may be a part of others: kernels may return what they were given."""
    return any(np.may_share_memory(array, place) for place in places)


def compiled(runs: Iterable[Run]) -> list[Run]:
    """The same runs, those that follow each other as one function where it can make them."""
    found: list[Run] = []
    for can, group in groupby((one for run in runs for one in single(run)), can_be_called):
        some = list(group)
        found += [Calls(some)] if can else some
    return found


class Plans:
    """The plans of a graph's nodes by shapes: made when shapes come again, kept for the latest of them.

    steps, constants and wanted: see Plan. Where values take more than ROOM bytes there is none, because a
    plan keeps all of them at once.
    """

    def __init__(self, steps: Sequence[Step], constants: Mapping[str, Any], wanted: Iterable[str]) -> None:
        self._steps, self._constants, self._wanted = steps, constants, wanted
        self._known: dict[tuple[object, ...], Plan | int] = {}
        self._is_worth_it = any(isinstance(call, Bindable) for _, call in steps)

    def step(self, values: Mapping[str, np.ndarray]) -> Values | None:
        """The values to hand out of a step over inputs and states; None where there is no plan for them."""
        key = shapes_of(values)
        known = self._known.get(key)
        if isinstance(known, Plan):
            return known.step(values)
        if known is None or known > ROOM:
            return None
        everything = {**self._constants, **values}
        made = Plan(self._steps, everything, self._constants, self._wanted)
        self._known[key] = made
        return made.results()

    def note(self, values: Mapping[str, np.ndarray], size: int) -> None:
        """A step over inputs and states of these shapes has made `size` bytes of values."""
        if not self._is_worth_it:
            return
        self._known[shapes_of(values)] = size
        if len(self._known) > PLANS:
            del self._known[next(iter(self._known))]


def shapes_of(values: Mapping[str, np.ndarray]) -> tuple[object, ...]:
    """What tells apart the steps that need plans of their own."""
    return tuple((array.shape, array.dtype.char) for array in values.values())


def calling(values: Values, node: Node, call: Kernel) -> Run:
    """Run a node by its kernel; its results are live."""
    if len(node.inputs) == 1:
        (operand,) = node.inputs

        def made() -> Arrays:
            return call(values[operand])

    else:
        operands = itemgetter(*node.inputs)

        def made() -> Arrays:
            return call(*operands(values))

    if len(node.outputs) == 1:
        (result,) = node.outputs

        def run() -> None:
            (values[result],) = made()

    else:

        def run() -> None:
            values.update(zip(node.outputs, made(), strict=True))

    return run


def bringing(values: Values, name: str, place: np.ndarray) -> Run:
    """Copy a live value to its place."""

    def run() -> None:
        place[...] = values[name]

    return run
