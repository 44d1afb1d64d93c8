"""Greedy search over a transducer: its rule, its bound, its streams."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tasks.transducer_parts import DrawnParts, drawn_frames, in_chunks

from nnaq.errors import DataError
from nnaq.tasks.transducer_search import Greedy, Said, labels_of, transcribe

seeds = st.integers(0, 10**6)


def by_definition(parts, frames, most):
    """Greedy search as a walk over (frame, units of this frame)."""
    said, frame, here = [], 0, 0
    g, state = parts.start()
    while frame < len(frames):
        ranks = parts.logits(frames[frame], g).tolist()
        label = ranks.index(max(ranks))
        if label == 0 or here == most:
            frame, here = frame + 1, 0
            continue
        said.append((label, frame))
        g, state = parts.read(state, label)
        here += 1
    return said


@given(seeds, st.integers(1, 5), st.integers(0, 8), st.integers(1, 3))
def test_greedy_search_is_the_walk_of_best_steps(seed, units, count, most):
    parts, frames = DrawnParts(seed, 1 + units), drawn_frames(seed, count)
    said = transcribe(Greedy(parts, most), frames)
    assert [(one.label, one.frame) for one in said] == by_definition(parts, frames, most)


@given(seeds, st.lists(st.integers(0, 8), max_size=5))
def test_chunks_of_any_sizes_say_the_same(seed, cuts):
    search, frames = Greedy(DrawnParts(seed, 5)), drawn_frames(seed, 8)
    assert in_chunks(search, frames, cuts) == transcribe(search, frames)


@given(seeds)
def test_a_stream_is_a_value(seed):
    """A stream fed twice says the same twice, and other frames in between change nothing."""
    search, frames = Greedy(DrawnParts(seed, 4)), drawn_frames(seed, 6)
    said, kept = search.feed(search.start(), frames[:3])
    first = search.feed(kept, frames[3:])[0]
    search.feed(kept, drawn_frames(seed + 1, 4))
    assert search.feed(kept, frames[3:])[0] == first
    assert said + first == transcribe(search, frames)


@given(seeds, st.integers(1, 4))
def test_a_frame_says_no_more_than_allowed(seed, most):
    said = transcribe(Greedy(DrawnParts(seed, 6), most), drawn_frames(seed, 6))
    assert np.bincount([one.frame for one in said], minlength=6).max() <= most


class Constant:
    """The same logits at every step."""

    def __init__(self, logits):
        self.ranks = np.array(logits)

    def start(self):
        return np.zeros(1), None

    def read(self, state, label):
        return np.zeros(1), None

    def logits(self, f, g):
        return self.ranks


def test_of_equal_logits_the_first_counts():
    frames = np.zeros((2, 1))
    assert transcribe(Greedy(Constant([5, 5, 5])), frames) == []
    assert transcribe(Greedy(Constant([4, 5, 5]), most=1), frames) == [Said(1, 0), Said(1, 1)]


def test_a_model_without_blanks_comes_to_an_end():
    assert labels_of(transcribe(Greedy(Constant([0, 1]), most=3), np.zeros((2, 1)))) == [1] * 6


def test_a_search_needs_something_to_say():
    with pytest.raises(DataError, match="most >= 1, found 0"):
        Greedy(Constant([0]), most=0)
