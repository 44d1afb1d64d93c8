"""What it costs to freeze a weight: the scores that MaZO's masks are made of.

Under a quadratic model of the loss, with gradient g and Hessian H over one row of weights:

    global   cost of freezing m while all others go to their optimum
             S_m = ((H⁻¹ g)_m)² / (2 (H⁻¹)_mm)
    greedy   cost of freezing m in one step of gradient descent at rate η
             S_m = η g_m² - η² g_m (H g)_m + η²/2 g_m² H_mm;        g_m² for η -> 0, up to the factor η

Every row i of a layer y = W x has H_i = h_i C + λ I, with the curvature h_i of the loss along y_i and C =
E[x x']; this takes both as uncorrelated. One eigendecomposition C = U diag(c) U' serves all rows:

    H_i⁻¹ g = U (U' g / (h_i c + λ))        (H_i⁻¹)_mm = Σ_j U_mj² / (h_i c_j + λ)

Curvatures below a tenth of their mean size are lifted to it, and λ is a hundredth of the largest eigenvalue
of h_i C. A task's score is

    S = normalised(global) + alpha normalised(greedy) + beta normalised(|W|)

with rows normalised to the sum 1 (`masks.normalised`), so that alpha and beta weigh like against like.

Source of the method: MaZO (2025). The formulas of both scores, the row-wise Hessian, the floors and the
normalisation before alpha and beta are our reconstruction from what each score is said to mean; the paper's
own may differ.
"""

from dataclasses import dataclass

import numpy as np

from nnaq.train.zeroth_order.masks import normalised

CURVATURE_FLOOR = 0.1
DAMPING = 0.01


@dataclass(frozen=True, eq=False)
class Sensitivity:
    """What a loss makes of a layer y = W x.

    gradient       E[dL/dy_i x], [O, K]
    curvature      h: E[d²L/dy_i²], [O]; as estimated, so it may be negative
    second_moment  C: E[x x'], [K, K]
    """

    gradient: np.ndarray
    curvature: np.ndarray
    second_moment: np.ndarray


@dataclass(frozen=True)
class ScoreOptions:
    """How scores are weighed. alpha: greedy; beta: magnitude; global_: 1, or 0 for the other two alone.

    rate: η of the greedy score; 0 for its limit.
    """

    alpha: float = 1.0
    beta: float = 0.0
    global_: float = 1.0
    rate: float = 0.0


def task_score(weight: np.ndarray, found: Sensitivity, options: ScoreOptions) -> np.ndarray:
    """A task's score of every weight [O, K]."""
    parts = (
        (options.global_, global_score),
        (options.alpha, lambda found: greedy_score(found, options.rate)),
        (options.beta, lambda found: np.abs(weight.astype(np.float64))),
    )
    total = np.zeros(weight.shape)
    for share, score in parts:
        if share:
            total += share * normalised(score(found))
    return total


def global_score(found: Sensitivity) -> np.ndarray:
    """((H⁻¹ g)_m)² / (2 (H⁻¹)_mm), [O, K]."""
    eigenvalues, vectors = np.linalg.eigh(found.second_moment)
    eigenvalues = np.maximum(eigenvalues, 0)
    inverse = 1 / (_floored(found.curvature)[:, None] * eigenvalues + _damping(found, eigenvalues)[:, None])
    step = ((found.gradient @ vectors) * inverse) @ vectors.T
    score: np.ndarray = step**2 / (2 * inverse @ (vectors**2).T)
    return score


def greedy_score(found: Sensitivity, rate: float = 0.0) -> np.ndarray:
    """η g_m² - η² g_m (H g)_m + η²/2 g_m² H_mm over η, [O, K]: for η = 0 it is g_m²."""
    g, eigenvalues = found.gradient, np.linalg.eigvalsh(found.second_moment)
    curvature, damping = _floored(found.curvature)[:, None], _damping(found, eigenvalues)[:, None]
    along = curvature * (g @ found.second_moment) + damping * g
    own = curvature * np.diag(found.second_moment) + damping
    score: np.ndarray = g**2 - rate * g * along + rate / 2 * g**2 * own
    return score


def _floored(curvature: np.ndarray) -> np.ndarray:
    """Curvatures lifted to a tenth of their mean size; ones where there is none at all."""
    floor = CURVATURE_FLOOR * np.abs(curvature).mean()
    return np.maximum(curvature, floor) if floor > 0 else np.ones(curvature.shape)


def _damping(found: Sensitivity, eigenvalues: np.ndarray) -> np.ndarray:
    """λ per row; 1 for a layer whose inputs are all zero."""
    largest = eigenvalues.max(initial=0)
    return DAMPING * _floored(found.curvature) * largest if largest > 0 else np.ones(found.curvature.shape)
