"""Finding the table of a million weights beside SciPy's k-means, in turns; writes results/codebooks.json.

    python benchmarks/codebooks.py

Ours is the whole way from weights to int8 codes at one scale per tensor. The peer is kmeans2 from evenly
spaced quantiles, ten rounds, and its codes are real numbers, off the int8 grid; neither knows of the other's
start. `sqnr` and `peer_sqnr` are the signal to quantisation noise ratios reached, in dB: a time means
nothing without them. Peaks are what tracemalloc sees beyond the weights themselves. `optimal_real`, the
exact real table, races too: it is the yardstick of the others. The ratio is the peer's time divided by
ours: above 1 nnaq is the faster.
"""

import tracemalloc
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import numpy as np
from measuring import circumstances, on_one_thread, race, seconds_of, write_results
from scipy.cluster.vq import kmeans2

from nnaq.codebooks.choice import PaletteChoice
from nnaq.codebooks.fit import FINDERS, fit_palette
from nnaq.codebooks.optimal_real import optimal_real

ROUNDS = 3
WEIGHTS = np.random.default_rng(0).standard_normal((1024, 1024))
BITS = (2, 4, 6)
LLOYD_ROUNDS = 10
MOST_REAL_BITS = 4  # beyond, the paths of optimal_real take 256 MB and more


class SciPy:
    """kmeans2, measured in this process: it is a library, and takes one thread as we do."""

    def __init__(self, bits: int) -> None:
        self.work = lambda: self.centroids(2**bits)

    def centroids(self, entries: int) -> np.ndarray:
        flat = WEIGHTS.reshape(-1, 1)
        start = np.quantile(flat, (np.arange(entries) + 0.5) / entries)[:, None]
        found, _ = kmeans2(flat, start, LLOYD_ROUNDS, minit="matrix")
        return np.sort(found[:, 0])

    def seconds(self) -> float:
        return seconds_of(self.work)


def ratio(rounded: np.ndarray) -> float:
    """Signal to noise in dB."""
    return float(10 * np.log10(np.square(WEIGHTS).sum() / np.square(WEIGHTS - rounded).sum()))


def to_nearest(centroids: np.ndarray) -> np.ndarray:
    return centroids[np.searchsorted((centroids[1:] + centroids[:-1]) / 2, WEIGHTS)]


def peak(work: Callable[[], Any]) -> int:
    """The most bytes `work` holds at once, its result included."""
    tracemalloc.start()
    work()
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return most


def finder(method: str, bits: int, scale: str) -> tuple[Callable[[], Any], Callable[[Any], np.ndarray]]:
    """What is timed, and what the weights become by its result."""
    choice = PaletteChoice(bits, method=method, scale=scale)
    scales = np.full(len(WEIGHTS), np.abs(WEIGHTS).max() / 127)
    return lambda: fit_palette(WEIGHTS, scales, choice), lambda found: found.codes * found.scale[:, None]


def contests() -> list[tuple[str, int, Callable[[], Any], Callable[[Any], np.ndarray]]]:
    """Name, bits, work, and what the weights become."""
    found = [(f"{m}, scale kept", bits, *finder(m, bits, "kept")) for bits in BITS for m in FINDERS]
    found += [("optimal, scales fitted", bits, *finder("optimal", bits, "fitted")) for bits in BITS]
    real = [
        (bits, lambda bits=bits: optimal_real(WEIGHTS, 2**bits)) for bits in BITS if bits <= MOST_REAL_BITS
    ]
    return found + [("optimal_real", bits, work, to_nearest) for bits, work in real]


def main() -> None:
    """All races, printed and written."""
    on_one_thread()
    common = {"weights": WEIGHTS.size, "threads": 1, "rounds": ROUNDS, **circumstances()}
    common["versions"] = {**common["versions"], "scipy": version("scipy")}
    records: list[dict[str, object]] = []
    peers = {bits: SciPy(bits) for bits in BITS}
    of_peer = {
        bits: {"peer_peak_bytes": peak(peer.work), "peer_sqnr": ratio(to_nearest(peer.centroids(2**bits)))}
        for bits, peer in peers.items()
    }
    for name, bits, work, becomes in contests():
        figures: dict[str, object] = {**race(work, peers[bits], ROUNDS)}
        figures |= {"peak_bytes": peak(work), "sqnr": ratio(becomes(work())), **of_peer[bits]}
        print(f"{name}, {bits} bits: {figures['seconds']:.4f} s, {figures['sqnr']:.2f} dB,", end=" ")
        print(f"{figures['ratio']:.1f} of SciPy, {figures['peer_sqnr']:.2f} dB")
        peer = f"SciPy, kmeans2, {LLOYD_ROUNDS} rounds"
        records.append({"work": name, "bits": bits, "peer": peer, **figures, **common})
    write_results("codebooks", records)


if __name__ == "__main__":
    main()
