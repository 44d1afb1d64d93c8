"""The controlled set of dialogue acts: who says what, what prosody tells, and what is not made again."""

import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks"))

import dialogue_voices as voices


def all_lines(kind):
    return {cast.table: list(voices.lines(kind, cast, 6, 0)) for cast in voices.CASTS}


def test_speakers_of_the_test_are_nobody_elses():
    speakers = {table: {line.speaker for line in said} for table, said in all_lines("controlled").items()}
    assert not speakers["train"] & speakers["dev"]
    train, _, test = voices.CASTS
    assert not {*train.accents, *train.variants} & {*test.accents, *test.variants}
    assert not set(train.colours) & set(test.colours)
    (low, high), *_ = train.pitches
    assert all(end < low or start > high for start, end in test.pitches)


def test_pitch_alone_tells_the_act_where_words_are_the_same():
    said = [line for table in all_lines("controlled").values() for line in table]
    assert all(voices.CONTOUR_OF[line.act] == line.contour for line in said)
    assert {line.text for line in said if line.act == "question"} == set(voices.SAME_WORDS)


def test_pitch_tells_nothing_where_words_tell_the_act():
    said = [line for table in all_lines("control").values() for line in table]
    texts = [set(words) for words in voices.OWN_WORDS.values()]
    assert len(set.union(*texts)) == sum(map(len, texts))
    for act in voices.OWN_WORDS:
        own = [line for line in said if line.act == act]
        assert {line.text for line in own} == set(voices.OWN_WORDS[act])
        shares = [np.mean([line.contour == contour for line in own]) for contour in voices.CONTOURS]
        assert min(shares) > 0.15 and max(shares) < 0.35


@pytest.mark.parametrize("falls", [0.0, 3.0, 6.0])
def test_noise_falls_by_so_many_decibels_an_octave(falls):
    noise = voices.coloured(np.random.default_rng(0), 160_000, falls)
    power, hertz = np.square(np.abs(np.fft.rfft(noise))), np.fft.rfftfreq(160_000, 1 / 16000)
    levels = [power[(hertz > f) & (hertz < 1.2 * f)].mean() for f in (500, 1000, 2000)]
    assert np.abs(10 * np.log10(np.array(levels[:-1]) / levels[1:]) - falls).max() < 0.5


@pytest.fixture
def buzz(monkeypatch):
    """In the place of espeak-ng, a tone between two pauses; returns what it was asked for."""
    asked = []

    def say(ssml, voice, pitch, speed):
        asked.append((ssml, voice, pitch, speed))
        tone = np.sin(np.arange(4000) * 0.05).astype(np.float32)
        return np.pad(tone, (3000, 5000))

    monkeypatch.setattr(voices, "spoken", say)
    return asked


def test_a_line_is_said_with_its_contour_and_its_pauses(buzz):
    line = next(line for line in all_lines("controlled")["test"] if line.contour == "high")
    made = voices.voiced(line)
    ssml, voice, pitch, _ = buzz[0]
    assert ssml == f'<prosody range="180%">{line.text}!</prosody>' and voice == line.speaker
    assert pitch < 30 or pitch > 65
    assert 5500 < len(made) < 12000 and 0.1 <= np.abs(made).max() <= 0.5
    assert np.array_equal(made, voices.voiced(line))


def test_what_is_there_is_not_made_again(buzz, tmp_path, monkeypatch):
    monkeypatch.setattr(
        voices, "CASTS", (voices.Cast("train", ("en-us",), ("m1",), ((30, 65),), (0.0,), (10, 30)),)
    )
    voices.make(tmp_path, "controlled", 1, 0)
    assert len(buzz) == 4
    table = (tmp_path / "train.tsv").read_text()
    (tmp_path / "train" / "00002.wav").unlink()
    voices.make(tmp_path, "controlled", 1, 0)
    assert len(buzz) == 5 and (tmp_path / "train.tsv").read_text() == table
    assert soundfile.info(tmp_path / "train" / "00002.wav").samplerate == 16000
    assert table.splitlines()[0].split("\t") == ["path", "speaker", "seconds", "act", "contour", "text"]


def test_without_the_program_one_sentence_says_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["dialogue_voices.py", str(tmp_path / "out")])
    with pytest.raises(SystemExit, match="no program espeak-ng on PATH; install it with"):
        voices.main()
