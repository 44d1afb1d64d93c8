"""The publications' claims on streaming speech recognition, tried on transducers that train on from float.

    python benchmarks/claims_speech.py s8bqat    --data AN4 --work DIR --float S=DIR/s{seed} M=DIR/m{seed}
    python benchmarks/claims_speech.py gq        --data AN4 --work DIR --float S=DIR/s{seed} C=DIR/c{seed}
    python benchmarks/claims_speech.py awareness --data AN4 --work DIR --float S=DIR/s{seed}
    python benchmarks/claims_speech.py convrnnt  --data AN4 --work DIR --float S=DIR/s{seed} C=DIR/c{seed}
    python benchmarks/claims_speech.py write     --work DIR         results/claims_speech.json
        [--seeds 0 1 2] [--only WORD] [--dry] [--epochs 4] [--rate 5e-4] [--journal claims_speech.journal]

Models       --float names folders of float recognisers, {seed} standing for the seed of their training: S, a
             wider M whose 5 bits take no more bytes a frame than 8 bits of S, and C, another encoder with as
             many parameters as S; of claim convrnnt it is a ConvRNN-T
Ways         each job starts from the float recogniser of its seed: see claims_speech_jobs.py. Claims share
             jobs: 8 bits of S is trained once
Figures      word errors of the integers, as a device hears the test set, by utterance; dev chose the epoch;
             bytes and time of a frame by the simulator on edge8-sub8
Rows         are jobs in a journal in DIR; a job that was cut short goes on where it was. Rows in a journal or
             among the committed results are not run again. Several processes may work side by side, each with
             a --journal of its own; `write` joins all and judges (claims_speech_verdicts.py)
Budget       minutes a run by measured rows of the way, times runs, are told before anything runs; --dry stops
             there
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from claim_jobs import AWARENESS
from claims import journalled, timed
from claims_speech_jobs import NARROW, SHIPPED, TRAINED, Bench, Job, Study
from claims_speech_verdicts import verdicts
from measuring import on_one_thread
from rich.progress import track

from nnaq.search.journal import Journal, digest, opened

RESULT = Path(__file__).parent / "results" / "claims_speech.json"
REGIMES = (SHIPPED, "internals of 7 bits")


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("s8bqat", "gq", "awareness", "convrnnt", "write"))
    parser.add_argument("--data", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--float", dest="floats", nargs="+", default=[], metavar="MODEL=FOLDER")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", default="", help="rows whose name holds this word")
    parser.add_argument("--dry", action="store_true", help="tell the budget and stop")
    parser.add_argument("--epochs", type=int, default=Study.epochs)
    parser.add_argument("--rate", type=float, default=Study.rate)
    parser.add_argument("--journal", default="claims_speech.journal", help="its name in DIR")
    given = parser.parse_args(words)
    given.floats = dict(pair.split("=", 1) for pair in given.floats if "=" in pair)
    needed = {"s8bqat": "SM", "gq": "S", "awareness": "S", "convrnnt": "SC", "write": ""}[given.what]
    if missing := [model for model in needed if model not in given.floats]:
        parser.error(f"{given.what} needs --float {missing[0]}=FOLDER, a folder of float recognisers")
    if given.what != "write" and given.data is None:
        parser.error(f"{given.what} needs --data, the folder of AN4")
    return given


def jobs_of(given: argparse.Namespace) -> Iterator[Job]:
    """The rows that are asked for, seeds side by side."""
    pairs = {
        "s8bqat": [("S", "float"), ("M", "float"), ("S", "int8"), ("S", "s8bqat5"), ("M", "s8bqat5")],
        "gq": [
            (model, way)
            for model in sorted(given.floats.keys() & {"S", "C"}, reverse=True)
            for way in ("float", "int8", *(way for way in NARROW if way.startswith("gq")))
        ],
        "awareness": [],
        "convrnnt": [("S", "float"), ("C", "float"), ("C", "plain"), ("C", "int8")],
    }
    for model, way in pairs[given.what]:
        yield from (Job(model, way, seed) for seed in given.seeds)
    if given.what == "awareness":
        yield from (Job("S", "float", seed) for seed in given.seeds)
        for machine in REGIMES:
            assert machine in AWARENESS
            for way in ("plain", "control", "int8", "hybrid"):
                yield from (Job("S", way, seed, machine) for seed in given.seeds)


def known(work: Path, study: Study) -> dict[str, Any]:
    """The rows of this study, committed ones and those of all journals of a folder, by the names of jobs."""
    rows = json.loads(RESULT.read_text())["rows"] if RESULT.exists() else []
    rows = [*rows, *journalled(work).values()]
    return {name_of(row): row for row in rows if row["study"] == repr(study)}


def name_of(row: dict[str, Any]) -> str:
    """The name of the job that found a row."""
    return Job(row["model"], row["way"], row["seed"], row["machine"]).name


def budget(missing: list[Job], rows: dict[str, Any]) -> float | None:
    """Print minutes a run times runs, by measured rows of each way; returns all minutes, if all are known."""
    whole: float | None = 0.0
    for kind in sorted({(job.model, job.way) for job in missing}):
        count = sum((job.model, job.way) == kind for job in missing)
        minutes = [row["seconds"] / 60 for row in rows.values() if (row["model"], row["way"]) == kind]
        each = sum(minutes) / len(minutes) if minutes else None
        whole = None if each is None or whole is None else whole + count * each
        told = "not measured" if each is None else f"{each:.2f} minutes each, {count * each:.0f} together"
        print(f"{kind[0]} {kind[1]}: {count} runs, {told}", flush=True)
    print(f"together: {'not known before each was run once' if whole is None else f'{whole:.0f} minutes'}")
    return whole


def run(given: argparse.Namespace, study: Study, journal: Journal) -> None:
    """Run what is not known yet; tell the budget first."""
    rows = known(given.work, study)
    wanted = [job for job in jobs_of(given) if given.only in job.name]
    missing = [job for job in wanted if job.name not in rows]
    budget(missing, rows)
    if given.dry:
        return
    bench = Bench(given.data, given.work, given.floats, study)
    for job in track(missing, "rows", disable=len(missing) < 2):
        found = timed(lambda job=job: bench.run(job))  # type: ignore[misc]
        journal.add(job.name, json.dumps(found))
        print(job.name, {key: found.get(key) for key in ("dev", "test", "seconds")}, flush=True)


def write(work: Path, study: Study) -> None:
    """The rows of all journals and those that were committed, and what they say of the claims."""
    rows = [row for _, row in sorted(known(work, study).items())]
    result = {
        "command": "python benchmarks/claims_speech.py s8bqat|gq|awareness --data AN4 --work DIR --float …",
        "study": repr(study),
        "trained": list(TRAINED),
        "claims": verdicts(rows),
        "rows": rows,
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    for record in result["claims"]:
        print(json.dumps(record))


def main(words: list[str] | None = None) -> None:
    """Run or write."""
    given = arguments(words)
    given.work.mkdir(parents=True, exist_ok=True)
    study = Study(epochs=given.epochs, rate=given.rate)
    if given.what == "write":
        return write(given.work, study)
    identity = {"study": digest(repr(study).encode())}
    with opened(given.work / given.journal, identity, say=print) as journal:
        return run(given, study, journal)


if __name__ == "__main__":
    on_one_thread()
    main()
