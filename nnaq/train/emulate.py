"""Training through the integers: forward by the very kernels that ship, backward straight through.

    forward    parameters -> the pipeline's own crossing -> integer graph -> its kernels, node by node
    backward   of a node: the gradient of its meaning over the reals at the reals its operands stand
               for; zero for each result that saturated

A result counts as saturated where its code lies at the end of its range and the real result lies
more than half a step beyond it, that is where clamping changed the code. This holds for quantisers
(an input outside of its range gets no gradient), for parameters and for every node. Where a meaning has
no slope there is no gradient: flags, whole numbers (indices among them), steps. Two limits: inside a
recurrent layer only the results are looked at, not the gates; and its gradient is that of the real
layer started from the integer states, which drifts from the integers as frames pass.

Ranges of activations stay as calibrated; scales of weights follow the weights, as in every
crossing. Kernels run on the CPU; tensors elsewhere are copied. It was not run on a GPU.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nnaq import pipeline
from nnaq.errors import DataError
from nnaq.interpret import check_inputs, kernel
from nnaq.ir.graph import Graph, Node
from nnaq.ir.op import Attr, lookup
from nnaq.ir.types import TensorType, bounds
from nnaq.kernels.boundary import code_bounds, dequantize_array, quantize_array
from nnaq.pipeline import Crossing
from nnaq.quantize.calibrate import Ranges

Tensors = dict[str, Tensor]
WITHOUT_SLOPE = ("whole", "flag")  # what an operand demands to be: no gradient goes to it


class Emulated(nn.Module):
    """A crossing as a trainable module.

    Parameters are constants of its real graph under their own names (`conv.weight`), float32: those
    that `train` names, without it the weights and biases. A name that a module cannot have beside the
    others (`w.1` beside `w`) has `_` for its dots; `names` says which constant a parameter is. The real
    graph is the simplified one: where a front-end or a pass has folded a parameter into another, the
    folded constant is the parameter. Raises DataError for a name that the graph does not have.
    """

    def __init__(self, crossing: Crossing, train: Iterable[str] | None = None) -> None:
        super().__init__()
        self.start = self._crossing = crossing
        names = weights_and_biases(crossing.real) if train is None else list(train)
        unknown = [name for name in names if name not in crossing.real.constants]
        if unknown:
            raise DataError(f"graph {crossing.real.name!r} has no constant {unknown[0]!r} to train")
        self.names: dict[str, str] = {}
        for name in names:
            path = _free_path(self, name)
            self.names[path] = name
            value = torch.tensor(crossing.real.constants[name])
            _holder(self, path).register_parameter(path.rpartition(".")[2], nn.Parameter(value))

    def trained(self) -> Tensors:
        """The parameters by the names of their constants."""
        return {self.names[path]: parameter for path, parameter in self.named_parameters()}

    @property
    def crossing(self) -> Crossing:
        """The crossing at the present parameters, by the pipeline; made again only when they changed."""
        constants = {name: _array(p) for name, p in self.trained().items()}
        held = self._crossing.real.constants
        if any(not np.array_equal(array, held[name]) for name, array in constants.items()):
            self._crossing = crossed(self.start, constants)
        return self._crossing

    def convert(self) -> Graph:
        """The integer graph at the present parameters: what is written to a file."""
        return self.crossing.integer

    def forward(
        self, inputs: Mapping[str, Tensor], states: Mapping[str, Tensor] | None = None
    ) -> tuple[Tensors, Tensors]:
        """Outputs and next states by name, as reals; states of 32 bits in float64.

        States start from their initial values.

        inputs: by port name, in the shapes of the graph. states: reals that an earlier call
        returned (detach them to cut the gradient between stretches of time).
        """
        crossing = self.crossing
        return _Pass(crossing, self.trained(), inputs, states or {}).results()


def weights_and_biases(real: Graph) -> list[str]:
    """Constants at the operands that their operators call weights or biases, in order of first use."""
    found: dict[str, None] = {}
    for node in real.nodes:
        op = lookup(node.op)
        found |= {
            value: None
            for place, value in enumerate(node.inputs)
            if value in real.constants and (place in op.weights or place in op.reals)
        }
    return list(found)


def crossed(start: Crossing, constants: Mapping[str, np.ndarray]) -> Crossing:
    """The crossing of the same real graph with other constants, under the same options."""
    real = replace(start.real, constants={**start.real.constants, **constants})
    own = {name: (float(array.min()), float(array.max())) for name, array in constants.items() if array.size}
    return pipeline.cross(real, Ranges({**start.ranges.ranges, **own}), start.options)


def _free_path(module: nn.Module, name: str) -> str:
    """`name` where nothing of the module stands in its way, else `_` for its dots, then after it."""
    path = name
    while not _is_free(module, path):
        path = path.replace(".", "_") if "." in path else f"{path}_"
    return path


def _is_free(module: nn.Module, path: str) -> bool:
    """Whether a parameter may be registered at `path`."""
    *parts, last = path.split(".")
    for part in parts:
        children = dict(module.named_children())
        if part not in children:
            return all([*parts, last]) and not hasattr(module, part)
        module = children[part]
    return bool(last) and not hasattr(module, last)


def _holder(module: nn.Module, name: str) -> nn.Module:
    """The submodule that holds the parameter `a.b.c`: `a.b`, made where it is missing."""
    for part in name.split(".")[:-1]:
        if part not in dict(module.named_children()):
            module.add_module(part, nn.Module())
        module = module.get_submodule(part)
    return module


def _array(tensor: Tensor) -> np.ndarray:
    """The tensor's own memory where it lies on the CPU, else a copy. A parameter may change in place."""
    view: np.ndarray = tensor.detach().cpu().numpy()
    return view.copy() if isinstance(tensor, nn.Parameter) else view


class _Pass:
    """One forward pass: codes of every value (NumPy) and the reals they stand for (torch)."""

    def __init__(
        self,
        crossing: Crossing,
        parameters: Mapping[str, Tensor],
        inputs: Mapping[str, Tensor],
        states: Mapping[str, Tensor],
    ) -> None:
        self.graph, self.parameters = crossing.integer, parameters
        self.meanings = {node.name: node for node in crossing.fake.nodes}
        self.constants = crossing.fake.constants
        self.rounded = {n.outputs[0]: n.inputs[0] for n in crossing.fake.nodes if n.op == "fake_quantize"}
        arrays = check_inputs(self.graph, {name: _array(tensor) for name, tensor in inputs.items()})
        self.codes: dict[str, np.ndarray] = {**self.graph.constants, **arrays}
        self.reals: Tensors = dict(inputs)
        for state in self.graph.states:
            self._read_state(state.input, state.initial, states.get(state.name))
        for node in self.graph.nodes:
            self._run(node)

    def results(self) -> tuple[Tensors, Tensors]:
        states = {state.name: self._exact(state.output) for state in self.graph.states}
        return {port.name: self.reals[port.name] for port in self.graph.outputs}, states

    def _read_state(self, name: str, initial: str, given: Tensor | None) -> None:
        if given is None:
            self.codes[name], self.reals[name] = self.codes[initial], self._real(initial)
        else:  # exact: reals of codes are rounded to the codes they came from
            self.codes[name] = codes_of(_array(given), self.graph.types[name])
            self.reals[name] = given.float()

    def _exact(self, value: str) -> Tensor:
        """The reals of a state: float64 where its codes may have more bits than float32."""
        real, kind = self.reals[value], self.graph.types[value]
        if kind.dtype != "i32":
            return real
        exact = torch.from_numpy(self.codes[value] * np.float64(kind.scale)).to(real.device)
        return real.double() + (exact - real.double()).detach()

    def _run(self, node: Node) -> None:
        operands, attrs = self._meaning(node)
        arrays = [self.codes[v] if v else None for v in node.inputs]
        made = kernel(self.graph, node, "fast")(*arrays)
        kinds = tuple(self.graph.types[v] for v in node.outputs)
        reals = _Node.apply(node.op, attrs, kinds, made, *operands)  # type: ignore[no-untyped-call]
        self.codes.update(zip(node.outputs, made, strict=True))
        self.reals.update(zip(node.outputs, reals, strict=True))

    def _meaning(self, node: Node) -> tuple[list[Tensor | None], Mapping[str, Attr]]:
        """Operands and attributes of the real form; quantise, dequantise and rescale change no real."""
        meant = self.meanings.get(node.name)
        if meant is None:
            return [self._real(node.inputs[0])], node.attrs
        found = zip(meant.inputs, node.inputs, strict=False)
        return [self._operand(real, code) for real, code in found], meant.attrs

    def _operand(self, real: str, code: str) -> Tensor | None:
        """A bias is real in the real form; every other operand is what its codes stand for."""
        if not real:
            return None
        if real in self.parameters:
            return self.parameters[real]
        if real in self.constants:
            return torch.from_numpy(self.constants[real].copy())
        parameter = self.parameters.get(self.rounded.get(real, ""))
        return self._real(code) if parameter is None else self._weight(code, parameter)

    def _real(self, value: str) -> Tensor:
        """What codes stand for."""
        if value not in self.reals:
            self.reals[value] = reals_of(self.codes[value], self.graph.types[value])
        return self.reals[value]

    def _weight(self, value: str, parameter: Tensor) -> Tensor:
        """What the codes of a parameter stand for; the gradient goes to the parameter."""
        if value not in self.reals:
            arguments = parameter, self.codes[value], self.graph.types[value]
            self.reals[value] = _Rounded.apply(*arguments)  # type: ignore[no-untyped-call]
        return self.reals[value]


class _Rounded(torch.autograd.Function):
    """A parameter in the forward pass as its codes' reals, in the backward pass as itself."""

    @staticmethod
    def forward(ctx: Any, parameter: Tensor, codes: np.ndarray, kind: TensorType) -> Tensor:
        ctx.save_for_backward(parameter)
        ctx.codes, ctx.kind = codes, kind
        return reals_of(codes, kind).to(parameter.device)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (parameter,) = ctx.saved_tensors
        return torch.where(saturated(parameter, ctx.codes, ctx.kind), 0.0, gradient), None, None


class _Node(torch.autograd.Function):
    """The results of an integer node as reals; backward through its meaning over the reals."""

    @staticmethod
    def forward(
        ctx: Any,
        op: str,
        attrs: Mapping[str, Attr],
        kinds: tuple[TensorType, ...],
        made: tuple[np.ndarray, ...],
        *operands: Tensor | None,
    ) -> tuple[Tensor, ...]:
        ctx.op, ctx.attrs, ctx.kinds, ctx.made = op, attrs, kinds, made
        ctx.save_for_backward(*operands)
        device = next(o.device for o in operands if o is not None)
        return tuple(reals_of(array, kind).to(device) for array, kind in zip(made, kinds, strict=True))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        op = lookup(ctx.op)
        with torch.enable_grad():
            wanted = [
                want and op.demands.get(position) not in WITHOUT_SLOPE
                for position, want in enumerate(ctx.needs_input_grad[4:])
            ]
            pairs = zip(ctx.saved_tensors, wanted, strict=True)
            operands = [None if o is None else o.detach().requires_grad_(want) for o, want in pairs]
            meant = op.real(torch, ctx.attrs, *operands)
        kept = [
            torch.where(saturated(real.detach(), codes, kind), 0.0, gradient)
            for gradient, real, codes, kind in zip(gradients, meant, ctx.made, ctx.kinds, strict=True)
        ]
        asked = [o for o in operands if o is not None and o.requires_grad]
        found = iter(_slopes(meant, asked, kept))
        return (None,) * 4 + tuple(next(found) if want else None for want in wanted)


def _slopes(
    meant: Sequence[Tensor], operands: Sequence[Tensor], gradients: Sequence[Tensor]
) -> Sequence[Tensor | None]:
    """Gradients of operands; None for each that no result follows by a slope (flags, whole numbers)."""
    sloped = [(real, gradient) for real, gradient in zip(meant, gradients, strict=True) if real.requires_grad]
    if not sloped:
        return [None] * len(operands)
    results, upstream = zip(*sloped, strict=True)
    return torch.autograd.grad(results, operands, upstream, allow_unused=True)


def codes_of(reals: np.ndarray, kind: TensorType) -> np.ndarray:
    """The codes of a state's reals; those of 32 bits come in float64, which holds them all."""
    if kind.dtype != "i32":
        return quantize_array(reals, kind)
    low, high = bounds(kind.dtype)
    return np.asarray(np.clip(np.rint(reals / np.float64(kind.scale)), low, high), np.int32)


def reals_of(codes: np.ndarray, kind: TensorType) -> Tensor:
    """The reals of codes as a new float32 tensor; a value without codes is its own."""
    return torch.from_numpy(
        np.array(codes if kind.quant is None else dequantize_array(codes, kind), np.float32)
    )


def saturated(real: Tensor, codes: np.ndarray, kind: TensorType) -> Tensor:
    """Where clamping changed a code: it is at an end of its range, the real more than half a step beyond."""
    if kind.quant is None:
        return torch.zeros((), dtype=torch.bool, device=real.device)
    low, high = code_bounds(kind)
    scales = torch.as_tensor(kind.quant.scales(codes.ndim), dtype=torch.float32, device=real.device)
    steps = real / scales + kind.zero_point
    lowest, highest = (torch.as_tensor(np.asarray(codes == end), device=real.device) for end in (low, high))
    return (lowest & (steps < low - 0.5)) | (highest & (steps > high + 0.5))
