"""Recordings: what is found, what is read, and what is refused in one sentence."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from nnaq.errors import DataError
from nnaq.ir.build import Builder
from nnaq.ir.graph import Graph
from nnaq.ir.types import TensorType
from nnaq.tasks.recordings import (
    Recording,
    find_recordings,
    read_arrays,
    read_audio,
    read_blocks,
    refuse_overlap,
    split,
)


def tone(path: Path, rate: int = 16000, channels: int = 1, samples: int = 320, seed: int = 0) -> Path:
    noise = np.random.default_rng(seed).uniform(-0.5, 0.5, (samples, channels))
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, noise, rate, subtype="PCM_16")
    return path


def net(inputs: dict[str, tuple[tuple[int | str, ...], int | None, str]]) -> Graph:
    b = Builder("net")
    for name, (shape, time_axis, dtype) in inputs.items():
        b.output(b.input(name, TensorType(dtype, shape), time_axis))
    return b.build()


def test_recordings_are_found_below_the_folder_in_order_of_their_names(tmp_path):
    tone(tmp_path / "b" / "2.wav")
    tone(tmp_path / "a.flac")
    tone(tmp_path / "b" / "1.WAV")
    np.savez(tmp_path / "c.npz", x=np.zeros(1))
    (tmp_path / "notes.txt").write_text("no recording")
    assert [r.name for r in find_recordings(tmp_path)] == ["a.flac", "b/1.WAV", "b/2.wav", "c.npz"]
    assert [r.is_audio for r in find_recordings(tmp_path)] == [True, True, True, False]


def test_a_folder_without_recordings_says_what_was_looked_for(tmp_path):
    with pytest.raises(DataError, match=r"holds no recordings; looked for \.flac, \.wav, \.npz"):
        find_recordings(tmp_path)
    with pytest.raises(DataError, match="does not exist"):
        find_recordings(tmp_path / "nowhere")
    with pytest.raises(DataError, match="is a file"):
        find_recordings(tone(tmp_path / "a.wav"))


@pytest.mark.parametrize("ending", ["wav", "flac"])
def test_sixteen_bit_samples_arrive_as_they_are(tmp_path, ending):
    codes = np.array([0, 1, -1, 32767, -32768], np.int16)
    soundfile.write(tmp_path / f"a.{ending}", codes, 16000, subtype="PCM_16")
    audio = read_audio(tmp_path / f"a.{ending}", 16000)
    assert audio.dtype == np.float32
    assert np.array_equal(audio * 32768, codes)


@pytest.mark.parametrize(
    ("rate", "channels", "found"),
    [(44100, 2, "44100 Hz 2 channels"), (8000, 1, "8000 Hz mono"), (16000, 2, "2 ch")],
)
def test_another_rate_or_stereo_is_refused_with_the_cure(tmp_path, rate, channels, found):
    path = tone(tmp_path / "a.wav", rate, channels)
    with pytest.raises(
        DataError, match=f"found .*{found}.*16000 Hz mono; convert it with `ffmpeg -i a.wav -ac 1 -ar 16000"
    ):
        read_audio(path, 16000)


def test_unreadable_empty_and_broken_audio_is_refused(tmp_path):
    (tmp_path / "a.wav").write_bytes(b"no audio at all")
    with pytest.raises(DataError, match="cannot be read as audio"):
        read_audio(tmp_path / "a.wav", 16000)
    with pytest.raises(DataError, match="cannot be read as audio"):
        read_audio(tmp_path / "gone.wav", 16000)
    with pytest.raises(DataError, match="holds no samples"):
        read_audio(tone(tmp_path / "b.wav", samples=0), 16000)
    soundfile.write(tmp_path / "c.wav", np.array([0.0, np.nan]), 16000, subtype="FLOAT")
    with pytest.raises(DataError, match="NaN"):
        read_audio(tmp_path / "c.wav", 16000)


def test_arrays_are_time_first_in_the_file_and_as_the_model_takes_them_after(tmp_path):
    graph = net({"x": ((1, 3, "T"), 2, "f32"), "id": ((2,), None, "i32")})
    x = np.arange(12).reshape(4, 1, 3)
    np.savez(tmp_path / "a.npz", x=x, id=np.array([1, 2]))
    arrays = read_arrays(tmp_path / "a.npz", graph)
    assert np.array_equal(arrays["x"], x.transpose(1, 2, 0))
    assert arrays["x"].dtype == np.float32
    assert arrays["id"].dtype == np.int32


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"y": np.zeros((2, 3))}, "found arrays y; model 'net' takes x"),
        ({}, "found arrays none; model 'net' takes x"),
        ({"x": np.zeros((2, 3)), "y": np.zeros(1)}, "found arrays x, y; model 'net' takes x"),
        ({"x": np.zeros((2, 4))}, r"array 'x' has shape \[2, 4\], expected \[T,3\] \(time first\)"),
        ({"x": np.zeros(3)}, r"array 'x' has shape \[3\], expected \[T,3\]"),
        ({"x": np.full((1, 3), np.inf)}, "array 'x' holds values that are NaN or infinite"),
        ({"x": np.zeros((0, 3))}, "array 'x' holds no frames"),
        ({"x": np.array([["a", "b", "c"]])}, "array 'x' holds <U1, the model takes f32"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(tmp_path, arrays, said):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(DataError, match=said):
        read_arrays(tmp_path / "a.npz", net({"x": (("T", 3), 0, "f32")}))


def test_integer_inputs_refuse_reals(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.zeros(3))
    with pytest.raises(DataError, match="holds float64, the model takes i8"):
        read_arrays(tmp_path / "a.npz", net({"x": (("T",), 0, "i8")}))


def test_pickles_and_other_files_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.array([{}], object))
    graph = net({"x": (("T",), 0, "f32")})
    with pytest.raises(DataError, match="cannot be read as npz arrays"):
        read_arrays(tmp_path / "a.npz", graph)
    np.save(tmp_path / "b.npy", np.zeros(3))
    (tmp_path / "b.npy").rename(tmp_path / "b.npz")
    with pytest.raises(DataError, match="is no npz file"):
        read_arrays(tmp_path / "b.npz", graph)


def folder(path: Path, count: int, first_seed: int = 0) -> list[Recording]:
    for number in range(count):
        tone(path / f"{number:02}.wav", seed=first_seed + number)
    return find_recordings(path)


def test_a_split_is_a_partition_that_a_seed_repeats(tmp_path):
    recordings = folder(tmp_path, 10)
    rest, held_out = split(recordings, 0.2, seed=3)
    assert (len(rest), len(held_out)) == (8, 2)
    assert sorted(r.name for r in rest + held_out) == [r.name for r in recordings]
    assert split(recordings, 0.2, seed=3) == (rest, held_out)
    assert any(split(recordings, 0.2, seed=seed)[1] != held_out for seed in range(10))
    refuse_overlap(rest, held_out)


def test_copies_stay_on_one_side_of_a_split(tmp_path):
    for number in range(6):
        tone(tmp_path / f"{number}.wav", seed=number // 2)
    recordings = find_recordings(tmp_path)
    for seed in range(8):
        rest, held_out = split(recordings, 0.3, seed)
        assert len(held_out) == 2
        refuse_overlap(rest, held_out)


def test_one_recording_cannot_be_split(tmp_path):
    with pytest.raises(DataError, match="at least 2 different ones, found 1"):
        split(folder(tmp_path, 1))


def test_overlap_is_refused_by_path_and_by_content(tmp_path):
    chosen = folder(tmp_path / "a", 3)
    refuse_overlap(chosen, folder(tmp_path / "b", 3, first_seed=10))
    with pytest.raises(DataError, match=r"01\.wav is also calibrated on"):
        refuse_overlap(chosen, [Recording("x", tmp_path / "a" / ".." / "a" / "01.wav")])
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "renamed.wav").write_bytes(chosen[2].path.read_bytes())
    with pytest.raises(DataError, match=r"renamed\.wav is also calibrated on \(as .*02\.wav\)"):
        refuse_overlap(chosen, find_recordings(tmp_path / "c"))


def test_blocks_are_the_recording_piece_by_piece(tmp_path):
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, 1000)
    for name, subtype in (("a.wav", "PCM_16"), ("b.flac", "PCM_24")):
        soundfile.write(tmp_path / name, samples, 8000, subtype)
        pieces = list(read_blocks(tmp_path / name, 8000, 96))
        assert [len(piece) for piece in pieces] == [96] * 10 + [40]
        np.testing.assert_array_equal(np.concatenate(pieces), read_audio(tmp_path / name, 8000))


def test_a_header_that_claims_hours_takes_no_memory(tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros(100), 8000)
    data = bytearray(path.read_bytes())
    place = data.index(b"data") + 4
    data[place : place + 4] = (2**31 - 2).to_bytes(4, "little")
    path.write_bytes(data)
    assert len(read_audio(path, 8000)) <= 100
