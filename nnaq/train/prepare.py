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
from nnaq.errors import DataError, FrontendError, RecipeError
from nnaq.frontends import Imported, ImportOptions
from nnaq.frontends.torch import Examples, examples_by_name, in_evaluation, load
from nnaq.ir.graph import Graph
from nnaq.passes.assign_codebooks import shared_rows
from nnaq.pipeline import Crossing
from nnaq.quantize.code_classes import code_classes, demands
from nnaq.quantize.overrides import resolve
from nnaq.quantize.recipe import Recipe, load_recipe, parse_recipe
from nnaq.quantize.training import SchemeChoice
from nnaq.targets import Target, load_target
from nnaq.train.derive import Derivation
from nnaq.train.ranges import TrainingRanges
from nnaq.train.schemes import check_scheme, make_scheme
from nnaq.train.schemes.base import Scheme, Weight
from nnaq.train.twin import Signature, Twin

Recordings = Sequence[Mapping[str, Any]]


def prepare(
    module: nn.Module,
    example_inputs: Examples,
    recipe: Recipe | str | None = None,
    target: Target | str = "edge8",
    calibration: Recordings = (),
    options: ImportOptions | None = None,
    outputs: Sequence[str] = (),
) -> Twin:
    """The twin of a module; the two share their parameters.

    example_inputs, options, outputs: as of `nnaq.load_module`; batch and time are open where options say so.
    calibration: recordings for the ranges, each a mapping from input to array; without them the example is
    the recording. recipe: or its name or file; without one all has 8 bits. A weight with a palette
    trains by the scheme of the recipe, others straight through the rounding to their int8 codes.

    Raises FrontendError for what cannot be imported, RecipeError for choices that the module cannot follow.
    """
    recipe = recipe or parse_recipe('name = "plain"\n[quantize]\nactivations = "8"\n')
    recipe = load_recipe(recipe) if isinstance(recipe, str) else recipe
    _must_train(recipe, module)
    imported = load(module, example_inputs, options or import_options(recipe), outputs)
    target = load_target(target) if isinstance(target, str) else target
    examples = examples_by_name(module, example_inputs)
    names = [port.name for port in imported.graph.inputs]
    recordings = [_arrays(r, names) for r in calibration or [examples]]
    crossing = crossing_of(imported.graph, recordings, recipe, target, Reporter())
    derivation = Derivation(imported, crossing.real)
    _must_be_derived(module, imported, derivation)
    schemes = _schemes(recipe, crossing)
    structure, results = _results(module, examples, outputs)
    return Twin(
        module,
        _without_palettes(crossing),
        derivation,
        imported.held,
        schemes,
        _ranges(recipe, crossing),
        Signature(tuple(examples), results, structure),
        recipe.training,
    )


def convert(twin: Twin) -> Graph:
    """The lowered graph of a twin at its present parameters: the integers its forward pass computes."""
    return twin.convert()


def _must_train(recipe: Recipe, module: nn.Module) -> None:
    """Raise RecipeError for choices that exclude each other, or that training cannot keep."""
    training, who = recipe.training, f"recipe {recipe.name!r}"
    if recipe.quantize.repair:
        raise RecipeError(
            f"{who}: {', '.join(recipe.quantize.repair)} mends weights once, and training moves them on; "
            "leave `repair` out, and repair when the trained module is lowered"
        )
    if recipe.codebooks is not None:
        raise RecipeError(
            f"{who} keeps the codes that a training ended with in {recipe.codebooks.name}, and another "
            "training moves them on; take `codebooks` out of it"
        )
    if training.emulate == "weights" and training.ranges == "learned":
        raise RecipeError(
            f"{who}: learned ranges need emulate = 'integers'; with 'weights' activations have no ranges"
        )
    normed = any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in module.modules())
    if not normed or training.fold_batch_norm == 0:
        return
    if training.ranges not in ("moving", "percentile"):
        raise RecipeError(
            f"{who}: fold_batch_norm lets batch norm settle first, so ranges must be found after it: choose "
            f"ranges = 'moving' or 'percentile', found {training.ranges!r}"
        )
    if training.fold_batch_norm >= training.freeze_ranges:
        raise RecipeError(
            f"{who}: ranges freeze at {training.freeze_ranges} of the steps, and batch norm is folded at "
            f"{training.fold_batch_norm}; fold earlier, so that ranges see the folded model"
        )


def _must_be_derived(module: nn.Module, imported: Imported, derivation: Derivation) -> None:
    """Raise FrontendError for a parameter whose constant could not follow it."""
    followed = set().union(*derivation.read.values())
    names = {name for name, p in module.named_parameters() if p.requires_grad and name in imported.held}
    if lost := sorted(names - followed):
        raise FrontendError(
            f"parameter {lost[0]!r} enters the graph in a form that training cannot follow; freeze it with "
            "requires_grad_(False), or write its use with plain tensor operations"
        )


def _arrays(recording: Mapping[str, Any], names: Sequence[str]) -> dict[str, np.ndarray]:
    """What a recording gives to the inputs, as float32 arrays; states start by themselves."""
    if not isinstance(recording, Mapping) or (missing := [n for n in names if n not in recording]):
        what = f"has no {missing[0]!r}" if isinstance(recording, Mapping) else "is no mapping by input"
        raise DataError(f"calibration takes recordings of {', '.join(names)}; one {what}")
    return {name: np.asarray(torch.as_tensor(recording[name]).cpu(), np.float32) for name in names}


def _results(
    module: nn.Module, examples: Mapping[str, Tensor], outputs: Sequence[str]
) -> tuple[TreeSpec, tuple[str, ...]]:
    """How the module's results are put together, and their names in the graph."""
    with torch.no_grad(), in_evaluation(module):
        flat, structure = tree_flatten(module(**examples))
    default = ["output", *(f"output_{i}" for i in range(1, len(flat)))]
    return structure, tuple(outputs or default)


def _schemes(recipe: Recipe, crossing: Crossing) -> dict[str, Scheme]:
    """A scheme for every weight that has a palette, and for those that an override names."""
    resolved = resolve(recipe, crossing.real)
    check_scheme(recipe.training.scheme)
    if recipe.training.scheme != SchemeChoice() and not crossing.options.palettes:
        raise RecipeError(
            f"recipe {recipe.name!r}: scheme {recipe.training.scheme.name!r} is for weights with a palette, "
            "and none has one; choose palettes in [[overrides]]"
        )
    host = pipeline.host_weights(crossing.real, crossing.islands)
    chosen = dict.fromkeys(crossing.options.palettes, recipe.training.scheme) | dict(resolved.schemes)
    return {
        name: _scheme(name, choice, crossing, recipe.training.emulate)
        for name, choice in sorted(chosen.items())
        if name not in host and name in crossing.real.constants
    }


def _scheme(name: str, chosen: SchemeChoice, crossing: Crossing, emulate: str) -> Scheme:
    """One weight's scheme, from what the weight is before training."""
    node = next(n for n in crossing.fake.nodes if n.op == "fake_quantize" and n.inputs[0] == name)
    palette = crossing.options.palettes.get(name)
    kind = pipeline.value_types(crossing)[name]
    if kind.dtype != "i8":
        raise RecipeError(
            f"weight {name!r} has {kind.dtype} codes, and schemes make i8; take a palette of 4 bits in "
            "place of weight_bits = 4"
        )
    rows = shared_rows(crossing.fake, node, palette) if palette is not None else 0
    weight = Weight(name, crossing.real.constants[name], kind, palette or PaletteChoice(8), rows)
    scheme = make_scheme(chosen.name, weight, chosen.options)
    if emulate == "integers" and (choice := scheme.must_read_reals):
        raise RecipeError(
            f"weight {name!r}: with {choice} scheme {chosen.name!r} reads float weights between its steps, "
            f"which integers cannot; leave {choice.partition(' ')[0]!r} out, or choose emulate = 'weights'"
        )
    return scheme


def _without_palettes(crossing: Crossing) -> Crossing:
    """The crossing whose weights get their codes from schemes: no palette is fitted again."""
    return replace(crossing, options=replace(crossing.options, palettes={}, repair=(), moments={}))


def _ranges(recipe: Recipe, crossing: Crossing) -> TrainingRanges:
    """The ranges that training may move: observed ones, of values whose codes nothing else decides."""
    real, training = crossing.real, recipe.training
    classes, kinds = code_classes(real), pipeline.value_types(crossing)
    fixed = set(demands(real)) | {classes[v] for v in crossing.options.exact if v in classes}
    fixed |= {classes[name] for name, array in real.constants.items() if np.any(array)}
    if training.ranges == "learned":  # they lie within known bounds, and have no gradient
        fixed |= {classes[v] for n in real.nodes if n.op in ("lstm", "gru") for v in n.outputs}
    free = {
        value: classes[value]
        for value in crossing.ranges.ranges
        if value in kinds and value not in real.constants and classes[value] not in fixed
    }
    dtypes = {v: kinds[v].dtype for v in free if kinds[v].dtype in ("i8", "i16")}
    groups = {v: group for v, group in free.items() if v in dtypes}
    chosen = training.ranges, training.momentum, training.power_of_two
    return TrainingRanges(crossing.ranges, groups, dtypes, *chosen)
