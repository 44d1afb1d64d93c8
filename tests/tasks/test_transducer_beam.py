"""Beam search over a transducer: against all sequences there are, and against a plain search of wholes."""

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tasks.transducer_parts import SCALE, DrawnParts, drawn_frames, in_chunks

from nnaq.errors import DataError
from nnaq.tasks.transducer_beam import Beam
from nnaq.tasks.transducer_search import Greedy, Said, labels_of, transcribe

seeds = st.integers(0, 10**6)


def probabilities(parts, f, g):
    ranks = [math.exp(SCALE * int(code)) for code in parts.logits(f, g)]
    return [rank / sum(ranks) for rank in ranks]


def probability(parts, frames, labels, most):
    """p(labels | frames): forward[u] is the probability of having said u units when a frame begins."""
    reads = [parts.start()]
    for label in labels:
        reads.append(parts.read(reads[-1][1], label))
    forward = [1.0] + [0.0] * len(labels)
    for f in frames:
        steps = [probabilities(parts, f, g) for g, _ in reads]
        after = [0.0] * len(forward)
        for start, before in enumerate(forward):
            for end in range(start, min(start + most, len(labels)) + 1):
                said = math.prod(steps[u][labels[u]] for u in range(start, end))
                after[end] += before * said * steps[end][0]
        forward = after
    return forward[-1]


def all_sequences(parts, frames, units, most):
    """The probability of every sequence that these frames can say."""
    lengths = range(most * len(frames) + 1)
    every = (labels for n in lengths for labels in product(range(1, units), repeat=n))
    return {labels: probability(parts, frames, labels, most) for labels in every}


@settings(max_examples=25)
@given(seeds, st.integers(2, 3), st.integers(1, 3), st.integers(1, 2))
def test_a_wide_beam_is_the_sum_over_all_alignments(seed, units, count, most):
    parts, frames = DrawnParts(seed, units), drawn_frames(seed, count)
    wanted = all_sequences(parts, frames, units, most)
    beam = Beam(parts, SCALE, width=len(wanted), most=most)
    certain, stream = beam.feed(beam.start(), frames)
    assert certain == []  # nothing said is always among the hypotheses
    found = {one.labels: one.score for one in stream.hypotheses}
    assert found.keys() == wanted.keys()
    for labels, score in found.items():
        assert score == pytest.approx(math.log(wanted[labels]), abs=1e-9)
    best = tuple(labels_of(beam.rest(stream)))
    assert wanted[best] == pytest.approx(max(wanted.values()), rel=1e-9)


def plain_search(parts, frames, width, most, expand_beam):
    """The same search written out over whole sequences: dictionaries of labels to probabilities."""
    reads, beam = {(): parts.start()}, {(): 1.0}
    for f in frames:
        steps = {}
        passed, speaking = {}, beam
        for count in range(most + 1):
            for labels, p in speaking.items():
                steps[labels] = probabilities(parts, f, reads[labels][0])
                passed[labels] = passed.get(labels, 0.0) + p * steps[labels][0]
            if count == most:
                break
            longer = {
                (*labels, unit): p * steps[labels][unit]
                for labels, p in speaking.items()
                for unit in range(1, len(steps[labels]))
                if steps[labels][unit] >= max(steps[labels]) * math.exp(-expand_beam)
            }
            likeliest = dict(sorted(longer.items(), key=lambda pair: -pair[1])[:width])
            least = sorted(passed.values(), reverse=True)[width - 1] if len(passed) >= width else 0.0
            speaking = {labels: p for labels, p in likeliest.items() if p > least or labels in passed}
            for labels in speaking:
                reads[labels] = parts.read(reads[labels[:-1]][1], labels[-1])
        beam = dict(sorted(passed.items(), key=lambda pair: -pair[1])[:width])
    return beam


@settings(max_examples=40)
@given(
    seeds, st.integers(2, 6), st.integers(0, 6), st.integers(1, 4), st.integers(1, 3),
    st.sampled_from([0.7, 2.3, math.inf]),
)  # fmt: skip
def test_a_stream_finds_what_whole_sequences_find(seed, units, count, width, most, expand_beam):
    parts, frames = DrawnParts(seed, units), drawn_frames(seed, count)
    beam = Beam(parts, SCALE, width, most, expand_beam)
    certain, stream = beam.feed(beam.start(), frames)
    wanted = plain_search(parts, frames, width, most, expand_beam)
    begun = tuple(labels_of(certain))
    scores = {(*begun, *one.labels): one.score for one in stream.hypotheses}
    ranked = sorted(wanted.values(), reverse=True)
    assert list(scores.values()) == pytest.approx([math.log(p) for p in ranked], abs=1e-9)
    for labels, score in scores.items():
        assert score == pytest.approx(math.log(wanted[labels]), abs=1e-9)


@settings(max_examples=30)
@given(seeds, st.lists(st.integers(0, 8), max_size=5), st.integers(1, 4))
def test_chunks_of_any_sizes_say_the_same(seed, cuts, width):
    beam, frames = Beam(DrawnParts(seed, 5), SCALE, width), drawn_frames(seed, 8)
    assert in_chunks(beam, frames, cuts) == transcribe(beam, frames)


@settings(max_examples=30)
@example(seed=14, width=2)  # where the likeliest hypothesis changes after some units are certain
@given(seeds, st.integers(1, 4))
def test_frames_of_units_follow_each_other(seed, width):
    said = transcribe(Beam(DrawnParts(seed, 4), 4 * SCALE, width), drawn_frames(seed, 10))
    places = [one.frame for one in said]
    assert places == sorted(places) and set(places) <= set(range(10))


@settings(max_examples=30)
@given(seeds)
def test_a_stream_is_a_value(seed):
    beam, frames = Beam(DrawnParts(seed, 4), SCALE), drawn_frames(seed, 6)
    kept = beam.feed(beam.start(), frames[:3])[1]
    said, after = beam.feed(kept, frames[3:])
    beam.feed(kept, drawn_frames(seed + 1, 4))
    again, later = beam.feed(kept, frames[3:])
    assert (again, later.hypotheses) == (said, after.hypotheses)


def test_nothing_is_asked_in_silence():
    """Where blank is nearly certain, the joint is asked once per hypothesis, and the predictor never."""
    parts = Sure()
    beam = Beam(parts, width=4, most=3)
    _, stream = beam.feed(beam.start(), np.zeros((3, 1)))
    before = parts.joints, parts.reads
    beam.feed(stream, np.zeros((5, 1)))
    assert (parts.joints - before[0], parts.reads - before[1]) == (5 * 4, 0)


@settings(max_examples=30)
@given(seeds)
def test_a_sequence_in_the_beam_is_read_once(seed):
    """With as many hypotheses as there are sequences, none is ever forgotten."""
    parts = DrawnParts(seed, 3)
    transcribe(Beam(parts, SCALE, width=200, most=2), drawn_frames(seed, 3))
    assert len(parts.reads) == len(set(parts.reads))


class Sure:
    """Blank is nearly certain, the fewer units the likelier; counts what it is asked."""

    joints = reads = 0

    def start(self):
        return np.array(0), 0

    def read(self, state, label):
        self.reads += 1
        return np.array(state + 1), state + 1

    def logits(self, f, g):
        self.joints += 1
        return np.array([20.0, 0.0, 1.0])


class Spoken:
    """Says the units of a text one after another, each at the frame that holds it; nearly no doubt."""

    def start(self):
        return np.array(0), 0

    def read(self, state, label):
        return np.array(label), state + 1

    def logits(self, f, g):
        return np.where((np.arange(4) == f) & (f != g), 100, np.arange(4) == 0)


def test_units_are_certain_as_soon_as_no_hypothesis_differs():
    beam, frames = Beam(Spoken(), width=2, most=1, expand_beam=5.0), np.array([0, 1, 0, 2, 3])
    said, stream = beam.feed(beam.start(), frames[:3])
    assert said + beam.rest(stream) == [Said(1, 1)]
    more, stream = beam.feed(stream, frames[3:])
    assert labels_of(said + more + beam.rest(stream)) == [1, 2, 3]
    assert transcribe(beam, frames) == [Said(1, 1), Said(2, 3), Said(3, 4)]
    assert transcribe(Greedy(Spoken()), frames) == [Said(1, 1), Said(2, 3), Said(3, 4)]


class Flat:
    """All units equally likely, whatever was said."""

    def __init__(self, units=3):
        self.units = units

    def start(self):
        return np.zeros(1), None

    def read(self, state, label):
        return np.zeros(1), None

    def logits(self, f, g):
        return np.zeros(self.units, np.int8)


def test_equal_scores_rank_by_what_they_continue_then_by_the_lower_unit():
    beam = Beam(Flat(units=300), width=100, most=1)
    _, stream = beam.feed(beam.start(), np.zeros((1, 1)))
    assert [one.labels for one in stream.hypotheses] == [()] + [(unit,) for unit in range(1, 100)]


def test_two_alignments_of_a_sequence_are_one_hypothesis():
    """Two frames, one unit at the first or at the second: 2 * (1/3)^3, twice as likely as each alone."""
    beam = Beam(Flat(), width=10, most=1)
    _, stream = beam.feed(beam.start(), np.zeros((2, 1)))
    found = {one.labels: one for one in stream.hypotheses}
    assert found[1,].score == pytest.approx(math.log(2 / 27))
    assert len(found) == len(stream.hypotheses) == 7


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"width": 0}, "width >= 1, found 0"),
        ({"most": 0}, "most >= 1, found 0"),
        ({"scale": 0.0}, "scale > 0"),
        ({"scale": math.nan}, "scale > 0"),
        ({"expand_beam": -1.0}, "expand_beam >= 0"),
    ],
)
def test_settings_that_leave_nothing_to_search_are_refused(settings, named):
    with pytest.raises(DataError, match=named):
        Beam(Flat(), **settings)
