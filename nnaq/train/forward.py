"""Two forward passes, through the integer kernels and over the reals, and the crossing they train on."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from nnaq import pipeline
from nnaq.errors import DataError
from nnaq.interpret import check_inputs, kernel
from nnaq.ir.graph import Graph, Node
from nnaq.ir.op import Attr, lookup
from nnaq.ir.types import TensorType
from nnaq.pipeline import Crossing
from nnaq.quantize.calibrate import Ranges
from nnaq.train.devices import run_node
from nnaq.train.nodes import Ran, codes_of, reals_of, results_of, rounded

Tensors = dict[str, Tensor]
NOTHING: Mapping[str, TensorType] = MappingProxyType({})


class Ends(Protocol):
    """Learned ranges, as a forward pass asks for them."""

    def ends(self, value: str) -> Tensor | None:
        """low and high of a value's range, [2], where they are learned."""


class IntegerForward:
    """One pass through the integer kernels: codes of every value and the reals they stand for.

    constants: tensors, with gradients, that the crossing's constants were made of, by name. inputs, states:
    tensors by name; states that are not given start from their initial values. All lie on one device; off the
    CPU, or where `force_device_path` says so, nodes run by torch operators that other devices have.
    """

    def __init__(
        self,
        crossing: Crossing,
        constants: Mapping[str, Tensor],
        inputs: Mapping[str, Tensor],
        states: Mapping[str, Tensor],
        learned: Ends | None = None,
        force_device_path: bool = False,
    ) -> None:
        self.graph, self.given, self.learned = crossing.integer, constants, learned
        self.forced = force_device_path
        self.device = next(iter(inputs.values())).device
        self.meanings = {node.name: node for node in crossing.fake.nodes}
        self.constants = crossing.fake.constants
        self.rounded = {n.outputs[0]: n.inputs[0] for n in crossing.fake.nodes if n.op == "fake_quantize"}
        arrays = check_inputs(self.graph, {name: array_of(tensor) for name, tensor in inputs.items()})
        self.codes: Tensors = {
            name: _tensor(array).to(self.device)
            for name, array in (*self.graph.constants.items(), *arrays.items())
        }
        self.reals: Tensors = dict(inputs)
        for state in self.graph.states:
            self._read_state(state.input, state.initial, states.get(state.name))
        for node in self.graph.nodes:
            self._run(node)

    def results(self) -> tuple[Tensors, Tensors]:
        """Outputs and next states by name, as reals; states of 32 bits in float64."""
        states = {state.name: self._exact(state.output) for state in self.graph.states}
        return {port.name: self.reals[port.name] for port in self.graph.outputs}, states

    def _read_state(self, name: str, initial: str, given: Tensor | None) -> None:
        if given is None:
            self.codes[name], self.reals[name] = self.codes[initial], self._real(initial)
        elif not torch.isfinite(given).all():
            raise DataError(f"state {name!r} holds NaN or infinity")
        else:  # exact: reals of codes are rounded to the codes they came from
            self.codes[name] = codes_of(given, self.graph.types[name])
            self.reals[name] = given.float()

    def _exact(self, value: str) -> Tensor:
        """The reals of a state: float64 where its codes may have more bits than float32."""
        real, kind = self.reals[value], self.graph.types[value]
        if kind.dtype != "i32":
            return real
        exact = self.codes[value].double() * kind.scale
        return real.double() + (exact - real.double()).detach()

    def _run(self, node: Node) -> None:
        op, operands, attrs = self._meaning(node)
        arrays = tuple(self.codes[v] if v else None for v in node.inputs)
        made = self._made(node, arrays)
        ran = Ran(op, attrs, self.graph.signature(node), arrays, made)
        ends = [self._ends(op, value) for value in node.outputs]
        self.codes.update(zip(node.outputs, made, strict=True))
        self.reals.update(zip(node.outputs, results_of(ran, operands, ends), strict=True))

    def _made(self, node: Node, arrays: Sequence[Tensor | None]) -> tuple[Tensor, ...]:
        """The results' codes, on the CPU as the interpreter makes them, reals of islands among them."""
        if self.device.type != "cpu" or self.forced:
            return run_node(self.graph, node, arrays, self.forced)
        made = kernel(self.graph, node, "fast")(*(None if a is None else a.numpy() for a in arrays))
        return tuple(map(_tensor, made))

    def _ends(self, op: str, value: str) -> Tensor | None:
        """The learned range of codes that this node rounds to; integers name a real value's codes anew."""
        if self.learned is None or self.graph.types[value].quant is None or lookup(op).moves:
            return None
        return self.learned.ends(value.removesuffix(".codes").removesuffix(".fq"))

    def _meaning(self, node: Node) -> tuple[str, list[Tensor | None], Mapping[str, Attr]]:
        """The real form of a node; quantise, dequantise and rescale change no real."""
        meant = self.meanings.get(node.name)
        if meant is None:
            return node.op, [self._real(node.inputs[0])], node.attrs
        found = zip(meant.inputs, node.inputs, strict=False)
        return meant.op, [self._operand(real, code) for real, code in found], meant.attrs

    def _operand(self, real: str, code: str) -> Tensor | None:
        """A bias is real in the real form; every other operand is what its codes stand for."""
        if not real:
            return None
        if real in self.given:
            return self.given[real]
        if real in self.constants:
            return torch.from_numpy(self.constants[real].copy()).to(self.device)
        parameter = self.given.get(self.rounded.get(real, ""))
        return self._real(code) if parameter is None else self._weight(code, parameter)

    def _real(self, value: str) -> Tensor:
        """What codes stand for."""
        if value not in self.reals:
            self.reals[value] = reals_of(self.codes[value], self.graph.types[value])
        return self.reals[value]

    def _weight(self, value: str, parameter: Tensor) -> Tensor:
        """What the codes of a parameter stand for; the gradient goes to the parameter."""
        if value not in self.reals:
            self.reals[value] = rounded(parameter, self.codes[value], self.graph.types[value])
        return self.reals[value]


def real_forward(
    graph: Graph, constants: Mapping[str, Tensor], inputs: Mapping[str, Tensor], states: Mapping[str, Tensor]
) -> tuple[Tensors, Tensors, Tensors]:
    """The real graph on other constants: outputs, next states, and every value by name.

    constants: those that are not the graph's own. Differentiable wherever the operators are.
    """
    device = next(iter(inputs.values())).device
    values: Tensors = {
        n: torch.from_numpy(a).to(device) for n, a in graph.constants.items() if n not in constants
    }
    values |= {**constants, **inputs}
    for state in graph.states:
        values[state.input] = states.get(state.name, values[state.initial])
    for node in graph.nodes:
        operands = [values[v] if v else None for v in node.inputs]
        values.update(zip(node.outputs, lookup(node.op).real(torch, node.attrs, *operands), strict=True))
    after = {state.name: values[state.output] for state in graph.states}
    return {port.name: values[port.name] for port in graph.outputs}, after, values


def crossed(
    start: Crossing,
    constants: Mapping[str, np.ndarray],
    ranges: Ranges,
    codes: Mapping[str, TensorType] = NOTHING,
    exact: frozenset[str] = frozenset(),
) -> Crossing:
    """The crossing of the same real graph with other constants and ranges.

    codes: code types of weights that are given. exact: values whose range is used without headroom.
    """
    real = replace(start.real, constants={**start.real.constants, **constants})
    own = {name: (float(array.min()), float(array.max())) for name, array in constants.items() if array.size}
    options = replace(
        start.options, codes={**start.options.codes, **codes}, exact=start.options.exact | exact
    )
    return pipeline.cross(real, Ranges({**ranges.ranges, **own}), options)


def array_of(tensor: Tensor) -> np.ndarray:
    """The tensor's own memory where it lies on the CPU, else a copy."""
    view: np.ndarray = tensor.detach().cpu().numpy()
    return view


def _tensor(array: np.ndarray) -> Tensor:
    """A tensor over the array's memory; over a copy where that may not be written to, or runs backwards."""
    as_it_is = array.flags.writeable and min(array.strides, default=0) >= 0
    return torch.from_numpy(array if as_it_is else array.copy())
