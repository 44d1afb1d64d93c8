"""Streams in real time: waiting, latency and symbols, beside SimPy's processes."""

from dataclasses import replace

import pytest
import simpy
from hypothesis import given
from hypothesis import strategies as st
from simulate.lowered import recurrent

from nnaq.errors import DataError
from nnaq.simulate import simulate, simulate_stream
from nnaq.simulate.listening import Sound, listen
from nnaq.simulate.stream import emissions, frame_arrivals
from nnaq.targets import load_target

EDGE8 = load_target("edge8")


def by_processes(encoding, per_symbol, arrivals, symbols, decoder, ready):
    """When every chunk's result is there: chunks queue for the engine, symbols for where they are decoded."""
    world = simpy.Environment()
    engine = simpy.Resource(world)
    place = engine if decoder == "accelerator" else simpy.Resource(world)
    done = [world.event() for _ in arrivals]
    times = [0] * len(arrivals)

    def boot():
        with engine.request() as turn:
            yield turn
            yield world.timeout(ready)

    def chunk(number):
        yield world.timeout(arrivals[number])
        with engine.request() as turn:
            yield turn
            yield world.timeout(encoding[number])
            if place is engine:
                yield world.timeout(symbols[number] * per_symbol)
        if place is not engine:
            if number:
                yield done[number - 1]
            with place.request() as turn:
                yield turn
                yield world.timeout(symbols[number] * per_symbol)
        times[number] = world.now
        done[number].succeed()

    world.process(boot())
    for number in range(len(arrivals)):
        world.process(chunk(number))
    world.run()
    return times


@st.composite
def streams(draw):
    count = draw(st.integers(1, 8))
    numbers = st.lists(st.integers(0, 9), min_size=count, max_size=count)
    arrivals = sorted(draw(st.lists(st.integers(0, 60), min_size=count, max_size=count)))
    decoder = draw(st.sampled_from(["host", "accelerator"]))
    return draw(numbers), draw(st.integers(0, 5)), arrivals, draw(numbers), decoder, draw(st.integers(0, 30))


@given(streams())
def test_a_stream_runs_as_processes_do(given_stream):
    found = simulate_stream(*given_stream)
    assert [chunk.done for chunk in found.chunks] == by_processes(*given_stream)


@given(streams())
def test_results_come_in_order_and_none_before_its_work(given_stream):
    encoding, per_symbol, arrivals, symbols, *_ = given_stream
    found = simulate_stream(*given_stream)
    dones = [chunk.done for chunk in found.chunks]
    assert dones == sorted(dones)
    for chunk, cycles, number in zip(found.chunks, encoding, symbols, strict=True):
        assert chunk.latency >= cycles + number * per_symbol
        assert chunk.wait >= 0
    assert found.cycles >= arrivals[-1] + encoding[-1]
    assert (
        found.latency(0.5)
        <= found.latency(0.9)
        <= found.latency(1.0)
        == max(chunk.latency for chunk in found.chunks)
    )
    assert found.encoder_busy + found.decoder_busy == sum(encoding) + sum(symbols) * per_symbol
    assert 0 <= found.accelerator_share <= 1


@given(streams(), st.integers(0, 7))
def test_more_work_makes_nothing_earlier(given_stream, place):
    encoding, *rest = given_stream
    more = [cycles + (number == place % len(encoding)) for number, cycles in enumerate(encoding)]
    before, after = simulate_stream(encoding, *rest), simulate_stream(more, *rest)
    assert all(b.done <= a.done for b, a in zip(before.chunks, after.chunks, strict=True))


def test_an_engine_in_time_never_lets_a_chunk_wait():
    found = simulate_stream(90, 0, arrivals=range(100, 1100, 100))
    assert {chunk.latency for chunk in found.chunks} == {90}
    assert (found.longest_wait, found.backlog, found.perceived) == (0, 0, 90)


def test_an_engine_too_slow_falls_behind_by_the_same_every_chunk():
    found = simulate_stream(130, 0, arrivals=range(100, 1100, 100))
    assert [chunk.latency for chunk in found.chunks] == [130 + 30 * n for n in range(10)]
    assert found.perceived == 130 + 30 * 9
    assert found.longest_wait == 30 * 9
    assert found.backlog == 3
    assert found.latency(0.5) == 130 + 30 * 4
    assert found.latency(0.99) == found.perceived


def test_a_decoder_on_the_host_works_beside_the_encoder():
    sounds = {"arrivals": [100, 200, 300], "symbols": [10, 0, 1]}
    host = simulate_stream(50, 15, **sounds)
    assert [chunk.done for chunk in host.chunks] == [300, 300, 365]
    taken = simulate_stream(50, 15, **sounds, decoder="accelerator")
    assert [chunk.start for chunk in taken.chunks] == [100, 300, 350]
    assert [chunk.done for chunk in taken.chunks] == [300, 350, 415]


@given(st.floats(0, 5), st.integers(0, 30))
def test_a_rate_of_symbols_adds_up(rate, chunks):
    emitted = emissions(rate, chunks)
    assert len(emitted) == chunks
    assert abs(sum(emitted) - rate * chunks) < 1.001
    assert max(emitted, default=0) - min(emitted, default=0) <= 1


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ({"arrivals": [5, 3]}, "arrivals of a stream cannot go below 5, found 3"),
        ({"symbols": [1]}, "takes symbols for each of them, found 1"),
        ({"symbols": [1, -1]}, "symbols of a stream cannot be negative, found -1"),
        ({"symbols": -0.5}, "symbols of a stream cannot go below 0"),
        ({"encoder_cycles_per_chunk": [1, 2, 3]}, "encoder cycles for each of them, found 3"),
        ({"decoder_cycles_per_symbol": -1}, "decoder cycles of a stream cannot go below 0"),
    ],
)
def test_streams_that_cannot_be_are_refused(words, told):
    usual = {"encoder_cycles_per_chunk": 1, "decoder_cycles_per_symbol": 1, "arrivals": [0, 1]}
    with pytest.raises(DataError, match=told):
        simulate_stream(**{**usual, **words})


def test_no_sound_no_latency():
    nothing = simulate_stream(5, 5, [])
    assert (nothing.cycles, nothing.perceived, nothing.latency(0.9), nothing.backlog) == (0, 0, 0, 0)


@given(st.integers(1, 3000), st.integers(1, 400), st.sampled_from([8000, 16000]), st.integers(1, 5))
def test_chunks_arrive_when_their_last_sample_does(samples, hop, rate, chunk):
    arrivals = frame_arrivals(samples, hop, rate, 500_000_000, chunk)
    frames = -(-samples // hop)
    assert len(arrivals) == -(-frames // chunk)
    assert arrivals == sorted(arrivals)
    assert arrivals[-1] == -(-samples * 500_000_000 // rate)
    if len(arrivals) > 1:
        assert arrivals[0] == -(-chunk * hop * 500_000_000 // rate)


def test_a_recording_is_the_sum_of_its_steps():
    graph, sound = recurrent(), Sound(16_000, 160, 16_000)
    found, step = listen(graph, EDGE8, sound), simulate(recurrent(), EDGE8)
    plain = found.to_json()
    assert (plain["frames"], plain["seconds"]) == (100, 1.0)
    assert plain["real_time_factor"] == pytest.approx(step.latency(0.01)["event_real_time_factor"])
    each = EDGE8.microseconds(step.timing.cycles)
    assert plain["latency_microseconds"] == {"p50": each, "p90": each, "p99": each}
    assert plain["perceived_latency_microseconds"] == each
    assert plain["sram_bytes_per_frame"] == step.sram_bytes
    assert plain["energy_microjoules"] == pytest.approx(100 * step.energy_picojoules / 1e6)
    assert "falls behind" not in found.show()


def test_the_last_chunk_may_be_shorter():
    found = listen(recurrent(), EDGE8, Sound(16_000, 160, 16_000), chunk=30)
    assert [s.step.graph.types["x"].shape[0] for s in found.steps] == [30, 30, 30, 10]
    assert found.streamed.perceived == found.steps[-1].timing.cycles < found.steps[0].timing.cycles


def test_a_slow_machine_falls_behind_and_says_so():
    slow = replace(EDGE8, clock_hz=100_000)
    found = listen(recurrent(), slow, Sound(16_000, 160, 16_000))
    assert found.real_time_factor > 1
    assert found.streamed.perceived > 50 * found.steps[0].timing.cycles * (1 - 1 / found.real_time_factor)
    assert "it falls behind" in found.show()
    silent = listen(recurrent(), replace(EDGE8, energy=None), Sound(160, 160, 16_000))
    assert silent.to_json()["energy_microjoules"] is None
    assert "energy" not in silent.show()
