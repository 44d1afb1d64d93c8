"""Event simulation: a recursion beside SimPy's processes, and what holds for any schedule."""

from dataclasses import replace

import pytest
import simpy
from hypothesis import given
from hypothesis import strategies as st

from nnaq.schedule import Command, Schedule
from nnaq.schedule.commands import ENGINES, Engine
from nnaq.simulate.events import Timing, run_schedule
from nnaq.targets import load_target


@st.composite
def schedules(draw, most: int = 24) -> Schedule:
    """Commands on any engines, of 0 to 9 cycles, each needing some earlier ones."""
    commands = []
    for place in range(draw(st.integers(0, most))):
        needs = draw(st.lists(st.integers(0, place - 1), max_size=3, unique=True)) if place else []
        engine = draw(st.sampled_from(ENGINES))
        commands.append(Command(engine, f"n{place}", draw(st.integers(0, 9)), tuple(sorted(needs))))
    return Schedule(tuple(commands))


UNITS = st.fixed_dictionaries({"dma": st.integers(1, 3)})


def by_processes(schedule: Schedule, units: dict[Engine, int]) -> list[tuple[int, int]]:
    """Start and end of every command: a process each, that waits for its needs, its turn and a unit."""
    world = simpy.Environment()
    engines = {e: simpy.Resource(world, units.get(e, 1)) for e in ENGINES}
    started, ended = ([world.event() for _ in schedule.commands] for _ in range(2))
    spans = [(0, 0)] * len(schedule.commands)
    last: dict[Engine, int] = {}

    def work(place: int, command: Command, before: int | None):
        yield world.all_of([ended[need] for need in command.needs])
        if before is not None:
            yield started[before]
        with engines[command.engine].request() as turn:
            yield turn
            start = world.now
            started[place].succeed()
            yield world.timeout(command.cycles)
            spans[place] = (start, world.now)
        ended[place].succeed()

    for place, command in enumerate(schedule.commands):
        world.process(work(place, command, last.get(command.engine)))
        last[command.engine] = place
    world.run()
    return spans


@given(schedules(), UNITS)
def test_the_recursion_says_what_processes_do(schedule, units):
    timing = run_schedule(schedule, units)
    assert [(s.start, s.end) for s in timing.spans] == by_processes(schedule, units)


@given(schedules(), UNITS)
def test_no_unit_does_two_things_at_once_and_nothing_starts_before_its_needs(schedule, units):
    timing = run_schedule(schedule, units)
    free: dict[tuple[Engine, int], int] = {}
    for span in timing.spans:
        place = span.command.engine, span.unit
        assert span.unit < units.get(span.command.engine, 1)
        assert span.start >= free.get(place, 0)
        assert all(timing.spans[need].end <= span.start for need in span.command.needs)
        free[place] = span.end


@given(schedules(), UNITS)
def test_the_end_lies_between_the_longest_chain_or_busiest_engine_and_the_sum(schedule, units):
    timing = run_schedule(schedule, units)
    assert max(timing.longest_chain, timing.busiest) <= timing.cycles <= timing.total
    assert timing.total == sum(command.cycles for command in schedule.commands)
    assert all(0 <= timing.share(engine) <= 1 for engine in ENGINES)


@given(schedules(), UNITS, st.data())
def test_a_shorter_command_ends_nothing_later(schedule, units, data):
    if not schedule.commands:
        return
    place = data.draw(st.integers(0, len(schedule.commands) - 1))
    shorter = data.draw(st.integers(0, schedule.commands[place].cycles))
    commands = list(schedule.commands)
    commands[place] = replace(commands[place], cycles=shorter)
    before, after = run_schedule(schedule, units), run_schedule(Schedule(tuple(commands)), units)
    assert all(b.end >= a.end for b, a in zip(before.spans, after.spans, strict=True))


@given(schedules(), st.integers(1, 3))
def test_another_channel_ends_nothing_later(schedule, channels):
    few, more = (run_schedule(schedule, {"dma": n}) for n in (channels, channels + 1))
    assert all(b.end >= a.end for b, a in zip(few.spans, more.spans, strict=True))


def pipeline(tiles: int, fetch: int, multiply: int) -> Schedule:
    """Fetches into two buffers, each followed by the product that reads it."""
    commands: list[Command] = []
    for tile in range(tiles):
        freed = (2 * tile - 3,) if tile > 1 else ()
        commands.append(Command("dma", "layer", fetch, freed, f"tile {tile}", dram_bytes=8 * fetch))
        commands.append(Command("array", "layer", multiply, (2 * tile,), f"tile {tile}", sram_bytes=64))
    return Schedule(tuple(commands))


@pytest.mark.parametrize(("fetch", "multiply"), [(10, 10), (10, 4), (4, 10)])
def test_a_double_buffer_hides_all_but_one_fetch_or_one_product(fetch, multiply):
    timing = run_schedule(pipeline(5, fetch, multiply))
    assert timing.cycles == fetch + multiply + 4 * max(fetch, multiply)
    assert timing.busy == {"dma": 5 * fetch, "array": 5 * multiply}
    assert timing.share("dma") == 5 * fetch / timing.cycles


def test_bytes_are_told_beside_what_their_port_takes():
    timing = run_schedule(pipeline(5, 10, 4))
    assert timing.moved() == (5 * 64, 5 * 80)
    target = load_target("edge8")
    assert timing.port_share(target.sram.bytes_per_cycle, 5 * 64) == 5 / timing.cycles
    assert timing.port_share(target.dram.bytes_per_cycle, 5 * 80) == 100 / timing.cycles


def test_nothing_takes_no_time():
    timing = run_schedule(Schedule(()))
    assert (timing.cycles, timing.busy, timing.total, timing.longest_chain) == (0, {}, 0, 0)
    assert timing.share("array") == timing.port_share(load_target("edge8").dram.bytes_per_cycle, 9) == 0


def test_a_timing_is_plain_data():
    plain = run_schedule(pipeline(2, 3, 4)).to_json()
    assert plain == {
        "cycles": 11,
        "longest_chain_cycles": 7,
        "busiest_engine_cycles": 8,
        "command_cycles": 14,
        "commands": 4,
        "busy": {
            "dma": {"cycles": 6, "share": 6 / 11},
            "array": {"cycles": 8, "share": 8 / 11},
        },
    }


@given(schedules(), UNITS, st.integers(0, 300))
def test_no_other_model_is_further_apart_than_told(schedule, units, cycles):
    timing = run_schedule(schedule, units)
    assert abs(timing.cycles - cycles) <= timing.apart(cycles)


def test_the_most_two_models_may_differ_by():
    timing: Timing = run_schedule(pipeline(2, 3, 4))
    assert [timing.apart(cycles) for cycles in (8, 11, 14, 20)] == [6, 3, 6, 12]
