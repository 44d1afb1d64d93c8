"""Constants of a graph as differentiable functions of a module's parameters.

    parameters, buffers --origins of the import--> constants of the imported graph
                        --nodes over constants alone, by their meaning over the reals--> constants of the
                          simplified graph

The second step repeats in torch what folding constants did once.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from nnaq.frontends.ports import Imported
from nnaq.frontends.torch_origins import Remembering
from nnaq.ir.graph import Graph, Node
from nnaq.ir.op import lookup

Origin = Callable[[Mapping[str, Any]], Any]


class _Recording(dict[str, Tensor]):
    """What is held, and which of it was asked for."""

    def __init__(self, held: Mapping[str, Tensor]) -> None:
        super().__init__(held)
        self.read: set[str] = set()

    def __getitem__(self, name: str) -> Tensor:
        self.read.add(name)
        return super().__getitem__(name)


class Derivation:
    """How the constants of `simplified` follow from what a module holds."""

    def __init__(self, imported: Imported, simplified: Graph) -> None:
        self.origins: dict[str, Origin] = {}
        self.nodes: dict[str, Node] = {}
        self.fixed: dict[str, Tensor] = {}
        followed = [name for name in simplified.constants if self._follow(name, imported)]
        self.read = {name: self._reads(name, imported.held) for name in followed}
        self.names = followed

    def only(self, moving: Iterable[str]) -> None:
        """Derive only what depends on one of these: parameters and buffers that training may move."""
        wanted = set(moving)
        self.names = [name for name in self.names if self.read[name] & wanted]

    def _reads(self, name: str, held: Mapping[str, Tensor]) -> frozenset[str]:
        """What of `held` a constant is made of."""
        seen = _Recording(held)
        self._value(name, seen, {})
        return frozenset(seen.read)

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
        remembering = Remembering(held)
        return {name: self._value(name, remembering, made).to(torch.float32) for name in self.names}

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
