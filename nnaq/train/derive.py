"""Constants of a graph as differentiable functions of a module's parameters.

    parameters, buffers --origins of the import--> constants of the imported graph
                        --nodes over constants alone, by their meaning over the reals--> constants of the
                          simplified graph

The second step repeats in torch what folding constants did once.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from nnaq.frontends.ports import Imported
from nnaq.ir.graph import Graph, Node
from nnaq.ir.op import lookup

Origin = Callable[[Mapping[str, Any]], Any]


class Derivation:
    """How the constants of `simplified` follow from what a module holds."""

    def __init__(self, imported: Imported, simplified: Graph) -> None:
        self.origins: dict[str, Origin] = {}
        self.nodes: dict[str, Node] = {}
        self.fixed: dict[str, Tensor] = {}
        self.names = [name for name in simplified.constants if self._follow(name, imported)]

    def _follow(self, name: str, imported: Imported) -> bool:
        """Note what a constant is made of; whether a module's own tensor is among it."""
        if name in imported.origins:
            self.origins[name] = imported.origins[name]
            return True
        if name in imported.graph.constants:
            self.fixed[name] = torch.from_numpy(imported.graph.constants[name])
            return False
        if name not in imported.graph.producer:
            return False  # a pass made it
        node = self.nodes[name] = imported.graph.producer[name]
        followed = [self._follow(operand, imported) for operand in node.inputs if operand]
        return any(followed)

    def tensors(self, held: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The constants that follow from `held` (by qualified name), float32, with gradients."""
        made: dict[str, Tensor] = {}
        for name in self.names:
            self._value(name, held, made)
        return {name: made[name] for name in self.names}

    def _value(self, name: str, held: Mapping[str, Tensor], made: dict[str, Tensor]) -> Tensor:
        if name in self.fixed:
            device = next(iter(held.values())).device
            return self.fixed[name].to(device)
        if name not in made:
            made[name] = self._made(name, held, made)
        return made[name]

    def _made(self, name: str, held: Mapping[str, Tensor], made: dict[str, Tensor]) -> Tensor:
        if name in self.origins:
            value: Tensor = self.origins[name](held)
            return value
        node = self.nodes[name]
        operands = [self._value(operand, held, made) if operand else None for operand in node.inputs]
        results = lookup(node.op).real(torch, node.attrs, *operands)
        return results[node.outputs.index(name)]  # type: ignore[no-any-return]
