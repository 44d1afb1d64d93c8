"""Hostile files by the thousand: python tests/fuzz/run.py [--cases 10000] [--seed 0] [--only onnx …]

Cases are spread over all kinds of files. Every finding is printed, and its file is saved in --save; the same
seed makes it again. Ends with exit code 1 if anything was found.
"""

import argparse
import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from fuzz.cage import run_cases
from fuzz.formats import FORMATS, case_of
from rich.console import Console
from rich.progress import Progress


def main(count: int, seed: int, formats: list[str], place: Path) -> int:
    """Run the cases; how many findings there were."""
    share = -(-count // len(formats))
    ended: Counter[tuple[str, str]] = Counter()
    with Progress(console=Console(stderr=True, soft_wrap=True)) as progress:
        for format in progress.track(formats, description="kinds"):
            cases = [(format, number) for number in range(share)]
            for found in progress.track(run_cases(cases, seed), total=share, description=format):
                ended[format, "findings" if found.is_finding else found.outcome] += 1
                if found.is_finding:
                    place.mkdir(parents=True, exist_ok=True)
                    file = place / f"{format}-{seed}-{found.number}"
                    file.write_bytes(case_of(format, found.number, seed))
                    progress.console.print(f"{file}\n{found.outcome}", markup=False, highlight=False)
    for format in formats:
        print(format, *(f"{ended[format, end]} {end}" for end in ("read", "refused", "findings")), sep="  ")
    return sum(number for (_, end), number in ended.items() if end == "findings")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", default=list(FORMATS), choices=list(FORMATS))
    parser.add_argument("--save", type=Path, default=Path(".fuzz"))
    given = parser.parse_args()
    sys.exit(1 if main(given.cases, given.seed, given.only, given.save) else 0)
