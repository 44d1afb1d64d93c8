"""Speed of kernels that read packed weights beside the same kernels on codes, in turns, on one thread.

    python benchmarks/packed.py

Writes results/packed.json. The ratio is the time on codes divided by the time on packed indices: above 1 the
packed weight is the faster. Bytes are what either holds in memory: codes, or indices and tables.
"""

import statistics
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from measuring import circumstances, on_one_thread, seconds_of, write_results

import nnaq.kernels  # noqa: F401  (fills the operator table)
from nnaq.ir.dims import bind
from nnaq.ir.numerics import Numerics
from nnaq.ir.op import Constant, Op, Signature, lookup
from nnaq.ir.types import Palette, Quant, TensorType, storage
from nnaq.kernels.codebook import PackedCodes, pack_codes

ROUNDS = 15
TURN = 0.005  # seconds that one turn of a race should take at least
RANDOM = np.random.default_rng(0)


@dataclass(frozen=True)
class Layer:
    """An integer node: the shapes of its activations and of its weights by position."""

    work: str
    op: str
    activations: tuple[TensorType, ...]
    weights: tuple[tuple[int, ...], ...]
    outputs: tuple[TensorType, ...]


def codes(*shape: int, dtype: str = "i8", scale: float = 2.0**-7) -> TensorType:
    return TensorType(dtype, shape, Quant((scale,)))


STATE, CELL = codes(1, 256), codes(1, 256, dtype="i16", scale=2.0**-11)
LAYERS = (
    Layer("GEMV 1024 x 1024", "fully_connected", (codes(1, 1024),), ((1024, 1024),), (codes(1, 1024),)),
    Layer("GEMM 128 x 512 x 512", "fully_connected", (codes(128, 512),), ((512, 512),), (codes(128, 512),)),
    Layer(
        "conv1d [1,64,256] x [64,64,3]",
        "conv1d",
        (codes(1, 64, 256),),
        ((64, 64, 3),),
        (codes(1, 64, 254),),
    ),
    Layer(
        "LSTM step, 256 units",
        "lstm",
        (codes(1, 1, 256), STATE, CELL),
        ((1024, 256), (1024, 256)),
        (codes(1, 1, 256), STATE, CELL),
    ),
)


def palette_of(bits: int) -> Palette:
    """One table of 2^bits entries."""
    entries = RANDOM.choice(256, 2**bits, replace=False) - 128
    return Palette(bits, (tuple(sorted(map(int, entries))),))


def node_of(layer: Layer, palette: Palette) -> tuple[Op, Signature, list[np.ndarray], dict[int, PackedCodes]]:
    """The operator, its signature, its arrays, and its weights packed."""
    op, kinds = lookup(layer.op), [*layer.activations]
    arrays = [RANDOM.integers(-128, 128, bind(kind.shape, {})).astype(storage(kind.dtype)) for kind in kinds]
    given: list[np.ndarray | None] = [None] * len(arrays)
    for shape in layer.weights:
        kinds.append(codes(*shape))
        given.append(RANDOM.choice(np.array(palette.tables[0], np.int8), shape))
    signature = Signature(tuple(kinds), layer.outputs, {})
    prepared = op.prepare(signature, tuple(given), Numerics())
    every = [*arrays, *given[len(arrays) :]]
    parts = [
        (part.type, part.value) if isinstance(part, Constant) else (kinds[part], every[part])
        for part in prepared.operands
    ]
    operands = [array for _, array in parts if array is not None]
    integer = Signature(tuple(kind for kind, _ in parts), layer.outputs, prepared.attrs)
    places = range(len(layer.activations), len(kinds))
    return op, integer, operands, {place: pack_codes(operands[place], palette) for place in places}


def turns(plain: Callable[[], object], packed: Callable[[], object]) -> dict[str, float]:
    """Medians of both, and of the ratios turn by turn."""
    plain(), packed()
    calls = max(1, round(TURN / seconds_of(plain)))
    pairs = [(seconds_of(plain, calls) / calls, seconds_of(packed, calls) / calls) for _ in range(ROUNDS)]
    return {
        "ratio": statistics.median(a / b for a, b in pairs),
        "seconds": statistics.median(b for _, b in pairs),
        "peer_seconds": statistics.median(a for a, _ in pairs),
    }


def main() -> None:
    """All widths of all layers, printed and written."""
    on_one_thread()
    common = {"target": None, "threads": 1, "rounds": ROUNDS, **circumstances()}
    records: list[dict[str, object]] = []
    for layer in LAYERS:
        for bits in range(1, 9):
            op, signature, arrays, weights = node_of(layer, palette_of(bits))
            mixed = [weights.get(place, array) for place, array in enumerate(arrays)]
            figures = turns(
                lambda run=op.fast, s=signature, a=arrays: run(s, *a),  # type: ignore[misc]
                lambda run=op.fast, s=signature, a=mixed: run(s, *a),  # type: ignore[misc]
            )
            held = {
                "bytes": sum(weight.nbytes for weight in weights.values()),
                "peer_bytes": sum(weight.size for weight in weights.values()),
            }
            print(f"{layer.work}, {bits} bits: {figures['ratio']:.2f}, {held['bytes']} bytes")
            work = f"{layer.work}, {bits} bits"
            records.append({"work": work, "peer": "nnaq on int8 codes", **figures, **held, **common})
    write_results("packed", records)


if __name__ == "__main__":
    main()
