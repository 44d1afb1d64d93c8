"""The forms of a model that can be compared, each as values under the names of the real graph.

    float      a model file, by the meaning of its operators over the reals
    fake       the same with every value rounded to its codes; needs a recipe with ranges
    integer    a lowered model, by the compiled integer kernels
    exported   the same file, executed by onnx.reference through its function bodies
    dump       an .npz of another runtime: arrays NAME, `activation:NAME` or `output:NAME`

A form is written `KIND:PATH`, or `PATH` alone: a folder or file that nnaq lowered is `integer`, any
other model `float`, an .npz `dump`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from nnaq.crossing import import_options
from nnaq.errors import DataError
from nnaq.export.check import executed
from nnaq.export.onnx import export_model
from nnaq.export.read import is_lowered, read_integer
from nnaq.frontends import load
from nnaq.interpret import frame_count, run
from nnaq.ir.graph import Graph
from nnaq.ir.types import TensorType
from nnaq.kernels.boundary import dequantize_array
from nnaq.outside import read_npz
from nnaq.passes import REPAIR
from nnaq.pipeline import Options, asked, cross, simplify
from nnaq.quantize.calibrate import Ranges
from nnaq.quantize.error import codes_of, input_codes
from nnaq.quantize.overrides import resolve
from nnaq.quantize.recipe import Recipe
from nnaq.targets import load_target

KINDS = ("float", "fake", "integer", "exported", "dump")
LONGEST = 1024  # frames: the exported bodies compute in int64 and gather their windows
Inputs = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Side:
    """One form of a model, run on the inputs.

    values: arrays by name, codes as integers. types: the code type of those that are codes.
    graph: what made them, None for a dump. names: the graph's own name of each value.
    """

    label: str
    kind: str
    values: Mapping[str, np.ndarray]
    types: Mapping[str, TensorType] = field(default_factory=dict)
    graph: Graph | None = None
    names: Mapping[str, str] = field(default_factory=dict)

    def reals(self, name: str) -> np.ndarray:
        """A value in reals, float64."""
        array, kind = self.values[name], self.types.get(name)
        return np.asarray(array if kind is None else dequantize_array(array, kind), np.float64)


def read_side(text: str, inputs_of: "InputsOf", recipe: Recipe) -> Side:
    """The side that `text` names, run on the inputs.

    Raises DataError: an unknown kind, a dump that is no npz; what reading a model may raise besides.
    """
    kind, path = _parse(text)
    if kind == "dump":
        return _dump(text, path)
    if kind in ("integer", "exported"):
        graph = read_integer(path)
        return _integer(text, kind, graph, inputs_of(graph))
    imported = load(path, import_options(recipe))
    real = simplify(imported.graph, repair=recipe.quantize.repair)
    if kind == "fake":
        return _fake(text, real, inputs_of(real), recipe, imported.codes)
    return _float(text, real, inputs_of(real))


class InputsOf:
    """Reads the inputs file once a graph says what it takes."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self, graph: Graph) -> Inputs:
        from nnaq.tasks.recordings import read_arrays

        return read_arrays(self.path, graph)


def _parse(text: str) -> tuple[str, Path]:
    kind, mark, rest = text.partition(":")
    if mark and kind in KINDS:
        return kind, Path(rest)
    path = Path(text)
    if path.suffix == ".npz":
        return "dump", path
    if not path.exists():
        raise DataError(f"no such file {text!r}; a side is PATH or KIND:PATH with KIND {', '.join(KINDS)}")
    integer = path.is_dir() or path.suffix == ".tflite" or is_lowered(path)
    return ("integer" if integer else "float"), path


def _float(label: str, real: Graph, inputs: Inputs) -> Side:
    made = [v for node in real.nodes for v in node.outputs]
    values = {**inputs, **run(real, inputs, keep=[*made, *(s.input for s in real.states)]).values}
    return Side(label, "float", values, {}, real, {v: v for v in values})


def _fake(label: str, real: Graph, inputs: Inputs, recipe: Recipe, codes: Mapping[str, TensorType]) -> Side:
    """The fake-quant graph that the recipe's ranges, and a quantised file's own codes, make."""
    chosen = {v: c for v, c in recipe.values.items() if v in real.types}
    if not chosen:
        raise DataError(
            f"{label}: recipe {recipe.name!r} holds no ranges; give --recipe OUT/recipe.toml of a lowering"
        )
    ranges = Ranges({v: c.range for v, c in chosen.items() if c.range})
    resolved, exact = resolve(recipe, real), frozenset(ranges.ranges)
    if asked(REPAIR, recipe.quantize.repair) or any(
        c.weighting == "activations" for c in resolved.palettes.values()
    ):
        raise DataError(
            f"{label}: recipe {recipe.name!r} rounds weights by calibration data (repair, weighting), which "
            "it does not hold; compare with the lowered folder itself"
        )
    dtypes = {**resolved.dtypes, **{v: c.dtype for v, c in chosen.items()}}
    held = {name: kind for name, kind in codes.items() if name in real.types}
    widths = recipe.quantize.weight_bits, resolved.palettes, held, resolved.weight_bits
    options = Options(load_target("edge8"), "i8", dtypes, exact, *widths)
    fake = cross(real, ranges, options).fake
    names = {v: f"{v}.fq" if f"{v}.fq" in fake.types else v for v in real.types if v in fake.types}
    kept = run(fake, inputs, keep=list(names.values())).values
    values = {v: kept[n] for v, n in names.items() if n in kept and v not in real.constants}
    return Side(label, "fake", values, {}, fake, {v: names[v] for v in values})


def _integer(label: str, kind: str, graph: Graph, inputs: Inputs) -> Side:
    names = {_real_name(v): v for node in graph.nodes for v in node.outputs if graph.types[v].quant}
    names |= {s.input: s.input for s in graph.states}
    names |= {p.name: c for p in graph.inputs if (c := input_codes(graph, p.name))}
    names |= {p.name: c for p in graph.outputs if (c := codes_of(graph, p.name))}
    if kind == "exported":
        frames = frame_count(graph, inputs)
        if frames > LONGEST:
            raise DataError(
                f"{label}: {frames} frames; another runtime executes at most {LONGEST} at once, give fewer"
            )
        made = executed(export_model(graph), graph, inputs, max(frames, 1))
        made |= {s.input: graph.constants[s.initial] for s in graph.states}
    else:
        made = dict(run(graph, inputs, keep=list(names.values())).values)
    values = {name: made[own] for name, own in names.items() if own in made}
    types = {name: graph.types[names[name]] for name in values}
    return Side(label, kind, values, types, graph, {name: names[name] for name in values})


def _real_name(value: str) -> str:
    return value.removesuffix(".codes")


def _dump(label: str, path: Path) -> Side:
    try:
        arrays = read_npz(path)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as npz arrays: {error}") from None
    if not arrays:
        raise DataError(f"{path} holds no arrays; a dump has one per value, under the value's name")
    named = {n.removeprefix("output:").removeprefix("activation:"): a for n, a in arrays.items()}
    return Side(label, "dump", {_real_name(name): array for name, array in named.items()})
