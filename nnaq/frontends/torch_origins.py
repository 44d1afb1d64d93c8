"""Where the constants of a graph come from: functions of a module's parameters and buffers.

An import reads every constant through its origin, and training reads it through the same origin anew
after every step, with gradients: a batch norm that is folded into a convolution, the two biases of an
LSTM that are summed, what torch computes of parameters alone.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, fx

Held = Mapping[str, Tensor]
"""Parameters, buffers and constant tensors of a module by qualified name."""
Origin = Callable[[Held], Tensor]


class Remembering(dict[str, Tensor]):
    """What is held, for one evaluation of many origins: each node that they share is computed once."""

    def __init__(self, held: Held) -> None:
        super().__init__(held)
        self.computed: dict[str, Any] = {}


def stored(name: str) -> Origin:
    """The parameter or buffer itself."""
    return lambda held: held[name]


def computed(node: fx.Node, origins: Mapping[str, Origin]) -> Callable[[Held], Any]:
    """What torch computes by `node` of other origins: a tensor, or a tuple of them."""
    known = {operand.name: origins[operand.name] for operand in node.all_input_nodes}
    target: Any = node.target

    def value(held: Held) -> Any:
        made = held.computed if isinstance(held, Remembering) else {}
        if node.name not in made:
            args, kwargs = fx.map_arg((node.args, node.kwargs), lambda operand: known[operand.name](held))
            made[node.name] = target(*args, **kwargs)
        return made[node.name]

    return value


def part(whole: Callable[[Held], Any], position: int) -> Origin:
    """One tensor of a tuple."""
    return lambda held: whole(held)[position]


def made(function: Callable[..., Tensor], *parts: Origin | None) -> Origin:
    """`function` of other origins in float64, rounded to float32 once; an absent part stays None."""

    def value(held: Held) -> Tensor:
        return function(*(None if one is None else one(held).double() for one in parts)).to(torch.float32)

    return value
