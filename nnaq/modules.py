"""Lowering from Python, in memory: a torch module or a model file, and arrays instead of recordings."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nnaq.crossing import Lowering, import_options, lower_graph
from nnaq.errors import DataError
from nnaq.frontends import Imported, ImportOptions, load
from nnaq.ir.graph import Graph
from nnaq.plugins import load_installed
from nnaq.quantize.recipe import Recipe, parse_recipe
from nnaq.targets import Target, load_target

Module = Any  # a torch.nn.Module; torch is read only where a module is lowered
Recordings = Sequence[Mapping[str, Any] | Sequence[Any]]


def lower(
    model: str | Path | Module,
    example_inputs: Any = None,
    calibration: Recordings = (),
    evaluation: Recordings | None = None,
    recipe: Recipe | None = None,
    target: Target | str = "edge8",
    options: ImportOptions | None = None,
    outputs: Sequence[str] = (),
) -> Lowering:
    """Lower a torch module, or a model file (then without example_inputs and outputs), in memory.

    calibration, evaluation: whole recordings, each a mapping from input to array or a sequence in
    the order of the graph's inputs; states are no inputs. Without evaluation the model is judged
    on the calibration recordings. recipe: without one the widths are chosen automatically.
    options: without them the recipe says which axis is time and which outputs are states.
    Operators, passes and targets of installed packages are known here; see `nnaq.plugins`.
    """
    load_installed()
    if not isinstance(model, str | Path):
        return lower_module(model, example_inputs, calibration, evaluation, recipe, target, options, outputs)
    recipe = recipe or default_recipe(Path(model).stem)
    imported = load(Path(model), options or import_options(recipe))
    return _lowered(imported, calibration, evaluation, recipe, target)


def lower_module(
    module: Module,
    example_inputs: Any,
    calibration: Recordings,
    evaluation: Recordings | None = None,
    recipe: Recipe | None = None,
    target: Target | str = "edge8",
    options: ImportOptions | None = None,
    outputs: Sequence[str] = (),
) -> Lowering:
    """Lower a torch module in memory; see `lower`. Example inputs are those of nnaq.load_module."""
    from nnaq.frontends.torch import load as load_module

    recipe = recipe or default_recipe(type(module).__name__)
    imported = load_module(module, example_inputs, options or import_options(recipe), outputs)
    return _lowered(imported, calibration, evaluation, recipe, target)


def default_recipe(name: str) -> Recipe:
    """The recipe that leaves every choice to nnaq."""
    return parse_recipe(f'name = "{name}"')


def _lowered(
    imported: Imported,
    calibration: Recordings,
    evaluation: Recordings | None,
    recipe: Recipe,
    target: Target | str,
) -> Lowering:
    graph = imported.graph
    if isinstance(target, str):
        target = load_target(target)
    groups = calibration, calibration if evaluation is None else evaluation
    kept, judged = ([by_name(graph, recording) for recording in group] for group in groups)
    return lower_graph(graph, kept, judged, recipe, target, codes=imported.codes)


def by_name(graph: Graph, recording: Mapping[str, Any] | Sequence[Any]) -> dict[str, np.ndarray]:
    """A recording as float32 arrays by input; arrays may be torch tensors.

    Raises DataError for other inputs than the graph's.
    """
    names = [port.name for port in graph.inputs]
    if not isinstance(recording, Mapping):
        if len(recording) != len(names):
            raise DataError(
                f"graph {graph.name!r} takes {', '.join(names)}; found a recording of {len(recording)} arrays"
            )
        recording = dict(zip(names, recording, strict=True))
    if set(recording) != set(names):
        found = ", ".join(sorted(map(str, recording))) or "none"
        raise DataError(f"graph {graph.name!r} takes {', '.join(names)}; found a recording of {found}")
    return {name: _array(value) for name, value in recording.items()}


def _array(value: Any) -> np.ndarray:
    return np.asarray(value.detach().cpu() if hasattr(value, "detach") else value, np.float32)
