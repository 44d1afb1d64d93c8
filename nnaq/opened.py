"""A lowered model opened again for the machine: its graph, and what its folder says about it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nnaq.errors import DataError, TargetError
from nnaq.export.read import read_integer
from nnaq.interpret import whole_groups
from nnaq.ir.dims import solve
from nnaq.ir.graph import Graph, Node
from nnaq.ir.numerics import ROUNDINGS, Numerics
from nnaq.ir.op import lookup
from nnaq.ir.verify import is_real
from nnaq.quantize.recipe import Recipe, load_recipe
from nnaq.report import Report, read_report
from nnaq.simulate.listening import Sound
from nnaq.targets import BOUNDARY, Target, load_target, shipped
from nnaq.tasks.framing import model_inputs
from nnaq.tasks.recordings import Recording, read_audio

DEFAULT = "edge8"
CONTRACT = {"accumulator_bits": 32, "internal_bits": 16}  # what a node without the attribute keeps
TABLES = (513, 65536)


@dataclass(frozen=True)
class Opened:
    """A lowered model. report and recipe: those of its folder, where it has them."""

    path: Path
    graph: Graph
    report: Report | None
    recipe: Recipe | None

    @property
    def sqnr_db(self) -> dict[str, float | None]:
        """Signal to noise of every layer, as judged when it was lowered."""
        return {} if self.report is None else {layer.name: layer.sqnr_db for layer in self.report.layers}


def open_lowered(path: Path) -> Opened:
    """A folder or model.onnx that nnaq lowered, or an int8 .tflite file. Raises ArtifactError."""
    graph = read_integer(path)
    folder = path if path.is_dir() else path.parent
    beside = path.is_dir() or path.name == "model.onnx"
    report, recipe = folder / "report.json", folder / "recipe.toml"
    return Opened(
        path,
        graph,
        read_report(report) if beside and report.is_file() else None,
        load_recipe(recipe) if beside and recipe.is_file() else None,
    )


def target_of(model: Opened, name: str | None = None) -> Target:
    """The named target, else the one the model was lowered for.

    Raises TargetError where that is a file of one's own, or where the target computes other integers
    than the model was lowered to.
    """
    if name is None and model.report is not None and model.report.target not in shipped():
        raise TargetError(
            f"{model.path} was lowered for target {model.report.target!r}, which does not ship with nnaq; "
            "name its file with --target"
        )
    target = load_target(name or (model.report.target if model.report else DEFAULT))
    other = disagreement(model.graph, target.numerics)
    if other is not None:
        raise TargetError(
            f"{model.path} holds integers of another contract than target {target.name!r}: {other}; "
            f"lower the model for {target.name!r}"
        )
    return target


def disagreement(graph: Graph, numerics: Numerics) -> str | None:
    """The first node that computes otherwise than a contract says, and how; None where all agree."""
    for node in graph.nodes:
        for what, found, wanted in _choices(graph, node, numerics):
            if found != wanted:
                return f"{node.op} {node.name!r} has {what} {found}, the target {wanted}"
    return None


def _choices(graph: Graph, node: Node, numerics: Numerics) -> Iterator[tuple[str, object, object]]:
    """What of a contract a node shows: its name, the node's choice, and the contract's."""
    attrs = node.attrs
    if node.op == "quantize":
        if node.inputs[0] in {port.name for port in graph.inputs}:
            yield "input rounding", attrs.get("rounding"), numerics.input_rounding
        return
    if node.op in BOUNDARY or is_real(graph, node):
        return
    if attrs.get("rounding") in ROUNDINGS:
        yield "rounding", attrs["rounding"], numerics.rounding
    if lookup(node.op).weights or node.op == "matmul":
        yield from _accumulators(node, numerics)
    if node.op in ("lstm", "gru"):
        yield "internal bits", attrs.get("internal_bits", CONTRACT["internal_bits"]), numerics.internal_bits
    for value in node.inputs:
        if value in graph.constants and graph.types[value].shape in {(size,) for size in TABLES}:
            yield "table entries", graph.types[value].shape[0], numerics.lut_entries


def _accumulators(node: Node, numerics: Numerics) -> Iterator[tuple[str, object, object]]:
    bits = node.attrs.get("accumulator_bits", CONTRACT["accumulator_bits"])
    yield "accumulator bits", bits, numerics.accumulator_bits
    if "accumulator_bits" in node.attrs:
        yield "overflow", node.attrs["overflow"], numerics.overflow
        yield "array depth", node.attrs["array_depth"], numerics.array_depth


def frames_of(graph: Graph, frames: int) -> dict[str, int]:
    """The sizes of the open dimensions for so many frames at a time, in whole groups. Raises DataError."""
    frames = whole_groups(graph, frames)
    binding: dict[str, int] = {}
    for port in graph.inputs:
        if port.time_axis is not None:
            dim = graph.types[port.name].shape[port.time_axis]
            binding |= solve((dim,), (frames,), f"time of input {port.name!r}")
    if frames != 1 and not binding:
        raise DataError(
            f"graph {graph.name!r} takes a fixed stretch of time in every step, not {frames} frames; "
            "leave the chunk at 1"
        )
    return binding


def sound_of(model: Opened, recording: Path, recipe: Recipe | None = None) -> Sound:
    """A recording as the model hears it. Raises DataError, or RecipeError where the framing does not fit."""
    recipe = recipe or model.recipe
    if recipe is None or recipe.input is None:
        raise DataError(
            f"nothing says how {model.path} frames audio; name a recipe with an [input] by --recipe"
        )
    model_inputs(Recording(recording.name, recording), recipe, model.graph)
    samples = len(read_audio(recording, recipe.input.sample_rate))
    return Sound(samples, recipe.input.hop, recipe.input.sample_rate)
