"""A torch module's emulated twin: called like the module, forward by the integer kernels.

    parameters --derive--> constants --schemes--> codes of weights --crossing--> integer graph --kernels--> y

Parameters and buffers are the module's own objects under their own names, so that an optimiser that moves
the twin moves the module. Beside them stand `nnaq_schemes` (centroids, step sizes) and `nnaq_ranges`.

What is emulated:

    twin.eval()    always everything: the integers of the present parameters
    twin.train()   `emulate = "integers"`: the same, with gradients; dropout is off
                   `emulate = "weights"`: weights that have a scheme, in the graph over the reals; the
                   activations and all other weights are float
    before the share `fold_batch_norm` of the steps, in training, a module with batch norm runs as itself in
    float, with the statistics of the batch and with dropout; from then on batch norm is folded from its
    running statistics, and the forward pass is that of the two lines above

Training and simulation are one arithmetic: for fixed parameters and ranges the integers of `twin(x)` are
those of `twin.convert()` in the simulator and in the exported file.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import TreeSpec, tree_unflatten

from nnaq.codebooks.coded import Coded
from nnaq.errors import DataError
from nnaq.ir.graph import Graph
from nnaq.pipeline import Crossing
from nnaq.quantize.calibrate import Ranges
from nnaq.quantize.training import Training
from nnaq.train.derive import Derivation
from nnaq.train.forward import IntegerForward, Tensors, array_of, crossed, real_forward
from nnaq.train.ranges import TrainingRanges
from nnaq.train.schemes.base import Progress, Scheme

CENTROID_RATE = 0.5  # of the weights' learning rate: trained centroids and steps move more slowly


@dataclass(frozen=True)
class Signature:
    """How the module is called: names of its arguments, of its results in order, and their structure."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    structure: TreeSpec

    def __deepcopy__(self, memo: dict[int, Any]) -> "Signature":
        return self  # nothing in it changes


class Twin(nn.Module):
    """See the module; made by `nnaq.train.prepare.prepare`."""

    def __init__(
        self,
        module: nn.Module,
        crossing: Crossing,
        derivation: Derivation,
        held: Mapping[str, Tensor],
        schemes: Mapping[str, Scheme],
        ranges: TrainingRanges,
        signature: Signature,
        training: Training,
    ) -> None:
        super().__init__()
        self._module = (module,)  # in a tuple: its parameters are registered under their own names
        _share(self, module)
        self.nnaq_schemes = nn.ModuleDict({_key(name): one for name, one in schemes.items()})
        self.nnaq_ranges = ranges
        self.start = self._crossing = crossing
        self._crossed_at: Ranges | None = None
        self.derivation, self.signature, self.choices = derivation, signature, training
        own = dict(_own(module))
        self._fixed = {name: tensor for name, tensor in held.items() if name not in own}
        derivation.only(own)
        self._normed = any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in module.modules())
        self._folded = True

    @property
    def schemes(self) -> dict[str, Scheme]:
        """The schemes of weights, by constant."""
        return {name[1:].replace("/", "."): one for name, one in self.nnaq_schemes.items()}  # type: ignore[misc]

    def train(self, mode: bool = True) -> "Twin":
        """Training or evaluation mode, of the module too."""
        super().train(mode)
        self._module[0].training = mode
        return self

    def _apply(self, function: Any, recurse: bool = True) -> "Twin":
        """Moved to another device or dtype: the module's own buffers follow."""
        super()._apply(function, recurse)  # type: ignore[no-untyped-call]
        for name in self._module[0]._buffers:
            self._module[0]._buffers[name] = self._buffers[name]
        self._fixed = {name: function(tensor) for name, tensor in self._fixed.items()}
        return self

    # --- forward

    def forward(self, *given: Tensor, **named: Tensor) -> Any:
        """What the module returns, for its own arguments; states left out start anew."""
        if self.training and not self._folded:
            return self._module[0](*given, **named)
        inputs, states = self._arguments(given, named)
        if self.training and self.choices.emulate == "weights":
            outputs, after, values = real_forward(self.start.real, self._soft(), inputs, states)
            if self.nnaq_ranges.observes:
                self.nnaq_ranges.observe(values)
            return self._structured(outputs, after)
        if self.training and self.nnaq_ranges.observes:
            with torch.no_grad():
                self.nnaq_ranges.observe(real_forward(self.start.real, self._soft(), inputs, states)[2])
        return self._structured(*self._emulated(inputs, states).results())

    def integers(self, *given: Tensor, force_device_path: bool = False, **named: Tensor) -> Tensors:
        """The codes of every value of the emulated forward pass, by their names in `convert()`.

        force_device_path: by the operators of other devices, on the CPU as well.
        """
        return self._emulated(*self._arguments(given, named), force_device_path).codes

    def _emulated(self, inputs: Tensors, states: Tensors, forced: bool = False) -> IntegerForward:
        constants, hard = self._constants()
        crossing = self._crossed(constants, hard)
        learned = self.nnaq_ranges if self.training else None
        return IntegerForward(crossing, self._through(constants, hard), inputs, states, learned, forced)

    def _arguments(self, given: tuple[Tensor, ...], named: Mapping[str, Tensor]) -> tuple[Tensors, Tensors]:
        bound = {**dict(zip(self.signature.inputs, given, strict=False)), **named}
        takes = f"the twin takes {', '.join(self.signature.inputs)}"
        if unknown := sorted(bound.keys() - set(self.signature.inputs)):
            raise DataError(f"{takes}; found an input {unknown[0]!r}")
        if len(given) > len(self.signature.inputs):
            raise DataError(f"{takes}; found {len(given)} inputs")
        graph = self.start.real
        states = {state.name: bound[state.input] for state in graph.states if state.input in bound}
        if missing := [port.name for port in graph.inputs if port.name not in bound]:
            raise DataError(f"{takes}; input {missing[0]!r} is missing")
        return {port.name: bound[port.name] for port in graph.inputs}, states

    def _structured(self, outputs: Tensors, states: Tensors) -> Any:
        after = {state.output: states[state.name] for state in self.start.real.states}
        found = {**outputs, **after}
        return tree_unflatten([found[name] for name in self.signature.outputs], self.signature.structure)

    # --- constants and codes

    def _derived(self) -> Tensors:
        """Constants that follow from the module's parameters now, with gradients."""
        return self.derivation.tensors({**self._fixed, **dict(_own(self._module[0]))})

    def _soft(self) -> Tensors:
        """Constants with emulated weights, as the schemes show them in training."""
        constants, schemes = self._derived(), self.schemes
        return {name: schemes[name].soft(t) if name in schemes else t for name, t in constants.items()}

    def _constants(self) -> tuple[Tensors, dict[str, Coded]]:
        constants = self._derived()
        return constants, {name: one.hard(constants[name]) for name, one in self.schemes.items()}

    def _through(self, constants: Tensors, hard: Mapping[str, Coded]) -> Tensors:
        """Constants; weights with a scheme have the value that ships and the scheme's gradient."""
        made = dict(constants)
        for name, codes in hard.items():
            reals = torch.from_numpy(codes.reals()).to(constants[name].device)
            soft = self.schemes[name].soft(constants[name]) if torch.is_grad_enabled() else reals
            made[name] = reals + (soft - soft.detach())
        return made

    def _crossed(self, constants: Tensors, hard: Mapping[str, Coded]) -> Crossing:
        """The crossing at these constants and the present ranges; made again only when something moved."""
        arrays = {name: array_of(t).copy() for name, t in constants.items()}  # parameters change in place
        arrays |= {name: codes.reals() for name, codes in hard.items()}
        kinds = {name: codes.kind for name, codes in hard.items()}
        ranges = self.nnaq_ranges.ranges()
        held = self._crossing
        if (
            ranges != self._crossed_at
            or any(held.options.codes.get(name) != kind for name, kind in kinds.items())
            or any(not np.array_equal(array, held.real.constants[name]) for name, array in arrays.items())
        ):
            self._crossing = crossed(self.start, arrays, ranges, kinds, self.nnaq_ranges.exact())
            self._crossed_at = ranges
        return self._crossing

    def crossing(self) -> Crossing:
        """Real, fake-quantised and integer graph at the present parameters."""
        with torch.no_grad():
            return self._crossed(*self._constants())

    def convert(self) -> Graph:
        """The integer graph at the present parameters: what is exported and simulated."""
        return self.crossing().integer

    def coded(self) -> dict[str, Coded]:
        """The codes at the present parameters of the weights that have a scheme, by constant."""
        with torch.no_grad():
            return self._constants()[1]

    # --- what a loop asks and tells

    def penalty(self) -> Tensor:
        """What the schemes add to the loss: the sum over their weights."""
        constants = self._derived()
        parts = [one.penalty(constants[name]) for name, one in self.schemes.items()]
        return torch.stack(parts).sum() if parts else torch.zeros(())

    def on_step_begin(self, progress: Progress) -> None:
        """Told before every step: schedules of schemes, the freeze of ranges, the fold of batch norm."""
        self._folded = not self._normed or progress.share >= self.choices.fold_batch_norm
        self.nnaq_ranges.freeze(
            self.choices.ranges == "calibrated" or progress.share >= self.choices.freeze_ranges
        )
        for one in self.schemes.values():
            one.on_step_begin(progress)

    def on_step_end(self, progress: Progress) -> None:
        """Told after every update: schemes may change a parameter in place, where the weight is one.

        A weight that is derived (a batch norm folded into it) is shown as it is now.
        """
        own = [tensor for _, tensor in _own(self._module[0])]
        with torch.no_grad():
            for name, constant in self._derived().items() if self.schemes else ():
                is_own = any(constant is tensor for tensor in own)
                if name in self.schemes and (constant.requires_grad or not is_own):
                    self.schemes[name].on_step_end(constant, progress)

    def parameter_groups(self, rate: float) -> list[dict[str, Any]]:
        """Groups for an optimiser: the module's parameters at `rate`, centroids and ranges at half of it."""
        own = [p for p in self._module[0].parameters() if p.requires_grad]
        more = [p for part in (self.nnaq_schemes, self.nnaq_ranges) for p in part.parameters()]
        groups: list[dict[str, Any]] = [{"params": own, "lr": rate}]
        return (
            [*groups, {"params": more, "lr": CENTROID_RATE * rate, "weight_decay": 0.0}] if more else groups
        )


def _own(module: nn.Module) -> list[tuple[str, Tensor]]:
    """Parameters and buffers by name, shared ones under each of their names."""
    return [*module.named_parameters(remove_duplicate=False), *module.named_buffers(remove_duplicate=False)]


def _share(twin: nn.Module, module: nn.Module) -> None:
    """Register a module's children, parameters and buffers in its twin under the same names."""
    for name, child in module._modules.items():
        twin.add_module(name, child)
    for name, parameter in module._parameters.items():
        twin.register_parameter(name, parameter)
    for name, buffer in module._buffers.items():
        twin.register_buffer(name, buffer, persistent=name not in module._non_persistent_buffers_set)


def _key(name: str) -> str:
    """A weight's name as a module's: no dots, and no name that a container has."""
    return f"/{name.replace('.', '/')}"
