"""Metrics: how far the integer model is from the real one, and from the truth.

Agreement is the share of frames in which both models decide alike. Frames in which the real
model itself is unsure (0.2 <= p <= 0.8) are reported apart: a model can agree on silence and
still have lost what it knew about speech.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

from nnaq.errors import DataError, RecipeError

Outputs = Mapping[str, np.ndarray]

UNSURE = (0.2, 0.8)


@dataclass(frozen=True)
class Figure:
    """One number of the real and of the integer model; None where it has none."""

    real: float | None
    integer: float | None
    unit: str


@dataclass(frozen=True)
class Sqnr:
    """Signal to quantisation noise in dB; None where there is no error (`exact`) or no signal."""

    db: float | None
    exact: bool


def mean_absolute_error(real: np.ndarray, found: np.ndarray) -> float:
    """Mean of |real - found|, in float64."""
    return float(np.abs(_wide(real) - _wide(found)).mean())


def sqnr_db(real: np.ndarray, found: np.ndarray) -> Sqnr:
    """10 log10(sum real² / sum (real - found)²), in float64."""
    signal = float(np.square(_wide(real)).sum())
    noise = float(np.square(_wide(real) - _wide(found)).sum())
    if noise == 0 or signal == 0:
        return Sqnr(None, exact=noise == 0)
    return Sqnr(10 * float(np.log10(signal / noise)), exact=False)


def agreement(real: np.ndarray, found: np.ndarray, threshold: float) -> float:
    """Share of values on the same side of `threshold`; a value equal to it is below."""
    return float(((real > threshold) == (found > threshold)).mean())


def auc(scores: np.ndarray, labels: np.ndarray) -> float | None:
    """Area under the ROC curve: P(score of a positive > score of a negative), ties count half.

    None where one class is missing.

    >>> auc(np.array([0.1, 0.5, 0.5, 0.9]), np.array([False, False, True, True]))
    0.875
    """
    positive = np.asarray(labels, bool).ravel()
    above, below = int(positive.sum()), int((~positive).sum())
    if above == 0 or below == 0:
        return None
    _, place, counts = np.unique(np.ravel(scores), return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - (counts - 1) / 2
    return float((ranks[place][positive].sum() - above * (above + 1) / 2) / (above * below))


@dataclass(frozen=True)
class Fidelity:
    """The metric of a model without a recipe's: how near its outputs are to the real model's."""

    def must_fit(self, outputs: Collection[str]) -> None:
        """Any outputs do."""

    def evaluate(
        self, float_outputs: Outputs, integer_outputs: Outputs, labels: np.ndarray | None = None
    ) -> dict[str, Figure]:
        """Error and SQNR of every output; `labels` say nothing about them."""
        found = {}
        for name, real in float_outputs.items():
            integer = _like(integer_outputs, name, real)
            found[f"mean_absolute_error:{name}"] = Figure(None, mean_absolute_error(real, integer), "1")
            found[f"sqnr:{name}"] = Figure(None, sqnr_db(real, integer).db, "dB")
        return found


@dataclass(frozen=True)
class Decision:
    """`decision:OUTPUT>THRESHOLD`: the output is a probability, the decision is what is used."""

    output: str
    threshold: float

    def must_fit(self, outputs: Collection[str]) -> None:
        """Raise DataError where the model has no such output."""
        if self.output not in outputs:
            raise DataError(f"metric: the model has no output {self.output!r}, only {', '.join(outputs)}")

    def evaluate(
        self, float_outputs: Outputs, integer_outputs: Outputs, labels: np.ndarray | None = None
    ) -> dict[str, Figure]:
        """Figures by name over all values of the output (frames, of all recordings joined).

        labels: the truth per value, if known; adds the AUC of both models against it.
        """
        self.must_fit(float_outputs)
        real = np.ravel(float_outputs[self.output])
        found = np.ravel(_like(integer_outputs, self.output, float_outputs[self.output]))
        if not real.size:
            raise DataError(f"metric: output {self.output!r} holds no values")
        figures = self._against_float(real, found) | self._unsure(real, found)
        if labels is not None:
            if labels.size != real.size:
                raise DataError(
                    f"metric: found {labels.size} labels for {real.size} values of {self.output!r}"
                )
            figures["auc"] = Figure(auc(real, labels), auc(found, labels), "1")
        return figures

    def _against_float(self, real: np.ndarray, found: np.ndarray) -> dict[str, Figure]:
        decided = real > self.threshold
        return {
            "agreement": Figure(None, agreement(real, found, self.threshold), "1"),
            "mean_absolute_error": Figure(None, mean_absolute_error(real, found), "1"),
            "auc_against_float": Figure(None, auc(found, decided), "1"),
            "positive": Figure(float(decided.mean()), float((found > self.threshold).mean()), "1"),
            "frames": Figure(real.size, found.size, "frames"),
        }

    def _unsure(self, real: np.ndarray, found: np.ndarray) -> dict[str, Figure]:
        """The figures over values where the real model is unsure; None where it never is."""
        low, high = UNSURE
        here = (real >= low) & (real <= high)
        some = bool(here.any())
        same = agreement(real[here], found[here], self.threshold) if some else None
        error = mean_absolute_error(real[here], found[here]) if some else None
        return {
            "unsure_frames": Figure(int(here.sum()), int(((found >= low) & (found <= high)).sum()), "frames"),
            "unsure_agreement": Figure(None, same, "1"),
            "unsure_mean_absolute_error": Figure(None, error, "1"),
        }


Metric = Fidelity | Decision


def parse_metric(text: str | None) -> Metric:
    """The metric a recipe asks for; without one, `Fidelity`. Raises RecipeError.

    >>> parse_metric("decision:speech_probs>0.5")
    Decision(output='speech_probs', threshold=0.5)
    """
    if text is None or text == "fidelity":
        return Fidelity()
    match = re.fullmatch(r"decision:(?P<output>.+)>(?P<threshold>-?\d*\.?\d+)", text)
    if match is None:
        raise RecipeError(f"no metric {text!r}; expected 'fidelity' or 'decision:OUTPUT>THRESHOLD'")
    return Decision(match["output"].strip(), float(match["threshold"]))


def _like(outputs: Outputs, name: str, real: np.ndarray) -> np.ndarray:
    """The integer model's output that stands beside `real`."""
    if name not in outputs:
        raise DataError(f"metric: the integer model has no output {name!r}")
    found = outputs[name]
    if found.shape != real.shape:
        raise DataError(
            f"metric: output {name!r} has shape {list(found.shape)}, the real model's {list(real.shape)}"
        )
    return found


def _wide(array: np.ndarray) -> np.ndarray:
    return np.asarray(array, np.float64)
