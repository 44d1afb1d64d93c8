"""What this machine can do at most, on one core: products per second and bytes per second.

    python benchmarks/ceilings.py

`products`          integer products and sums (2 operations each) of the instruction that 8-bit kernels are
                    made of, in a loop over registers alone; every sum is fed by its own result, so nothing
                    but the issue of that instruction bounds it
`multiply_adds`     the same with the addition to an accumulator, which some instructions leave to another
`float32`           torch.mm of two large matrices
`bandwidth`         bytes per second of summing 64-bit words that fit in L2, in L3, and nowhere

Each is the best of several tries: what another program takes away is no property of the machine.
"""

import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numba
import numpy as np
import torch
from llvmlite import ir
from measuring import cpu, on_one_thread
from numba.core import cgutils
from numba.extending import intrinsic

from nnaq.kernels.machine.tiers import features, tier

CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
DEFAULT_CACHES = {2: 512 * 1024, 3: 16 * 1024 * 1024}  # where the system does not tell
TRIES = 15
STEPS = 400_000
CHAINS = (8, 10, 12)  # accumulators side by side: how many suit depends on latencies and registers


@dataclass(frozen=True)
class Instruction:
    """A dot product within lanes: result and operand types of LLVM, and products per issue."""

    name: str
    feature: str
    function: str
    lanes: int
    bits: int
    per_lane: int
    sums: bool  # whether it adds to an accumulator itself

    @property
    def operations(self) -> int:
        """Products and sums per issue."""
        return 2 * self.lanes * self.per_lane


INSTRUCTIONS = (
    Instruction("vpdpbusd, 512 bit", "avx512vnni", "llvm.x86.avx512.vpdpbusd.512", 16, 8, 4, True),
    Instruction("vpmaddwd, 512 bit", "avx512bw", "llvm.x86.avx512.pmaddw.d.512", 16, 16, 2, False),
    Instruction("vpmaddwd, 256 bit", "avx2", "llvm.x86.avx2.pmadd.wd", 8, 16, 2, False),
    Instruction("pmaddwd, 128 bit", "sse2", "llvm.x86.sse2.pmadd.wd", 4, 16, 2, False),
)


@dataclass(frozen=True)
class Ceilings:
    """Operations and bytes per second; caches in bytes. products is None where the instruction is not known.

    tier: of nnaq's kernels. features: those of the code generator that such kernels could be made of.
    """

    tier: str
    instruction: str | None
    features: tuple[str, ...]
    products: float | None
    multiply_adds: float | None
    float32: float
    bandwidth: dict[str, float]
    caches: dict[str, int]

    def level(self, resident: int) -> str:
        """Where data of that many bytes is read from again and again."""
        fits = (level for level, size in self.caches.items() if resident <= size)
        return next(fits, "DRAM")


def spinning(one: Instruction, chains: int, adds: bool) -> Callable[[int], int]:
    """A loop of that instruction over registers; `adds`: with an addition behind it."""

    @intrinsic
    def steps(context: Any, count: Any) -> Any:
        return numba.int64(numba.int64), lambda _, builder, __, given: _loop(
            builder, one, chains, adds, given[0]
        )

    @numba.njit
    def spin(count: int) -> int:
        return steps(count)  # type: ignore[call-arg,no-any-return]

    return spin  # type: ignore[no-any-return]


def _loop(builder: Any, one: Instruction, chains: int, adds: bool, count: Any) -> Any:
    """sum_j = sum_j + products(sum_j, constant) `count` times, for every j; one lane of what comes out."""
    sums = ir.VectorType(ir.IntType(32), one.lanes)
    before, loop, after = builder.block, *(builder.append_basic_block(name) for name in ("loop", "after"))
    builder.branch(loop)
    builder.position_at_end(loop)
    values = [count.type, *[sums] * chains]
    heads = [builder.phi(kind) for kind in values]
    made = [
        builder.add(heads[0], count.type(1)),
        *(_products(builder, one, adds, head) for head in heads[1:]),
    ]
    for number, (head, value) in enumerate(zip(heads, made, strict=True)):
        head.add_incoming(ir.Constant(head.type, [number] * one.lanes if number else 0), before)
        head.add_incoming(value, loop)
    builder.cbranch(builder.icmp_signed("<", made[0], count), loop, after)
    builder.position_at_end(after)
    total = made[1]
    for value in made[2:]:
        total = builder.add(total, value)
    return builder.sext(builder.extract_element(total, ir.IntType(32)(0)), ir.IntType(64))


def _products(builder: Any, one: Instruction, adds: bool, head: Any) -> Any:
    operand = ir.VectorType(ir.IntType(one.bits), one.lanes * one.per_lane)
    kinds = [head.type, operand, operand] if one.sums else [operand, operand]
    function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(head.type, kinds), one.function)
    seen, weight = builder.bitcast(head, operand), ir.Constant(operand, [3] * operand.count)
    if one.sums:
        return builder.call(function, [head, seen, weight])
    made = builder.call(function, [seen, weight])
    return builder.add(head, made) if adds else made


def best(work: Callable[[], object], amount: float) -> float:
    """Amount per second of the quickest try."""
    work()
    found = []
    for _ in range(TRIES):
        start = time.process_time()
        work()
        found.append(time.process_time() - start)
    return amount / min(found)


def integer_peak(one: Instruction, adds: bool) -> float:
    """The best number of chains."""
    rates = []
    for chains in CHAINS:
        spin = spinning(one, chains, adds)
        rates.append(best(lambda run=spin: run(STEPS), one.operations * chains * STEPS))  # type: ignore[misc]
    return max(rates)


def float_peak(size: int = 1024) -> float:
    """torch.mm, square."""
    torch.set_num_threads(1)
    matrix = torch.ones(size, size)
    return best(lambda: torch.mm(matrix, matrix), 2 * size**3)


@numba.njit
def total_of(words):  # type: ignore[no-untyped-def]
    """The sum of 64-bit words, as quick as they come in."""
    total = np.uint64(0)
    for k in range(words.size):
        total += words[k]
    return total


def bandwidth(size: int) -> float:
    """Bytes per second of reading `size` bytes over and over."""
    words = np.ones(size // 8, np.uint64)
    rounds = max(1, (32 << 20) // size)

    def read() -> None:
        for _ in range(rounds):
            total_of(words)

    return best(read, size // 8 * 8 * rounds)


def caches() -> dict[str, int]:
    """Bytes of L2 and L3 as one core sees them."""
    found = dict(DEFAULT_CACHES)
    for folder in CACHES.glob("index*"):
        level, size = (int((folder / name).read_text().strip("K\n")) for name in ("level", "size"))
        found[level] = size * 1024
    return {f"L{level}": found[level] for level in (2, 3)}


def measure() -> Ceilings:
    """All of them; takes some seconds."""
    given, sizes = features(), caches()
    one = next((one for one in INSTRUCTIONS if one.feature in given), None)
    told = ("avx512vnni", "avxvnni", "avx512bw", "avx2", "fma", "dotprod", "i8mm")
    rates = {level: bandwidth(size // 2) for level, size in sizes.items()}
    return Ceilings(
        tier().name,
        one.name if one else None,
        tuple(name for name in told if name in given),
        integer_peak(one, adds=False) if one else None,
        integer_peak(one, adds=True) if one else None,
        float_peak(),
        {**rates, "DRAM": bandwidth(max(4 * sizes["L3"], 256 << 20))},
        sizes,
    )


def main() -> None:
    """Print them."""
    on_one_thread()
    found = measure()
    print(cpu(), f"load {os.getloadavg()[0]:.1f}")
    for name, value in asdict(found).items():
        print(f"{name}: {value}")


if __name__ == "__main__":
    main()
