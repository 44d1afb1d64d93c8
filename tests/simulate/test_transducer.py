"""A transducer in real time: parts that take turns, beside SimPy's processes, and the SRAM they share."""

from dataclasses import replace
from functools import cache

import simpy
from hypothesis import given, settings
from hypothesis import strategies as st
from simulate.lowered import layer, recurrent

from nnaq.simulate import simulate
from nnaq.simulate.transducer import Framing, Spoken, sizes, take_turns
from nnaq.targets import load_target

EDGE8 = load_target("edge8")
PARTS = recurrent(), layer(inputs=8, outputs=40), layer(inputs=40, outputs=20)
OPERATIONS = 1000


@cache
def turns(chunk=1, sram=EDGE8.sram_bytes):
    target = replace(EDGE8, sram=replace(EDGE8.sram, bytes=sram))
    return take_turns(*PARTS, target, range(1, chunk + 1), OPERATIONS)


@st.composite
def utterances(draw):
    """Labels and steps of frames of 100 samples: with a blank at the end, or cut short."""
    labels = draw(st.lists(st.integers(0, 3), min_size=1, max_size=9))
    steps = [count + (count == 0 or draw(st.booleans())) for count in labels]
    samples = 100 * len(labels) - draw(st.integers(0, 99))
    return Spoken(samples, draw(st.integers(0, samples)), tuple(labels), tuple(steps))


def by_processes(found, spoken, framing):
    """When every chunk is done: one after the other, each the host's features, frames, steps and labels."""
    world, dones = simpy.Environment(), []
    step = found.joint.timing.cycles + found.choice
    frame = EDGE8.clock_hz * framing.hop // framing.sample_rate

    def machine():
        yield world.timeout(found.setup_cycles)
        for first in range(0, len(spoken.labels), framing.chunk):
            inside = range(first, min(first + framing.chunk, len(spoken.labels)))
            heard = min((inside[-1] + 1) * frame, spoken.samples * EDGE8.clock_hz // framing.sample_rate)
            yield world.timeout(max(heard - world.now, 0))
            yield world.timeout(len(inside) * found.features)
            yield world.timeout(found.encoders[len(inside)].timing.cycles)
            for n in inside:
                for said in range(spoken.steps[n]):
                    yield world.timeout(step)
                    if said < spoken.labels[n]:
                        yield world.timeout(found.predictor.timing.cycles)
            dones.append(world.now)

    world.process(machine())
    world.run()
    return dones


@given(utterances(), st.integers(1, 3), st.sampled_from([1_000, 10_000_000]))
def test_an_utterance_is_heard_as_processes_do(spoken, chunk, rate):
    found, framing = turns(3), Framing(100, rate, chunk)
    streamed = found.hear(spoken, framing)
    assert [one.done for one in streamed.chunks] == by_processes(found, spoken, framing)
    assert streamed.encoder_busy + streamed.decoder_busy == sum(found.work(spoken, chunk).values())


def test_every_part_works_as_often_as_it_is_asked():
    spoken = Spoken(500, 500, (0, 2, 0, 0, 1), (1, 3, 1, 1, 1))
    found = turns()
    assert found.work(spoken, 1) == {
        "features": 5 * EDGE8.host.cycles(OPERATIONS, 0),
        "encoder": 5 * simulate(PARTS[0], EDGE8).timing.cycles,
        "predictor": 3 * simulate(PARTS[1], EDGE8).timing.cycles,
        "joint": 7 * simulate(PARTS[2], EDGE8).timing.cycles,
        "search": 7 * EDGE8.host.cycles(20, 20),
    }
    assert sizes(5, 2) == [2, 2, 1] and sizes(0, 2) == []


def test_a_machine_with_room_holds_all_parts_side_by_side():
    found = turns()
    alone = [simulate(part, EDGE8).plan for part in PARTS]
    resting = found.resting
    assert resting["pinned_bytes"] == sum(plan.pinned_bytes for plan in alone)
    assert resting["state_bytes"] == alone[0].state_bytes > 0
    assert found.fits and resting["peak_bytes"] <= resting["bytes"] == EDGE8.sram_bytes
    assert not any(part.plan.streamed_bytes for part in found.parts)


@given(st.integers(0, 40_000))
@settings(max_examples=25)
def test_parts_never_take_more_than_there_is(sram):
    found = turns(1, sram + 1)
    resting = found.resting
    inside = max(part.plan.arena_bytes - part.plan.state_bytes for part in found.parts)
    stays = resting["pinned_bytes"] + resting["state_bytes"] + resting["meeting_bytes"]
    assert resting["peak_bytes"] == stays + inside
    if found.fits:
        assert resting["peak_bytes"] <= sram + 1
    else:  # not for what is pinned
        assert resting["peak_bytes"] - resting["pinned_bytes"] > sram + 1


def test_who_runs_most_often_is_pinned_first():
    scarce = turns(1, 12_000)
    encoder, predictor, joint = (part.plan.pinned_bytes for part in scarce.parts)
    assert joint == simulate(PARTS[2], EDGE8).plan.pinned_bytes
    assert encoder < simulate(PARTS[0], EDGE8).plan.pinned_bytes
    assert scarce.parts[0].timing.cycles > turns().parts[0].timing.cycles
    assert predictor <= 12_000 - encoder - joint


def test_a_slow_machine_makes_the_last_word_late():
    spoken = Spoken(1_000, 900, (1,) * 10, (2,) * 10)
    quick, slow = (turns().hear(spoken, Framing(100, rate)).perceived for rate in (1_000, 100_000_000))
    each = sum(turns().work(Spoken(100, 100, (1,), (2,)), 1).values())
    assert quick == each
    assert slow > 9 * each
