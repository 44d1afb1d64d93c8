"""Training claims on spoken words: bits x scheme, and what knowing the accelerator is worth.

    python benchmarks/claims.py float     --data AN4 --work DIR    one float checkpoint per seed
    python benchmarks/claims.py tune      --data AN4 --work DIR    rate and strength of every scheme, on dev
    python benchmarks/claims.py schemes   --data AN4 --work DIR    weights of 8, 5, 4, 3, 2, 1 bits x scheme
    python benchmarks/claims.py awareness --data AN4 --work DIR    internals, rounding, accumulators; hybrid
    python benchmarks/claims.py write     --work DIR               results/schemes.json, awareness.json,
                                                                   claims.json
        [--seeds 0 1 2] [--bits 4 2] [--only WORD]

Task         AN4 (letters, digits, words), streaming LSTM, word CTC (nnaq.tasks.spoken_words); every scheme
             starts from the same float checkpoint of its seed and fine-tunes for the same number of steps
Figures      word error rate of the hard int8 tables under the integer simulator: `dev` chose epochs and
             options, `test` was looked at once per finished run. One word of test is 0.13 points
Tuning       successive halving per scheme at 3 bits, first seed, on dev; the same options for all bits
Rows         are jobs in a journal, DIR/claims.journal; a job that was cut short goes on where it was. Rows
             in a journal or among the committed results are not run again, so that rows can be added later,
             provided `float` gives the committed float models again. Several processes may work side by
             side, each with a --journal of its own; `write` joins all. Before starting, the budget is told
             from measured times. `make claims DATA=AN4` does everything that is missing, which takes hours
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from claim_jobs import AWARENESS, BITS, SCHEMES, STUDY, TRIALS, Bench, Job, TuneJob
from claim_verdicts import verdicts
from measuring import on_one_thread
from rich.progress import track

from nnaq.search.journal import Journal, digest, opened

FILES = {
    kind: Path(__file__).parent / "results" / f"{word}.json"
    for kind, word in (("scheme", "schemes"), ("awareness", "awareness"))
}
VERDICTS = Path(__file__).parent / "results" / "claims.json"


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("float", "tune", "schemes", "awareness", "write"))
    parser.add_argument("--data", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--bits", type=int, nargs="+", default=list(BITS))
    parser.add_argument("--only", default="", help="rows whose name holds this word")
    parser.add_argument("--journal", default="claims.journal", help="its name in DIR")
    given = parser.parse_args()
    if given.what != "write" and given.data is None:
        parser.error(f"{given.what} needs --data, the folder of AN4")
    return given


def jobs_of(given: argparse.Namespace) -> Iterator[Job]:
    """The rows that are asked for, seeds side by side."""
    if given.what == "float":
        yield from (Job("float", seed) for seed in given.seeds)
    elif given.what == "schemes":
        for bits in given.bits:
            for scheme in SCHEMES:
                yield from (Job("scheme", seed, {"bits": bits, "scheme": scheme}) for seed in given.seeds)
    elif given.what == "awareness":
        for machine in AWARENESS:
            for way in ("plain", "control", "aware", "hybrid"):
                yield from (Job("awareness", s, {"machine": machine, "way": way}) for s in given.seeds)


def journalled(work: Path) -> dict[str, Any]:
    """What all journals of a folder hold."""
    found: dict[str, Any] = {}
    for path in sorted(work.glob("*.journal")):
        whole = path.read_text().splitlines(keepends=True)
        rows = (json.loads(line) for line in whole if line.endswith("\n"))
        found |= {row["id"]: row["result"] for row in rows if "id" in row}
    return found


def committed() -> dict[str, Any]:
    """What the committed results hold, by the names of jobs."""
    found: dict[str, Any] = {}
    for path in (path for path in FILES.values() if path.exists()):
        result = json.loads(path.read_text())
        found |= {name_of(row): row for row in result["rows"]} | result.get("trials", {})
        found |= {f"tuned {scheme}": row for scheme, row in result.get("tuned", {}).items()}
    return found


def name_of(row: Mapping[str, Any]) -> str:
    """The name of the job that found a row."""
    choice = {key: row[key] for key in ("bits", "scheme", "machine", "way") if key in row}
    return Job(row["kind"], row["seed"], choice).name


def must_join(own: Mapping[str, Any], others: Mapping[str, Any]) -> None:
    """Stop where a float model here is not the one that the committed rows started from."""
    for name in (name for name in own if name.startswith("float") and name in others):
        if own[name]["dev"] != others[name]["dev"]:
            raise SystemExit(
                f"{name} has other figures here than among the committed rows, which started from it: "
                f"another machine or version; to begin anew remove {', '.join(map(str, FILES.values()))}"
            )


def run(given: argparse.Namespace, journal: Journal) -> None:
    """Run what is not known yet; tell the budget first."""
    own, others = journalled(given.work), committed()
    must_join(own, others)
    starts = {name for name in others if name.startswith("float")}  # their checkpoints must be here
    journal.results.update({name: row for name, row in others.items() if name not in starts} | own)
    bench = Bench(given.data, given.work, journal.results)
    if given.what == "tune":
        for scheme, trials in TRIALS.items():
            if given.only in scheme and f"tuned {scheme}" not in journal.results:
                halve(scheme, trials, bench, journal)
        return
    wanted = [job for job in jobs_of(given) if given.only in job.name]
    missing = [job for job in wanted if job.name not in journal.results]
    budget(missing, journal)
    for job in track(missing, "rows", disable=len(missing) < 2):
        found = timed(lambda job=job: bench.run(job))  # type: ignore[misc]
        journal.add(job.name, json.dumps(found))
        print(job.name, found, flush=True)


def timed(call: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What a job finds, with its wall time."""
    start = time.perf_counter()
    return {**call(), "seconds": round(time.perf_counter() - start, 1)}


def budget(missing: list[Job], journal: Journal) -> None:
    """Print minutes per run, as measured on runs of the kind, times runs."""
    kinds = sorted({job.kind for job in missing})
    for kind in kinds:
        seconds = [r["seconds"] for name, r in journal.results.items() if name.startswith(kind)]  # type: ignore[index, call-overload]
        count = sum(job.kind == kind for job in missing)
        each = f"{sum(seconds) / len(seconds) / 60:.2f} minutes each, measured" if seconds else "not measured"
        total = f", {count * sum(seconds) / len(seconds) / 60:.0f} minutes together" if seconds else ""
        print(f"{kind}: {count} runs, {each}{total}", flush=True)


def halve(scheme: str, trials: Sequence[Mapping[str, Any]], bench: Bench, journal: Journal) -> None:
    """Successive halving: all trials for a third of the epochs, the better third of them for all."""
    left = list(trials)
    for epochs in (2, STUDY.epochs):
        scored = []
        for trial in left:
            job = TuneJob(scheme, trial, epochs)
            if job.name not in journal.results:
                journal.add(job.name, json.dumps(timed(lambda job=job: bench.tune(job))))  # type: ignore[misc]
            found = journal.results[job.name]
            assert isinstance(found, dict)
            print(job.name, found, flush=True)
            scored.append((float(found["dev"]["wer"]), float(found["dev"]["loss"]), trial))  # type: ignore[index, call-overload, arg-type]
        scored.sort(key=lambda entry: entry[:2])
        left = [trial for _, _, trial in scored[: max(1, len(scored) // 3)]]
    journal.add(f"tuned {scheme}", json.dumps(dict(left[0])))


def write(work: Path) -> None:
    """The rows of all journals and those that were committed, as results."""
    own, others = journalled(work), committed()
    must_join(own, others)
    found = others | own
    tuned = {name.removeprefix("tuned "): row for name, row in found.items() if name.startswith("tuned ")}
    trials = {name: row for name, row in found.items() if name.startswith("trial ")}
    for kind, path in FILES.items():
        rows = [row for name, row in sorted(found.items()) if name.startswith((kind, "float"))]
        result = {"command": f"python benchmarks/claims.py {path.stem} --data AN4 --work DIR", "rows": rows}
        more = {"tuned": tuned, "trials": trials} if kind == "scheme" else {}
        path.write_text(json.dumps(result | more, indent=1) + "\n")
    records = verdicts([row for row in found.values() if "kind" in row])
    VERDICTS.write_text(json.dumps(records, indent=1) + "\n")


def main() -> None:
    """Run or write."""
    given = arguments()
    on_one_thread()
    given.work.mkdir(parents=True, exist_ok=True)
    identity = {"task": digest(repr(STUDY).encode())}
    if given.what == "write":
        return write(given.work)
    with opened(given.work / given.journal, identity, say=print) as journal:
        return run(given, journal)


if __name__ == "__main__":
    main()
