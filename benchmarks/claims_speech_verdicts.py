"""What the claims on speech recognition come to here, from the rows of `claims_speech.py`.

A claim is a change of one figure, relative if nothing else is said, between two kinds of rows with the seeds
that both have. Of word errors the interval is that of a paired bootstrap over utterances and seeds
(nnaq.tasks.intervals); bytes and times are exact, and their interval runs from the least to the greatest of
the seeds. The verdict is
mechanical: `confirmed` where the upper end agrees with the publication, `refuted` where the lower end does
not, else `undecidable`. Our data, models and forms of the methods are not the publications'.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean

import numpy as np

from nnaq.errors import DataError
from nnaq.tasks.intervals import Scores, difference

Row = Mapping[str, object]
NOISE = 0.02  # relative: what "no loss" may lose
HALF_POINT = 0.005  # of the word error rate, absolute


@dataclass(frozen=True)
class Claim:
    """A published sentence, and the rows it speaks of: (model, way, machine).

    figure: `errors` (words, relative), `points` (the same, absolute), or a figure of rows; most: the greatest
    change that agrees with it
    """

    claim: str
    paper: str
    most: float
    figure: str
    before: tuple[str, str, str]
    after: tuple[str, str, str]


def kind(model: str, way: str, machine: str = "as shipped") -> tuple[str, str, str]:
    return model, way, machine


S8, M5, S5 = kind("S", "int8"), kind("M", "s8bqat5"), kind("S", "s8bqat5")
FLOAT, CONVOLVED, PLAIN = kind("S", "float"), kind("C", "float"), kind("C", "plain")
REGIME = "internals of 7 bits"
GQ = ("gq5", "gq4", "gq2", "gq_mixed")


def general_quantizer(model: str, way: str) -> list[Claim]:
    """What is said of the General Quantizer, for one model and its bits."""
    pair = kind(model, "int8"), kind(model, way)
    who = f"General Quantizer, {model}, {way} against 8 bits"
    return [
        Claim(f"{who}: no more word errors", "little or no loss at 5 bits and below", NOISE, "errors", *pair),
        Claim(f"{who}: memory of weights", "30.73 % less", -0.3073, "weight_bytes", *pair),
        Claim(f"{who}: wait for the result", "31.75 % less", -0.3175, "perceived_milliseconds", *pair),
    ]


def awareness(machine: str) -> list[Claim]:
    """What is said of training with awareness of the accelerator, for one machine."""
    plain, control, aware, hybrid = (
        kind("S", way, machine) for way in ("plain", "control", "int8", "hybrid")
    )
    who = f"awareness, {machine}"
    return [
        Claim(f"{who}: errors against calibration alone", "up to 10 % fewer", 0.0, "errors", plain, aware),
        Claim(f"{who}: errors against as much training in float", "fewer", 0.0, "errors", control, aware),
        Claim(f"{who}: errors against the hybrid", "no loss", NOISE, "errors", hybrid, aware),
        Claim(f"{who}: time of a frame", "5 to 7 % less", -0.05, "frame_microseconds", hybrid, aware),
    ]


CONVRNNT = (
    Claim("ConvRNN-T against RNN-T", "fewer errors (figure not found)", 0.0, "errors", FLOAT, CONVOLVED),
    Claim("ConvRNN-T, int8 without training against float", "no claim", NOISE, "errors", CONVOLVED, PLAIN),
    Claim(
        "ConvRNN-T, int8 trained on against float", "no claim", NOISE, "errors", CONVOLVED, kind("C", "int8")
    ),
)
GOALS = tuple(
    Claim(
        f"RNN-T, {way} against float", "goal: within 0.5 points", HALF_POINT, "points", FLOAT, kind("S", way)
    )
    for way in ("plain", "int8", "gq5", "s8bqat5")
)
CLAIMS = (
    *CONVRNNT,
    *GOALS,
    Claim("S8BQAT, wider M of 5 bits against S of 8", "4 to 16 % fewer errors", -0.04, "errors", S8, M5),
    Claim("S8BQAT, S of 5 bits against S of 8", "no loss", NOISE, "errors", S8, S5),
    Claim("S8BQAT, wider M of 5 bits: bytes of a frame", "no more", 0.0, "frame_bytes", S8, M5),
    Claim("S8BQAT, wider M of 5 bits: time of a frame", "5 % less", -0.05, "frame_microseconds", S8, M5),
    *(claim for model in "SC" for way in GQ for claim in general_quantizer(model, way)),
    *(claim for machine in ("as shipped", REGIME) for claim in awareness(machine)),
)


def verdicts(rows: Sequence[Row]) -> list[dict[str, object]]:
    """One record per claim whose rows are there."""
    return [record for claim in CLAIMS if (record := judged(claim, rows))]


def judged(claim: Claim, rows: Sequence[Row]) -> dict[str, object] | None:
    """The record of a claim; None where no seed has both of its rows."""
    before, after = (by_seed(rows, which) for which in (claim.before, claim.after))
    seeds = sorted(before.keys() & after.keys())
    if not seeds:
        return None
    pairs = [(before[seed], after[seed]) for seed in seeds]
    in_words = claim.figure in ("errors", "points")
    found = errors_of(pairs, claim) if in_words else exact(pairs, claim)
    words = sum(pairs[0][0]["words"])  # type: ignore[call-overload]
    unit = {"unit": "points"} if claim.figure == "points" else {}
    return {"claim": claim.claim, "paper": claim.paper, **unit, **found, "seeds": len(seeds), "words": words}


def errors_of(pairs: Sequence[tuple[Row, Row]], claim: Claim) -> dict[str, object]:
    """The change of word errors, its bounds, and what an experiment of this size can show."""
    systems = [
        Scores(np.array([pair[side]["errors"] for pair in pairs]), np.array(pairs[0][side]["words"]))
        for side in (0, 1)
    ]
    rates = {"before": round(systems[0].rate, 4), "after": round(systems[1].rate, 4)}
    try:
        found = difference(*systems, relative=claim.figure == "errors")
    except DataError as error:  # a system without errors has no relative change
        return {**rates, "ours": None, "verdict": "undecidable", "why": str(error)}
    figures = {
        "ours": found.value, "low": found.low, "high": found.high,
        "lower": found.lower, "upper": found.upper, "detectable": found.detectable,
    }  # fmt: skip
    rounded = {name: round(value, 4) for name, value in figures.items()}
    return {**rates, **rounded, "verdict": found.verdict(claim.most)}


def exact(pairs: Sequence[tuple[Row, Row]], claim: Claim) -> dict[str, object]:
    """The relative change of an exact figure over the seeds."""
    each = [(float(a[claim.figure]), float(b[claim.figure])) for a, b in pairs]  # type: ignore[arg-type]
    changes = [after / before - 1 for before, after in each]
    low, high = min(changes), max(changes)
    agrees = "confirmed" if high <= claim.most else "refuted" if low > claim.most else "undecidable"
    return {
        "before": mean(before for before, _ in each), "after": mean(after for _, after in each),
        "ours": round(mean(changes), 4), "low": round(low, 4), "high": round(high, 4), "verdict": agrees,
    }  # fmt: skip


def by_seed(rows: Sequence[Row], which: tuple[str, str, str]) -> dict[object, Row]:
    """The rows of a kind."""
    return {row["seed"]: row for row in rows if (row["model"], row["way"], row["machine"]) == which}
