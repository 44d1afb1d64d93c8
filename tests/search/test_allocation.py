"""Allocation: caps hold, the exact choice is the optimum, the greedy one is near it."""

import itertools
import math
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nnaq.codebooks.choice import PaletteChoice
from nnaq.errors import NnaqError
from nnaq.search.allocation import (
    EIGHT_BITS,
    QUANTITIES,
    Allocation,
    Option,
    Problem,
    fits,
    front,
    greedy,
    hull,
    useful,
)
from nnaq.search.milp import exact

WHOLE = st.integers(0, 40)


@st.composite
def options_of(draw, most: int = 4):
    """Options of a tensor: 8 bits, and some that lose something and save something."""
    found = [EIGHT_BITS]
    for bits in range(2, 2 + draw(st.integers(0, most - 1))):
        loss, size, cycles, energy = (draw(WHOLE) for _ in range(4))
        found.append(Option(PaletteChoice(bits), loss / 8, -size, -cycles, -energy / 4))
    return found


@st.composite
def problems(draw, most_caps: int = 2):
    """Up to 4 tensors; something to minimise, and caps on one or two other quantities."""
    options = {f"t{n}": draw(options_of()) for n in range(draw(st.integers(1, 4)))}
    minimize, *capped = draw(st.permutations(QUANTITIES))
    caps = {}
    for quantity in capped[: draw(st.integers(1, most_caps))]:
        caps[quantity] = draw(st.integers(0, 20)) / 2 if quantity == "loss" else -draw(st.integers(0, 100))
    return Problem(options, minimize, caps)


def brute(problem: Problem) -> float | None:
    """The least there is of what is minimised, by trying everything."""
    tried = (
        dict(zip(problem.options, made, strict=True)) for made in itertools.product(*problem.options.values())
    )
    return min((Allocation(t).total(problem.minimize) for t in tried if fits(t, problem.caps)), default=None)


@given(problems())
def test_greedy_never_breaks_a_cap(problem):
    found = greedy(problem)
    assert list(found.options) == list(problem.options)
    assert all(option in problem.options[name] for name, option in found.options.items())
    assert found.within == all(found.total(q) <= cap for q, cap in problem.caps.items())


@given(problems(most_caps=1))
def test_with_one_cap_greedy_finds_an_allocation_wherever_there_is_one(problem):
    assert greedy(problem).within == (brute(problem) is not None)


@given(problems(most_caps=1))
def test_with_one_cap_greedy_is_within_one_step_of_the_optimum(problem):
    """Steps are those of the hulls between what is minimised and what is capped."""
    ((capped, _),), wanted = problem.caps.items(), problem.minimize
    pairs = {frozenset((capped, wanted)) == {"loss", cost}: cost for cost in QUANTITIES[1:]}
    best = brute(problem)
    if True not in pairs or best is None:
        return
    corners = [hull(own, pairs[True]) for own in problem.options.values()]
    steps = [abs(getattr(a, wanted) - getattr(b, wanted)) for c in corners for a, b in itertools.pairwise(c)]
    assert greedy(problem).total(wanted) - best <= max(steps, default=0)


@settings(max_examples=30)
@given(problems())
def test_the_exact_choice_is_the_optimum(problem):
    best, found = brute(problem), exact(problem)
    assert found.within == (best is not None)
    assert found.within == fits(found.options, problem.caps)
    if best is not None:
        assert found.total(problem.minimize) == best
        first = greedy(problem)
        assert not first.within or best <= first.total(problem.minimize)


def test_greedy_takes_the_least_loss_per_byte():
    cheap = [EIGHT_BITS, Option(PaletteChoice(4), 1.0, -100)]
    dear = [EIGHT_BITS, Option(PaletteChoice(4), 3.0, -100)]
    found = greedy(Problem({"dear": dear, "cheap": cheap}, "loss", {"bytes": -100}))
    assert found.choices == {"cheap": PaletteChoice(4)}
    found = greedy(Problem({"dear": dear, "cheap": cheap}, "bytes", {"loss": 3.5}))
    assert found.choices == {"cheap": PaletteChoice(4)}
    assert (found.total("loss"), found.total("bytes")) == (1.0, -100)


def test_greedy_uses_what_a_step_too_large_left_over():
    """The hull jumps over 6 bits; the cap admits them all the same."""
    options = {"t": [EIGHT_BITS, Option(PaletteChoice(6), 2.0, -10), Option(PaletteChoice(3), 3.0, -100)]}
    assert greedy(Problem(options, "bytes", {"loss": 2.5})).choices == {"t": PaletteChoice(6)}


def test_an_option_that_loses_less_and_costs_less_is_always_taken():
    better = Option(PaletteChoice(5), -0.5, -10)
    problem = Problem({"t": [EIGHT_BITS, better]}, "bytes", {"loss": 0.0})
    assert greedy(problem).options == exact(problem).options == {"t": better}


def test_a_cap_out_of_reach_gives_the_nearest():
    options = {"t": [EIGHT_BITS, Option(PaletteChoice(4), 1.0, -10), Option(PaletteChoice(2), 4.0, -20)]}
    for solve in (greedy, exact):
        found = solve(Problem(options, "loss", {"bytes": -30}))
        assert not found.within
        assert found.total("bytes") == -20


def test_caps_met_to_the_last_digit_are_met():
    """0.1 + 0.2 is above 0.3 in binary; correctly rounded sums decide, not a tolerance."""
    options = {n: [EIGHT_BITS, Option(PaletteChoice(4), loss, -10)] for n, loss in (("a", 0.1), ("b", 0.2))}
    cap = math.fsum([0.1, 0.2])
    for solve in (greedy, exact):
        assert solve(Problem(options, "bytes", {"loss": cap})).total("bytes") == -20
        below = solve(Problem(options, "bytes", {"loss": math.nextafter(cap, 0)}))
        assert below.within
        assert below.total("bytes") == -10


@given(options_of(most=6))
def test_a_hull_gets_dearer_with_every_step(options):
    corners = hull(options, "bytes")
    slopes = [(r.loss - a.loss) / (a.bytes - r.bytes) for a, r in itertools.pairwise(corners)]
    assert slopes == sorted(slopes)
    assert len(set(slopes)) == len(slopes)
    assert corners[-1].bytes == min(o.bytes for o in options)
    assert corners[0].loss == min(o.loss for o in options)


@given(options_of(most=6))
def test_what_another_option_covers_is_of_no_use(options):
    kept = useful(options, ("loss", "bytes"))
    assert all(any(k.loss <= o.loss and k.bytes <= o.bytes for k in kept) for o in options)
    assert not any(
        a is not b and a.loss <= b.loss and a.bytes <= b.bytes for a, b in itertools.product(kept, kept)
    )


@given(problems())
def test_a_front_goes_down_in_cost_and_up_in_loss(problem):
    found = front(problem.options, "bytes")
    sizes, losses = ([a.total(q) for a in found] for q in ("bytes", "loss"))
    assert all(a > b for a, b in itertools.pairwise(sizes))
    assert all(a <= b for a, b in itertools.pairwise(losses))
    assert sizes[-1] == sum(min(o.bytes for o in own) for own in problem.options.values())


def test_without_highs_an_exact_search_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "highspy", None)
    with pytest.raises(NnaqError, match=r"nnaq\[search\]"):
        exact(Problem({"t": [EIGHT_BITS]}, "bytes"))
