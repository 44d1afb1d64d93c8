"""Kernels compiled beforehand: every operator once in each of its integer forms, or what given models need.

A kernel is compiled when it is first called with operands of its dtypes, and kept in the cache folder
(`nnaq.jit`). Warming is nothing but calling: tiny nodes take the road of any lowering, then run once over one
frame and once over several, so that kernels of a single frame are met as well.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nnaq import pipeline
from nnaq.codebooks.choice import PaletteChoice
from nnaq.cost.shapes import symbols_of
from nnaq.crossing import Reporter
from nnaq.errors import LoweringError, PassError
from nnaq.export.read import read_integer
from nnaq.interpret import Interpreter, run
from nnaq.ir.dims import bind
from nnaq.ir.graph import Graph
from nnaq.ir.op import lookup, table
from nnaq.ir.types import bounds, storage
from nnaq.quantize.calibrate import calibrate
from nnaq.speed.samples import Sample, samples
from nnaq.targets import Target, load_target

FRAMES = (1, 17)  # of a stream, and of a recording: more than the rows of one tile


@dataclass(frozen=True)
class Variant:
    """A sample with the dtypes that its values get. squared: it reads i32; bits: of its weights' palettes."""

    sample: Sample
    dtypes: tuple[tuple[str, str], ...] = ()
    squared: bool = False
    bits: int | None = None


def warm_operators(reporter: Reporter, only: frozenset[str] = frozenset()) -> int:
    """Compile the kernels of every operator, or of those in `only`; how many nodes were run."""
    all_of_them = [v for s in samples() if not only or s.op in only for v in variants(s)]
    found = reporter.track(all_of_them, "compiling", len(all_of_them))
    return sum(warm_variant(variant) for variant in found)


def warm_models(paths: list[Path], reporter: Reporter) -> int:
    """Compile the kernels that lowered models need; how many models were run."""
    graphs = [read_integer(path) for path in paths]
    for graph in reporter.track(graphs, "compiling", len(graphs)):
        for frames in FRAMES:
            run(graph, random_inputs(graph, frames))
    return len(graphs)


def variants(sample: Sample) -> Iterator[Variant]:
    """A sample in every choice of dtypes that its forms name, with packed weights where it reads those."""
    op, count = lookup(sample.op), len(sample.inputs)
    forms = sorted({(tuple(a.split()[:count]), tuple(b.split())) for a, b in map(_sides, op.forms)})
    for operands, results in forms:
        if "i32" not in operands or op.demands:
            chosen = [(f"x{i}", dtype) for i, dtype in enumerate(operands) if i not in op.demands]
            chosen += [(f"y{i}", d) for i, d in enumerate(results) if i - len(results) not in op.demands]
            yield Variant(sample, tuple(chosen))
            if op.packed:
                yield Variant(sample, tuple(chosen), bits=4)
        elif operands[0] == "i32":
            # An exact result in i32 is nobody's choice: it follows where no other was chosen.
            chosen = [(f"y{i}", dtype) for i, dtype in enumerate(results) if dtype != "i32"]
            yield Variant(sample, tuple(chosen), squared=True)


def _sides(form: str) -> tuple[str, str]:
    operands, _, results = form.partition(" -> ")
    return operands, results


def warm_variant(variant: Variant) -> bool:
    """Run a sample as integers. False where the crossing refuses the choice: no lowering needs it then."""
    sample, target = variant.sample, load_target("edge8-sub8")
    real = pipeline.simplify(sample.graph(variant.squared))
    ranges = calibrate(real, [sample.feeds(max(FRAMES))])
    try:
        graph = pipeline.cross(real, ranges, _options(variant, target)).integer
    except (PassError, LoweringError):
        return False
    for frames in FRAMES:
        Interpreter(graph).step(sample.feeds(frames))
    return True


def _options(variant: Variant, target: Target) -> pipeline.Options:
    weights = [f"w{place - len(variant.sample.inputs)}" for place in lookup(variant.sample.op).weights]
    weights = [name for name in weights if int(name[1:]) < len(variant.sample.constants)]
    palettes = {} if variant.bits is None else dict.fromkeys(weights, PaletteChoice(variant.bits))
    return pipeline.Options(target, dtypes=dict(variant.dtypes), palettes=palettes)


def random_inputs(graph: Graph, frames: int) -> dict[str, np.ndarray]:
    """Inputs of a graph with `frames` for every open dimension; ones where it takes whole numbers."""
    random, sizes = np.random.default_rng(0), dict.fromkeys(symbols_of(graph), frames)
    whole = Interpreter(graph).whole
    found: dict[str, np.ndarray] = {}
    for port in graph.inputs:
        kind = graph.types[port.name]
        shape = bind(kind.shape, sizes)
        if port.name in whole:
            found[port.name] = np.ones(shape, np.float32)
        elif kind.dtype == "f32":
            found[port.name] = random.standard_normal(shape).astype(np.float32)
        else:
            low, high = bounds(kind.dtype)
            found[port.name] = random.integers(low, high + 1, shape).astype(storage(kind.dtype))
    return found


def unwarmed() -> frozenset[str]:
    """Operators with integer forms that no sample is of: those of plugins."""
    known = {"quantize", "dequantize", "rescale", *(sample.op for sample in samples())}
    return frozenset(name for name, op in table().items() if op.forms and name not in known)
