"""How sure an error rate is, and whether two systems differ: bootstrap over utterances and seeds.

    rate         R  = sum over s, u of errors[s, u] / (S sum over u of total[u])
    resample     U utterances and S seeds drawn with replacement, utterance u c[u] times, seed s w[s] times:
                 R* = sum over s, u of w[s] c[u] errors[s, u] / (S sum over u of c[u] total[u])
    interval     95 %: between the 2.5th and the 97.5th percentile of R*
    difference   D* = R*after - R*before, both of the same draws: what is hard for both cancels
    lower, upper the 5th and the 95th percentile of D*: each alone is exceeded with 5 % probability
    detectable   (z(0.95) + z(0.80)) times the standard deviation of D*: a true difference this far beyond a
                 bound is found to be beyond it in four of five experiments of this size

A seed is one training of a system, judged on the same utterances as the others; the same number in two
systems is a pair (a model and its integers), and seeds of systems that have nothing to do with each other may
be paired too. One seed is not resampled: the interval then speaks of that one training. Few seeds say little
about their spread: three understate its standard deviation by a factor of sqrt(2/3).

Utterances of one speaker are not independent; where speakers are known, `Scores.by_group` makes them what is
resampled. A difference that no utterance shows is not seen: systems with the same errors everywhere get an
interval without width.

Sums are integers, and draws come from a fixed seed, so that figures repeat.

Sources: B. Efron, R. Tibshirani, An introduction to the bootstrap, 1993 (percentile intervals); M. Bisani,
H. Ney, Bootstrap estimates for confidence intervals in ASR performance evaluation, ICASSP 2004; Q. McNemar,
Note on the sampling error of the difference between correlated proportions, Psychometrika 1947, in its exact
form.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb
from statistics import NormalDist
from typing import Literal

import numpy as np

from nnaq.errors import DataError
from nnaq.tasks.decoding import Errors

RESAMPLES = 10_000
BLOCK = 500  # resamples at a time, so that the draws of thousands of utterances fit into memory
CONFIDENCE, POWER = 0.95, 0.80
Verdict = Literal["confirmed", "refuted", "undecidable"]


@dataclass(frozen=True)
class Scores:
    """The errors of a system: errors int64 [S, U] of every seed on every utterance, total int64 [U].

    Raises DataError where their shapes do not agree or nothing was to be found.
    """

    errors: np.ndarray
    total: np.ndarray

    def __post_init__(self) -> None:
        if self.errors.ndim != 2 or self.errors.shape[1:] != self.total.shape or not self.errors.size:
            raise DataError(
                f"scores need errors [seeds, utterances] and total [utterances], none of them 0; "
                f"found {self.errors.shape} and {self.total.shape}"
            )
        if not self.total.any():
            raise DataError("none of the utterances has a truth, so that no share of it can be wrong")

    @classmethod
    def of(cls, *seeds: Sequence[Errors]) -> "Scores":
        """The scores of one or more seeds, each a list with the errors of every utterance."""
        totals = {tuple(one.total for one in seed) for seed in seeds}
        if len(totals) != 1:
            raise DataError(f"scores need seeds judged on the same utterances, found {len(totals)} lists")
        errors = np.array([[one.errors for one in seed] for seed in seeds], np.int64)
        return cls(errors, np.array(totals.pop(), np.int64))

    def by_group(self, groups: Sequence[str]) -> "Scores":
        """The same with the utterances of each group (a speaker) joined into one, in order of their names."""
        if len(groups) != len(self.total):
            raise DataError(f"found {len(groups)} groups for {len(self.total)} utterances")
        member = np.unique(np.asarray(groups), return_inverse=True)[1]
        joined = np.arange(member.max() + 1) == member[:, None]
        return Scores(self.errors @ joined, self.total @ joined)

    @property
    def rate(self) -> float:
        """Errors per unit of truth over all utterances, the mean of the seeds."""
        return float(self.errors.sum() / (len(self.errors) * self.total.sum()))


@dataclass(frozen=True)
class Interval:
    """A figure and its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference(Interval):
    """A difference of two error rates; 0.01 is one point, or one hundredth of the first where relative.

    lower, upper: one-sided 95 % bounds, which lie within low and high
    detectable: the smallest difference that an experiment of this size can be expected to show
    """

    lower: float
    upper: float
    detectable: float

    def verdict(self, most: float) -> Verdict:
        """On the claim that the difference is at most this.

        >>> Difference(0.002, -0.002, 0.006, lower=-0.001, upper=0.005, detectable=0.005).verdict(0.005)
        'confirmed'
        """
        if self.upper <= most:
            return "confirmed"
        return "refuted" if self.lower > most else "undecidable"


def rate_interval(scores: Scores, resamples: int = RESAMPLES, seed: int = 0) -> Interval:
    """The error rate and its 95 % interval.

    >>> rate_interval(Scores.of([Errors(1, 0, 0, 4), Errors(0, 0, 0, 4), Errors(0, 1, 1, 4)]))
    Interval(value=0.25, low=0.0, high=0.5)
    """
    (rates,) = _resampled_rates([scores], resamples, seed)
    return Interval(scores.rate, *interval(rates))


def difference(
    before: Scores, after: Scores, relative: bool = False, resamples: int = RESAMPLES, seed: int = 0
) -> Difference:
    """By how much `after` errs more than `before`, on the same utterances and with as many seeds.

    relative: to the rate before, R after / R before - 1. Raises DataError where the two were not judged
    alike, or where a relative difference has nothing to relate to.
    """
    if before.errors.shape != after.errors.shape or not np.array_equal(before.total, after.total):
        raise DataError(
            f"a paired difference needs the same utterances and as many seeds; found errors of shapes "
            f"{before.errors.shape} and {after.errors.shape} in {before.total.sum()} and {after.total.sum()} "
            f"units"
        )
    first, second = _resampled_rates([before, after], resamples, seed)
    if relative and not first.all():
        raise DataError(
            "the first system makes too few errors for a relative difference; ask for the absolute"
        )
    found = second / first - 1 if relative else second - first
    value = after.rate / before.rate - 1 if relative else after.rate - before.rate
    lower, upper = np.quantile(found, [1 - CONFIDENCE, CONFIDENCE]).tolist()
    return Difference(value, *interval(found), lower, upper, _detectable(found))


def mcnemar(before: np.ndarray, after: np.ndarray) -> float:
    """p of McNemar's exact test, two-sided, on whether each utterance is right, bool [U] of both systems.

    Of the n utterances that only one system has right, k are those of the one that has fewer. Were both
    systems alike, each would be either's with probability 1/2: p = min(1, 2 sum of C(n, i), i <= k, / 2^n).

    >>> mcnemar(np.array([True] * 6 + [False]), np.array([False] * 6 + [False]))
    0.03125
    """
    before, after = np.asarray(before, bool), np.asarray(after, bool)
    if before.shape != after.shape or before.ndim != 1:
        raise DataError(f"McNemar's test needs pairs, found shapes {before.shape} and {after.shape}")
    one, other = int((before & ~after).sum()), int((after & ~before).sum())
    tail = sum(comb(one + other, i) for i in range(min(one, other) + 1))
    return min(1.0, 2 * tail / (1 << one + other))


def draws(chance: np.random.Generator, count: int, resamples: int) -> np.ndarray:
    """How often each of `count` things comes when as many are drawn with replacement: [resamples, count]."""
    return chance.multinomial(count, np.full(count, 1 / count), size=resamples)


def interval(values: np.ndarray) -> tuple[float, float]:
    """The 95 % interval of resampled figures."""
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)


def _detectable(differences: np.ndarray) -> float:
    normal = NormalDist()
    return float((normal.inv_cdf(CONFIDENCE) + normal.inv_cdf(POWER)) * differences.std(ddof=1))


def _resampled_rates(systems: Sequence[Scores], resamples: int, seed: int) -> np.ndarray:
    """R* of every system, [systems, resamples]; all by the same draws."""
    errors, total = np.stack([system.errors for system in systems]), systems[0].total
    seeds, utterances = errors.shape[1:]
    chance, blocks = np.random.default_rng(seed), []
    for start in range(0, resamples, BLOCK):
        count = min(BLOCK, resamples - start)
        often, which = draws(chance, utterances, count), draws(chance, seeds, count)
        sums, units = (errors @ often.T * which.T).sum(axis=1), often @ total
        if not units.all():
            raise DataError("too few utterances have a truth: a resample holds none of them")
        blocks.append(sums / (seeds * units))
    return np.concatenate(blocks, axis=1)
