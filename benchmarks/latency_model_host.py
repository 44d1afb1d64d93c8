"""Fits targets/host.toml on half of nnaq's timings on this CPU and predicts the other half.

    python benchmarks/latency_model_host.py

Measures single kernels (fitted), and streaming steps of an LSTM, whole encoders and a voice detector's frames
(predicted; nothing of them is fitted), all on one thread, in seconds of the processor. Writes the target file
and results/latency_model_host.json; about a minute and a half on a quiet machine. The voice detector is
silero-vad's file in .demo, in the package silero-vad or in the folder NNAQ_SILERO; else it is left out.
"""

import contextlib
import os
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path

import numpy as np
from encoder_races import FEATURES, LAYERS, conformer_graph, lstm_graph, utterance
from kernel_races import layer, layer_norm, lstm, softmax
from latency_model import lines_of
from measuring import circumstances, on_one_thread, seconds_of
from random_nodes import IntegerNode, codes, node_of, reals, sums
from scipy.optimize import least_squares

from nnaq.cost import bind_shapes
from nnaq.cost.host import VIEWS, host_cycles, products_read
from nnaq.crossing import import_options, lower_graph
from nnaq.frontends import load
from nnaq.interpret import Interpreter
from nnaq.ir.graph import Graph
from nnaq.ir.op import Signature, lookup
from nnaq.quantize.recipe import load_recipe
from nnaq.targets import Host, gemms, load_target

HERE = Path(__file__).resolve().parent
RESULT = HERE / "results" / "latency_model_host.json"
TARGET = HERE.parent / "nnaq" / "targets" / "host.toml"
CLOCK = 10**9  # a cycle of the target is a nanosecond
TURNS, TURN, HOLD = 15, 0.02, 0.02
VOICE = "silero_vad_16k_sequence.onnx"

Nodes = tuple[tuple[str, Signature], ...]


@dataclass(frozen=True)
class Work:
    """Something that is timed: its name, the nodes that it runs, and a run of it."""

    name: str
    nodes: Nodes
    run: Callable[[], object]
    steps: int = 1

    def calls(self) -> int:
        """Runs that make a turn, after some to warm up."""
        for _ in range(3):
            self.run()
        return max(1, round(TURN / max(seconds_of(self.run), 1e-6)))


def timings(works: Sequence[Work]) -> list[float]:
    """The median of seconds per step of each: all take turns, so that a slow moment falls on all alike."""
    calls = [work.calls() for work in works]
    turns = [
        [seconds_of(work.run, n) / n for work, n in zip(works, calls, strict=True)] for _ in range(TURNS)
    ]
    return [
        statistics.median(column) / work.steps
        for work, column in zip(works, zip(*turns, strict=True), strict=True)
    ]


# --- what is fitted: kernels, one at a time


def of_node(name: str, node: IntegerNode) -> Work:
    return Work(name, ((node.op.name, node.signature),), node.call())


def convolution(channels: int, frames: int, units: int, taps: int, groups: int = 1) -> IntegerNode:
    depth = channels // groups * taps
    attrs = {"stride": 1, "dilation": 1, "padding": (0, 0), "groups": groups, "activation": "none"}
    parameters = codes(units, channels // groups, taps), reals(units)
    y = codes(1, units, frames, scale=sums(depth))
    return node_of("conv1d", (codes(1, channels, frames + taps - 1),), parameters, (y,), attrs)


def elementwise(op: str, count: int, *shape: int) -> IntegerNode:
    return node_of(op, (codes(*shape),) * count, (), (codes(*shape, scale=2.0**-6),))


def transposed(rows: int, columns: int) -> IntegerNode:
    return node_of("transpose", (codes(rows, columns),), (), (codes(columns, rows),), {"perm": (1, 0)})


def kernels() -> Iterator[Work]:
    """Products, layers and elements of several sizes."""
    for sizes in (
        (512, 640, 640),
        (64, 256, 1024),
        (16, 640, 2560),
        (1, 640, 2560),
        (256, 32, 256),
        (1, 256, 1024),
        (1, 64, 256),
    ):
        yield of_node("fully connected {} x {} x {}".format(*sizes), layer(*sizes, exact=False))
    for sizes in ((50, 1, 256, 256), (20, 4, 320, 320), (1, 1, 320, 320), (1, 1, 128, 128)):
        yield of_node("LSTM of {} frames, batch {}, {} inputs, {} units".format(*sizes), lstm(*sizes))
    for sizes in ((256, 200, 256, 5), (64, 8, 128, 3), (16, 64, 16, 3)):
        yield of_node(
            "conv1d of {} channels, {} frames, {} units, {} taps".format(*sizes), convolution(*sizes)
        )
    for sizes in ((256, 200, 5), (128, 400, 15)):
        node = convolution(sizes[0], sizes[1], sizes[0], sizes[2], sizes[0])
        yield of_node("depthwise conv1d of {} channels, {} frames, {} taps".format(*sizes), node)
    for op, count in (("relu", 1), ("sigmoid", 1), ("add", 2), ("mul", 2)):
        for shape in ((200, 512), (1, 512)):
            yield of_node("{} {} x {}".format(op, *shape), elementwise(op, count, *shape))
    for shape in ((200, 512), (1, 512)):
        yield of_node("layer norm {} x {}".format(*shape), layer_norm(*shape))
        yield of_node("softmax {} x {}".format(*shape), softmax(*shape))
        yield of_node("transpose {} x {}".format(*shape), transposed(*shape))


# --- what is predicted: other sizes, steps of streams, whole encoders


def nodes_of(graph: Graph, **binding: int) -> Nodes:
    step = bind_shapes(graph, binding)
    return tuple((node.op, step.signature(node)) for node in step.nodes)


def stream(name: str, graph: Graph, frames: Sequence[dict[str, np.ndarray]]) -> Work:
    """A graph frame by frame, its states kept."""
    interpreter = Interpreter(graph)

    def run() -> None:
        for frame in frames:
            interpreter.step(frame)

    return Work(name, nodes_of(graph), run, len(frames))


def voice_model() -> Path | None:
    """The voice detector's file, or None where there is none."""
    folders = [os.environ.get("NNAQ_SILERO"), HERE.parent / ".demo"]
    with contextlib.suppress(metadata.PackageNotFoundError):
        folders.append(metadata.distribution("silero-vad").locate_file("silero_vad/data"))
    files = [Path(str(folder)) / VOICE for folder in folders if folder]
    return next((file for file in files if file.is_file()), None)


def voice_frames(count: int) -> np.ndarray:
    """Bursts of a harmonic sound between silence and noise, in frames of 576 samples."""
    random, t = np.random.default_rng(5), np.arange(count * 576) / 16000
    voice = sum(np.sin(2 * np.pi * 140 * k * t) / k for k in range(1, 12))
    wave = 0.1 * voice * (np.sin(2 * np.pi * 3 * t) > 0) + 0.01 * random.normal(size=t.size)
    return np.asarray(wave, np.float32).reshape(count, 576)


def voice(path: Path) -> Work:
    recipe, frames = load_recipe("silero_vad"), voice_frames(160)
    real = load(path, import_options(recipe)).graph
    given = [{"input": frames[:120]}], [{"input": frames[120:]}]
    graph = lower_graph(real, *given, recipe, load_target("edge8")).crossing.integer
    steps = [{"input": frames[place : place + 1]} for place in range(20)]
    return stream("frame of the voice detector silero-vad", graph, steps)


def others() -> Iterator[Work]:
    """The half that nothing is fitted on."""
    for sizes in ((128, 512, 512), (8, 640, 2560), (1, 1024, 4096), (200, 80, 256)):
        yield of_node("fully connected {} x {} x {}".format(*sizes), layer(*sizes, exact=False))
    for sizes in ((1, 1, 640, 640), (1, 1, 256, 256), (1, 1, 80, 512), (1, 8, 512, 512)):
        yield of_node("LSTM step, batch {1}, {2} inputs, {3} units".format(*sizes), lstm(*sizes))
    yield of_node("LSTM of 100 frames, 640 units", lstm(100, 1, 640, 640))
    for sizes in ((512, 200, 512, 5), (128, 100, 256, 3)):
        yield of_node(
            "conv1d of {} channels, {} frames, {} units, {} taps".format(*sizes), convolution(*sizes)
        )
    frames = [{"x": np.random.default_rng(0).standard_normal((1, 1, FEATURES), np.float32)}] * 20
    yield stream(f"step of an encoder of {LAYERS} LSTM layers", lstm_graph(), frames)
    graph = conformer_graph()
    run = partial(Interpreter(graph).step, {graph.inputs[0].name: utterance()})
    yield Work("utterance of a Conformer of 14 blocks", nodes_of(graph), run)
    path = voice_model()
    if path is not None:
        yield voice(path)


# --- the fit


def predicted(nodes: Nodes, host: Host) -> float:
    """Seconds of a work on a host."""
    return sum(host_cycles(op, signature, host, 0) for op, signature in nodes) / CLOCK


@dataclass(frozen=True)
class Fitted:
    """Rates per second, seconds per node and product, operations per element of operators that were timed."""

    operations: float
    macs: float
    lookups: float
    memory: float
    node: float
    product: float
    passes: dict[str, float]

    @classmethod
    def of(cls, logarithms: np.ndarray, ops: Sequence[str]) -> "Fitted":
        values = [float(value) for value in np.exp(logarithms)]
        return cls(*values[:6], dict(zip(ops, values[6:], strict=True)))

    def seconds(self, nodes: Nodes) -> float:
        """The same as `predicted`, before rates are rounded to figures of a file."""
        return sum(self._node(op, signature) for op, signature in nodes)

    def _node(self, op: str, signature: Signature) -> float:
        if op in VIEWS:
            return 0.0
        work, products = lookup(op).work(signature), gemms(op, signature)
        elements = work.elementwise + work.macs - sum(gemm.macs for gemm in products)
        total = self.node + elements * self.passes.get(op, 1.0) / self.operations
        total += work.lookups / self.lookups
        return total + sum(
            self.product + max(m / self.macs, b / self.memory) for m, b in products_read(products)
        )


def fit(works: Sequence[tuple[Nodes, float]]) -> Fitted:
    """The figures whose predictions deviate least, by factors; a few slow moments weigh little.

    What the timings do not tell apart stays near where the search begins: a factor of e away costs as much
    as a deviation of 2 %.
    """
    ops = sorted({op for nodes, _ in works for op, _ in nodes} - {"fully_connected"})
    start = np.log([1e9, 5e10, 2e9, 3e10, 5e-6, 1e-5, *[1.0] * len(ops)])

    def deviations(logarithms: np.ndarray) -> np.ndarray:
        found = Fitted.of(logarithms, ops)
        apart = [np.log(found.seconds(nodes) / seconds) for nodes, seconds in works]
        return np.array([*apart, *(HOLD * (logarithms - start))])

    return Fitted.of(least_squares(deviations, start, loss="soft_l1", f_scale=0.1).x, ops)


def rounded(value: float) -> float:
    return float(f"{value:.3g}")


def file_of(fitted: Fitted, cpu: str, names: Sequence[str]) -> str:
    """The target file of these figures."""
    passes = "\n".join(f"{op} = {rounded(value)}" for op, value in sorted(fitted.passes.items()))
    template = (HERE / "latency_model_host.toml").read_text(encoding="utf-8")
    figures = {
        name: f"{int(rounded(getattr(fitted, name))):_}"
        for name in ("operations", "macs", "lookups", "memory")
    }
    return template.format(
        cpu=cpu,
        count=len(names),
        node=round(fitted.node * CLOCK),
        product=round(fitted.product * CLOCK),
        passes=passes,
        **figures,
    )


def row(half: str, work: Work, seconds: float, host: Host) -> dict[str, object]:
    told = predicted(work.nodes, host)
    figures = {"measured": rounded(seconds), "predicted": rounded(told)}
    return {"half": half, "work": work.name, **figures, "deviation": round(told / seconds - 1, 4)}


def main() -> None:
    on_one_thread()
    load_before = os.getloadavg()[0]
    fitting, telling = list(kernels()), list(others())
    seconds = timings([*fitting, *telling])
    fitted = fit([(work.nodes, time) for work, time in zip(fitting, seconds, strict=False)])
    told = circumstances()
    names = [work.name for work in fitting]
    TARGET.write_text(file_of(fitted, str(told["cpu"]), names), encoding="utf-8")
    host = load_target(TARGET).host
    halves = ["fitted"] * len(fitting) + ["predicted"] * len(telling)
    timed = zip(halves, [*fitting, *telling], seconds, strict=True)
    rows = [row(half, work, time, host) for half, work, time in timed]
    loads = {"load": [round(load_before, 2), round(os.getloadavg()[0], 2)]}
    RESULT.write_text(lines_of({**told, **loads, "rows": rows}), encoding="utf-8")
    for half in ("fitted", "predicted"):
        errors = [abs(float(str(one["deviation"]))) for one in rows if one["half"] == half]
        print(half, statistics.median(errors), max(errors))


if __name__ == "__main__":
    sys.exit(main())
