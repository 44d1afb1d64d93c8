"""`prepare`: a torch module becomes its emulated twin, which trains as the integers that ship.

    twin = prepare(module, example_inputs, recipe, "edge8-sub8", calibration=recordings)
    optimiser = torch.optim.Adam(twin.parameter_groups(1e-4))
    for step, (x, y) in enumerate(batches):
        twin.on_step_begin(Progress(step, steps))
        loss = criterion(twin(x), y) + twin.penalty()
        …
    graph = convert(twin)               # integers: simulate, export

What training does is said by the recipe: palettes and schemes of weights, ranges, what is emulated
(`nnaq.quantize.training`).
"""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import TreeSpec, tree_flatten

from nnaq import pipeline
from nnaq.codebooks.choice import PaletteChoice
from nnaq.crossing import Reporter, crossing_of, import_options
from nnaq.errors import RecipeError
from nnaq.frontends import ImportOptions
from nnaq.frontends.torch import load
from nnaq.ir.graph import Graph
from nnaq.passes.assign_codebooks import shared_rows
from nnaq.pipeline import Crossing
from nnaq.quantize.code_classes import code_classes, demands
from nnaq.quantize.overrides import resolve
from nnaq.quantize.recipe import Recipe, parse_recipe
from nnaq.quantize.training import SchemeChoice
from nnaq.targets import Target, load_target
from nnaq.train.derive import Derivation
from nnaq.train.ranges import TrainingRanges
from nnaq.train.schemes import make_scheme
from nnaq.train.schemes.base import Scheme, Weight
from nnaq.train.twin import Signature, Twin

Recordings = Sequence[Mapping[str, Any]]


def prepare(
    module: nn.Module,
    example_inputs: Tensor | Sequence[Tensor] | Mapping[str, Tensor],
    recipe: Recipe | None = None,
    target: Target | str = "edge8",
    calibration: Recordings = (),
    options: ImportOptions | None = None,
    outputs: Sequence[str] = (),
) -> Twin:
    """The twin of a module; the two share their parameters.

    example_inputs, options, outputs: as of `nnaq.load_module`; batch and time are open where options say so.
    calibration: recordings for the ranges, each a mapping from input to array; without them the example is
    the recording. recipe: without one all weights and activations have 8 bits. A weight with a palette
    trains by the scheme of the recipe, others straight through the rounding to their int8 codes.

    Raises FrontendError for what cannot be imported, RecipeError for choices that the module cannot follow.
    """
    recipe = recipe or parse_recipe('name = "plain"\n[quantize]\nactivations = "8"\n')
    if "equalize_layers" in recipe.quantize.repair:
        raise RecipeError(
            f"recipe {recipe.name!r}: equalize_layers changes the parameters that training is to move; leave "
            "it out of `repair`"
        )
    imported = load(module, example_inputs, options or import_options(recipe), outputs)
    target = load_target(target) if isinstance(target, str) else target
    examples = _by_name(module, example_inputs)
    names = [port.name for port in imported.graph.inputs]
    recordings = [_arrays(r, names) for r in calibration or [examples]]
    crossing = crossing_of(imported.graph, recordings, recipe, target, Reporter())
    schemes = _schemes(recipe, crossing)
    structure, results = _results(module, examples, outputs)
    return Twin(
        module,
        _without_palettes(crossing),
        Derivation(imported, crossing.real),
        imported.held,
        schemes,
        _ranges(recipe, crossing),
        Signature(tuple(examples), results, structure),
        recipe.training,
    )


def convert(twin: Twin) -> Graph:
    """The lowered graph of a twin at its present parameters: the integers its forward pass computes."""
    return twin.convert()


def _by_name(
    module: nn.Module, examples: Tensor | Sequence[Tensor] | Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Example inputs by the names of forward's arguments."""
    if isinstance(examples, Mapping):
        return dict(examples)
    given = [examples] if isinstance(examples, Tensor) else list(examples)
    return dict(zip(inspect.signature(module.forward).parameters, given, strict=False))


def _arrays(recording: Mapping[str, Any], names: Sequence[str]) -> dict[str, np.ndarray]:
    """What a recording gives to the inputs, as float32 arrays; states start by themselves."""
    return {name: np.asarray(torch.as_tensor(recording[name]).cpu(), np.float32) for name in names}


def _results(
    module: nn.Module, examples: Mapping[str, Tensor], outputs: Sequence[str]
) -> tuple[TreeSpec, tuple[str, ...]]:
    """How the module's results are put together, and their names in the graph."""
    training = module.training
    with torch.no_grad():
        flat, structure = tree_flatten(module.eval()(**examples))
    module.train(training)
    default = ["output", *(f"output_{i}" for i in range(1, len(flat)))]
    return structure, tuple(outputs or default)


def _schemes(recipe: Recipe, crossing: Crossing) -> dict[str, Scheme]:
    """A scheme for every weight that has a palette, and for those that an override names."""
    resolved = resolve(recipe, crossing.real)
    host = pipeline.host_weights(crossing.real, crossing.islands)
    chosen = dict.fromkeys(crossing.options.palettes, recipe.training.scheme) | dict(resolved.schemes)
    return {
        name: _scheme(name, choice, crossing)
        for name, choice in sorted(chosen.items())
        if name not in host and name in crossing.real.constants
    }


def _scheme(name: str, chosen: SchemeChoice, crossing: Crossing) -> Scheme:
    """One weight's scheme, from what the weight is before training."""
    node = next(n for n in crossing.fake.nodes if n.op == "fake_quantize" and n.inputs[0] == name)
    palette = crossing.options.palettes.get(name)
    kind = pipeline.value_types(crossing)[name]
    rows = shared_rows(crossing.fake, node, palette) if palette is not None else 0
    weight = Weight(name, crossing.real.constants[name], kind, palette or PaletteChoice(8), rows)
    return make_scheme(chosen.name, weight, chosen.options)


def _without_palettes(crossing: Crossing) -> Crossing:
    """The crossing whose weights get their codes from schemes: no palette is fitted again."""
    return replace(crossing, options=replace(crossing.options, palettes={}, repair=(), moments={}))


def _ranges(recipe: Recipe, crossing: Crossing) -> TrainingRanges:
    """The ranges that training may move: observed ones, of values whose codes nothing else decides."""
    real, training = crossing.real, recipe.training
    classes, kinds = code_classes(real), pipeline.value_types(crossing)
    fixed = set(demands(real)) | {classes[v] for v in crossing.options.exact if v in classes}
    fixed |= {classes[name] for name, array in real.constants.items() if np.any(array)}
    free = {
        value: classes[value]
        for value in crossing.ranges.ranges
        if value in kinds and value not in real.constants and classes[value] not in fixed
    }
    dtypes = {v: kinds[v].dtype for v in free if kinds[v].dtype in ("i8", "i16")}
    groups = {v: group for v, group in free.items() if v in dtypes}
    chosen = training.ranges, training.momentum, training.power_of_two
    return TrainingRanges(crossing.ranges, groups, dtypes, *chosen)
