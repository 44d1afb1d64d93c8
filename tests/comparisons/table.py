"""The table of comparisons, and the count of values and mismatches of one of them.

A comparison is a generator `(vectors, mode, kernel)` of pairs: what nnaq's kernel gave, and what the
oracle gave. It never judges outputs itself. It may assert what must hold before outputs can be
compared, such as multipliers that both sides make from the same scales.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from oracles.vectors import load_vectors

from nnaq.ir.op import Op, Signature

GOLDEN = Path(__file__).parents[1] / "golden" / "oracles"
KERNELS = ("fast", "reference")
Case = dict[str, np.ndarray]
Pair = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Vectors:
    """One file of vectors; `folder` holds it and its neighbours."""

    folder: Path
    op: str
    cases: list[Case]
    constants: Case

    def neighbour(self, name: str) -> "Vectors":
        """Another file of the same folder."""
        return read_vectors(self.folder, name)


Comparison = Callable[[Vectors, str, str], Iterator[Pair]]


class Key(NamedTuple):
    """What one comparison covers; `file` is the name of the vectors."""

    oracle: str
    op: str
    mode: str

    @property
    def file(self) -> str:
        return f"{self.oracle}__{self.op}"

    def __str__(self) -> str:
        return "-".join(self)


@dataclass(frozen=True)
class Measured:
    """How many values were compared, how many differ, and where the first one is."""

    values: int
    mismatches: int
    first: str = ""


TABLE: dict[Key, Comparison] = {}


def compares(file: str, *modes: str) -> Callable[[Comparison], Comparison]:
    """Enter a comparison for `file` under each rounding mode."""

    def enter(comparison: Comparison) -> Comparison:
        oracle, op = file.split("__")
        TABLE.update({Key(oracle, op, mode): comparison for mode in modes})
        return comparison

    return enter


def keys_of(module: str) -> list[Key]:
    """The keys whose comparisons stand in one module of this folder."""
    return [key for key, comparison in TABLE.items() if comparison.__module__.endswith(f".{module}")]


def read_vectors(folder: Path, name: str) -> Vectors:
    header, cases, constants = load_vectors(folder / f"{name}.npz")
    assert header["case_count"] == len(cases)
    return Vectors(folder, header["op"], cases, constants)


def measure(key: Key, folder: Path = GOLDEN, kernel: str = "fast") -> Measured:
    """Run one comparison on the vectors in `folder`; shapes must agree, and something must be compared."""
    values = mismatches = 0
    first = ""
    for number, (ours, theirs) in enumerate(TABLE[key](read_vectors(folder, key.file), key.mode, kernel)):
        assert ours.shape == theirs.shape, f"{key}, pair {number}: {ours.shape}, the oracle {theirs.shape}"
        wrong = np.flatnonzero(ours.ravel() != theirs.ravel())
        if wrong.size and not first:
            at = int(wrong[0])
            first = f"pair {number}, value {at}: {ours.ravel()[at]}, the oracle {theirs.ravel()[at]}"
        values += theirs.size
        mismatches += wrong.size
    assert values, f"{key}: {key.file} holds nothing to compare"
    return Measured(values, int(mismatches), first)


def outcome(kernel: str, op: Op, signature: Signature, arrays: Sequence[np.ndarray]) -> np.ndarray:
    """The first result of an operator's fast or reference kernel."""
    result: np.ndarray = getattr(op, kernel)(signature, *arrays)[0]
    return result
