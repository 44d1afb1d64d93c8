"""Speed of kernels that read packed weights beside the same kernels on codes, in turns, on one thread.

    python benchmarks/packed.py

Writes results/packed.json. The ratio is the time on codes divided by the time on packed indices: above 1 the
packed weight is the faster. Bytes are what either holds in memory: codes, or indices and tables.
"""

from dataclasses import dataclass

from measuring import Here, circumstances, contest, on_one_thread, write_results
from random_nodes import RANDOM, codes, node_of

from nnaq.ir.types import Palette, TensorType

ROUNDS = 15


@dataclass(frozen=True)
class Layer:
    """An integer node: the types of its activations, of its weights and of its results."""

    work: str
    op: str
    activations: tuple[TensorType, ...]
    weights: tuple[TensorType, ...]
    outputs: tuple[TensorType, ...]


STATE, CELL = codes(1, 256), codes(1, 256, dtype="i16", scale=2.0**-11)
LAYERS = (
    Layer("GEMV 1024 x 1024", "fully_connected", (codes(1, 1024),), (codes(1024, 1024),), (codes(1, 1024),)),
    Layer(
        "GEMM 128 x 512 x 512", "fully_connected", (codes(128, 512),), (codes(512, 512),), (codes(128, 512),)
    ),
    Layer(
        "conv1d [1,64,256] x [64,64,3]",
        "conv1d",
        (codes(1, 64, 256),),
        (codes(64, 64, 3),),
        (codes(1, 64, 254),),
    ),
    Layer(
        "LSTM step, 256 units",
        "lstm",
        (codes(1, 1, 256), STATE, CELL),
        (codes(1024, 256), codes(1024, 256)),
        (codes(1, 1, 256), STATE, CELL),
    ),
)


def palette_of(bits: int) -> Palette:
    """One table of 2^bits entries."""
    entries = RANDOM.choice(256, 2**bits, replace=False) - 128
    return Palette(bits, (tuple(sorted(map(int, entries))),))


def main() -> None:
    """All widths of all layers, printed and written."""
    on_one_thread()
    common = {"target": None, "threads": 1, "rounds": ROUNDS, **circumstances()}
    records: list[dict[str, object]] = []
    for layer in LAYERS:
        for bits in range(1, 9):
            palette = palette_of(bits)
            node = node_of(layer.op, layer.activations, layer.weights, layer.outputs, table=palette.tables[0])
            packed = node.packed(palette)
            figures = contest(Here(packed.call()), {"codes": Here(node.call())}, ROUNDS)["codes"]
            places = range(len(layer.activations), len(layer.activations) + len(layer.weights))
            held = {
                "bytes": sum(packed.arrays[place].nbytes for place in places),
                "peer_bytes": sum(node.arrays[place].nbytes for place in places),
            }
            print(f"{layer.work}, {bits} bits: {figures['ratio']:.2f}, {held['bytes']} bytes")
            work = f"{layer.work}, {bits} bits"
            records.append({"work": work, "peer": "nnaq on int8 codes", **figures, **held, **common})
    write_results("packed", records)


if __name__ == "__main__":
    main()
