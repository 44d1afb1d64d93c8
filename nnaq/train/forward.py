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
from nnaq.ir.verify import is_real
from nnaq.kernels.lstm_numbers import Sums
from nnaq.kernels.recurrent import run_with_sums
from nnaq.pipeline import Crossing
from nnaq.quantize.calibrate import Ranges
from nnaq.train.codes import codes_of, reals_of
from nnaq.train.devices import run_node
from nnaq.train.nodes import Ran, link_of, results_of, rounded, shown

Tensors = dict[str, Tensor]
NOTHING: Mapping[str, TensorType] = MappingProxyType({})


class Ends(Protocol):
    """Learned ranges, as a forward pass asks for them."""

    def ends(self, value: str) -> Tensor | None:
        """low and high of a value's range, [2], where they are learned."""


class IntegerForward:
    """One pass through the integer kernels: codes of every value, and the links that carry gradients.

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
        self.links: Tensors = dict(inputs)  # of every value, itself where it is real: `nnaq.train.nodes`
        for state in self.graph.states:
            self._read_state(state.input, state.initial, states.get(state.name))
        for node in self.graph.nodes:
            self._run(node)

    def results(self) -> tuple[Tensors, Tensors]:
        """Outputs and next states by name, as reals; states of 32 bits in float64."""
        states = {state.name: self._exact(state.output) for state in self.graph.states}
        return {port.name: self.links[port.name] for port in self.graph.outputs}, states

    def _read_state(self, name: str, initial: str, given: Tensor | None) -> None:
        if given is None:
            self.codes[name], self.links[name] = self.codes[initial], self._link(initial)
        elif not torch.isfinite(given).all():
            raise DataError(f"state {name!r} holds NaN or infinity")
        else:  # exact: reals of codes are rounded to the codes they came from
            self.codes[name] = codes_of(given, self.graph.types[name])
            self.links[name] = given.float()

    def _exact(self, value: str) -> Tensor:
        """The reals of a state: float64 where its codes may have more bits than float32."""
        codes, kind = self.codes[value], self.graph.types[value]
        return shown(
            self.links[value], codes.double() * kind.scale if kind.dtype == "i32" else reals_of(codes, kind)
        )

    def _run(self, node: Node) -> None:
        arrays = tuple(self.codes[v] if v else None for v in node.inputs)
        made, sums = self._made(node, arrays)
        self.codes.update(zip(node.outputs, made, strict=True))
        self.links.update(zip(node.outputs, self._links(node, arrays, made, sums), strict=True))

    def _links(
        self, node: Node, arrays: tuple[Tensor | None, ...], made: tuple[Tensor, ...], sums: Sums | None
    ) -> Sequence[Tensor]:
        """The links of the results."""
        op, operands, attrs = self._meaning(node)
        ends = [self._ends(op, value) for value in node.outputs]
        first = operands[0]
        if op == "dequantize" and first is not None:
            return [shown(first, made[0])]
        if op == "quantize" and first is not None and ends == [None]:
            return [rounded(first, made[0], self.graph.types[node.outputs[0]])]
        return results_of(Ran(op, attrs, self.graph.signature(node), arrays, made, sums), operands, ends)

    def _made(self, node: Node, arrays: Sequence[Tensor | None]) -> tuple[tuple[Tensor, ...], Sums | None]:
        """The results' codes, on the CPU as the interpreter makes them, reals of islands among them.

        Behind them the sums of an LSTM that is to have a gradient.
        """
        if self.device.type != "cpu" or self.forced:
            return run_node(self.graph, node, arrays, self.forced), None
        given, sums = [None if a is None else a.numpy() for a in arrays], None
        if node.op == "lstm" and torch.is_grad_enabled() and not is_real(self.graph, node):
            made, sums = run_with_sums(self.graph.signature(node), *given)
        else:
            made = kernel(self.graph, node, "fast")(*given)
        return tuple(map(_tensor, made)), sums

    def _ends(self, op: str, value: str) -> Tensor | None:
        """The learned range of codes that this node rounds to; integers name a real value's codes anew."""
        if self.learned is None or self.graph.types[value].quant is None or lookup(op).moves:
            return None
        return self.learned.ends(value.removesuffix(".codes").removesuffix(".fq"))

    def _meaning(self, node: Node) -> tuple[str, list[Tensor | None], Mapping[str, Attr]]:
        """The real form of a node; quantise, dequantise and rescale change no real."""
        meant = self.meanings.get(node.name)
        if meant is None:
            return node.op, [self._link(node.inputs[0])], node.attrs
        found = zip(meant.inputs, node.inputs, strict=False)
        return meant.op, [self._operand(real, code) for real, code in found], meant.attrs

    def _operand(self, real: str, code: str) -> Tensor | None:
        """A bias is real in the real form; of every other operand the link of its codes."""
        if not real:
            return None
        if real in self.given:
            return self.given[real]
        if real in self.constants:
            return torch.from_numpy(self.constants[real].copy()).to(self.device)
        parameter = self.given.get(self.rounded.get(real, ""))
        return self._link(code) if parameter is None else self._weight(code, parameter)

    def _link(self, value: str) -> Tensor:
        """The link of a value; a constant's has no gradient."""
        if value not in self.links:
            codes, kind = self.codes[value], self.graph.types[value]
            self.links[value] = link_of(codes) if kind.quant else codes
        return self.links[value]

    def _weight(self, value: str, parameter: Tensor) -> Tensor:
        """The link of a parameter's codes; an island reads the parameter itself."""
        if value not in self.links:
            kind = self.graph.types[value]
            self.links[value] = rounded(parameter, self.codes[value], kind) if kind.quant else parameter
        return self.links[value]


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
