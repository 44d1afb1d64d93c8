"""The same choice as `allocation.greedy`, exactly: a multiple-choice knapsack solved by HiGHS.

    minimise   sum_t sum_o  minimised[t,o] x[t,o]
    such that  sum_o x[t,o] = 1                    for every tensor t
               sum_t sum_o  q[t,o] x[t,o] <= cap[q]
               x binary

HiGHS works in floating point with tolerances; caps are checked afterwards with correctly rounded
sums, and a solution that breaks one by less than a tolerance is excluded and the next best taken.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from typing import Any

from nnaq.errors import NnaqError
from nnaq.search.allocation import QUANTITIES, Allocation, Option, Problem, fits, greedy, useful

TOLERANCE = 1e-10  # the tightest HiGHS takes
EXCLUSIONS = 64


def exact(problem: Problem) -> Allocation:
    """The optimal allocation; never worse than `greedy`'s. Raises NnaqError where HiGHS is missing."""
    module = highs()
    first = greedy(problem)
    found = _solved(problem, module)
    if found is None or (first.within and first.total(problem.minimize) <= found.total(problem.minimize)):
        return first
    return found


def highs() -> Any:
    """The module of HiGHS, which is not typed. Raises NnaqError where it is not installed."""
    try:
        return import_module("highspy")
    except ImportError:
        raise NnaqError(
            "an exact search needs the package highspy; install it with `pip install 'nnaq[search]'`, "
            "or leave --exact out"
        ) from None


def _solved(problem: Problem, module: Any) -> Allocation | None:
    """The optimum within the caps, or None where no allocation is."""
    wanted = tuple(q for q in QUANTITIES if q == problem.minimize or q in problem.caps)
    kept = {name: useful(found, wanted) for name, found in problem.options.items()}
    columns = [(name, option) for name, found in kept.items() for option in found]
    model = _model(replace(problem, options=kept), columns, module)
    for _ in range(EXCLUSIONS):
        chosen = _run(model, columns, module)
        if chosen is None or fits(chosen, problem.caps):
            return None if chosen is None else Allocation(chosen)
        used = [column for column, (name, option) in enumerate(columns) if chosen[name] is option]
        model.addRow(-1.0, len(used) - 1.0, len(used), used, [1.0] * len(used))
    return None


def _model(problem: Problem, columns: Sequence[tuple[str, Option]], module: Any) -> Any:
    """The integer programme; a column per tensor and option."""
    model = module.Highs()
    for setting, value in _SETTINGS.items():
        model.setOptionValue(setting, value)
    for column, price in enumerate(_scaled([getattr(option, problem.minimize) for _, option in columns])):
        model.addCol(price, 0.0, 1.0, 0, [], [])
        model.changeColIntegrality(column, module.HighsVarType.kInteger)
    for name in problem.options:
        own = [column for column, (owner, _) in enumerate(columns) if owner == name]
        model.addRow(1.0, 1.0, len(own), own, [1.0] * len(own))
    for quantity, cap in problem.caps.items():
        *values, limit = _scaled([*(getattr(option, quantity) for _, option in columns), cap])
        model.addRow(-module.kHighsInf, limit, len(columns), list(range(len(columns))), values)
    return model


_SETTINGS: Mapping[str, bool | int | float] = {
    "output_flag": False,
    "threads": 1,
    "mip_rel_gap": 0.0,
    "mip_abs_gap": 0.0,
    "mip_feasibility_tolerance": TOLERANCE,
    "primal_feasibility_tolerance": TOLERANCE,
    "dual_feasibility_tolerance": TOLERANCE,
}


def _scaled(values: Sequence[float]) -> list[float]:
    """The values with 1 as the largest magnitude, which is what HiGHS's tolerances are made for."""
    largest = max(map(abs, values), default=0.0)
    return [value / largest for value in values] if largest else list(values)


def _run(model: Any, columns: Sequence[tuple[str, Option]], module: Any) -> dict[str, Option] | None:
    """The options of the solution, or None where there is none."""
    model.run()
    if model.getModelStatus() != module.HighsModelStatus.kOptimal:
        return None
    values = model.getSolution().col_value
    return {name: option for (name, option), value in zip(columns, values, strict=True) if value > 0.5}
