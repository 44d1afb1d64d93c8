"""A guess at what a palette loses, without running it: the curvature of the model's error.

The loss of weights w is the noise they make beside the real weights w0, as a ratio to the signal:

    L(w) = Σ_outputs  Σ (y(w) - y(w0))² / Σ y(w0)²

At w0 it is 0 and so is its slope, and its Hessian is exactly

    H = 2 Jᵀ D J        J: the outputs' derivatives, D: 1 / signal of each output

so that an error d of one weight tensor costs ½ dᵀ H d, to second order. Of H the diagonal is estimated
(Hutchinson 1990) by u of independent signs ±1 in the place of the outputs, which takes one backward pass
for all weights at once and, unlike signs in the place of the weights, no second derivatives:

    E[ (Jᵀ D^½ u)ᵢ² ] = Σ_k D_k J_ki² = ½ H_ii        trace H = E[ 2 |Jᵀ D^½ u|² ]

    proxy of a choice = ½ Σᵢ H_ii dᵢ²                  d: real weight - what its codes stand for

It leaves out what errors of a tensor do to each other, all rounding of activations and everything
beyond second order: where errors of many weights point the same way (few bits under a common scale,
inputs with a mean) it is too low by up to tens of times. It orders choices for a first selection; what
a choice loses is measured.

Memory    activations of all frames at once, and 8 bytes per weight: give a stretch of bounded
          length, yet as varied as the recordings are.
Time      a forward pass, and `samples` backward passes.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from nnaq import pipeline
from nnaq.codebooks.choice import PaletteChoice
from nnaq.cost import resting_bytes
from nnaq.errors import NnaqError
from nnaq.interpret import check_inputs
from nnaq.ir.graph import Graph
from nnaq.ir.op import lookup

if TYPE_CHECKING:
    from torch import Tensor

Inputs = Mapping[str, np.ndarray]
MARGIN = 2.0  # by which a predicted noise must be smaller for a choice to be dropped unmeasured


class CurvatureError(NnaqError):
    """The curvature of a model cannot be found here."""


@dataclass(frozen=True)
class Curvature:
    """Of the loss, by one weight tensor: the Hessian's diagonal in the tensor's shape, float64.

    trace: its sum, the mean over the samples. error: standard error of that mean.
    """

    diagonal: np.ndarray
    trace: float
    error: float


@dataclass(frozen=True)
class Guess:
    """A choice with its bytes at rest and its predicted noise to signal ratio."""

    choice: PaletteChoice
    bytes: int
    noise: float


def curvatures(
    real: Graph, recordings: Sequence[Inputs], weights: Collection[str], samples: int = 8, seed: int = 0
) -> dict[str, Curvature]:
    """The curvature of the loss over whole recordings, each from the initial states, by constant.

    Outputs without a signal count for nothing. Raises CurvatureError without torch or a second sample.
    """
    if samples < 2:
        raise CurvatureError(f"a standard error needs 2 samples or more, found {samples}")
    torch = _torch()
    generator = torch.Generator().manual_seed(seed)
    leaves = {name: torch.tensor(real.constants[name], requires_grad=True) for name in weights}
    outputs = _outputs(real, recordings, leaves)
    traces: dict[str, list[float]] = {name: [] for name in leaves}
    sums = {name: np.zeros(leaf.shape) for name, leaf in leaves.items()}
    for _ in range(samples if outputs else 0):
        signs = [torch.randint(0, 2, y.shape, generator=generator) * 2.0 - 1.0 for y in outputs]
        found = torch.autograd.grad(outputs, [*leaves.values()], signs, retain_graph=True, allow_unused=True)
        for name, slope in zip(leaves, found, strict=True):
            diagonal = np.zeros(1) if slope is None else 2.0 * np.square(slope.double().numpy())
            traces[name].append(float(diagonal.sum()))
            sums[name] += diagonal
    return {name: _curvature(sums[name] / samples, traces[name]) for name in leaves}


def _outputs(real: Graph, recordings: Sequence[Inputs], leaves: Mapping[str, "Tensor"]) -> list["Tensor"]:
    """Every output on every recording, in units of the root of its signal over all of them."""
    ports = [port.name for port in real.outputs]
    runs = [_run(real, inputs, leaves) for inputs in recordings]
    signals = {name: sum(float(run[name].detach().double().square().sum()) for run in runs) for name in ports}
    made = [run[name] / signals[name] ** 0.5 for name in ports if signals[name] > 0 for run in runs]
    return [y for y in made if y.requires_grad]


def _run(real: Graph, inputs: Inputs, leaves: Mapping[str, "Tensor"]) -> dict[str, "Tensor"]:
    """The outputs of the real graph in torch, over a whole recording at once."""
    torch = _torch()
    arrays = {**real.constants, **check_inputs(real, inputs)}
    arrays |= {state.input: real.constants[state.initial] for state in real.states}
    values = {name: torch.tensor(array) for name, array in arrays.items()} | dict(leaves)
    for node in real.nodes:
        made = lookup(node.op).real(torch, node.attrs, *(values[v] if v else None for v in node.inputs))
        values |= zip(node.outputs, (torch.as_tensor(y).float() for y in made), strict=True)
    return {port.name: values[port.name] for port in real.outputs}


def _curvature(diagonal: np.ndarray, traces: Sequence[float]) -> Curvature:
    if not traces:  # no output depends on any of the weights
        return Curvature(diagonal, 0.0, 0.0)
    return Curvature(diagonal, float(np.mean(traces)), float(np.std(traces, ddof=1) / len(traces) ** 0.5))


def guesses(
    crossing: pipeline.Crossing, curvature: Curvature, weight: str, choices: Sequence[PaletteChoice]
) -> list[Guess]:
    """What each choice for a weight costs and, by its curvature, what it loses."""
    return [_guess(crossing, curvature, weight, choice) for choice in choices]


def _guess(crossing: pipeline.Crossing, curvature: Curvature, weight: str, choice: PaletteChoice) -> Guess:
    options = crossing.options
    options = replace(options, palettes={**options.palettes, weight: choice})
    made = pipeline.cross(crossing.real, crossing.ranges, options)
    wrong = made.fake.constants[weight].astype(np.float64) - crossing.real.constants[weight]
    noise = 0.5 * float((curvature.diagonal * np.square(wrong)).sum())
    return Guess(choice, resting_bytes(made.integer.types[_codes(made, weight)], options.target), noise)


def _codes(crossing: pipeline.Crossing, weight: str) -> str:
    """The constant of the integer graph that holds a weight's codes.

    Raises CurvatureError for a weight without codes, such as one that only the host reads.
    """
    for node in crossing.fake.nodes:
        if node.op == "fake_quantize" and node.inputs[0] == weight:
            for name in (node.outputs[0], weight):
                if name in crossing.integer.constants:
                    return name
    raise CurvatureError(f"{weight!r} has no codes on the accelerator; leave it out of the preselection")


def undominated(found: Sequence[Guess], margin: float = 1.0) -> list[Guess]:
    """The guesses that no other beats; the first of equals stays.

    To beat one takes no more bytes, and noise that is `margin` times smaller.
    """
    ordered = sorted(range(len(found)), key=lambda n: (found[n].bytes, found[n].noise))
    least, kept = math.inf, []
    for n in ordered:
        if least * margin > found[n].noise:
            kept.append(n)
        least = min(least, found[n].noise)
    return [found[n] for n in sorted(kept)]


def preselect(
    crossing: pipeline.Crossing,
    recordings: Sequence[Inputs],
    choices: Mapping[str, Sequence[PaletteChoice]],
    margin: float = MARGIN,
    samples: int = 8,
    seed: int = 0,
) -> dict[str, list[PaletteChoice]]:
    """For each weight the choices worth measuring: that no other is predicted to beat, see `undominated`.

    Raises CurvatureError without torch.
    """
    found = curvatures(crossing.real, recordings, list(choices), samples, seed)
    return {
        weight: [g.choice for g in undominated(guesses(crossing, found[weight], weight, own), margin)]
        for weight, own in choices.items()
    }


def _torch() -> ModuleType:
    try:
        return import_module("torch")
    except ImportError:
        raise CurvatureError(
            "a preselection by curvature needs torch; install it with `pip install 'nnaq[torch]'`, or "
            "measure every choice"
        ) from None
