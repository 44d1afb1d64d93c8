"""Golden vectors on disk: many small cases of one operator in one npz file.

A file holds *columns*. A scalar column has one value per case. An array column `name` holds the
arrays of all cases end to end, and `name__shape` (int32, cases x rank) tells how to cut it again.
Flat columns keep the file small: an npz member costs about 250 bytes, and there are many cases.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

SHAPE_SUFFIX = "__shape"
HEADER_KEYS = ("oracle", "op", "mode", "seed", "versions", "values_compared", "case_count")
TIES = ("negative_ties", "positive_ties")  # only in files larger than the golden ones


def random_scale(random, low, high, size=None):
    """Positive float64 scales in [2^low, 2^high), by exact arithmetic only.

    exp() and pow() may differ in the last place between CPUs, and a seed would then not
    reproduce its file.
    """
    return np.ldexp(random.uniform(1, 2, size), random.integers(low, high, size))


def clear_of_ties(codes):
    """Which reals lie at least 2^-14 from the middle between two whole numbers.

    Nearer than that the last place of a runtime's float32 decides, and not its rounding.
    """
    return np.abs(codes - np.floor(codes) - 0.5) >= 2.0**-14


class MismatchError(AssertionError):
    """The outside runtime and the replica of its formula disagree."""


class Collector:
    """The cases of one operator, and the number of values proved equal so far.

    `bulk` is how many times longer the free axis of every case (its rows, its batch) is than in a
    golden file; operators without such an axis make as many more cases.
    """

    def __init__(self, bulk=1):
        self.bulk = bulk
        self.cases = []
        self.constants = {}
        self.values_compared = 0
        self.ties = None

    def note_ties(self, product, shift):
        """Count the integers `product` that lie exactly between two multiples of 2^shift, by sign.

        An operator that calls this at all must meet ties of both signs; a shift of 0 makes none.
        """
        product, shift = np.asarray(product, np.int64), np.asarray(shift, np.int64)
        half = np.int64(1) << np.maximum(shift - 1, 0)
        tie = ((product & ((half << 1) - 1)) == half) & (shift > 0)
        self.count_ties(tie, product)

    def count_ties(self, tie, signed):
        """The same, where the caller knows what a tie is."""
        found = np.array([np.sum(tie & (signed < 0)), np.sum(tie & (signed > 0))])
        self.ties = found if self.ties is None else self.ties + found

    def prove(self, oracle_values, replica_values, what):
        """Count the values as compared, or fail when one of them differs."""
        if oracle_values.shape != replica_values.shape:
            raise MismatchError(f"{what}: shape {oracle_values.shape} vs {replica_values.shape}")
        wrong = np.flatnonzero(oracle_values.ravel() != replica_values.ravel())
        if wrong.size:
            first = wrong[0]
            raise MismatchError(
                f"{what}: {wrong.size} of {oracle_values.size} values differ, first at {first}: "
                f"oracle {oracle_values.ravel()[first]}, replica {replica_values.ravel()[first]}"
            )
        self.values_compared += oracle_values.size

    def add(self, **fields):
        """Keep one case; a float32 `..._scale` also gets its exact float64 twin `..._scale_f64`."""
        twins = {
            f"{name}_f64": np.asarray(value, np.float64)
            for name, value in fields.items()
            if name.endswith("_scale")
        }
        self.cases.append({name: np.asarray(value) for name, value in {**fields, **twins}.items()})


def pack_columns(cases):
    """Turn a list of equal-keyed cases into flat columns."""
    columns = {}
    for name, first in cases[0].items():
        values = [case[name] for case in cases]
        dtypes = {value.dtype for value in values}
        if len(dtypes) != 1:
            raise TypeError(f"column {name} mixes dtypes {sorted(map(str, dtypes))}")
        if first.ndim == 0:
            columns[name] = np.stack(values)
            continue
        columns[name] = np.concatenate([value.ravel() for value in values])
        columns[name + SHAPE_SUFFIX] = np.array([value.shape for value in values], np.int32)
    return columns


def unpack_columns(columns):
    """Turn flat columns back into a list of cases; the inverse of `pack_columns`."""
    names = [name for name in columns if not name.endswith(SHAPE_SUFFIX)]
    unpacked = {}
    for name in names:
        shapes = columns.get(name + SHAPE_SUFFIX)
        if shapes is None:
            unpacked[name] = list(columns[name])
            continue
        ends = np.cumsum(shapes.astype(np.int64).prod(axis=1))[:-1]
        parts = np.split(columns[name], ends)
        unpacked[name] = [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]
    return [dict(zip(unpacked, row, strict=True)) for row in zip(*unpacked.values(), strict=True)]


def read_header(path):
    """What one file says of itself."""
    with np.load(path, allow_pickle=False) as stored:
        return {name: stored[name].item() for name in (*HEADER_KEYS, *TIES) if name in stored.files}


def load_vectors(path):
    """Read one file: (header, cases, constants); constants are arrays shared by all cases."""
    with np.load(path, allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files}
    header = read_header(path)
    arrays = {name: array for name, array in arrays.items() if name not in header}
    constants = {
        name.removeprefix("constant_"): arrays.pop(name)
        for name in list(arrays)
        if name.startswith("constant_")
    }
    return header, unpack_columns(arrays) if arrays else [], constants


def save_vectors(path, header, collector):
    """Write one file that `load_vectors` reads."""
    columns = pack_columns(collector.cases) if collector.cases else {}
    constants = {f"constant_{name}": value for name, value in collector.constants.items()}
    header = {
        **header,
        "values_compared": collector.values_compared,
        "case_count": len(collector.cases),
    }
    if collector.ties is not None:
        if not collector.ties.all():
            raise ValueError(f"{header['op']}: {collector.ties} ties below and above 0, both are needed")
        if collector.bulk > 1:
            header |= dict(zip(TIES, collector.ties, strict=True))
    save = np.savez_compressed if collector.bulk == 1 else np.savez
    save(path, **header, **constants, **columns)


def run_driver(oracle, versions, operators):
    """Command line of every driver: `driver.py OP SEED OUT.npz [--bulk N]`, or `driver.py --list`.

    `operators` maps an op name to (mode, function(random_generator, collector)).
    """
    if sys.argv[1:] == ["--list"]:
        print("\n".join(sorted(operators)))
        return
    parser = argparse.ArgumentParser(description=f"Make oracle vectors with {oracle}.")
    parser.add_argument("op", choices=sorted(operators))
    parser.add_argument("seed", type=int)
    parser.add_argument("out", type=Path)
    parser.add_argument("--bulk", type=int, default=1, help="times as many values as a golden file")
    arguments = parser.parse_args()
    mode, make_cases = operators[arguments.op]
    collector = Collector(arguments.bulk)
    make_cases(np.random.default_rng(arguments.seed), collector)
    header = {
        "oracle": oracle,
        "op": arguments.op,
        "mode": mode,
        "seed": arguments.seed,
        "versions": " ".join(f"{name}=={version}" for name, version in versions.items()),
    }
    save_vectors(arguments.out, header, collector)
    print(f"{arguments.op}: {collector.values_compared} values, 0 mismatches")
