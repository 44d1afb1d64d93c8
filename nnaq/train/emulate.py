"""A graph that trains through its own integers: constants of the graph are the parameters.

    forward    parameters -> the pipeline's own crossing -> integer graph -> its kernels, node by node
    backward   of a node: see `nnaq.train.nodes`

Ranges of activations stay as calibrated; scales of weights follow the weights, as in every crossing.
For a torch module, whose parameters keep their own
names and whose weights may train by schemes, see `nnaq.train.prepare`.
"""

from collections.abc import Iterable, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from nnaq.errors import DataError
from nnaq.ir.graph import Graph
from nnaq.ir.op import lookup
from nnaq.pipeline import Crossing
from nnaq.train.forward import IntegerForward, Tensors, array_of, crossed


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
        constants = {name: array_of(p).copy() for name, p in self.trained().items()}  # they change in place
        held = self._crossing.real.constants
        if any(not np.array_equal(array, held[name]) for name, array in constants.items()):
            self._crossing = crossed(self.start, constants, self.start.ranges)
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
        return self.emulated(inputs, states).results()

    def emulated(
        self, inputs: Mapping[str, Tensor], states: Mapping[str, Tensor] | None = None
    ) -> IntegerForward:
        """The pass itself: its `codes` are those of every value of `convert()`."""
        return IntegerForward(self.crossing, self.trained(), inputs, states or {})


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
