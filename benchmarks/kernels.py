"""nnaq's kernels beside named peers, in turns, on one thread; a whole run writes results/kernels.json.

    python benchmarks/kernels.py [--only WORD ...] [--rounds N] [--quick]

A ratio is the peer's time divided by ours: above 1 nnaq is the faster. `--only` keeps works whose name or
peer holds a word, `--quick` one work of each kind; both print only. The targets were set on a CPU with
AVX-512 VNNI; what this CPU can do at most is measured in the same run (`ceilings.py`): beside a ratio stands
how near the work comes to it. CPU, load and versions are written too. A whole run takes some minutes.
"""

import argparse
import gc
import os
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import asdict
from typing import Any

import torch
from ceilings import Ceilings, measure
from encoder_races import encoders
from kernel_bounds import bounds
from kernel_peers import wrong_sums
from kernel_races import Rival, Work, works
from kernel_tables import judged
from measuring import circumstances, contest, on_one_thread, write_results

ROUNDS, FEWEST, QUICK_ROUNDS = 15, 9, 5
Row = dict[str, Any]


def race(work: Work, rivals: Iterable[Rival], rounds: int, found: Ceilings) -> list[Row]:
    """A row for each rival, all from one contest."""
    with ExitStack() as stack:
        peers = {rival.name: stack.enter_context(rival.make()) for rival in rivals}
        results = contest(work.ours(), peers, rounds)
    rows = []
    for rival in rivals:
        ratio, *taken = (results[rival.name][name] for name in ("ratio", "seconds", "peer_seconds"))
        seconds, peer_seconds = (time / work.steps for time in taken)
        row: Row = {"work": work.name, "peer": rival.name, "ratio": ratio, "seconds": seconds}
        row |= {"peer_seconds": peer_seconds, "target": rival.target}
        row |= {"met": None if rival.target is None else ratio >= rival.target}
        rows.append({**row, **bounds(work, seconds, peer_seconds, found)})
        print(line_of(rows[-1]), flush=True)
    return rows


def line_of(row: Row) -> str:
    """A row as it is printed."""
    speed = f", {row['gops']:.0f} GOP/s" if "gops" in row else ""
    target = f"target {row['target']}: {judged(row)}" if row["target"] else "no target"
    time = f"{1e6 * row['seconds']:.0f} us{speed}, {row['bound']}"
    return f"{row['work']}: {row['ratio']:.2f} of {row['peer']} ({target}); {time}"


def chosen(words: list[str], quick: bool) -> list[tuple[Work, list[Rival]]]:
    """The works of a run, with their rivals."""
    found = []
    for work in [*works(), *encoders()]:
        rivals = [r for r in work.rivals if not words or any(w in f"{work.name} {r.name}" for w in words)]
        if rivals and (work.quick or not quick):
            found.append((work, rivals))
    return found


def main() -> None:
    """Race, print, and write where nothing was left out."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", default=[], help="words of works or peers")
    parser.add_argument("--rounds", type=int, help=f"turns per contest, {ROUNDS} by default")
    parser.add_argument("--quick", action="store_true", help=f"one work of each kind, {QUICK_ROUNDS} turns")
    given = parser.parse_args()
    on_one_thread()
    torch.set_num_threads(1)
    rounds = given.rounds or (QUICK_ROUNDS if given.quick else ROUNDS)
    before, found = os.getloadavg()[0], measure()
    print(", ".join(f"{name} {value}" for name, value in asdict(found).items()))
    rows: list[Row] = []
    for work, rivals in chosen(given.only, given.quick):
        rows += race(work, rivals, rounds, found)
        gc.collect()
    load = before, os.getloadavg()[0]
    missed = sum(row["met"] is False for row in rows)
    print(f"{len(rows)} rows, {missed} targets missed; load {load[0]:.1f} before, {load[1]:.1f} after")
    if not given.only and not given.quick and rounds >= FEWEST:
        told = {"threads": 1, "rounds": rounds, "load": load, **circumstances("torch")}
        told["peer_wrong_sums"] = wrong_sums()
        write_results("kernels", {**told, "ceilings": asdict(found), "rows": rows})


if __name__ == "__main__":
    main()
