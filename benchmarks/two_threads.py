"""Large products on two threads beside one: results/two_threads.json.

    python benchmarks/two_threads.py [--rounds N]

Every library lives in processes of its own, one with one thread and one with two (`NNAQ_THREADS`,
torch.set_num_threads): pools of two libraries in one process wait for each other. Processes take turns;
times are wall times, medians. A machine with other work has no second thread to give, so the load is told.
There are no targets.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

from measuring import THREADS, circumstances, write_results
from rich.progress import track

SHAPES = ((512, 640, 640), (512, 640, 2560), (2048, 640, 2560))  # rows, inputs, outputs
ROUNDS, COUNTS = 9, (1, 2)


def nnaq_product(rows: int, inputs: int, outputs: int, threads: int) -> Callable[[], object]:
    """Int8 codes to int8 codes; how many threads is in the environment."""
    from kernel_races import layer

    return layer(rows, inputs, outputs, exact=False).call()


def torch_product(rows: int, inputs: int, outputs: int, threads: int) -> Callable[[], object]:
    """The same product in float32."""
    import torch

    torch.set_num_threads(threads)
    x, weight = torch.randn(rows, inputs), torch.randn(outputs, inputs)
    return lambda: torch.nn.functional.linear(x, weight)


LIBRARIES = {"nnaq": nnaq_product, "torch, float32": torch_product}


class Worker:
    """A library with so many threads in a process of its own."""

    def __init__(self, library: str, threads: int, shape: tuple[int, ...]) -> None:
        words = [sys.executable, __file__, "--worker", library, str(threads), *map(str, shape)]
        given = {**os.environ, **dict.fromkeys(THREADS, str(threads)), "NNAQ_THREADS": str(threads)}
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(words, env=given, stdin=pipe, stdout=pipe, text=True)
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.asked, self.told = self.process.stdin, self.process.stdout

    def seconds(self) -> float:
        """Wall seconds of a run, the quickest of a few."""
        print("go", file=self.asked, flush=True)
        return float(self.told.readline())

    def close(self) -> None:
        self.process.communicate()


def serve(work: Callable[[], object]) -> None:
    """Answer every line with the wall seconds of a run."""
    work()
    for _ in sys.stdin:
        times = []
        for _ in range(5):
            start = time.perf_counter()
            work()
            times.append(time.perf_counter() - start)
        print(min(times), flush=True)


def rows_of(shape: tuple[int, ...], rounds: int) -> list[dict[str, object]]:
    """One and two threads of every library on one shape."""
    workers = {(name, count): Worker(name, count, shape) for name in LIBRARIES for count in COUNTS}
    try:
        turns = [{key: one.seconds() for key, one in workers.items()} for _ in range(rounds)]
    finally:
        for worker in workers.values():
            worker.close()
    middle = {key: statistics.median(turn[key] for turn in turns) for key in workers}
    gain = {name: statistics.median(turn[name, 1] / turn[name, 2] for turn in turns) for name in LIBRARIES}
    return [
        {
            "work": " x ".join(map(str, shape)),
            "library": name,
            "one_thread_seconds": middle[name, 1],
            "two_threads_seconds": middle[name, 2],
            "gain": gain[name],
        }
        for name in LIBRARIES
    ]


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--worker", nargs=5, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        library, threads, *shape = given.worker
        serve(LIBRARIES[library](*map(int, shape), int(threads)))
        return
    before = os.getloadavg()[0]
    rows = [row for shape in track(SHAPES, description="shapes") for row in rows_of(shape, given.rounds)]
    for row in rows:
        print(f"{row['work']:<18} {row['library']:<15} two threads {row['gain']:.2f} times as quick as one")
    told = {"rounds": given.rounds, "load": before, "threads": 2, **circumstances("torch")}
    write_results("two_threads", {**told, "rows": rows})


if __name__ == "__main__":
    main()
