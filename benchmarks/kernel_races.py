"""The works of `kernels.py`: what nnaq does, against whom, and the ratio that it is to reach.

A work counts two operations per product, and the bytes of weights that it cannot but read: `traffic` in all,
out of `resident` bytes that it reads again and again, so that their size says from which cache they come.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import kernel_peers as peers
from kernel_peers import Making
from measuring import Here, Timed
from random_nodes import IntegerNode, codes, node_of, reals, sums

from nnaq.interpret import Interpreter
from nnaq.ir.types import Palette
from nnaq.plan import REPEATS

MATMUL_INTEGER = "ONNX Runtime, MatMulInteger u8 x s8"
INT_MM, TORCH = "torch, _int_mm", "torch, float32"
RUNTIME = "ONNX Runtime, float32"
QUANTISED_MATMUL, QUANTISED_CONV = "ONNX Runtime, QLinearMatMul u8 x s8", "ONNX Runtime, QLinearConv u8 x s8"
STEPS = 20  # of a stream, per call of either side


@dataclass(frozen=True)
class Rival:
    """A peer, and the ratio of its time to ours that is to be reached."""

    name: str
    target: float | None
    make: Callable[[], Making]


@dataclass(frozen=True)
class Work:
    """Something to do, and its rivals. quick: whether a short run has it. steps: what one call does of it."""

    name: str
    ours: Callable[[], Timed]
    rivals: tuple[Rival, ...]
    operations: int = 0
    traffic: int = 0
    resident: int = 0
    elements: int = 0
    steps: int = 1
    quick: bool = False


def timed(node: IntegerNode) -> Timed:
    return Here(node.call())


def warmed(stream: Callable[[], object]) -> Timed:
    """Steps of a stream, after as many as it takes until their plan is compiled."""
    for _ in range(2 + REPEATS // STEPS):
        stream()
    return Here(stream)


def layer(rows: int, depth: int, units: int, exact: bool, table: tuple[int, ...] = ()) -> IntegerNode:
    """A fully connected layer to int8 codes, or `exact`: to the int32 sums themselves."""
    y = codes(rows, units, dtype="i32", scale=2.0**-14) if exact else codes(rows, units, scale=sums(depth))
    parameters = codes(units, depth), reals(units)
    return node_of("fully_connected", (codes(rows, depth),), parameters, (y,), table=table)


def product(
    name: str, sizes: tuple[int, int, int], rivals: tuple[Rival, ...], exact: bool, quick: bool
) -> Work:
    """A product of matrices of the given rows, depth and units."""
    rows, depth, units = sizes
    weights = depth * units
    return Work(
        f"{name} {rows} x {depth} x {units}",
        lambda: timed(layer(*sizes, exact)),
        rivals,
        2 * rows * weights,
        weights,
        weights,
        quick=quick,
    )


def exact_products() -> Iterator[Work]:
    """int8 by int8 to exact int32."""
    large = (64, 256, 1024), (64, 640, 2560), (512, 640, 640), (512, 640, 2560), (64, 1024, 4096)
    for sizes in large:
        rivals = (
            Rival(MATMUL_INTEGER, 1.15, lambda s=sizes: peers.matmul_integer(*s)),
            Rival(INT_MM, 1.05, lambda s=sizes: peers.torch_int_mm(*s)),
            Rival(TORCH, 3.9, lambda s=sizes: peers.torch_mm(*s)),
        )
        yield product("GEMM to int32", sizes, rivals, True, sizes == large[1])
    few = ((8, 256, 1024), 2.2, 3.9), ((8, 640, 2560), 2.2, 3.9), ((1, 640, 2560), 3.0, 10.0)
    for sizes, integer, real in few:
        rivals = (
            Rival(MATMUL_INTEGER, integer, lambda s=sizes: peers.matmul_integer(*s)),
            Rival(RUNTIME, real, lambda s=sizes: peers.matmul_float(*s)),
            Rival(TORCH, None, lambda s=sizes: peers.torch_mm(*s)),
        )
        yield product(
            "GEMV to int32" if sizes[0] == 1 else "GEMM to int32", sizes, rivals, True, sizes[1] == 640
        )


def requantised_products() -> Iterator[Work]:
    """int8 by int8 to int8."""
    for sizes in ((512, 256, 1024), (512, 640, 640), (64, 640, 2560)):
        rival = Rival(QUANTISED_MATMUL, 1.24, lambda s=sizes: peers.quantised_matmul(*s))
        yield product("GEMM to int8", sizes, (rival,), False, sizes[0] == 64)


def packed_vectors() -> Iterator[Work]:
    """A vector by weights that rest as indices into a table, against the same codes unpacked."""
    for bits, target in ((4, 1.9), (2, 4.0)):
        palette = Palette(bits, (tuple(range(-(2**bits) // 2 * 8, 2**bits // 2 * 8, 8)),))
        for depth, units in ((1024, 4096), (2560, 4096)):
            yield packed_vector(palette, depth, units, target)


def packed_vector(palette: Palette, depth: int, units: int, target: float) -> Work:
    weights = depth * units * palette.bits // 8

    def node() -> IntegerNode:
        return layer(1, depth, units, False, palette.tables[0])

    return Work(
        f"GEMV 1 x {depth} x {units}, {palette.bits}-bit palette",
        lambda: timed(node().packed(palette)),
        (Rival("nnaq on int8 codes", target, lambda: peers.here(node().call())),),
        2 * depth * units,
        weights,
        weights,
        quick=depth == 1024,
    )


def lstm(frames: int, batch: int, inputs: int, units: int) -> IntegerNode:
    x, y = (codes(frames, batch, width) for width in (inputs, units))
    h, c = codes(batch, units), codes(batch, units, dtype="i16", scale=2.0**-11)
    weights = codes(4 * units, inputs, scale=2.0**-11), codes(4 * units, units, scale=2.0**-11)
    return node_of("lstm", (x, h, c), (*weights, reals(4 * units)), (y, h, c))


def lstm_layers(frames: int = 200, units: int = 640) -> Iterator[Work]:
    """A layer over a stretch of time."""
    weights = 4 * units * units
    for batch, target in ((1, 9.0), (8, 3.5), (32, 3.5)):
        sizes = frames, batch, units, units
        yield Work(
            f"LSTM layer, {frames} frames, batch {batch}, {units} units",
            lambda s=sizes: timed(lstm(*s)),
            (Rival(TORCH, target, lambda s=sizes: peers.torch_lstm(*s)),),
            4 * frames * batch * weights,
            (frames + 1) * weights,
            weights,
            quick=batch == 1,
        )


def lstm_step(units: int = 640) -> Work:
    """One frame after the other, states fed back."""
    weights = 2 * 4 * units * units

    def ours() -> Timed:
        node = lstm(1, 1, units, units)
        interpreter, frame = Interpreter(node.stream({1: 1, 2: 2})), {"x0": node.arrays[0]}

        def stream() -> None:
            interpreter.reset()
            for _ in range(STEPS):
                interpreter.step(frame)

        return warmed(stream)

    rival = Rival(RUNTIME, 4.5, lambda: peers.lstm_steps(1, STEPS, units, units))
    name = f"LSTM streaming step, {units} units"
    return Work(name, ours, (rival,), 2 * weights, weights, weights, steps=STEPS, quick=True)


def convolutions() -> Iterator[Work]:
    """conv1d as wide as those of speech models, and depthwise."""
    for length, channels, width in ((200, 256, 5), (200, 512, 5), (200, 512, 9), (1000, 512, 5)):
        sizes = channels, length + width - 1, channels, width
        rivals = (
            Rival(TORCH, 4.8, lambda s=sizes: peers.torch_conv(*s)),
            Rival(QUANTISED_CONV, 1.1, lambda s=sizes: peers.quantised_conv(*s)),
        )
        yield convolution("conv1d", *sizes, 1, rivals, length == 200 and width == 5 and channels == 256)
    for length, channels, width in ((200, 256, 5), (200, 512, 15), (1000, 512, 31)):
        sizes = channels, length + width - 1, channels, width
        rivals = (Rival(TORCH, 3.4, lambda s=sizes: peers.torch_conv(*s, groups=s[0])),)
        yield convolution("depthwise conv1d", *sizes, channels, rivals, width == 15)


def convolution(
    name: str,
    channels: int,
    length: int,
    units: int,
    width: int,
    groups: int,
    rivals: tuple[Rival, ...],
    quick: bool,
) -> Work:
    frames, depth = length - width + 1, channels // groups * width
    attrs = {"stride": 1, "dilation": 1, "padding": (0, 0), "groups": groups, "activation": "none"}

    def ours() -> Timed:
        parameters = codes(units, channels // groups, width), reals(units)
        y = codes(1, units, frames, scale=sums(depth))
        return timed(node_of("conv1d", (codes(1, channels, length),), parameters, (y,), attrs))

    weights = units * depth
    told = f"{name}, {frames} frames, {units} channels, {width} taps"
    return Work(told, ours, rivals, 2 * frames * weights, weights, weights, quick=quick)


def rows() -> Iterator[Work]:
    """What has no products of matrices."""
    for count, width in ((200, 512), (512, 1024)):
        yield Work(
            f"layer norm {count} x {width}",
            lambda s=(count, width): timed(layer_norm(*s)),
            (Rival(TORCH, 1.25, lambda s=(count, width): peers.torch_layer_norm(*s)),),
            elements=count * width,
            quick=count == 200,
        )
    for count, width in ((200, 512), (512, 1024)):
        yield Work(
            f"softmax {count} x {width}",
            lambda s=(count, width): timed(softmax(*s)),
            (Rival(TORCH, 5.0, lambda s=(count, width): peers.torch_softmax(*s)),),
            elements=count * width,
            quick=count == 200,
        )


def layer_norm(count: int, width: int) -> IntegerNode:
    attrs = {"axis": -1, "epsilon": 1e-5}
    x, y = codes(count, width), codes(count, width, scale=2.0**-5)
    return node_of("layer_norm", (x,), (reals(width), reals(width)), (y,), attrs)


def softmax(count: int, width: int) -> IntegerNode:
    x, y = codes(count, width, scale=2.0**-4), codes(count, width, scale=2.0**-8, zero_point=-128)
    return node_of("softmax", (x,), (), (y,))


def works() -> list[Work]:
    """All of them, in the order of the table."""
    return [
        *exact_products(),
        *requantised_products(),
        *packed_vectors(),
        *lstm_layers(),
        lstm_step(),
        *convolutions(),
        *rows(),
    ]
