"""Conformance with outside runtimes: how many values nnaq's kernels gave, bit for bit.

    python benchmarks/conformance.py            measure; write results/conformance.json and the page
    python benchmarks/conformance.py --render   write docs/conformance.md from the results as they stand
    python benchmarks/conformance.py --check    exit 1 where docs/conformance.md does not show the results

One record per operator, oracle and rounding mode. The comparisons are those of the tests; the vectors
are fresh ones, made by the same drivers from another seed and far longer than the golden files. A full
run takes about five minutes on two cores; environments of oracles that are missing are made first.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from comparisons import TABLE, Key, measure  # noqa: E402
from oracles.vectors import TIES, read_header  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results" / "conformance.json"
PAGE = ROOT / "docs" / "conformance.md"
GENERATE = ROOT / "tests" / "oracles" / "generate.py"
RUNTIMES = {"ort": "ONNX Runtime", "tflm": "tflite-micro", "tosa": "TOSA reference model"}
SEED = 2026
TARGET = 1_300_000  # values per operator and mode, 10^6 at least: shapes are drawn at random
LONGER = {  # operators whose results do not grow with all of their data
    "tosa__pad_int8": 4,
    "tosa__slice_int8": 2,
    "tosa__tile_int8": 2,
    "tosa__transpose_int8": 2,
    "tosa__transpose_conv2d_int8": 2,
    **{
        f"tosa__{name}": 2
        for name in ("rescale", "concat_int8", "resize_bilinear_int8", "resize_nearest_int8")
    },
    **{f"tosa__reduce_{name}": 2 for name in ("sum_int32", "max_int8", "max_int16", "min_int8", "min_int16")},
}
WHOLE = ("tflm__gate_curves",)  # every code there is; the LSTMs read it beside their own file
LEAD = """<!-- Written by benchmarks/conformance.py; run `make conformance` instead of editing. -->
# Conformance

Values that nnaq's kernels computed from the inputs of an outside runtime, beside the results of that runtime.
A mismatch is one value that is not equal; there is no tolerance. The rounding mode is the one under which the
oracle defines its result ([numerics](numerics.md)); `exact`, `table`, `half_away` and the like name what is
rounded nowhere, through a table, or by a division. Ties are the values that lay exactly between two results,
below and above 0, before the oracle's last rounding: where the modes differ most. They are counted where a
multiplier rescales; right shifts run from 0 to the largest that the operator's numbers can reach.

`make conformance` makes these vectors from a seed of its own and compares them with the compiled kernels.
Small ones, of another seed, are committed ([oracles](oracles.md)): the tests hold the compiled and the plain
kernels to them, and `pytest -m oracle` repeats that with fresh seeds.
"""
LIMITS = """## What is not counted, and why

- Rescales by more than 2^14, which nnaq never makes; products of 32-bit operands with a shift, which it does
  not have; layers with a bias beyond 48 bits, which it refuses.
- Sums that an oracle gives in 32 bits are compared after saturation to 16, the widest result of a layer.
- Bilinear resizing in TOSA gives whole sums, which nnaq divides once: the sums are compared after that
  division.
- `logistic_int8` and `tanh_int8`: tflite-micro makes its table in float32, nnaq in float64. Codes whose real
  result lies within 2^-14 of a tie are left out, about one in 10,000; there the runtime was seen one off the
  nearest code, at 3 * 2^-20 from the tie.
- `qlinear_add`: ONNX Runtime joins the zero point before it rounds, so that a tie goes to the even code;
  nnaq's `half_even` goes to the even number of steps from the zero point, as QLinearMatMul and QLinearConv
  do. Ties are compared where the zero point of the result is even and both are one. Elsewhere sums within
  2^-14 of a tie are left out, because ONNX Runtime adds in float32.
- `gate_curves` are every code there is, so there are no more than 131,072 of them.
- Layer, group and RMS norms have no row: their squares and variances need 62-bit integers, and TOSA computes
  with 32 (its 48-bit sums can only be rescaled); neither tflite-micro nor ONNX Runtime has an integer form.
- A TOSA graph has no GRU, LSTM, softmax or attention of its own: these rows are chains of its primitives.

Matrix products of int8 are compared twice: with the second operand as a weight and as an activation. The rows
of `lstm_int8`, `gru_int8` and `attention_int8` hold intermediate states too.
"""


@dataclass(frozen=True)
class Made:
    """One large file of vectors."""

    path: Path
    header: dict


def bulk_of(file: str) -> int:
    """How many times longer than the committed vectors the new ones must be."""
    if file in WHOLE:
        return 1
    return -(-TARGET * LONGER.get(file, 1) // min(measure(key).values for key in TABLE if key.file == file))


def make(file: str, bulk: int, seed: int, folder: Path) -> Made:
    """The vectors of one operator."""
    oracle, op = file.split("__")
    command = [sys.executable, str(GENERATE), "--oracle", oracle, "--op", op, "--seed", str(seed)]
    command += ["--out", str(folder), "--bulk", str(bulk)]
    finished = subprocess.run(command, capture_output=True, text=True)
    if finished.returncode:
        sys.exit(f"{oracle} could not make {op}:\n{finished.stderr}")
    path = folder / f"{file}.npz"
    return Made(path, read_header(path))


def made_ahead(files: Sequence[str], seed: int, folder: Path) -> Iterator[tuple[str, Made]]:
    """Every file with its vectors; the next ones are made while one is compared, then it is deleted."""
    with ThreadPoolExecutor(max_workers=1) as maker:
        coming = [maker.submit(make, file, bulk_of(file), seed, folder) for file in files[:1]]
        for file, following in zip(files, [*files[1:], None], strict=True):
            made = coming.pop().result()
            if following:
                coming.append(maker.submit(make, following, bulk_of(following), seed, folder))
            yield file, made
            if file not in WHOLE:
                made.path.unlink()


def record(key: Key, made: Made) -> dict[str, object]:
    """One row: how the fast kernel fares under one mode."""
    found = measure(key, made.path.parent)
    row = {"op": key.op, "oracle": key.oracle, "mode": key.mode}
    row |= {"values": found.values, "mismatches": found.mismatches}
    if TIES[0] in made.header:
        row["ties"] = [made.header[name] for name in TIES]
    if found.mismatches:
        row["first"] = found.first
    return row | {"seed": made.header["seed"], "versions": made.header["versions"].split()}


def measure_all(seed: int, only: str | None) -> list[dict]:
    """All rows, or those of one operator."""
    files = sorted({key.file for key in TABLE if only in (None, key.op)})
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for file, made in made_ahead(files, seed, Path(scratch)):
            for key in sorted(key for key in TABLE if key.file == file):
                rows.append(record(key, made))
                print(
                    f"{key}: {rows[-1]['values']:,} values, {rows[-1]['mismatches']:,} mismatches", flush=True
                )
    return rows


def set_up(oracles: Sequence[str]) -> None:
    """Make the environments that are missing."""
    for oracle in oracles:
        if not (ROOT / ".oracles" / oracle / "bin" / "python").exists():
            subprocess.run([sys.executable, str(GENERATE), "--setup", "--oracle", oracle], check=True)


def render(records: list[dict]) -> str:
    """The page: a table with the sum of its values."""
    lines = [
        "| oracle | operator there | rounding | values | mismatches | ties - / + | seed | version |",
        "|---|---|---|---:|---:|---:|---:|---|",
    ]
    for row in records:
        name, version = RUNTIMES[row["oracle"]], row["versions"][0].split("==")[1]
        ties = " / ".join(f"{count:,}" for count in row.get("ties", ()))
        counts = f"{row['values']:,} | {row['mismatches']:,} | {ties}"
        lines.append(f"| {name} | `{row['op']}` | `{row['mode']}` | {counts} | {row['seed']} | {version} |")
    values, mismatches = (sum(row[what] for row in records) for what in ("values", "mismatches"))
    total = f"{values:,} values, {mismatches:,} mismatches."
    return "\n".join([LEAD, total, "", *lines, "", LIMITS])


def main() -> None:
    """Measure unless told otherwise; exit 1 where a value differs or, under --check, the page is stale."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--render", action="store_true", help="do not measure")
    parser.add_argument("--check", action="store_true", help="write nothing")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--op", help="renew only the rows of this operator")
    given = parser.parse_args()
    if not given.render and not given.check:
        set_up(sorted({key.oracle for key in TABLE}))
        measured = measure_all(given.seed, given.op)
        if given.op:
            measured += [row for row in json.loads(RESULTS.read_text()) if row["op"] != given.op]
        measured.sort(key=lambda row: (row["oracle"], row["op"], row["mode"]))
        RESULTS.write_text(json.dumps(measured, indent=1) + "\n")
    records = json.loads(RESULTS.read_text())
    page = render(records)
    if given.check:
        sys.exit(0 if PAGE.read_text() == page else f"{PAGE.name} is stale: run `make conformance`")
    PAGE.write_text(page)
    different = [f"{r['oracle']} {r['op']} {r['mode']}" for r in records if r["mismatches"]]
    if different:
        sys.exit(f"not equal to the oracle: {', '.join(different)}")


if __name__ == "__main__":
    main()
