"""Tasks of models that take one recording at a time."""

import numpy as np
import pytest

from nnaq.errors import DataError
from nnaq.export.read import read_lowered
from nnaq.train.zeroth_order.examples import Readout
from nnaq.train.zeroth_order.task_files import batched, read_task, read_tasks


@pytest.fixture(scope="module")
def stream(lowered):
    return batched(read_lowered(lowered / "model.onnx"))


def write(path, *shape):
    x = np.random.default_rng(1).uniform(-1, 1, (*shape, 16)).astype(np.float32)
    np.savez(path, x=x, labels=np.zeros(shape, int))
    return x


def test_a_file_is_a_recording_or_several(stream, tmp_path):
    whole = write(tmp_path / "several.npz", 3, 20)
    (tmp_path / "folder").mkdir()
    for number, x in enumerate(whole):
        np.savez(tmp_path / "folder" / f"{number}.npz", x=x, labels=np.zeros(20, int))
    tasks = read_tasks(stream, [tmp_path / "several.npz", tmp_path / "folder"])
    several, folder = tasks["several"], tasks["folder"]
    assert len(several) == len(folder) == 3
    for one, other in zip(several.parts, folder.parts, strict=True):
        np.testing.assert_array_equal(one.inputs["x"], other.inputs["x"])
    assert several.read(Readout(stream, ["score"]))[0].shape == (3,)


def test_recordings_with_other_numbers_of_labels_are_refused(stream, tmp_path):
    np.savez(tmp_path / "a.npz", x=np.zeros((3, 20, 16), np.float32), labels=np.zeros((2, 20), int))
    with pytest.raises(DataError, match="different numbers"):
        read_task(stream, tmp_path / "a.npz")
    write(tmp_path / "b.npz", 20)
    with pytest.raises(DataError, match="called 'b'"):
        read_tasks(stream, [tmp_path / "b.npz", tmp_path / "b.npz"])
