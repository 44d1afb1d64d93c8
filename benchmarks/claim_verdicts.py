"""What the published claims on training come to here: results/claims.json, from the rows of the study.

A claim is a relative change of one figure between two kinds of rows, seed by seed; `low` and `high` are the
least and the greatest of the seeds. The verdict is mechanical: `supported` where every seed stays within what
the publication says, `not supported` where none does, `undecided` between. Our tasks, models and forms of the
methods are not the publications' (several forms are reconstructions), so that no verdict is on a paper: it
tells what to expect of nnaq's form on a small spoken task.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean

Row = Mapping[str, object]
WORDS = 773  # of the test set


@dataclass(frozen=True)
class Claim:
    """A published sentence, and the rows that it speaks of.

    paper: its figure, a relative change (0.1: 10 % more); most: the greatest change that agrees with it
    """

    claim: str
    paper: str
    most: float
    figure: Callable[[Row], float]
    before: Mapping[str, object]
    after: Mapping[str, object]


def word_errors(row: Row) -> float:
    return float(row["test"]["wer"])  # type: ignore[index]


def weight_bytes(row: Row) -> float:
    return float(row["bytes"])  # type: ignore[arg-type]


def scheme(bits: int, name: str) -> dict[str, object]:
    return {"kind": "scheme", "bits": bits, "scheme": name}


FLOAT: dict[str, object] = {"kind": "float"}
INT8 = scheme(8, "ste")  # trained for the same epochs, as the publications' 8-bit models are
NOISE = 0.02  # half a point of 24
CLAIMS = (
    *(
        Claim(
            f"General Quantizer, {bits} bits, loses no accuracy against 8 bits",
            "little or no loss at 5 bits and below",
            NOISE,
            word_errors,
            INT8,
            scheme(bits, "general_quantizer"),
        )
        for bits in (5, 4, 3, 2)
    ),
    Claim(
        "General Quantizer, 5 bits, saves memory against 8 bits",
        "30.7 % less, whole product on a device",
        -0.307,
        weight_bytes,
        INT8,
        scheme(5, "general_quantizer"),
    ),
    Claim(
        "MRACos with the hard compressor, 5 bits, is no worse than 8 bits",
        "4 to 16 % fewer errors with a model enlarged to the same bytes; here at the same size",
        NOISE,
        word_errors,
        INT8,
        scheme(5, "s8bqat"),
    ),
    Claim(
        "training with internals of 7 bits emulated wins back what they cost",
        "up to 10 % relative degradation avoided",
        0.0,
        word_errors,
        {"kind": "awareness", "machine": "internals of 7 bits", "way": "control"},
        {"kind": "awareness", "machine": "internals of 7 bits", "way": "aware"},
    ),
)


def verdicts(rows: Sequence[Row]) -> list[dict[str, object]]:
    """One record per claim whose rows are there, for the seeds that have both."""
    return [record for claim in CLAIMS if (record := judged(claim, rows))]


def judged(claim: Claim, rows: Sequence[Row]) -> dict[str, object] | None:
    """The record of a claim; None where no seed has both of its rows."""
    before, after = (by_seed(rows, kind, claim.figure) for kind in (claim.before, claim.after))
    seeds = sorted(set(before) & set(after))
    if not seeds:
        return None
    changes = [after[seed] / before[seed] - 1 for seed in seeds]
    low, high = min(changes), max(changes)
    agrees = "supported" if high <= claim.most else "not supported" if low > claim.most else "undecided"
    return {
        "claim": claim.claim,
        "paper": claim.paper,
        "ours": round(mean(changes), 4),
        "low": round(low, 4),
        "high": round(high, 4),
        "seeds": len(seeds),
        "words": WORDS,
        "verdict": agrees,
    }


def by_seed(
    rows: Sequence[Row], kind: Mapping[str, object], figure: Callable[[Row], float]
) -> dict[object, float]:
    """A figure of the rows of a kind."""
    return {
        row["seed"]: figure(row) for row in rows if all(row.get(key) == value for key, value in kind.items())
    }
