"""What files from outside may not do: lose the stack, fill the memory, bring objects along."""

import io
import struct
import tomllib
import zipfile

import numpy as np
import pytest

from nnaq import outside
from nnaq.outside import parse_json, parse_toml, read_npz
from nnaq.targets.toml_lines import key_lines


def npz(path, **arrays):
    np.savez_compressed(path, **arrays)
    return path


def header(shape, descr="<f4"):
    """The beginning of an array in a file, whatever comes behind it."""
    text = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


def archive(path, **members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in members.items():
            file.writestr(f"{name}.npy", data)
    return path


def test_arrays_are_read_as_they_were_written(tmp_path):
    arrays = {
        "x": np.arange(6, dtype=np.int8).reshape(2, 3),
        "none": np.zeros((0, 4)),
        "one": np.array("word"),
    }
    found = read_npz(npz(tmp_path / "a.npz", **arrays))
    assert set(found) == set(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype


@pytest.mark.parametrize(
    "shape", ["(2**40,)", "(1099511627776,)", "(4294967296, 4294967296)", "(-1,)", "(9, 9)"]
)
def test_an_array_that_claims_more_than_there_is(tmp_path, shape):
    with pytest.raises(ValueError, match=r"claims|shape|malformed"):
        read_npz(archive(tmp_path / "a.npz", x=header(shape) + bytes(8)))


def test_an_archive_that_unpacks_to_more_than_the_limit_is_not_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(outside, "MOST_BYTES", 1000)
    path = npz(tmp_path / "a.npz", x=np.zeros(10_000, np.int8))
    assert path.stat().st_size < 1000
    with pytest.raises(ValueError, match=r"claims to hold 10128 bytes, nnaq reads 1000"):
        read_npz(path)


def test_objects_are_never_unpickled(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.array([{}], dtype=object))
    with pytest.raises(ValueError, match="allow_pickle"):
        read_npz(tmp_path / "a.npz")


def test_one_array_is_no_archive(tmp_path):
    file = io.BytesIO()
    np.save(file, np.zeros(3))
    (tmp_path / "a.npz").write_bytes(file.getvalue())
    with pytest.raises(ValueError, match="not a zip file"):
        read_npz(tmp_path / "a.npz")


def test_names_of_an_archive_are_never_paths(tmp_path):
    """Members are read into memory: a name that climbs out of a folder is a name like any other."""
    file = io.BytesIO()
    np.save(file, np.zeros(3))
    found = read_npz(archive(tmp_path / "a.npz", **{"../../evil": file.getvalue()}))
    assert list(found) == ["../../evil"]
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]


@pytest.mark.parametrize("text", ["a = " + "[" * 9999 + "]" * 9999, "a = " + "9" * 5000, "a = {" * 3000])
def test_a_toml_text_that_nobody_can_mean(text):
    with pytest.raises(tomllib.TOMLDecodeError):
        parse_toml(text)


def test_a_json_text_that_nobody_can_mean():
    with pytest.raises(ValueError, match="nested too deeply"):
        parse_json("[" * 99_999)


def test_texts_have_a_greatest_length(monkeypatch):
    monkeypatch.setattr(outside, "MOST_TEXT", 10)
    for parse in (parse_toml, parse_json):
        with pytest.raises(ValueError, match="nnaq reads 10"):
            parse("          []")


def test_lines_are_found_in_time_whatever_they_hold():
    """Seconds for each such line, were it looked at whole."""
    assert key_lines("\n".join(["[" + " " * 20_000] * 50) + "\na = 1") == {("a",): 51}
