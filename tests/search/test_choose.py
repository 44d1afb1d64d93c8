"""Choosing within budgets, on a model of numbers: what is measured is near what is predicted, not equal."""

import math
from collections.abc import Sequence

import pytest

from nnaq.codebooks.choice import PaletteChoice
from nnaq.errors import NnaqError
from nnaq.search.allocation import EIGHT_BITS, Option
from nnaq.search.budget import BudgetError, parse_budgets
from nnaq.search.choose import Wish, choose, spread
from nnaq.search.front import Costs, Measured, decibels
from nnaq.tasks.metrics import Figure

CLOCK = 500_000_000
SIZES = {f"t{n}": 1000 * (n + 1) for n in range(8)}
OPTIONS = {
    name: [
        EIGHT_BITS,
        *(
            Option(
                PaletteChoice(bits),
                (1 + number % 3) * 4.0**-bits / 10,
                -size * (8 - bits) / 8,
                -size * (8 - bits) / 80 if number % 2 else 0.0,
                -float(size * (8 - bits)),
            )
            for bits in (2, 3, 4, 5, 6)
        ),
    ]
    for number, (name, size) in enumerate(SIZES.items())
}


class Machine:
    """Measures by the same sums, with `excess` more noise and `dearer` cycles than predicted."""

    def __init__(self, excess: float = 1.5, dearer: float = 0.0, energy: float | None = 1e6) -> None:
        self.excess, self.dearer, self.energy = excess, dearer, energy
        self.asked: list[dict] = []

    def __call__(self, models: Sequence[dict]) -> list[Measured]:
        self.asked += models
        return [self.of(palettes) for palettes in models]

    def of(self, palettes: dict) -> Measured:
        used = [next(o for o in OPTIONS[name] if o.choice == choice) for name, choice in palettes.items()]
        noise = 1e-4 + self.excess * math.fsum(o.loss for o in used)
        figures = {
            "sqnr:y": Figure(None, decibels(noise), "dB"),
            "mean_absolute_error:y": Figure(None, noise, "1"),
            "agreement": Figure(None, 1 - noise, "1"),
        }
        cycles = 9000 + round(sum(o.cycles * (1 - self.dearer) for o in used))
        energy = None if self.energy is None else self.energy + sum(o.energy for o in used)
        return Measured(
            Costs(round(sum(SIZES.values()) + sum(o.bytes for o in used)), cycles, energy), figures
        )


def chosen(*budgets: str, machine: Machine | None = None, **wishes):
    machine = machine or Machine()
    wish = Wish(parse_budgets(budgets, CLOCK), **wishes)
    return choose(OPTIONS, machine.of({}), wish, machine, 1e6 / CLOCK)


@pytest.mark.parametrize("is_exact", [False, True])
@pytest.mark.parametrize("budget", ["sqnr>=30", "agreement>=0.999", "sqnr>=-6", "mean_absolute_error<=0.01"])
def test_accuracy_is_kept_as_measured_and_bytes_are_few(budget, is_exact):
    machine = Machine()
    found = chosen(budget, machine=machine, is_exact=is_exact)
    (bound,) = parse_budgets([budget], CLOCK)
    base = machine.of({})
    limit = bound.limit + (base.sqnr_db if bound.is_change else 0)
    name = "sqnr:y" if bound.figure == "sqnr" else bound.figure
    name = "mean_absolute_error:y" if bound.figure == "mean_absolute_error" else name
    value = found.chosen.measured.figures[name].integer
    assert value <= limit if bound.sense == "<=" else value >= limit
    assert found.chosen.measured.costs.bytes < 0.9 * sum(SIZES.values())
    assert found.chosen.measured == machine.of(found.chosen.palettes)


def test_what_was_predicted_too_well_is_tightened():
    """With ten times the noise predicted, the first candidate breaks the bound and is not chosen."""
    machine = Machine(excess=10)
    found = chosen("sqnr>=30", machine=machine)
    assert found.chosen.measured.sqnr_db >= 30
    assert found.chosen.sqnr_db > 35
    assert any(machine.of(palettes).sqnr_db < 30 for palettes in machine.asked)
    near = [p for p in found.points if p.measured and p.measured.sqnr_db < 30]
    assert all(p.measured.costs.bytes < found.chosen.measured.costs.bytes for p in near)


def test_rounds_bound_what_is_measured_and_no_model_is_measured_twice():
    machine = Machine(excess=3)
    chosen("agreement>=0.995", machine=machine, points=5, rounds=3)
    assert len(machine.asked) <= 8
    assert len({str(sorted(asked.items())) for asked in machine.asked}) == len(machine.asked)
    assert all(machine.asked)  # the 8-bit model was measured before


@pytest.mark.parametrize("is_exact", [False, True])
def test_a_cost_is_kept_and_accuracy_is_as_high_as_it_gets(is_exact):
    limit = 21_000
    found = chosen(f"bytes<={limit}", is_exact=is_exact)
    assert found.chosen.measured.costs.bytes <= limit
    inside = [p for p in found.points if p.measured and p.measured.costs.bytes <= limit]
    assert found.chosen.measured.noise == min(p.measured.noise for p in inside)
    assert found.axis == "bytes"


def test_cycles_that_come_out_dearer_lower_their_cap():
    machine = Machine(dearer=0.3)
    found = chosen("latency<=8500cycles", machine=machine)
    assert found.chosen.measured.costs.cycles <= 8500
    assert found.chosen.predicted.cycles < found.chosen.measured.costs.cycles
    assert found.axis == "cycles"


def test_budgets_join_and_energy_counts():
    found = chosen("sqnr>=25,latency<=8500cycles", "energy<=0.9uJ", machine=Machine(dearer=0.1))
    measured = found.chosen.measured
    assert measured.sqnr_db >= 25
    assert measured.costs.cycles <= 8500
    assert measured.costs.energy <= 0.9e6
    assert found.axis == "bytes"
    assert chosen("sqnr>=25", minimize="energy").axis == "energy"
    assert chosen("energy<=0.9uJ").axis == "energy"


def test_points_of_the_front_are_measured_all_over_it():
    found = chosen("sqnr>=30", points=7)
    sizes = [p.measured.costs.bytes for p in found.measured]
    assert len(sizes) >= 8  # and the 8-bit model
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] == sum(SIZES.values())
    assert sizes[-1] == sum(SIZES.values()) / 4  # 2 bits everywhere
    assert len(found.points) > 20


@pytest.mark.parametrize(
    ("budgets", "words"),
    [
        (["sqnr>=50"], "with all weights in 8 bits the model has sqnr 40.00 dB; ask for less"),
        (["bytes<=8999"], "the least found with these palettes is 9,000 bytes, at"),
        (["latency<=7000cycles"], "the least found with these palettes is 15.0 us (7,500 cycles)"),
        (
            ["sqnr>=35,bytes<=10k"],
            "no model found keeps all of sqnr>=35, bytes<=10k; the nearest: where accuracy is kept, sqnr 35.",
        ),
    ],
)
def test_what_cannot_be_met_tells_the_nearest(budgets, words):
    with pytest.raises(BudgetError) as error:
        chosen(*budgets)
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("budgets", "wishes", "words"),
    [
        ([], {}, "a search needs a --budget"),
        (["wer<=3"], {}, "gives no figure 'wer', only bytes, latency, energy, sqnr"),
        (["sqnr>=20"], {"minimize": "speed"}, "--minimize takes bytes, latency, energy, found 'speed'"),
        (["bytes<=20k"], {"minimize": "latency"}, "--minimize latency needs a --budget on accuracy"),
    ],
)
def test_what_makes_no_sense_is_told(budgets, wishes, words):
    with pytest.raises(NnaqError) as error:
        chosen(*budgets, **wishes)
    assert words in str(error.value)
    assert not isinstance(error.value, BudgetError)


def test_energy_needs_a_target_that_knows_it():
    for budgets, wishes in ((["energy<=1uJ"], {}), (["sqnr>=20"], {"minimize": "energy"})):
        with pytest.raises(NnaqError, match=r"\[energy\] table"):
            chosen(*budgets, machine=Machine(energy=None), **wishes)
    assert chosen("sqnr>=30", machine=Machine(energy=None)).chosen.measured.costs.energy is None


def test_nothing_to_choose_is_told():
    with pytest.raises(NnaqError, match="nothing to search"):
        choose({"t": [EIGHT_BITS]}, Machine().of({}), Wish(parse_budgets(["sqnr>=3"], CLOCK)), Machine(), 1.0)


def test_a_spread_has_both_ends_and_as_many_points_as_there_are():
    found = chosen("sqnr>=30").predicted
    assert [len(spread(found, "bytes", count)) for count in (0, 1, 5, 999)] == [0, 1, 5, len(found)]
    assert {found[0].predicted.bytes, found[-1].predicted.bytes} <= {
        p.predicted.bytes for p in spread(found, "bytes", 5)
    }


def test_the_same_question_measures_the_same_models_in_the_same_order():
    machines = Machine(), Machine()
    fronts = [chosen("agreement>=0.997", machine=machine) for machine in machines]
    assert machines[0].asked == machines[1].asked
    assert fronts[0] == fronts[1]


class Memory:
    """Two weights that fit on the chip only together: alone, each saves next to nothing."""

    def __init__(self, alone: int = 0) -> None:
        self.alone = alone
        self.options = {
            name: [EIGHT_BITS, Option(PaletteChoice(2), 0.01, -10, -float(alone))] for name in ("a", "b")
        }

    def __call__(self, models: Sequence[dict]) -> list[Measured]:
        return [self.of(len(palettes)) for palettes in models]

    def of(self, small: int) -> Measured:
        figures = {"sqnr:y": Figure(None, decibels(1e-4 + 0.01 * small), "dB")}
        cycles = 50 if small == 2 else 100 - self.alone * small
        return Measured(Costs(100 - 10 * small, cycles, None), figures)

    def chosen(self, *budgets: str, **wishes) -> Costs:
        wish = Wish(parse_budgets(budgets, CLOCK), **wishes)
        return choose(self.options, self.of(0), wish, self, 1.0).chosen.measured.costs


@pytest.mark.parametrize("alone", [0, 10, -10])
@pytest.mark.parametrize("points", [0, 5])
@pytest.mark.parametrize(
    ("budgets", "wishes"),
    [
        (["latency<=60cycles"], {}),
        (["latency<=60cycles", "sqnr>=10"], {}),
        (["latency<=60cycles", "sqnr>=10"], {"is_exact": True}),
        (["sqnr>=10"], {"minimize": "latency"}),
    ],
)
def test_what_only_weights_together_save_is_found(alone, points, budgets, wishes):
    assert Memory(alone).chosen(*budgets, points=points, **wishes) == Costs(80, 50, None)


def test_a_latency_that_no_measured_model_has_tells_the_least_measured():
    for alone in (0, 10, 30):
        with pytest.raises(BudgetError, match=r"the least found with these palettes is .* \(50 cycles\)"):
            Memory(alone).chosen("latency<=45cycles")


class Chip(Machine):
    """Fetches for nothing once all weights fit on it: no weight alone saves a cycle."""

    def of(self, palettes: dict) -> Measured:
        found = super().of(palettes)
        cycles = 1000 if found.costs.bytes <= 20_000 else 9000
        return Measured(Costs(found.costs.bytes, cycles, found.costs.energy), found.figures)


@pytest.mark.parametrize("is_exact", [False, True])
@pytest.mark.parametrize(
    ("budget", "wishes"), [("latency<=2000cycles", {}), ("sqnr>=20", {"minimize": "latency"})]
)
def test_a_step_in_the_cycles_is_found_between_the_ends_of_the_front(budget, wishes, is_exact):
    machine = Chip()
    options = {
        name: [Option(o.choice, o.loss, o.bytes, 0.0, o.energy) for o in own] for name, own in OPTIONS.items()
    }
    wish = Wish(parse_budgets([budget], CLOCK), is_exact=is_exact, points=0, **wishes)
    found = choose(options, machine.of({}), wish, machine, 1.0).chosen
    assert found.measured.costs.cycles == 1000
    cheapest = machine.of({name: PaletteChoice(2) for name in options})
    assert found.measured.sqnr_db > 20 > cheapest.sqnr_db
