"""The promise of training, counted: integers of the training forward, the simulator and the exported file.

    python benchmarks/training_promise.py [--only model] [--out results/training_promise.json]

Every operator at 8 and 16 bits and every model of the repository takes some training steps; after each,
every integer of the training forward pass is compared with the simulator's and with those that
onnx.reference computes from the exported file. The subjects are those of `tests/train/promise.py`, so that
the tests hold what this file counts. Takes about five minutes on one core.
"""

import argparse
import json
import sys
import time
import warnings
from importlib.metadata import version
from pathlib import Path

from rich.progress import track

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))
RESULTS = ROOT / "benchmarks" / "results" / "training_promise.json"
COMMAND = "python benchmarks/training_promise.py"


def main() -> int:
    """Count, write, and fail where anything differs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="subjects whose name holds these words")
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    from train.promise import SUBJECTS

    warnings.filterwarnings("ignore", message="LSTM with projections")
    start, rows = time.perf_counter(), []
    for name in track([n for n in SUBJECTS if given.only in n], "comparing integers"):
        rows.append({"subject": name, **SUBJECTS[name]()._asdict()})
    result = {
        "command": COMMAND,
        "versions": {name: version(name) for name in ("nnaq", "torch", "numba", "onnx")},
        "seconds": round(time.perf_counter() - start),
        "rows": rows,
    }
    given.out.write_text(json.dumps(result, indent=1) + "\n")
    wrong = sum(row["simulator_mismatches"] + row["file_mismatches"] for row in rows)
    print(f"{len(rows)} subjects, {sum(row['values'] for row in rows):,} values, {wrong} mismatches")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
