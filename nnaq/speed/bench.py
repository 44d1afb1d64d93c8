"""Times on this machine: a lowered model whole and frame by frame, its nodes, a few layers, and a peer.

Medians. nnaq and the peer take turns in one run, on one thread of the peer, so that whatever else the machine
does falls on both sides alike; a ratio is the peer's time divided by ours, above 1 nnaq is the faster.
"""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from nnaq import pipeline
from nnaq.crossing import Reporter
from nnaq.errors import ArtifactError, DataError, NnaqError
from nnaq.export.onnx import export_model
from nnaq.export.read import read_integer
from nnaq.interpret import Interpreter, chunks, frame_count, run
from nnaq.ir.graph import Graph
from nnaq.outside import read_npz
from nnaq.quantize.calibrate import calibrate
from nnaq.quantize.recipe import Recipe, load_recipe
from nnaq.speed.peer import Job, Peer, is_there
from nnaq.speed.samples import CONV, Sample
from nnaq.speed.warm import random_inputs
from nnaq.targets import load_target
from nnaq.tasks.framing import frame_seconds

FRAMES = 128  # of random inputs
SECONDS = 3.0  # that the turns of one race may take together
ROUNDS = 9  # turns at most; one at least
TURN = 0.01  # seconds that one turn of a layer should take
LAYERS = (
    Sample("fully_connected", (("T", 256),), ((1024, 256), (1024,)), {"activation": "none"}),
    Sample("conv1d", ((1, 128, "T"),), ((128, 128, 3), (128,)), {**CONV, "padding": (2, 0)}),
    Sample("lstm", (("T", 1, 256), (1, 256), (1, 256)), ((1024, 256), (1024, 256), (1024,))),
    Sample("layer_norm", (("T", 256),), ((256,), (256,)), {"axis": -1, "epsilon": 1e-5}),
    Sample("softmax", (("T", 256),)),
)


@dataclass(frozen=True)
class Race:
    """Seconds per run of nnaq and of a peer (None: nobody raced), over so many turns."""

    work: str
    seconds: float
    turns: int
    peer: str | None = None
    peer_seconds: float | None = None
    ratio: float | None = None


@dataclass(frozen=True)
class NodeTime:
    """Seconds of a node per run, and its share of all nodes."""

    name: str
    op: str
    seconds: float
    share: float


@dataclass(frozen=True)
class Bench:
    """What was measured. sound_seconds: of sound in one frame, where the model hears any."""

    subject: str
    races: list[Race]
    frames: int | None = None
    sound_seconds: float | None = None
    whole: list[NodeTime] = field(default_factory=list)
    step: list[NodeTime] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class Timed(Interpreter):
    """An interpreter that adds up the seconds of every node."""

    def __init__(self, graph: Graph) -> None:
        super().__init__(graph)
        self.spent = {node.name: 0.0 for node, _, _ in self.steps}
        self.steps = [(node, self._timed(node.name, call), free) for node, call, free in self.steps]

    def _timed(
        self, name: str, call: Callable[..., tuple[np.ndarray, ...]]
    ) -> Callable[..., tuple[np.ndarray, ...]]:
        def timed(*arrays: np.ndarray) -> tuple[np.ndarray, ...]:
            start = time.perf_counter()
            made = call(*arrays)
            self.spent[name] += time.perf_counter() - start
            return made

        return timed


def bench_layers(reporter: Reporter) -> Bench:
    """A few layers, one frame and many, against the same layer in float32 by ONNX Runtime."""
    asked = [(sample, frames) for sample in LAYERS for frames in (1, FRAMES)]
    races = [layer_race(sample, frames) for sample, frames in reporter.track(asked, "racing", len(asked))]
    compared = "one integer kernel beside the same layer in float32, call included"
    return Bench("layers", races, notes=[compared] if is_there() else [compared, missing_peer()])


def layer_race(sample: Sample, frames: int) -> Race:
    """One layer on random numbers; only the integer kernel counts, not the quantiser before it."""
    real, feeds = pipeline.simplify(sample.graph()), sample.feeds(frames)
    graph = pipeline.cross(real, calibrate(real, [feeds]), pipeline.Options(load_target("edge8"))).integer
    node, call = next((n, call) for n, call, _ in Interpreter(graph).steps if n.op == sample.op)
    values = {**run(graph, feeds, keep=node.inputs).values, **Interpreter(graph).constants}
    arrays = [values[name] if name else None for name in node.inputs]
    call(*arrays)
    calls = max(1, round(TURN / max(seconds_of(lambda: call(*arrays)), 1e-6)))
    shape = " x ".join(
        str(list(s)).replace("'T'", str(frames)) for s in (*sample.inputs[:1], *sample.constants[:1])
    )
    job = Job(dict.fromkeys(feeds), calls=calls)
    model = export_model(real).SerializeToString() if is_there() else b""
    return race(
        f"{sample.op} {shape}", lambda: call(*arrays), "ONNX Runtime, float32", (model, feeds, job), calls
    )


def bench_model(path: Path, float_model: Path | None, reporter: Reporter) -> Bench:
    """A lowered model whole and frame by frame, and where its time goes.

    float_model: the file that it was lowered from, to race against. Raises NnaqError for what is no
    lowered model.
    """
    graph = read_integer(path)
    recipe = _recipe_beside(path)
    inputs, notes = _inputs(path, graph)
    frames, notes = frame_count(graph, inputs), [*notes, *_what_is_compared(path, float_model)]
    streams = frames > 1
    races: list[Race] = []
    sizes: dict[str, int | None] = {"whole": None, "frame by frame": 1} if streams else {"whole": None}
    for words, chunk in reporter.track(sizes.items(), "racing", len(sizes)):
        for peer, model, extra, states, pins in _peers(path, graph, float_model, recipe):
            job = Job({p.name: p.time_axis for p in graph.inputs}, states, pins, chunk)
            try:
                work = _stream(graph, inputs, chunk)
                races.append(race(words, work, peer, (model, {**inputs, **extra}, job)))
            except NnaqError as error:
                notes.append(f"{words}: {error}")
    whole = node_times(graph, inputs, None)
    step = node_times(graph, inputs, 1) if any(r.work == "frame by frame" for r in races) else []
    sound = frame_seconds(recipe) if recipe else None
    return Bench(str(path), races, frames, sound, whole, step, notes)


def _stream(graph: Graph, inputs: Mapping[str, np.ndarray], chunk: int | None) -> Callable[[], object]:
    """One pass over the inputs, by an interpreter that is made ready once."""
    interpreter, pieces = Interpreter(graph), [dict(inputs)]
    if chunk is not None:
        pieces = list(chunks(graph, inputs, chunk))

    def work() -> None:
        interpreter.reset()
        for piece in pieces:
            interpreter.step(piece)

    return work


Runner = tuple[str | None, bytes, dict[str, np.ndarray], Mapping[str, str], Mapping[str, float]]


def _peers(path: Path, graph: Graph, float_model: Path | None, recipe: Recipe | None) -> list[Runner]:
    """What to race against: the float model if it is known, else the lowered file."""
    if not is_there() or path.suffix == ".tflite":
        return [(None, b"", {}, {}, {})]
    if float_model is not None:
        states, pins = (recipe.states or {}, recipe.pins or {}) if recipe else ({}, {})
        model = float_model.read_bytes()
        return [("ONNX Runtime, float32", model, {}, states, pins)]
    model = (path / "model.onnx" if path.is_dir() else path).read_bytes()
    initial = {s.input: graph.constants[s.initial] for s in graph.states}
    fed = {s.input: s.output for s in graph.states}
    return [("ONNX Runtime, model.onnx", model, initial, fed, {})]


def _what_is_compared(path: Path, float_model: Path | None) -> list[str]:
    if path.suffix == ".tflite":
        return []
    if not is_there():
        return [missing_peer()]
    if float_model is not None:
        return [f"the peer runs the float model {float_model}, nnaq the integers lowered from it"]
    return ["the peer runs the same integers as standard operators; --float MODEL.onnx races the float model"]


def missing_peer() -> str:
    return "nobody to race against: pip install onnxruntime"


def _recipe_beside(path: Path) -> Recipe | None:
    """The recipe that the lowering wrote beside the model."""
    found = (path if path.is_dir() else path.parent) / "recipe.toml"
    return load_recipe(str(found)) if found.is_file() else None


def _inputs(path: Path, graph: Graph) -> tuple[dict[str, np.ndarray], list[str]]:
    """The golden inputs beside the model, else random ones; and which."""
    golden = (path if path.is_dir() else path.parent) / "golden.npz"
    if golden.is_file():
        arrays = _golden_inputs(golden)
        if set(arrays) == {port.name for port in graph.inputs}:
            moved = {p.name: np.moveaxis(arrays[p.name], 0, p.time_axis or 0) for p in graph.inputs}
            return {name: np.ascontiguousarray(a) for name, a in moved.items()}, ["inputs: golden.npz"]
    return random_inputs(graph, FRAMES), [f"inputs: random numbers, {FRAMES} frames"]


def _golden_inputs(path: Path) -> dict[str, np.ndarray]:
    """The inputs among known answers. Raises ArtifactError."""
    try:
        arrays = read_npz(path)
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path} cannot be read as known answers: {error}") from None
    return {n.removeprefix("input:"): array for n, array in arrays.items() if n.startswith("input:")}


def race(
    work: str,
    ours: Callable[[], object],
    peer: str | None,
    against: tuple[bytes, Mapping[str, np.ndarray], Job],
    calls: int = 1,
) -> Race:
    """Turns of nnaq and of the peer, after one run of each to warm up."""
    ours()
    if peer is None or not is_there():
        times = turns(lambda: (seconds_of(ours, calls),))
        return Race(work, statistics.median(t[0] for t in times) / calls, len(times))
    with Peer(*against) as theirs:
        theirs.seconds()
        times = turns(lambda: (seconds_of(ours, calls), theirs.seconds()))
    seconds, peer_seconds = (statistics.median(side) / calls for side in zip(*times, strict=True))
    return Race(work, seconds, len(times), peer, peer_seconds, statistics.median(b / a for a, b in times))


def turns(turn: Callable[[], tuple[float, ...]]) -> list[tuple[float, ...]]:
    """As many turns as time allows."""
    start, found = time.perf_counter(), [turn()]
    while len(found) < ROUNDS and time.perf_counter() - start < SECONDS:
        found.append(turn())
    return found


def seconds_of(work: Callable[[], object], calls: int = 1) -> float:
    """Seconds that `calls` runs of `work` take."""
    start = time.perf_counter()
    for _ in range(calls):
        work()
    return time.perf_counter() - start


def node_times(graph: Graph, inputs: Mapping[str, np.ndarray], chunk: int | None) -> list[NodeTime]:
    """The nodes by their seconds, most first, in the faster of two passes; seconds per chunk."""
    passes = []
    pieces = [dict(inputs)] if chunk is None else list(chunks(graph, inputs, chunk))
    for _ in range(2):
        timed = Timed(graph)
        for piece in pieces:
            timed.step(piece)
        passes.append(timed.spent)
    spent = min(passes, key=lambda one: sum(one.values()))
    total = sum(spent.values()) or 1.0
    rows = [NodeTime(n.name, n.op, spent[n.name] / len(pieces), spent[n.name] / total) for n in graph.nodes]
    return sorted(rows, key=lambda row: -row.seconds)


def must_be_file(path: Path) -> Path:
    """Raise DataError where there is no file."""
    if not path.is_file():
        raise DataError(f"there is no file {path}; name the float model that was lowered")
    return path
