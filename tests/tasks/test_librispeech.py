"""LibriSpeech on a made folder of its layout."""

import numpy as np
import pytest
import soundfile

from nnaq.errors import DataError
from nnaq.tasks.an4 import Sets, Spoken
from nnaq.tasks.librispeech import read_part, read_sets


def write_chapter(folder, part, speaker, chapter, texts, rate=16000, channels=1):
    """A chapter with these texts, each utterance 0.1 s longer than the one before."""
    place = folder / part / speaker / chapter
    place.mkdir(parents=True)
    lines = []
    for number, text in enumerate(texts):
        name = f"{speaker}-{chapter}-{number:04d}"
        sound = np.zeros((1600 * (number + 1), channels))
        soundfile.write(place / f"{name}.flac", sound, rate)
        lines.append(f"{name} {text}")
    (place / f"{speaker}-{chapter}.trans.txt").write_text("\n".join(lines) + "\n")
    return place


@pytest.fixture
def folder(tmp_path):
    write_chapter(tmp_path, "train-clean-100", "103", "1241", ["A PRETTY VIEW", "MATTHEW THOUGHT"])
    write_chapter(tmp_path, "train-clean-100", "103", "1240", ["MISSUS LYNDE'S HOUSE"])
    write_chapter(tmp_path, "train-clean-100", "19", "198", ["northanger  abbey"])
    write_chapter(tmp_path, "train-other-500", "20", "205", ["SHE"])
    write_chapter(tmp_path, "dev-clean", "84", "121", ["GO"])
    write_chapter(tmp_path, "test-clean", "61", "70", ["HE BEGAN", "A CONFUSED COMPLAINT"])
    return tmp_path


def test_rows_are_those_of_the_transcripts(folder):
    place = folder / "train-clean-100"
    assert read_part(folder, "train-clean-100") == (
        Spoken(place / "103" / "1240" / "103-1240-0000.flac", "103", 0.1, "MISSUS LYNDE'S HOUSE"),
        Spoken(place / "103" / "1241" / "103-1241-0000.flac", "103", 0.1, "A PRETTY VIEW"),
        Spoken(place / "103" / "1241" / "103-1241-0001.flac", "103", 0.2, "MATTHEW THOUGHT"),
        Spoken(place / "19" / "198" / "19-198-0000.flac", "19", 0.1, "NORTHANGER ABBEY"),
    )


def test_no_sound_is_read(folder, monkeypatch):
    def refuse(*words, **named):
        raise AssertionError("sound was read")

    monkeypatch.setattr(soundfile, "read", refuse)
    monkeypatch.setattr(soundfile.SoundFile, "read", refuse)
    assert len(read_part(folder, "test-clean")) == 2


def test_sets_are_made_of_parts(folder):
    sets = read_sets(folder)
    assert isinstance(sets, Sets)
    assert [len(rows) for rows in (sets.train, sets.development, sets.test)] == [4, 1, 2]
    more = read_sets(str(folder), train=("train-clean-100", "train-other-500"))
    assert more.train == sets.train + read_part(folder, "train-other-500")


def test_a_speaker_in_two_sets_is_refused(folder):
    with pytest.raises(DataError, match="speaker 61 is in two sets"):
        read_sets(folder, development=("test-clean",))
    with pytest.raises(DataError, match="speaker 103 is in two sets"):
        read_sets(folder, test=("test-clean", "train-clean-100"))


def test_an_absent_part_is_refused_with_the_way_out(folder):
    with pytest.raises(DataError, match=r"no folder .*dev-other; unpack dev-other.tar.gz .*openslr.org/12"):
        read_part(folder, "dev-other")
    (folder / "dev-other").mkdir()
    with pytest.raises(DataError, match="holds no SPEAKER/CHAPTER/"):
        read_part(folder, "dev-other")


@pytest.mark.parametrize("line", ["61-70-0000", "61-70-0000 ", ""])
def test_a_line_without_words_is_refused(folder, line):
    table = folder / "test-clean" / "61" / "70" / "61-70.trans.txt"
    table.write_text(f"61-70-0001 WORDS\n{line}\n")
    with pytest.raises(
        DataError, match=r"61-70.trans.txt, line 2: found .*expected a name, a space and words"
    ):
        read_part(folder, "test-clean")


def test_missing_and_foreign_sound_is_refused(folder):
    place = folder / "test-clean" / "61" / "70"
    (place / "61-70-0001.flac").write_bytes(b"no sound")
    with pytest.raises(DataError, match=r"line 2: .*61-70-0001.flac cannot be read as audio"):
        read_part(folder, "test-clean")
    (place / "61-70-0001.flac").unlink()
    with pytest.raises(DataError, match=r"line 2: there is no file .*61-70-0001.flac; unpack"):
        read_part(folder, "test-clean")


@pytest.mark.parametrize(("rate", "channels"), [(8000, 1), (16000, 2)])
def test_another_rate_or_more_channels_are_refused(tmp_path, rate, channels):
    write_chapter(tmp_path, "dev-clean", "1", "2", ["WORDS"], rate, channels)
    with pytest.raises(DataError, match=f"has {channels} channels at {rate} Hz, expected 1 at 16000 Hz"):
        read_part(tmp_path, "dev-clean")
