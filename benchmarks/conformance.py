"""Conformance with outside runtimes: how many golden values nnaq's kernels gave, bit for bit.

    python benchmarks/conformance.py            measure; write results/conformance.json and the page
    python benchmarks/conformance.py --render   write docs/conformance.md from the results as they stand
    python benchmarks/conformance.py --check    exit 1 where docs/conformance.md does not show the results

One record per operator, oracle and rounding mode. The vectors and the comparisons are those of the tests.
"""

import argparse
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from comparisons import GOLDEN, TABLE, Key, measure  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results" / "conformance.json"
PAGE = ROOT / "docs" / "conformance.md"
INDEX = json.loads((GOLDEN / "index.json").read_text())
RUNTIMES = {"ort": "ONNX Runtime", "tflm": "tflite-micro", "tosa": "TOSA reference model"}
LEAD = """<!-- Written by benchmarks/conformance.py; run `make conformance` instead of editing. -->
# Conformance

Values that nnaq's kernels computed from the inputs of an outside runtime, beside the results of that runtime.
A mismatch is one value that is not equal; there is no tolerance. The rounding mode is the one under which the
oracle defines its result ([numerics](numerics.md)); `exact`, `table`, `half_away` and the like name what is
rounded nowhere, through a table, or by a division. The vectors are committed with their seeds and versions
([oracles](oracles.md)); `pytest -m oracle` repeats everything with fresh seeds.

Not counted: rescales by more than 2^14, which nnaq never makes; products of 32-bit operands, which it does
not have; layers with a bias beyond 48 bits, which it refuses. Sums that an oracle gives in 32 bits are
compared after saturation to 16, the widest result of a layer. Matrix products are compared twice: with the
second operand as a weight and as an activation.
"""


def record(key: Key) -> dict[str, object]:
    """One row: how the fast kernel fares under one mode."""
    found = measure(key)
    versions = INDEX[f"{key.file}.npz"]["versions"]
    counts = {"values": found.values, "mismatches": found.mismatches}
    return {"op": key.op, "oracle": key.oracle, "mode": key.mode, **counts, "versions": versions}


def render(records: list[dict]) -> str:
    """The page: a table with the sum of its values, and what is not compared yet."""
    lines = [
        "| oracle | operator there | rounding | values | mismatches | version |",
        "|---|---|---|---:|---:|---|",
    ]
    for row in records:
        name, version = RUNTIMES[row["oracle"]], row["versions"][0].split("==")[1]
        counts = f"{row['values']:,} | {row['mismatches']:,}"
        lines.append(f"| {name} | `{row['op']}` | `{row['mode']}` | {counts} | {version} |")
    values, mismatches = (sum(row[what] for row in records) for what in ("values", "mismatches"))
    total = f"{values:,} values, {mismatches:,} mismatches."
    waiting = ", ".join(f"`{name.removesuffix('.npz')}`" for name in not_compared(records))
    end = f"\nVectors that wait for an operator of nnaq: {waiting}.\n" if waiting else ""
    return LEAD + f"\n{total}\n\n" + "\n".join(lines) + "\n" + end


def not_compared(records: list[dict]) -> list[str]:
    """Files of vectors without a record."""
    done = {f"{row['oracle']}__{row['op']}.npz" for row in records}
    return sorted(set(INDEX) - done)


def main() -> None:
    """Measure unless told otherwise; exit 1 where a value differs or, under --check, the page is stale."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--render", action="store_true", help="do not measure")
    parser.add_argument("--check", action="store_true", help="write nothing")
    given = parser.parse_args()
    if not given.render and not given.check:
        measured = [record(key) for key in sorted(TABLE)]
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
