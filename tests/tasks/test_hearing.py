"""Sound in pieces is heard like sound at once, and the table that says how to hear is read with care."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nnaq.errors import DataError
from nnaq.tasks.hearing import TABLE, Ear, Hearing, read_tables
from nnaq.tasks.log_mel import LogMel, Normalization
from nnaq.tasks.units import Units


def hearing(**sizes) -> Hearing:
    log_mel = LogMel(bands=8, **sizes)
    ones = np.ones(log_mel.features, np.float32)
    return Hearing(Units.of("words", ["GO", "TO FIVE"]), log_mel, Normalization(ones, 2 * ones), 2)


@given(
    st.integers(0, 4000),
    st.lists(st.integers(1, 1500), max_size=4),
    st.sampled_from([{}, {"stack": 4, "stride": 2}, {"stack": 1, "stride": 1, "window": 160}]),
)
@settings(max_examples=30, deadline=None)
def test_pieces_give_the_features_of_the_whole(length, sizes, log_mel):
    sound = np.random.default_rng(length).normal(size=length).astype(np.float32)
    whole = hearing(**log_mel)
    ear = Ear(whole)
    pieces = np.split(sound, np.clip(np.cumsum(sizes), 0, length))
    found = np.concatenate([*(ear(piece) for piece in pieces), ear.rest()])
    np.testing.assert_array_equal(found, whole.features(sound))


def test_an_ear_begins_anew_after_the_rest():
    ear, sound = Ear(hearing()), np.random.default_rng(0).normal(size=2000).astype(np.float32)
    first = np.concatenate([ear(sound), ear.rest()])
    np.testing.assert_array_equal(np.concatenate([ear(sound), ear.rest()]), first)


def test_features_come_in_whole_frames_of_the_encoder():
    ear = Ear(hearing())
    assert len(ear(np.zeros(959, np.float32))) == 0
    assert len(ear(np.zeros(1, np.float32))) == 2


def test_a_table_says_the_same_again():
    table = hearing().to_table()
    again = Hearing.from_table(table, "test")
    assert again.to_table() == table
    assert again.units.decode([1, 2]) == "FIVE GO"


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("mean", [1.0], "1 means and 24 deviations for 24 features"),
        ("deviation", [0.0] * 24, "deviations and reduction above 0"),
        ("reduction", 0, "deviations and reduction above 0"),
        ("units", {}, "not as nnaq writes it"),
        ("log_mel", {"bands": -1}, "at least 1"),
        ("log_mel", {"tones": 8}, "not as nnaq writes it"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(key, value, said):
    with pytest.raises(DataError, match=said):
        Hearing.from_table({**hearing().to_table(), key: value}, "test")


def test_a_folder_without_a_table_is_no_recogniser(tmp_path):
    with pytest.raises(DataError, match="is no recogniser"):
        read_tables(tmp_path)
    (tmp_path / TABLE).write_text("no toml")
    with pytest.raises(DataError, match="not as nnaq writes it"):
        read_tables(tmp_path)
    (tmp_path / TABLE).write_text("[model]")
    with pytest.raises(DataError, match="hearing"):
        read_tables(tmp_path)
