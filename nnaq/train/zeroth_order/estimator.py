"""The two-sided estimator of a gradient, from the values of a loss alone.

For query n of Q, with a direction z_n over the kept parameters θ (zero outside of the mask) and an
amplitude e:

    c_n = (L(θ + e z_n) - L(θ - e z_n)) / (2 e)
    g   = 1/Q Σ_n c_n z_n                           the estimate
    θ  <- θ - rate g

It is exact along z_n for a quadratic loss (c_n = z_n' ∇L), so E[g] is the gradient of the kept parameters,
and for d of them and one query

    E|g|² = (d + 2) |∇L|²    gaussian               E|g|² = d |∇L|²    rademacher

Q queries divide E|g - ∇L|² by Q. To mask the update alone would leave the noise of all parameters in g.

A direction is made anew wherever it is needed (`directions`): what lives between two forward passes is a
scalar. No gradient, no activation and no direction is kept.

Sources: Spall (1992); Malladi et al., MeZO (2023) for directions made anew. The variances are derived here: a
gaussian has E z⁴ = 3, a sign has 1.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from nnaq.errors import DataError
from nnaq.train.zeroth_order.directions import Kind, Place, direction
from nnaq.train.zeroth_order.parameters import Parameters

Loss = Callable[[list[np.ndarray]], float]


@dataclass(frozen=True)
class Estimator:
    """How gradients are estimated.

    seed       of all directions
    amplitude  e, in the unit of the parameters: steps of the grid for codes
    queries    Q: directions per step, of two forward passes each
    kind       of directions; codes take rademacher
    """

    seed: int = 0
    amplitude: float = 1.0
    queries: int = 1
    kind: Kind = "rademacher"

    def __post_init__(self) -> None:
        if not (self.amplitude > 0 and math.isfinite(self.amplitude)) or self.queries < 1 or self.seed < 0:
            raise DataError(
                f"an estimator has an amplitude above 0, a query and a seed from 0 on; found amplitude "
                f"{self.amplitude}, {self.queries} queries, seed {self.seed}"
            )

    def coefficients(self, loss: Loss, parameters: Sequence[Parameters], step: int) -> list[float]:
        """c of every query: 2 Q values of the loss, of all arrays in the order of the parameters.

        Raises DataError where one is no finite number.
        """
        found = [self._coefficient(loss, parameters, step, query) for query in range(self.queries)]
        if not all(map(math.isfinite, found)):
            raise DataError(f"the loss at step {step} is no finite number; use a smaller rate or amplitude")
        return found

    def _coefficient(self, loss: Loss, parameters: Sequence[Parameters], step: int, query: int) -> float:
        up, down = (
            float(loss(self._moved(parameters, step, query, amplitude)))
            for amplitude in (self.amplitude, -self.amplitude)
        )
        return (up - down) / (2 * self.amplitude)

    def _moved(
        self, parameters: Sequence[Parameters], step: int, query: int, amplitude: float
    ) -> list[np.ndarray]:
        return [
            one.moved(self.direction(step, query, number, one.mask.count), amplitude)
            for number, one in enumerate(parameters)
        ]

    def direction(self, step: int, query: int, number: int, count: int) -> np.ndarray:
        """The direction of one query over the kept entries of one array."""
        return direction(self.kind, Place(self.seed, step, query, number), count)

    def gradient(self, step: int, number: int, count: int, coefficients: Sequence[float]) -> np.ndarray:
        """The estimate over the kept entries of one array, float64 [count]."""
        total = np.zeros(count)
        for query, coefficient in enumerate(coefficients):
            total += coefficient * self.direction(step, query, number, count)
        total /= len(coefficients)
        return total

    def descend(
        self, parameters: Sequence[Parameters], step: int, coefficients: Sequence[float], rate: float
    ) -> None:
        """Update the parameters, one array after the other, from the coefficients of a step alone."""
        for number, one in enumerate(parameters):
            one.descend(rate * self.gradient(step, number, one.mask.count, coefficients))


@dataclass(frozen=True)
class Memory:
    """Bytes of a tuning beside the model and its forward pass.

    held     all the time: masks (a bit per entry) and, for codes, shadows (4 per kept entry)
    moved    the copies of the arrays that one forward pass reads
    working  at most, while one array is moved or updated: its mask (1 per entry), its direction and sums
             (40 per kept entry)
    logged   per step: a coefficient (8) per query
    """

    held: int
    moved: int
    working: int
    logged: int


def memory(parameters: Sequence[Parameters], how: Estimator) -> Memory:
    """The bytes that a tuning of these parameters uses."""
    return Memory(
        sum(one.nbytes for one in parameters),
        sum(one.value.nbytes for one in parameters),
        max((one.value.size + 40 * one.mask.count for one in parameters), default=0),
        8 * how.queries,
    )
